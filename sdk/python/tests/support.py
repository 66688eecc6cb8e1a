"""Running the authority, calling it, and waiting for things to happen."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any, Self

import grpc

import tessera
from tessera.v1 import api_key_service_pb2 as api_keys_pb
from tessera.v1 import policy_service_pb2 as policy_pb
from tessera.v1 import token_service_pb2 as pb
from tessera.v1.api_key_service_pb2_grpc import ApiKeyServiceStub
from tessera.v1.policy_service_pb2_grpc import PolicyServiceStub
from tessera.v1.token_service_pb2_grpc import (
    TokenServiceServicer,
    TokenServiceStub,
    add_TokenServiceServicer_to_server,
)

ROOT = Path(__file__).resolve().parents[3]
#: How long anything may take before a test gives up on it, in seconds.
PATIENCE = 20.0
#: Short enough to see a verifier get stale, and long enough for a busy machine.
BOUND = 0.6
EVER = 86_400.0


class Authority:
    """A `tessera dev` of its own, on a directory, so that it can come back where it was."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="tessera-"))
        self.policy = self.directory / "policy"
        shutil.copytree(ROOT / "policies", self.policy, ignore=shutil.ignore_patterns("tests", "examples"))
        catalogue = self.policy / "catalogue.toml"
        catalogue.write_text(catalogue.read_text() + 'player = "another service"\n')
        self._start("127.0.0.1:0")

    def _start(self, listen: str) -> None:
        command = [os.environ["TESSERA_BIN"], "dev", "--print-json", "--listen", listen]
        command += ["--admin-listen", "127.0.0.1:0"]
        command += ["--data-dir", str(self.directory / "data"), "--policy", str(self.policy)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdout
        self.ready = json.loads(self._process.stdout.readline())
        self.address: str = self.ready["grpc"]

    def connection(self, realm: str = "production") -> tessera.Connection:
        return tessera.Connection(self.address, self.ready["realms"][realm]["api_key"])

    def client(self, realm: str = "production") -> tessera.Client:
        return tessera.Client(self.connection(realm))

    def restart(self) -> None:
        """Kills it, and starts it again on the same data and the same port."""
        self.kill()
        self._start(self.address.removeprefix("http://"))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def stall(self) -> None:
        """Stops it with its connections open."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.directory)

    def take_rule(self, start: str) -> None:
        """Puts the policy in force without the rules that begin so."""
        rules = self.policy / "policy.csv"
        left = [line for line in rules.read_text().splitlines() if not line.startswith(start)]
        rules.write_text("\n".join(left) + "\n")
        self._call(PolicyServiceStub, "Reload", policy_pb.ReloadRequest())

    def api_key(self, name: str) -> str:
        """An API key for another client."""
        request = api_keys_pb.CreateApiKeyRequest(name=name)
        secret: str = self._call(ApiKeyServiceStub, "CreateApiKey", request).secret
        return secret

    def _call(self, stub: Any, method: str, request: Any) -> Any:
        connection = self.connection()
        with connection.channel() as channel:
            return getattr(stub(channel), method)(request, metadata=connection.credential, timeout=PATIENCE)


class Case(unittest.TestCase):
    """Tests that start verifiers, and wait."""

    def start_verifier(self, connection: tessera.Connection, **options: Any) -> tessera.Verifier:
        options = {"staleness_bound": BOUND, **options}
        verifier = tessera.Verifier(connection, "production", "api", **options)
        self.addCleanup(verifier.close)
        return verifier

    def until(self, what: str, holds: Callable[[], object], within: float = PATIENCE) -> None:
        """Waits until something holds."""
        ends_at = time.monotonic() + within
        while not holds():
            self.assertLess(time.monotonic(), ends_at, f"{what}: not within {within} s")
            time.sleep(0.002)


class AuthorityCase(Case):
    """Tests of one authority, with a client."""

    authority: Authority
    client: tessera.Client

    @classmethod
    def setUpClass(cls) -> None:
        cls.authority = Authority()
        cls.addClassCleanup(cls.authority.close)
        cls.client = cls.authority.client()
        cls.addClassCleanup(cls.client.close)

    def verifier_of(self, realm: str = "production", **options: Any) -> tessera.Verifier:
        return self.start_verifier(self.authority.connection(realm), **options)

    def ready_verifier(self, **options: Any) -> tessera.Verifier:
        verifier = self.verifier_of(**options)
        self.assertTrue(verifier.wait_ready(PATIENCE), verifier.status)
        return verifier

    def issue(self, subject: str = "user:ann", **fields: Any) -> pb.IssueResponse:
        fields = {"roles": ["role:viewer"], "audience": "api", **fields}
        return self.client.issue(pb.IssueRequest(subject=subject, **fields))

    def revoke(self, **target: Any) -> pb.RevokeResponse:
        return self.client.revoke(pb.RevokeRequest(**target))


def allows(verifier: tessera.Verifier, token: str, scope: str | None = "videos:read") -> bool:
    return isinstance(verifier.verify(token, scope), tessera.Allow)


def is_stale(verifier: tessera.Verifier, token: str) -> bool:
    return isinstance(verifier.verify(token), tessera.Stale)


def reason(verifier: tessera.Verifier, token: str, scope: str | None = None) -> tessera.DenyReason | None:
    decision = verifier.verify(token, scope)
    return decision.reason if isinstance(decision, tessera.Deny) else None


class Gate(TokenServiceServicer):
    """A server before the authority: it counts calls, makes them fail, and holds answers back."""

    def __init__(self, authority: Authority) -> None:
        self.calls = {"issue": 0, "refresh": 0}
        #: Those that the authority has answered, whether or not the answer was let through.
        self.done = {"issue": 0, "refresh": 0}
        self.faults: list[grpc.StatusCode] = []
        self._is_open = threading.Event()
        self._is_open.set()
        self._lock = threading.Lock()
        connection = authority.connection()
        self._channel = connection.channel()
        self._tokens = TokenServiceStub(self._channel)
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
        add_TokenServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self.address = f"http://127.0.0.1:{port}"
        self.connection = tessera.Connection(self.address, connection.api_key)

    def hold(self) -> None:
        self._is_open.clear()

    def release(self) -> None:
        self._is_open.set()

    def lose(self) -> None:
        """It is gone, with the answers that it holds back."""
        self._server.stop(None).wait(PATIENCE)

    def close(self) -> None:
        self.release()
        self._server.stop(None)
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def Issue(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._pass("issue", self._tokens.Issue, request, context)

    def Refresh(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._pass("refresh", self._tokens.Refresh, request, context)

    def _pass(self, name: str, method: Any, request: Any, context: grpc.ServicerContext) -> Any:
        with self._lock:
            self.calls[name] += 1
            fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            context.abort(fault, "scripted")
        credential = [pair for pair in context.invocation_metadata() if pair[0] == "authorization"]
        try:
            answer = method(request, metadata=credential, timeout=PATIENCE)
        except grpc.RpcError as error:
            call: Any = error
            details = [pair for pair in call.trailing_metadata() if pair[0] == "grpc-status-details-bin"]
            context.set_trailing_metadata(tuple(details))
            context.abort(call.code(), call.details())
        with self._lock:
            self.done[name] += 1
        self._is_open.wait(PATIENCE)
        return answer


class Served(AuthorityCase):
    def setUp(self) -> None:
        self.verifier = self.ready_verifier(calls=tessera.ClientOptions(deadline=0.3))
        self.token = self.issue().tokens.access_token
        request = tessera.TokenRequest(audience="api", subject="user:bob", roles=("role:viewer",))
        self.source = tessera.TokenSource(self.client, request)
        self.addCleanup(self.source.close)

    def revoke_bob(self) -> tessera.AccessToken:
        """Ends the session of the source; the verifier knows."""
        old = self.source.token()
        self.assertTrue(self.verifier.applied(self.revoke(subject="user:bob").cursor))
        self.assertIs(reason(self.verifier, old.expose()), tessera.DenyReason.REVOKED)
        return old
