"""Calling services over HTTP with httpx: `httpx.Client(auth=TokenAuth(source))`, and `httpx.AsyncClient` too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator

import httpx

from tessera.errors import TesseraError
from tessera.token_source import AccessToken, TokenSource


class TokenAuth(httpx.Auth):
    """Sends a token of the source with each request.

    After an answer 401 the source gives the token up, and the request is sent once more with a new one, if there is one
    and the body can be sent again. Without a token, the request fails with the error of `TokenSource.token`.
    """

    def __init__(self, source: TokenSource) -> None:
        self._source = source

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        token = self._source.token()
        response = yield _with(request, token)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            self._source.invalidate(token)
            fresh = self._fresh()
            if fresh and fresh is not token and _can_repeat(request):
                yield _with(request, fresh)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        token = await self._source.token_async()
        response = yield _with(request, token)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            self._source.invalidate(token)
            fresh = await asyncio.to_thread(self._fresh)
            if fresh and fresh is not token and _can_repeat(request):
                yield _with(request, fresh)

    def _fresh(self) -> AccessToken | None:
        """A token after one was refused; if there is none, the refusal is the answer."""
        try:
            return self._source.token()
        except TesseraError:
            return None


def _with(request: httpx.Request, token: AccessToken) -> httpx.Request:
    request.headers["authorization"] = f"Bearer {token.expose()}"
    return request


def _can_repeat(request: httpx.Request) -> bool:
    """Whether the body can be sent again: a streamed body is gone."""
    return isinstance(request.stream, httpx.ByteStream)
