"""gRPC servers that accept tokens, and clients that send them; `tessera.grpc_aio` has the same for `grpc.aio`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, NoReturn

import grpc

from tessera import refusal
from tessera.bearer import token_of
from tessera.claims import Claims
from tessera.decision import Allow, FailClosed, Mode, check_mode
from tessera.errors import ConfigurationError
from tessera.refusal import Refusal, Require
from tessera.token_source import AccessToken, TokenSource
from tessera.verifier import Verifier

AUTHORIZATION = "authorization"
_METHOD = re.compile(r"/[^/\s]+/[^/\s]+")
_EXAMPLE = "{'/videos.v1.Videos/List': 'videos:read'}"
_claims: ContextVar[Claims] = ContextVar("tessera.claims")


def claims_of(context: object = None) -> Claims:
    """The claims of the call's token, in a handler behind a `ServerInterceptor`; a thread that the handler starts has
    none. Raises `ConfigurationError` if the method needs no token."""
    claims = _claims.get(None)
    if claims is None:
        raise ConfigurationError("there are no claims: the method needs no token, or this is another thread than its handler's")
    return claims


def require_scope(context: grpc.ServicerContext, scope: str, **parameters: object) -> None:
    """Ends the call unless its token has a scope whose parameters are in the message, such as `require_scope(context,
    "videos/{id}:play", id=request.film)`.

    An interceptor decides before the message is read. So list the method with None (any valid token), and call this
    first in its handler. A value must be one segment of a resource: a value that no scope can have, such as `a/b`, is
    refused too.
    """
    refused = refusal.of_scope(claims_of(context), scope, parameters)
    if refused is not None:
        abort(refused, scope, context)


def keep(claims: Claims | None) -> None:
    """Stores the claims for the handler of this call."""
    if claims is not None:
        _claims.set(claims)


def _check_method(method: object) -> None:
    if not isinstance(method, str) or not _METHOD.fullmatch(method):
        raise ConfigurationError(f"{method!r} is not a method such as '/videos.v1.Videos/List'")


def _requirement(method: str, required: str | Require | None, mode: Mode) -> Require:
    """The requirement of a method. Scopes can't have parameters here: see `require_scope`."""
    try:
        require = Require.of(required, mode)
    except ConfigurationError as error:
        raise ConfigurationError(f"{method}: {error}") from None
    if require.path is not None:
        raise ConfigurationError(f"{method}: {require.path!r} is a path of HTTP: a method of gRPC has none")
    if require.missing:
        raise ConfigurationError(
            f"{method}: nothing fills in the parameters of {require.scope!r}: list the method with None, and begin its "
            f"handler with require_scope(context, {require.scope!r}, …)"
        )
    return require


class Methods:
    """What the methods of a server need."""

    def __init__(
        self, required: Mapping[str, str | Require | None], public: Collection[str], mode: Mode
    ) -> None:
        check_mode(mode)
        if not isinstance(required, Mapping):
            raise ConfigurationError(f"`required` says what each method requires, such as {_EXAMPLE}: not {required!r}")
        if isinstance(public, str | bytes) or not isinstance(public, Collection):
            raise ConfigurationError(f"`public` is a list of methods: not {public!r}")
        for method in (*required, *public):
            _check_method(method)
        self._required = {method: _requirement(method, needed, mode) for method, needed in required.items()}
        self._public = frozenset(public)
        both = sorted(self._public & self._required.keys())
        if both:
            raise ConfigurationError(f"{', '.join(both)}: either public, or required")

    def is_public(self, method: str) -> bool:
        """Whether the method needs no token."""
        return method in self._public

    def token(self, details: Any) -> tuple[str, Require] | Refusal:
        """The token of a call, with the requirement of its method."""
        require = self._required.get(details.method)
        if require is None:
            return refusal.unlisted()
        metadata = details.invocation_metadata or ()
        token = token_of([value for name, value in metadata if name == AUTHORIZATION])
        return token if isinstance(token, Refusal) else (token, require)


class ServerInterceptor(grpc.ServerInterceptor):
    """Admits calls with a valid token that has the scope of their method.

    `required` names the scope of each method (`/package.Service/Method`), or None for any valid token, or a `Require`
    with what to do while stale; `mode` is that of all others. Methods in `public` need no token. A method in neither is
    refused, so that a new one is not open by accident. A stream is checked when it opens. Refusals have a
    google.rpc.ErrorInfo, and the log has the reason.
    """

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

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)
        if handler is None or self._methods.is_public(handler_call_details.method):
            return handler
        return guarded(handler, lambda context: self._admit(handler_call_details, context))

    def _admit(self, details: Any, context: grpc.ServicerContext) -> None:
        admitted = admit(self._verifier, self._methods.token(details))
        if isinstance(admitted, Refusal):
            abort(admitted, details.method, context)
        keep(admitted)


def admit(verifier: Verifier, token: tuple[str, Require] | Refusal) -> Claims | Refusal:
    """The claims of a token, or why it is refused."""
    if isinstance(token, Refusal):
        return token
    text, require = token
    decision = verifier.verify(text, require.scope, require.mode)
    return decision.claims if isinstance(decision, Allow) else refusal.of(decision, require.scope)


def abort(refused: Refusal, method: str, context: Any) -> NoReturn:
    """Ends a call."""
    refused.log(method)
    context.set_trailing_metadata(refused.details)
    context.abort(refused.code, refused.message)
    raise AssertionError("abort raises")


def guarded(handler: Any, admit: Callable[[grpc.ServicerContext], None]) -> Any:
    """The same handler, behind a check that aborts the call if it is refused."""

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


class WithToken(grpc.ClientCallDetails):
    """The details of a call, with a token in place of any credential that it had."""

    def __init__(self, details: Any, token: AccessToken) -> None:
        self.method = details.method
        self.timeout = details.timeout
        others = (pair for pair in details.metadata or () if pair[0] != AUTHORIZATION)
        self.metadata = (*others, (AUTHORIZATION, f"Bearer {token.expose()}"))
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

    Without a token, the call fails with the error of `TokenSource.token`. A call that ends with UNAUTHENTICATED tells
    the source that its token is no longer valid, so that the next call has a new one: see `TokenSource.invalidate`. The
    refused call is not repeated, because only its caller knows whether it may be.
    """

    def __init__(self, source: TokenSource) -> None:
        self._source = source

    def _call(self, continuation: Any, details: Any, request: Any) -> Any:
        token = self._source.token()
        call = continuation(WithToken(details, token), request)
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
