"""Servers and clients of `grpc.aio`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any
from unittest import mock

import grpc
from grpc import aio

import tessera
from support import PATIENCE, Served, is_stale
from tessera import grpc_aio, token_source
from tessera.errors import call_error
from test_hooks import READ_CASES

ECHO = "/test.Echo/"


async def _subject(request: Any, context: Any) -> bytes:
    return grpc_aio.claims_of(context).subject.encode()


async def _subjects(request: Any, context: Any) -> AsyncIterator[bytes]:
    yield await _subject(request, context)


async def _written(request: Any, context: Any) -> None:
    await context.write(await _subject(request, context))


async def _read(request: bytes, context: Any) -> bytes:
    await grpc_aio.require_scope(context, "{kind}:read", kind=request.decode())
    return await _subject(request, context)


def _in_thread(request: Any, context: Any) -> bytes:
    return grpc_aio.claims_of(context).subject.encode()


def _in_thread_stream(request: Any, context: Any) -> Iterator[bytes]:
    yield _in_thread(request, context)


#: Each kind of handler, with whether the request and the answer are streams.
HANDLERS: dict[str, tuple[bool, bool, Any]] = {
    "UnaryUnary": (False, False, grpc.unary_unary_rpc_method_handler(_subject)),
    "UnaryStream": (False, True, grpc.unary_stream_rpc_method_handler(_subjects)),
    "StreamUnary": (True, False, grpc.stream_unary_rpc_method_handler(_subject)),
    "StreamStream": (True, True, grpc.stream_stream_rpc_method_handler(_subjects)),
    "Written": (False, True, grpc.unary_stream_rpc_method_handler(_written)),
    "InThread": (False, False, grpc.unary_unary_rpc_method_handler(_in_thread)),
    "InThreadStream": (False, True, grpc.unary_stream_rpc_method_handler(_in_thread_stream)),
}


class Aio(Served):
    def serve(self, test: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        """Runs a test beside a server."""
        required: dict[str, str | tessera.Require | None] = {ECHO + name: "videos:read" for name in HANDLERS}
        required[ECHO + "Write"] = "videos:write"
        methods = {name: handler for name, (_, _, handler) in HANDLERS.items()}
        required[ECHO + "Read"] = None
        methods["Read"] = grpc.unary_unary_rpc_method_handler(_read)
        for name in ("Write", "Forgotten", "Open"):
            methods[name] = grpc.unary_unary_rpc_method_handler(_open if name == "Open" else _subject)

        async def run() -> None:
            interceptor = grpc_aio.ServerInterceptor(self.verifier, required, public=[ECHO + "Open"])
            server = aio.server(interceptors=[interceptor])
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", methods),))
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            try:
                await test(f"127.0.0.1:{port}")
            finally:
                await server.stop(None)

        asyncio.run(run())

    @staticmethod
    async def ask(channel: aio.Channel, name: str, *tokens: str) -> bytes | grpc.StatusCode:
        """The answer of a method of any kind, or the code of its error."""
        streams_in, streams_out, _ = HANDLERS.get(name, (False, False, None))
        kind = f"{'stream' if streams_in else 'unary'}_{'stream' if streams_out else 'unary'}"
        metadata = tuple(("authorization", f"Bearer {token}") for token in tokens)
        method: Any = getattr(channel, kind)(ECHO + name)
        try:
            call = method(iter([b""]) if streams_in else b"", timeout=PATIENCE, metadata=metadata)
            return bytes([answer async for answer in call][0] if streams_out else await call)
        except grpc.RpcError as error:
            code: grpc.StatusCode = call_error(error).code
            return code

    def test_each_kind_of_handler_needs_a_good_token_with_the_scope(self) -> None:
        async def test(address: str) -> None:
            async with aio.insecure_channel(address) as channel:
                for name in HANDLERS:
                    self.assertEqual(await self.ask(channel, name, self.token), b"user:ann", name)
                    for tokens in ([], ["garbage"], [self.token + "A"], [self.token, self.token]):
                        self.assertIs(await self.ask(channel, name, *tokens), grpc.StatusCode.UNAUTHENTICATED, name)
                self.assertIs(await self.ask(channel, "Write", self.token), grpc.StatusCode.PERMISSION_DENIED)
                self.assertIs(await self.ask(channel, "Forgotten", self.token), grpc.StatusCode.PERMISSION_DENIED)
                self.assertEqual(await self.ask(channel, "Open"), b"open")
                method: Any = channel.unary_unary(ECHO + "Write")
                with self.assertRaises(grpc.RpcError) as refused:
                    await method(b"", metadata=(("authorization", f"Bearer {self.token}"),))
                self.assertEqual(call_error(refused.exception).reason, "SCOPE_DENIED")
                self.authority.stall()
                self.addCleanup(self.authority.go_on)
                await asyncio.to_thread(self.until, "stale", lambda: is_stale(self.verifier, self.token))
                for name in HANDLERS:
                    self.assertIs(await self.ask(channel, name, self.token), grpc.StatusCode.UNAVAILABLE, name)

        self.serve(test)

    def test_a_handler_requires_a_scope_with_its_parameter_from_the_message(self) -> None:
        async def test(address: str) -> None:
            async with aio.insecure_channel(address) as channel:
                method: Any = channel.unary_unary(ECHO + "Read")
                for kind, expected in READ_CASES:
                    reason = None
                    try:
                        await method(kind, metadata=(("authorization", f"Bearer {self.token}"),), timeout=PATIENCE)
                    except grpc.RpcError as error:
                        failure = call_error(error)
                        self.assertIs(failure.code, grpc.StatusCode.PERMISSION_DENIED, kind)
                        reason = failure.reason
                    self.assertEqual(reason, expected, kind)

        self.serve(test)

    def test_the_client_sends_its_token_and_gives_a_refused_one_up(self) -> None:
        async def test(address: str) -> None:
            interceptors = grpc_aio.client_interceptors(self.source)
            async with aio.insecure_channel(address, interceptors=interceptors) as channel:
                for name in ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream"):
                    # In place of any other credential.
                    self.assertEqual(await self.ask(channel, name, self.token), b"user:bob", name)
                    old = await asyncio.to_thread(self.revoke_bob)
                    self.assertIs(await self.ask(channel, name), grpc.StatusCode.UNAUTHENTICATED, name)
                    await asyncio.to_thread(self.until, "given up", lambda: self.source.token() is not old)
                    self.assertEqual(await self.ask(channel, name), b"user:bob", name)

        with mock.patch.object(token_source, "_INVALIDATION_PAUSE", 0.0):
            self.serve(test)


async def _open(request: Any, context: Any) -> bytes:
    return b"open"
