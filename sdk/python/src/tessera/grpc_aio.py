"""Servers and clients of `grpc.aio`: as `tessera.grpc_hooks`, without blocking the event loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import Any

import grpc
from grpc import aio

from tessera import grpc_hooks, refusal
from tessera.claims import Claims
from tessera.decision import Allow, FailClosed, Mode
from tessera.grpc_hooks import AUTHORIZATION, Methods, claims_of
from tessera.refusal import Refusal, Require
from tessera.token_source import AccessToken, TokenSource
from tessera.verifier import Verifier

__all__ = ["ServerInterceptor", "claims_of", "client_interceptors", "require_scope"]


async def require_scope(context: Any, scope: str, **parameters: object) -> None:
    """As `grpc_hooks.require_scope`, in a handler that is a coroutine."""
    refused = refusal.of_scope(claims_of(context), scope, parameters)
    if refused is not None:
        await _abort(refused, scope, context)


async def _abort(refused: Refusal, called: str, context: Any) -> None:
    refused.log(called)
    await context.abort(refused.code, refused.message, refused.details)


class ServerInterceptor(aio.ServerInterceptor):
    """As `grpc_hooks.ServerInterceptor`, for a `grpc.aio.server`."""

    def __init__(
        self,
        verifier: Verifier,
        required: Mapping[str, str | Require | None],
        *,
        public: Collection[str] = (),
        mode: Mode = FailClosed(),
    ) -> None:
        self._verifier = verifier
        self._methods = Methods(required, public, mode)

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or self._methods.is_public(handler_call_details.method):
            return handler
        return _guarded(handler, self._verifier, self._methods.token(handler_call_details), handler_call_details.method)


class _Guard:
    """A check that ends the call if it is refused."""

    def __init__(self, verifier: Verifier, token: tuple[str, Require] | Refusal, method: str) -> None:
        self._verifier = verifier
        self._token = token
        self._method = method

    async def check(self, context: Any) -> None:
        admitted = await self._admit()
        if isinstance(admitted, Refusal):
            await _abort(admitted, self._method, context)
        else:
            grpc_hooks.keep(admitted)

    def check_in_thread(self, context: Any) -> None:
        """For a handler that is not a coroutine: gRPC runs it in a thread."""
        admitted = grpc_hooks.admit(self._verifier, self._token)
        if isinstance(admitted, Refusal):
            grpc_hooks.abort(admitted, self._method, context)
        grpc_hooks.keep(admitted)

    async def _admit(self) -> Claims | Refusal:
        if isinstance(self._token, Refusal):
            return self._token
        text, require = self._token
        decision = await self._verifier.verify_async(text, require.scope, require.mode)
        return decision.claims if isinstance(decision, Allow) else refusal.of(decision, require.scope)


def _guarded(handler: Any, verifier: Verifier, token: tuple[str, Require] | Refusal, method: str) -> Any:
    """The same handler, behind a check."""
    guard = _Guard(verifier, token, method)
    kind = f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"
    behaviour = getattr(handler, kind)
    if not inspect.iscoroutinefunction(behaviour) and not inspect.isasyncgenfunction(behaviour):
        return grpc_hooks.guarded(handler, guard.check_in_thread)
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    return make(_guarded_behaviour(behaviour, guard), handler.request_deserializer, handler.response_serializer)


def _guarded_behaviour(behaviour: Callable[[Any, Any], Any], guard: _Guard) -> Callable[[Any, Any], Any]:
    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        await guard.check(context)
        async for answer in behaviour(request, context):
            yield answer

    async def answer(request: Any, context: Any) -> Any:
        await guard.check(context)
        return await behaviour(request, context)

    # A coroutine may also answer with a stream, by writing to its context.
    return stream if inspect.isasyncgenfunction(behaviour) else answer


def client_interceptors(source: TokenSource) -> list[aio.ClientInterceptor]:
    """Interceptors that send a token of the source with each call, as `grpc.aio.insecure_channel(target,
    interceptors=client_interceptors(source))`.

    As `grpc_hooks.ClientInterceptor`. Make the channel in the process that uses it: a channel of `grpc.aio` does not
    survive a fork.
    """
    return [_UnaryUnary(source), _UnaryStream(source), _StreamUnary(source), _StreamStream(source)]


class _Sending:
    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._hearing: set[asyncio.Task[None]] = set()

    async def _call(self, continuation: Any, details: Any, request: Any) -> Any:
        token = await self._source.token_async()
        call = await continuation(_with_token(details, token), request)
        call.add_done_callback(lambda done: self._hear(done, token))
        return call

    def _hear(self, done: Any, token: AccessToken) -> None:
        async def hear() -> None:
            if await done.code() is grpc.StatusCode.UNAUTHENTICATED:
                self._source.invalidate(token)

        # A task without a reference may be collected before it is done.
        task = asyncio.get_running_loop().create_task(hear())
        self._hearing.add(task)
        task.add_done_callback(self._hearing.discard)


class _UnaryUnary(_Sending, aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._call(continuation, client_call_details, request)


class _UnaryStream(_Sending, aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._call(continuation, client_call_details, request)


class _StreamUnary(_Sending, aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._call(continuation, client_call_details, request_iterator)


class _StreamStream(_Sending, aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._call(continuation, client_call_details, request_iterator)


def _with_token(details: Any, token: AccessToken) -> aio.ClientCallDetails:
    """The details of a call, with a token in place of any credential that it had."""
    others = [pair for pair in details.metadata or () if pair[0].lower() != AUTHORIZATION]
    metadata = aio.Metadata(*others, (AUTHORIZATION, f"Bearer {token.expose()}"))
    return aio.ClientCallDetails(
        details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
    )
