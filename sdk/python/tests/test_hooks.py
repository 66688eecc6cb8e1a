"""Servers that accept tokens, and clients that send them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import unquote

import grpc

import tessera
from support import EVER, PATIENCE, AuthorityCase, is_stale, reason
from tessera import asgi, grpc_hooks, token_source
from tessera.errors import call_error

ECHO = "/test.Echo/"
#: Each kind of method, with whether the request and the answer are streams.
KINDS = {"UnaryUnary": (False, False), "UnaryStream": (False, True), "StreamUnary": (True, False)}
KINDS["StreamStream"] = (True, True)


def _subject(request: Any, context: grpc.ServicerContext) -> bytes:
    return grpc_hooks.claims_of(context).subject.encode()


def _subjects(request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
    yield _subject(request, context)


def _open(request: Any, context: grpc.ServicerContext) -> bytes:
    return b"open"


def _read(request: bytes, context: grpc.ServicerContext) -> bytes:
    grpc_hooks.require_scope(context, "{kind}:read", kind=request.decode())
    return _subject(request, context)


#: What a handler answers that requires a scope with its parameter from the message.
READ_CASES: list[tuple[bytes, str | None]] = [
    (b"videos", None),
    (b"films", "SCOPE_DENIED"),
    # Of these no scope can be made, whatever the token has.
    (b"a/b", "CALL_NOT_ALLOWED"),
    (b"*", "CALL_NOT_ALLOWED"),
    (b"..", "CALL_NOT_ALLOWED"),
    (b"", "CALL_NOT_ALLOWED"),
    (b"films:read videos", "CALL_NOT_ALLOWED"),
]


def _echo_server(interceptor: grpc_hooks.ServerInterceptor) -> tuple[grpc.Server, str]:
    methods: dict[str, Any] = {
        "UnaryUnary": grpc.unary_unary_rpc_method_handler(_subject),
        "UnaryStream": grpc.unary_stream_rpc_method_handler(_subjects),
        "StreamUnary": grpc.stream_unary_rpc_method_handler(_subject),
        "StreamStream": grpc.stream_stream_rpc_method_handler(_subjects),
        "Write": grpc.unary_unary_rpc_method_handler(_subject),
        "Ask": grpc.unary_unary_rpc_method_handler(_subject),
        "Forgotten": grpc.unary_unary_rpc_method_handler(_subject),
        "Open": grpc.unary_unary_rpc_method_handler(_open),
        "Read": grpc.unary_unary_rpc_method_handler(_read),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), interceptors=[interceptor])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, f"127.0.0.1:{port}"


class Hooks(AuthorityCase):
    def setUp(self) -> None:
        self.verifier = self.ready_verifier(calls=tessera.ClientOptions(deadline=0.3))
        self.token = self.issue().tokens.access_token

    def stall(self) -> None:
        self.authority.stall()
        self.addCleanup(self.authority.go_on)
        self.until("stale", lambda: is_stale(self.verifier, self.token))


class Grpc(Hooks):
    def setUp(self) -> None:
        super().setUp()
        required: dict[str, str | tessera.Require | None] = {ECHO + kind: "videos:read" for kind in KINDS}
        required[ECHO + "Write"] = "videos:write"
        required[ECHO + "Read"] = None
        required[ECHO + "Ask"] = tessera.Require("videos:read", tessera.FailOpen(EVER))
        interceptor = grpc_hooks.ServerInterceptor(self.verifier, required, public=[ECHO + "Open"])
        server, address = _echo_server(interceptor)
        self.addCleanup(server.stop, None)
        self.channel = grpc.insecure_channel(address)
        self.addCleanup(self.channel.close)

    def call(self, method: str, *tokens: str) -> grpc.StatusCode | bytes:
        metadata = tuple(("authorization", f"Bearer {token}") for token in tokens)
        try:
            echo: Any = self.channel.unary_unary(ECHO + method)
            return bytes(echo(b"", metadata=metadata, timeout=PATIENCE))
        except grpc.RpcError as error:
            call: Any = error
            code: grpc.StatusCode = call.code()
            return code

    def test_a_call_needs_a_good_token_with_the_scope(self) -> None:
        self.assertEqual(self.call("UnaryUnary", self.token), b"user:ann")
        for tokens in ([], [""], ["garbage"], [self.token + "A"]):
            self.assertEqual(self.call("UnaryUnary", *tokens), grpc.StatusCode.UNAUTHENTICATED)
        # Of two, who knows which one is meant?
        for tokens in ([self.token, self.token], ["garbage", self.token]):
            self.assertEqual(self.call("UnaryUnary", *tokens), grpc.StatusCode.UNAUTHENTICATED)
        self.assertEqual(self.call("Write", self.token), grpc.StatusCode.PERMISSION_DENIED)
        self.assertEqual(self.call("Forgotten", self.token), grpc.StatusCode.PERMISSION_DENIED)
        self.assertEqual(self.call("Open"), b"open")
        self.stall()
        self.assertEqual(self.call("UnaryUnary", self.token), grpc.StatusCode.UNAVAILABLE)
        self.assertEqual(self.call("Ask", self.token), b"user:ann", "a mode of its own")

    def test_a_refusal_has_a_reason_and_the_log_has_why(self) -> None:
        for method, tokens, reason, said in [
            ("UnaryUnary", [], "CLIENT_AUTH_FAILED", "no bearer token"),
            ("UnaryUnary", [self.token + "A"], "CLIENT_AUTH_FAILED", "malformed"),
            ("UnaryUnary", [self.token, self.token], "CLIENT_AUTH_FAILED", "more than one"),
            ("Write", [self.token], "SCOPE_DENIED", "`videos:write` (scope_missing)"),
            ("Forgotten", [self.token], "CALL_NOT_ALLOWED", "no requirement is listed"),
        ]:
            with self.subTest(method=method, reason=reason), self.assertLogs("tessera", "DEBUG") as logged:
                metadata = tuple(("authorization", f"Bearer {token}") for token in tokens)
                echo: Any = self.channel.unary_unary(ECHO + method)
                with self.assertRaises(grpc.RpcError) as refused:
                    echo(b"", metadata=metadata, timeout=PATIENCE)
                self.assertEqual(call_error(refused.exception).reason, reason)
                self.until("logged", lambda: logged.output)
                self.assertIn(said, logged.output[0])
                self.assertNotIn(self.token[:40], "".join(logged.output))
        self.stall()
        echo = self.channel.unary_unary(ECHO + "UnaryUnary")
        with self.assertLogs("tessera", "WARNING"), self.assertRaises(grpc.RpcError) as stale:
            echo(b"", metadata=(("authorization", f"Bearer {self.token}"),), timeout=PATIENCE)
        failure = call_error(stale.exception)
        self.assertEqual((failure.reason, failure.retry_after), ("NOT_FRESH_ENOUGH", 1.0))

    def test_a_handler_requires_a_scope_with_its_parameter_from_the_message(self) -> None:
        echo: Any = self.channel.unary_unary(ECHO + "Read")
        for kind, expected in READ_CASES:
            with self.subTest(kind=kind):
                reason = None
                try:
                    echo(kind, metadata=(("authorization", f"Bearer {self.token}"),), timeout=PATIENCE)
                except grpc.RpcError as error:
                    failure = call_error(error)
                    self.assertIs(failure.code, grpc.StatusCode.PERMISSION_DENIED)
                    reason = failure.reason
                self.assertEqual(reason, expected)

    def test_a_revoked_token_is_refused(self) -> None:
        self.revoke(subject="user:ann")
        self.until("revoked", lambda: self.call("UnaryUnary", self.token) is grpc.StatusCode.UNAUTHENTICATED, 5)

    def source(self) -> tessera.TokenSource:
        request = tessera.TokenRequest(audience="api", subject="user:bob", roles=("role:viewer",))
        source = tessera.TokenSource(self.client, request)
        self.addCleanup(source.close)
        return source

    @staticmethod
    def ask(channel: grpc.Channel, kind: str, **options: Any) -> grpc.StatusCode | bytes:
        """The answer of a method of any kind, or the code of its error."""
        streams_in, streams_out = KINDS[kind]
        name = f"{'stream' if streams_in else 'unary'}_{'stream' if streams_out else 'unary'}"
        method: Any = getattr(channel, name)(ECHO + kind)
        try:
            answer = method(iter([b""]) if streams_in else b"", timeout=PATIENCE, **options)
            return bytes(next(answer) if streams_out else answer)
        except grpc.RpcError as error:
            call: Any = error
            code: grpc.StatusCode = call.code()
            return code

    def test_the_client_sends_its_token_with_every_kind_of_call(self) -> None:
        channel = grpc.intercept_channel(self.channel, grpc_hooks.ClientInterceptor(self.source()))
        for kind in KINDS:
            with self.subTest(kind):
                self.assertEqual(self.ask(channel, kind), b"user:bob")
                # In place of any other credential.
                other = (("authorization", f"Bearer {self.token}"),)
                self.assertEqual(self.ask(channel, kind, metadata=other), b"user:bob")
                # The same kind of call is refused without a token.
                self.assertEqual(self.ask(self.channel, kind), grpc.StatusCode.UNAUTHENTICATED)

    def test_a_refused_token_is_given_up_for_the_next_call(self) -> None:
        source = self.source()
        channel = grpc.intercept_channel(self.channel, grpc_hooks.ClientInterceptor(source))
        for kind in KINDS:
            with self.subTest(kind), mock.patch.object(token_source, "_INVALIDATION_PAUSE", 0.0):
                old = source.token()
                self.revoke(subject="user:bob")
                self.until("revoked", lambda: reason(self.verifier, old.expose()) is tessera.DenyReason.REVOKED)
                self.assertEqual(self.ask(channel, kind), grpc.StatusCode.UNAUTHENTICATED)
                self.until("given up", lambda: source.token() is not old)
                self.assertEqual(self.ask(channel, kind), b"user:bob")

    def test_a_call_that_fails_otherwise_leaves_the_token_in_use(self) -> None:
        source = self.source()
        channel = grpc.intercept_channel(self.channel, grpc_hooks.ClientInterceptor(source))
        held = source.token()
        echo: Any = channel.unary_unary(ECHO + "Write")
        with self.assertRaises(grpc.RpcError) as refused:
            echo(b"", timeout=PATIENCE)
        self.assertEqual(refused.exception.code(), grpc.StatusCode.PERMISSION_DENIED)
        self.assertIs(source.token(), held)


async def _application(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
    subject = asgi.claims_of(scope).subject if scope["path"] != "/open" else "nobody"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps({"subject": subject}).encode()})


def _required(scope: asgi.Scope) -> asgi.Require | None:
    if scope["path"] == "/open":
        return None
    if scope["path"] == "/ask":
        return asgi.Require("videos:read", tessera.Introspect())
    return asgi.Require("videos:write" if scope["path"] == "/write" else "videos:read")


class Asgi(Hooks):
    def get(
        self, path: str, *headers: str, kind: str = "http", require: asgi.Require | None = None
    ) -> tuple[int, dict[str, str], Any]:
        """What the application sends, as an ASGI server sees it."""
        application = asgi.TokenMiddleware(_application, self.verifier, require or _required)
        encoded = [(b"authorization", header.encode()) for header in headers]
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": kind, "path": unquote(path), "raw_path": path.encode(), "headers": encoded}
        asyncio.run(application(scope, receive, send))
        if kind == "websocket":
            return sent[0]["code"], {}, sent[0]["type"]
        answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], answered, json.loads(sent[1]["body"])

    def test_a_request_needs_a_good_token_with_the_scope(self) -> None:
        bearer = f"Bearer {self.token}"
        self.assertEqual(self.get("/", bearer), (200, {}, {"subject": "user:ann"}))
        self.assertEqual(self.get("/", f"bearer  {self.token}")[0], 200)
        self.assertEqual(self.get("/open"), (200, {}, {"subject": "nobody"}))
        status, headers, _ = self.get("/")
        self.assertEqual((status, headers["www-authenticate"]), (401, 'Bearer realm="tessera"'))
        for wrong in (bearer + "A", "Bearer x", "Basic eDp5"):
            status, headers, body = self.get("/", wrong)
            self.assertEqual(status, 401)
            self.assertTrue(headers["www-authenticate"].startswith("Bearer"))
        self.assertEqual(self.get("/", bearer, bearer)[0], 401, "two headers are ambiguous")
        status, headers, body = self.get("/write", bearer)
        challenge = 'Bearer realm="tessera", error="insufficient_scope", error_description="the access token lacks a scope", scope="videos:write"'
        self.assertEqual((status, headers["www-authenticate"]), (403, challenge))
        self.assertEqual(body, {"error": "insufficient_scope"})
        self.assertEqual(self.get("/", kind="websocket"), (1008, {}, "websocket.close"))
        self.stall()
        status, headers, _ = self.get("/", bearer)
        self.assertEqual((status, headers["retry-after"]), (503, "1"))
        self.assertEqual(self.get("/ask", bearer)[0], 503, "the authority does not answer")
        self.assertEqual(self.get("/", bearer, kind="websocket")[0], 1013)

    def test_every_challenge_is_as_in_the_other_sdks(self) -> None:
        table = json.loads((Path(__file__).parent / "challenges.json").read_text())
        self.assertGreater(len(table["cases"]), 10)
        for case in table["cases"]:
            with self.subTest(case["name"]):
                headers = [header.replace("{token}", self.token) for header in case["authorization"]]
                status, answered, _ = self.get("/", *headers, require=asgi.Require(case["scope"]))
                challenge = answered.get("www-authenticate")
                self.assertEqual((status, challenge), (case["status"], case["www_authenticate"]))

    def test_a_scope_has_its_parameter_from_the_path(self) -> None:
        require = asgi.Require("{kind}:read", path="/{kind}/{id}")
        bearer = f"Bearer {self.token}"

        def get(path: str) -> tuple[int, dict[str, str], Any]:
            return self.get(path, bearer, require=require)

        for path in ("/videos/1", "/videos/1/", "/%76ideos/a%20b"):
            self.assertEqual(get(path)[0], 200, path)
        status, headers, _ = get("/films/1")
        challenge = 'Bearer realm="tessera", error="insufficient_scope", error_description="the access token lacks a scope", scope="films:read"'
        self.assertEqual((status, headers["www-authenticate"]), (403, challenge))
        for path in ("/videos", "/films/..%2fvideos", "/films/../videos/1", "/videos;a/1", "/vi%C3%BC/1", "/a b/1"):
            status, headers, body = get(path)
            self.assertEqual((status, body), (403, {"error": "forbidden"}), path)
            self.assertNotIn("www-authenticate", headers)
        with self.assertRaises(tessera.ConfigurationError):
            asgi.Require("videos/{id}:play", path="/videos/{name}")

    def test_a_revoked_token_is_refused(self) -> None:
        self.revoke(token=self.token)
        self.until("revoked", lambda: self.get("/", f"Bearer {self.token}")[0] == 401, within=5)

    def test_what_is_no_request_passes(self) -> None:
        seen: list[str] = []

        async def application(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
            seen.append(scope["type"])

        async def nothing(*_: Any) -> Any:
            return {}

        middleware = asgi.TokenMiddleware(application, self.verifier, asgi.Require(None))
        asyncio.run(middleware({"type": "lifespan"}, nothing, nothing))
        self.assertEqual(seen, ["lifespan"])
