"""Typed calls, each with a deadline, retried only where a retry is safe."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc

from tessera.connection import Connection
from tessera.errors import CallError, PassingError, call_error
from tessera.retry import Backoff
from tessera.v1 import key_service_pb2 as keys_pb
from tessera.v1 import revocation_service_pb2 as revocations_pb
from tessera.v1 import token_service_pb2 as tokens_pb
from tessera.v1.key_service_pb2_grpc import KeyServiceStub
from tessera.v1.revocation_service_pb2_grpc import RevocationServiceStub
from tessera.v1.token_service_pb2_grpc import TokenServiceStub

_log = logging.getLogger("tessera")
_KEYS_PAGE = 500
#: More pages than any realm has: a server that never ends its list is not followed for ever.
_KEY_PAGES_MAX = 100

Request = TypeVar("Request")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class ClientOptions:
    """How a `Client` calls, in seconds."""

    #: The longest that a call may take with all its retries.
    deadline: float = 10
    #: The wait before the first retry, doubled with each.
    backoff: float = 0.05
    #: The longest wait between two attempts, unless the authority asks for more.
    backoff_max: float = 2


@dataclass(frozen=True)
class Answered(Generic[Answer]):
    """An answer, with when its request was sent, on the monotonic clock."""

    answer: Answer
    sent_at: float


class Client:
    """Calls an authority. Threads share it.

    UNAVAILABLE and ABORTED are retried with backoff until the deadline, waiting at least as long as the
    authority asks; nothing else is. Every call raises `CallError`.
    """

    def __init__(self, connection: Connection, options: ClientOptions = ClientOptions()) -> None:
        self._options = options
        self._credential = connection.credential
        self._channel = connection.channel()
        self._tokens = TokenServiceStub(self._channel)
        self._revocations = RevocationServiceStub(self._channel)
        self._keys = KeyServiceStub(self._channel)

    def issue(self, request: tokens_pb.IssueRequest) -> tokens_pb.IssueResponse:
        """Starts a session. Without a `request_id` it gets a random one, so that a retry whose first
        answer was lost gives the same session."""
        return self.issue_timed(request).answer

    def refresh(self, request: tokens_pb.RefreshRequest) -> tokens_pb.RefreshResponse:
        """Spends a refresh token. Retries are safe: within the grace window they give the same successor."""
        return self.refresh_timed(request).answer

    def introspect(self, request: tokens_pb.IntrospectRequest) -> tokens_pb.IntrospectResponse:
        """Asks what a token says, and whether it is active; an inactive token is no error."""
        answered: Answered[tokens_pb.IntrospectResponse] = self._retried(self._tokens.Introspect, request)
        return answered.answer

    def revoke(self, request: tokens_pb.RevokeRequest) -> tokens_pb.RevokeResponse:
        """Ends a token, a session, or everything of a subject, client, API key, binding, key or realm."""
        answered: Answered[tokens_pb.RevokeResponse] = self._retried(self._tokens.Revoke, request)
        return answered.answer

    def await_propagation(self, cursor: str) -> revocations_pb.AwaitPropagationResponse:
        """Answers when every required subscriber has the place of `cursor`, or refuses by itself."""
        request = revocations_pb.AwaitPropagationRequest(cursor=cursor)
        answered: Answered[revocations_pb.AwaitPropagationResponse] = self._retried(
            self._revocations.AwaitPropagation, request
        )
        return answered.answer

    def list_keys(self, realm: str) -> list[keys_pb.VerifyingKey]:
        """All verifying keys of a realm."""

        def page(request: keys_pb.ListKeysRequest) -> keys_pb.ListKeysResponse:
            answered: Answered[keys_pb.ListKeysResponse] = self._retried(self._keys.ListKeys, request)
            return answered.answer

        return all_keys(page, realm)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def issue_timed(self, request: tokens_pb.IssueRequest) -> Answered[tokens_pb.IssueResponse]:
        """As `issue`, with when the request was sent."""
        if not request.request_id:
            named = tokens_pb.IssueRequest(request_id=str(uuid.uuid4()))
            named.MergeFrom(request)
            request = named
        return self._retried(self._tokens.Issue, request)

    def refresh_timed(self, request: tokens_pb.RefreshRequest) -> Answered[tokens_pb.RefreshResponse]:
        """As `refresh`, with when the request was sent."""
        return self._retried(self._tokens.Refresh, request)

    def _retried(self, method: Callable[..., Answer], request: Request) -> Answered[Answer]:
        ends_at = time.monotonic() + self._options.deadline
        backoff = Backoff(self._options.backoff, self._options.backoff_max)
        while True:
            sent_at = time.monotonic()
            try:
                answer = method(request, timeout=ends_at - sent_at, metadata=self._credential)
                return Answered(answer, sent_at)
            except grpc.RpcError as error:
                failure = call_error(error)
            wait = max(backoff.wait(), failure.retry_after or 0)
            if not failure.is_retried or time.monotonic() + wait >= ends_at:
                raise failure
            _log.debug("a call is tried again in %.3f s: %s", wait, failure)
            time.sleep(wait)


def all_keys(
    page: Callable[[keys_pb.ListKeysRequest], keys_pb.ListKeysResponse], realm: str
) -> list[keys_pb.VerifyingKey]:
    """The keys of all pages."""
    keys: list[keys_pb.VerifyingKey] = []
    page_token = ""
    for _ in range(_KEY_PAGES_MAX):
        request = keys_pb.ListKeysRequest(realm=realm, page_size=_KEYS_PAGE, page_token=page_token)
        answer = page(request)
        keys.extend(answer.keys)
        page_token = answer.next_page_token
        if not page_token:
            return keys
    raise protocol_error("the list of keys does not end")


def protocol_error(message: str) -> CallError:
    """The authority answered what it may not answer."""
    return PassingError(grpc.StatusCode.INTERNAL, None, message)
