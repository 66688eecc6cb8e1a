"""gRPC servers that accept tokens, and clients that send them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import grpc

from tessera.bearer import token_of
from tessera.claims import Claims
from tessera.decision import Allow, Decision, Deny, FailClosed, Mode
from tessera.token_source import AccessToken, TokenSource
from tessera.verifier import Verifier

_AUTHORIZATION = "authorization"
_claims: weakref.WeakKeyDictionary[Any, Claims] = weakref.WeakKeyDictionary()


def claims_of(context: grpc.ServicerContext) -> Claims:
    """The claims of the token that the call came with, in a handler behind a `ServerInterceptor`."""
    return _claims[context]


class ServerInterceptor(grpc.ServerInterceptor):
    """Lets calls through that carry a good token with the scope that their method requires.

    `required` names the scope of each method (`/package.Service/Method`), or None where any good token will
    do. Methods in `public` need no token. A method in neither is refused, so that a new one is not open by
    accident. A stream is judged when it opens.
    """

    def __init__(
        self,
        verifier: Verifier,
        required: Mapping[str, str | None],
        *,
        public: Collection[str] = (),
        mode: Mode = FailClosed(),
    ) -> None:
        self._verifier = verifier
        self._required = dict(required)
        self._public = frozenset(public)
        self._mode = mode

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method in self._public:
            return handler
        metadata = handler_call_details.invocation_metadata or ()
        headers = [value for name, value in metadata if name == _AUTHORIZATION]
        # Of several, who knows which one is meant?
        token = token_of(headers[0]) if len(headers) == 1 else None
        return _guarded(handler, lambda context: self._admit(method, token, context))

    def _admit(self, method: str, token: str | None, context: grpc.ServicerContext) -> None:
        if method not in self._required:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "no scope is set for this method")
        if token is None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "a bearer token is needed")
            return
        decision = self._verifier.verify(token, self._required[method], self._mode)
        if isinstance(decision, Allow):
            _claims[context] = decision.claims
        else:
            context.abort(*_refusal(decision))


def _refusal(decision: Decision) -> tuple[grpc.StatusCode, str]:
    if not isinstance(decision, Deny):
        return grpc.StatusCode.UNAVAILABLE, "the token can't be verified now"
    if decision.reason.is_about_scope:
        return grpc.StatusCode.PERMISSION_DENIED, "the token lacks the scope that is required"
    return grpc.StatusCode.UNAUTHENTICATED, "the token is not valid"


def _guarded(handler: Any, admit: Callable[[grpc.ServicerContext], None]) -> Any:
    """The same handler, behind a check that aborts the call unless it may go on."""

    def answer(behaviour: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def guarded(request: Any, context: grpc.ServicerContext) -> Any:
            admit(context)
            return behaviour(request, context)

        return guarded

    def stream(behaviour: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Iterator[Any]]:
        def guarded(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            admit(context)
            yield from behaviour(request, context)

        return guarded

    if handler.request_streaming and handler.response_streaming:
        make, behaviour = grpc.stream_stream_rpc_method_handler, stream(handler.stream_stream)
    elif handler.request_streaming:
        make, behaviour = grpc.stream_unary_rpc_method_handler, answer(handler.stream_unary)
    elif handler.response_streaming:
        make, behaviour = grpc.unary_stream_rpc_method_handler, stream(handler.unary_stream)
    else:
        make, behaviour = grpc.unary_unary_rpc_method_handler, answer(handler.unary_unary)
    return make(behaviour, handler.request_deserializer, handler.response_serializer)


class _WithToken(grpc.ClientCallDetails):
    """The details of a call, with a token in place of any credential that it had."""

    def __init__(self, details: Any, token: AccessToken) -> None:
        self.method = details.method
        self.timeout = details.timeout
        others = (pair for pair in details.metadata or () if pair[0] != _AUTHORIZATION)
        self.metadata = (*others, (_AUTHORIZATION, f"Bearer {token.expose()}"))
        self.credentials = details.credentials
        self.wait_for_ready = getattr(details, "wait_for_ready", None)
        self.compression = getattr(details, "compression", None)


class ClientInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Sends a token of the source with each call, as `grpc.intercept_channel(channel, ClientInterceptor(source))`.

    Where there is no token, the call fails with the error of `TokenSource.token`. A call that ends with
    UNAUTHENTICATED tells the source that its token is no longer good, so that the next call has a new one: see
    `TokenSource.invalidate`. The refused call is not repeated, because only its caller knows whether it may be.
    """

    def __init__(self, source: TokenSource) -> None:
        self._source = source

    def _call(self, continuation: Any, details: Any, request: Any) -> Any:
        token = self._source.token()
        call = continuation(_WithToken(details, token), request)
        call.add_done_callback(lambda done: self._hear(done, token))
        return call

    def _hear(self, done: Any, token: AccessToken) -> None:
        if done.code() is grpc.StatusCode.UNAUTHENTICATED:
            self._source.invalidate(token)

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._call(continuation, client_call_details, request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._call(continuation, client_call_details, request)

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return self._call(continuation, client_call_details, request_iterator)

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return self._call(continuation, client_call_details, request_iterator)
