"""ASGI applications that accept tokens, with no framework needed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from tessera.bearer import token_of
from tessera.claims import Claims
from tessera.decision import Allow, Decision, Deny, FailClosed, Introspect, Mode
from tessera.verifier import Verifier

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_CLAIMS = "tessera.claims"
#: Close codes of WebSockets: against the policy of the server, and try again later.
_POLICY_VIOLATION, _TRY_AGAIN_LATER = 1008, 1013


@dataclass(frozen=True)
class Require:
    """What a request needs: a good token, with this scope unless it is None."""

    scope: str | None = None
    mode: Mode = field(default_factory=FailClosed)


def claims_of(scope: Scope) -> Claims:
    """The claims of the token that the request came with, in an application behind the middleware."""
    claims: Claims = scope[_CLAIMS]
    return claims


class TokenMiddleware:
    """Lets requests through that carry a good token: else 401, 403 without the scope, 503 when stale.

    `require` says what a request needs: the same for all, or by its ASGI scope; None there: no token.
    """

    def __init__(
        self, app: Application, verifier: Verifier, require: Require | Callable[[Scope], Require | None]
    ) -> None:
        self._app = app
        self._verifier = verifier
        self._require = require if callable(require) else lambda _: require

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        require = self._require(scope) if scope["type"] in ("http", "websocket") else None
        if require is None:
            await self._app(scope, receive, send)
            return
        token = token_of(_authorization(scope))
        decision = await self._verify(token, require) if token else None
        if isinstance(decision, Allow):
            await self._app({**scope, _CLAIMS: decision.claims}, receive, send)
        else:
            await _refuse(_Refusal.of(decision, require.scope), scope, receive, send)

    async def _verify(self, token: str, require: Require) -> Decision:
        if isinstance(require.mode, Introspect):
            return await asyncio.to_thread(self._verifier.verify, token, require.scope, require.mode)
        return self._verifier.verify(token, require.scope, require.mode)


@dataclass(frozen=True)
class _Refusal:
    """An answer of RFC 6750, which says no more of a token than that it is not good."""

    status: int
    error: str
    headers: dict[str, str]

    @classmethod
    def of(cls, decision: Decision | None, required_scope: str | None) -> _Refusal:
        if decision is None:
            return cls(401, "token_required", {"www-authenticate": "Bearer"})
        if not isinstance(decision, Deny):
            return cls(503, "temporarily_unavailable", {"retry-after": "1"})
        if decision.reason.is_about_scope:
            challenge = f'Bearer error="insufficient_scope", scope="{required_scope}"'
            return cls(403, "insufficient_scope", {"www-authenticate": challenge})
        return cls(401, "invalid_token", {"www-authenticate": 'Bearer error="invalid_token"'})


def _authorization(scope: Scope) -> str | None:
    headers = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
    return headers[0].decode("latin-1") if len(headers) == 1 else None


async def _refuse(refusal: _Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        code = _TRY_AGAIN_LATER if refusal.status == 503 else _POLICY_VIOLATION
        await send({"type": "websocket.close", "code": code})
        return
    body = json.dumps({"error": refusal.error}).encode()
    headers = {**refusal.headers, "content-type": "application/json", "content-length": str(len(body))}
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
