"""ASGI applications that accept tokens, with no framework needed."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from tessera import refusal
from tessera.bearer import token_of
from tessera.claims import Claims
from tessera.decision import Allow
from tessera.errors import ConfigurationError
from tessera.path_scope import PathError
from tessera.refusal import Refusal, Require
from tessera.verifier import Verifier

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_CLAIMS = "tessera.claims"
__all__ = ["Require", "TokenMiddleware", "admit", "authorization", "claims_of"]
#: Close codes of WebSockets: against the policy of the server, and try again later.
_POLICY_VIOLATION, _TRY_AGAIN_LATER = 1008, 1013


def claims_of(scope: Scope) -> Claims:
    """The claims of the request's token, in an application behind the middleware."""
    claims: Claims = scope[_CLAIMS]
    return claims


class TokenMiddleware:
    """Admits requests with a valid token. Others get 401, 403 without the scope, or 503 when stale.

    `require` is the requirement of a request: the same for all, or a function of its ASGI scope. If the function
    returns None, the request needs no token.
    """

    def __init__(
        self, app: Application, verifier: Verifier, require: Require | Callable[[Scope], Require | None]
    ) -> None:
        self._app = app
        self._verifier = verifier
        self._require = _by_request(require)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        require = self._require(scope) if scope["type"] in ("http", "websocket") else None
        if require is None:
            await self._app(scope, receive, send)
            return
        try:
            require = replace(require, scope=require.scope_of(raw_path(scope)), path=None)
        except PathError as error:
            admitted: Claims | Refusal = refusal.unclear(str(error))
        else:
            admitted = await admit(self._verifier, authorization(scope), require)
        if isinstance(admitted, Claims):
            await self._app({**scope, _CLAIMS: admitted}, receive, send)
        else:
            admitted.log(scope["path"])
            await _refuse(admitted, scope, receive, send)


def _by_request(require: Require | Callable[[Scope], Require | None]) -> Callable[[Scope], Require | None]:
    if isinstance(require, Require):
        required = _complete(require)
        return lambda _: required
    if not callable(require) or isinstance(require, type):
        raise ConfigurationError(
            f"{require!r} is not what a request needs: use Require('videos:read'), Require(None) for any good token, or a"
            " function"
        )
    return lambda scope: _complete(require(scope))


def _complete(require: Require | None) -> Require | None:
    """Refuses a requirement whose parameters have no source."""
    if require is not None and require.missing:
        raise ConfigurationError(
            f"{require.scope!r} has parameters of the path: say Require({require.scope!r}, path='/…/{{{require.missing}}}')"
        )
    return require


async def admit(verifier: Verifier, headers: Sequence[str], require: Require) -> Claims | Refusal:
    """The claims of the token in these `authorization` headers, or why it is refused."""
    token = token_of(headers)
    if isinstance(token, Refusal):
        return token
    decision = await verifier.verify_async(token, require.scope, require.mode)
    return decision.claims if isinstance(decision, Allow) else refusal.of(decision, require.scope)


def raw_path(scope: Scope) -> str:
    """The path as it was sent. If the server does not provide it, the application does not see it either."""
    raw = scope.get("raw_path")
    return quote(scope["path"]) if raw is None else raw.decode("latin-1")


def authorization(scope: Scope) -> list[str]:
    """The `authorization` headers of a request."""
    headers = (value for name, value in scope["headers"] if name.lower() == b"authorization")
    return [value.decode("latin-1") for value in headers]


async def _refuse(refused: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        code = _TRY_AGAIN_LATER if refused.status == 503 else _POLICY_VIOLATION
        await send({"type": "websocket.close", "code": code})
        return
    body = json.dumps({"error": refused.error}).encode()
    headers = {**refused.headers, "content-type": "application/json", "content-length": str(len(body))}
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
