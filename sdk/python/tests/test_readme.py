"""The examples of the README, run as they are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from support import AuthorityCase

README = Path(__file__).parent.parent / "README.md"


class Readme(AuthorityCase):
    def test_each_example_prints_what_it_says(self) -> None:
        connection = self.authority.connection()
        ours = {"TESSERA_ADDR": connection.address, "TESSERA_API_KEY": connection.api_key}
        environment = {**os.environ, **ours, "TOKEN": self.issue().tokens.access_token}
        examples = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
        self.assertGreater(len(examples), 5)
        for example in examples:
            with self.subTest(example.splitlines()[-1]):
                command = [sys.executable, "-c", example]
                done = subprocess.run(command, env=environment, timeout=60, capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stderr)
                expected = re.findall(r"^#> (.*)$", example, re.MULTILINE)
                self.assertEqual(done.stdout.splitlines(), expected, done.stderr)
