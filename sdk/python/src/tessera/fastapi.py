"""Routes of FastAPI that need a token.

    requires = Protect(verifier)

    @app.get("/videos")
    async def videos(claims: Annotated[Claims, Depends(requires("videos:read"))]) -> ...:
"""

from __future__ import annotations

from dataclasses import replace

from fastapi import HTTPException, WebSocketException, status
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection

from tessera import asgi, refusal
from tessera.claims import Claims
from tessera.decision import FailClosed, Mode, check_mode
from tessera.path_scope import PathError, fill, parameters_of
from tessera.refusal import Refusal, Require
from tessera.verifier import Verifier


class Protect:
    """Makes dependencies: `Depends(requires("videos:read"))` returns the claims of a valid token with that scope,
    `Depends(requires(None))` those of any valid token. A scope may have parameters of the route:
    `Depends(requires("videos/{id}:play"))` in `@app.get("/videos/{id}/play")`."""

    def __init__(self, verifier: Verifier, mode: Mode = FailClosed()) -> None:
        check_mode(mode)
        self._verifier = verifier
        self._mode = mode

    def __call__(self, scope: str | None, *, mode: Mode | None = None) -> Bearer:
        return Bearer(self._verifier, Require(scope, self._mode if mode is None else mode))


class Bearer(HTTPBearer):
    """The dependency: the claims, or an answer of RFC 6750 (401, 403 without the scope), or 503 when stale. It is in
    the OpenAPI document as a bearer token. On a WebSocket it refuses the handshake."""

    def __init__(self, verifier: Verifier, require: Require) -> None:
        super().__init__(bearerFormat="PASETO", scheme_name="Tessera", auto_error=False)
        self._verifier = verifier
        self._require = require
        self._has_parameters = require.scope is not None and bool(parameters_of(require.scope))

    async def __call__(self, connection: HTTPConnection) -> Claims:  # type: ignore[override]
        admitted = await self._admit(connection)
        if isinstance(admitted, Claims):
            return admitted
        admitted.log(connection.scope["path"])
        raise _error(admitted, connection.scope["type"])


    async def _admit(self, connection: HTTPConnection) -> Claims | Refusal:
        require = self._require
        if self._has_parameters:
            try:
                # With the values of the route: the token is checked for exactly what the route's function gets.
                require = replace(require, scope=fill(require.scope or "", connection.path_params))
            except PathError as error:
                return refusal.unclear(str(error))
        return await asgi.admit(self._verifier, connection.headers.getlist("authorization"), require)


def _error(refused: Refusal, kind: str) -> Exception:
    if kind == "websocket":
        is_stale = refused.status == status.HTTP_503_SERVICE_UNAVAILABLE
        return WebSocketException(status.WS_1013_TRY_AGAIN_LATER if is_stale else status.WS_1008_POLICY_VIOLATION)
    return HTTPException(refused.status, refused.error, refused.headers)
