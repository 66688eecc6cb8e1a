"""Calling services over HTTP with requests: `requests.get(url, auth=TokenAuth(source))`, or `session.auth = …`."""

from __future__ import annotations

from typing import Any

import requests
from requests.auth import AuthBase

from tessera.errors import TesseraError
from tessera.token_source import AccessToken, TokenSource


class TokenAuth(AuthBase):
    """Sends a token of the source with each request.

    After an answer 401 the source gives the token up, and the request is sent once more with a new one, if there is one
    and the body can be sent again. Without a token, the request fails with the error of `TokenSource.token`.
    """

    def __init__(self, source: TokenSource) -> None:
        self._source = source

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        token = self._source.token()
        _put(request, token)
        hooks: Any = request
        hooks.register_hook("response", lambda response, **options: self._hear(response, token, options))
        return request

    def _hear(self, response: requests.Response, token: AccessToken, options: dict[str, Any]) -> requests.Response:
        sent = response.request.headers.get("authorization")
        # After a redirect to another host the token was not sent, and must not be.
        if response.status_code != requests.codes.unauthorized or sent != _header(token):
            return response
        self._source.invalidate(token)
        try:
            fresh = self._source.token()
        except TesseraError:
            return response
        if fresh is token or not isinstance(response.request.body, (bytes, str, type(None))):
            return response
        # The connection is free again once the answer has been read.
        response.content  # noqa: B018
        response.close()
        repeated = response.request.copy()
        _put(repeated, fresh)
        connection: Any = getattr(response, "connection")
        answer: requests.Response = connection.send(repeated, **options)
        answer.history.append(response)
        answer.request = repeated
        return answer


def _put(request: requests.PreparedRequest, token: AccessToken) -> None:
    request.headers["authorization"] = _header(token)


def _header(token: AccessToken) -> str:
    return f"Bearer {token.expose()}"
