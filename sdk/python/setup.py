"""Builds the package: the messages and stubs are generated from the protos, and not kept in the sources."""

import shutil
from importlib.resources import files
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).parent


def protos() -> Path:
    """A source distribution carries the protos; a checkout has them at its root."""
    carried = HERE / "proto"
    return carried if carried.exists() else HERE.parent.parent / "proto"


class BuildWithStubs(build_py):
    """Adds `tessera.v1` to what is built."""

    def run(self) -> None:
        super().run()
        generate(HERE / "src" if self.editable_mode else Path(self.build_lib))


class DistributionWithProtos(sdist):
    """Adds the protos to the source distribution."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        shutil.copytree(protos() / "tessera", Path(base_dir) / "proto" / "tessera", dirs_exist_ok=True)


def generate(folder: Path) -> None:
    from grpc_tools import protoc

    folder.mkdir(parents=True, exist_ok=True)
    sources = sorted(str(path.relative_to(protos())) for path in protos().glob("tessera/v1/*.proto"))
    well_known = files("grpc_tools") / "_proto"
    outputs = [f"--{kind}_out={folder}" for kind in ("python", "grpc_python", "pyi")]
    if protoc.main(["protoc", f"-I{protos()}", f"-I{well_known}", *outputs, *sources]) != 0:
        raise SystemExit("the protos do not compile")
    (folder / "tessera" / "v1" / "__init__.py").touch()


setup(cmdclass={"build_py": BuildWithStubs, "sdist": DistributionWithProtos})
