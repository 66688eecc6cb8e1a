"""What goes on in the children of a fork."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from support import BOUND, AuthorityCase

TESTS = Path(__file__).parent
WORKERS = 3


class Server(http.client.HTTPConnection):
    """A connection to a server at a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


class Forks(AuthorityCase):
    def environment(self, **more: str) -> dict[str, str]:
        connection = self.authority.connection()
        ours = {"TESSERA_ADDR": connection.address, "TESSERA_API_KEY": connection.api_key, "BOUND": str(BOUND)}
        return {**os.environ, **ours, **more}

    def gunicorn(self) -> Path:
        """A server that loads the application before it forks its workers."""
        at = self.authority.directory / "gunicorn.sock"
        command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", str(WORKERS), "--bind", f"unix:{at}"]
        command += ["--log-level", "error", "--no-control-socket", "preloaded:application"]
        server = subprocess.Popen(command, cwd=TESTS, env=self.environment())
        self.addCleanup(server.wait, 20)
        self.addCleanup(server.send_signal, signal.SIGQUIT)
        self.until("a server", at.exists)
        return at

    def ask(self, server: Path, token: str) -> Any:
        connection = Server(server)
        try:
            connection.request("GET", "/", headers={"authorization": f"Bearer {token}"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def answers(self, server: Path, token: str, *expected: str | None) -> dict[int, Any]:
        """The first answer of each worker that is as expected; no worker may answer so before and otherwise later."""
        answers: dict[int, Any] = {}

        def ask() -> bool:
            answer = self.ask(server, token)
            if (answer["decision"], answer["reason"]) == expected:
                answers.setdefault(answer["pid"], answer)
            else:
                self.assertNotIn(answer["pid"], answers, answer)
            return len(answers) == WORKERS

        self.until(f"every worker: {expected}", ask)
        return answers

    def test_each_worker_of_a_preloading_server_verifies_and_has_tokens(self) -> None:
        server, issued = self.gunicorn(), self.issue()
        token = issued.tokens.access_token
        allowed = self.answers(server, token, "Allow", None)
        self.assertEqual(len({answer["session"] for answer in allowed.values()}), WORKERS, "a session each")
        self.revoke(session_id=issued.session_id)
        revoked = self.answers(server, token, "Deny", "revoked")
        self.assertEqual(revoked.keys(), allowed.keys())
        self.answers(server, self.issue().tokens.access_token, "Allow", None)

    def test_a_busy_process_forks_again_and_again(self) -> None:
        """gRPC crashes or hangs in the child of about every fourth fork where calls are under way."""
        script = textwrap.dedent(
            """
            import os, threading
            from preloaded import client, source, verifier

            def call() -> None:
                while True:
                    client.list_keys("production")

            for _ in range(3):
                threading.Thread(target=call, daemon=True).start()
            for _ in range(12):
                child = os.fork()
                if child == 0:
                    client.list_keys("production")
                    source.invalidate(source.token())
                    source.token()
                    os._exit(0 if verifier.status.is_ready else 1)
                assert os.waitpid(child, 0)[1] == 0
                client.list_keys("production")
            os._exit(0)
            """
        )
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, cwd=TESTS, env=self.environment(), timeout=60, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
