"""Builds the package: the messages and stubs are generated from the protos, and not kept in the sources."""

from importlib.resources import files
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
#: A copy of those at the root of the repository: `sdk/vendor` makes it.
PROTOS = HERE / "proto"


class BuildWithStubs(build_py):
    """Adds `tessera.v1` to what is built."""

    def run(self) -> None:
        super().run()
        generate(HERE / "src" if self.editable_mode else Path(self.build_lib))


def generate(directory: Path) -> None:
    from grpc_tools import protoc

    directory.mkdir(parents=True, exist_ok=True)
    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("tessera/v1/*.proto"))
    well_known = files("grpc_tools") / "_proto"
    outputs = [f"--{kind}_out={directory}" for kind in ("python", "grpc_python", "pyi")]
    if protoc.main(["protoc", f"-I{PROTOS}", f"-I{well_known}", *outputs, *sources]) != 0:
        raise SystemExit("the protos do not compile")
    (directory / "tessera" / "v1" / "__init__.py").touch()


setup(cmdclass={"build_py": BuildWithStubs})
