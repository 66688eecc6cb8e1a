"""Typed calls, each with a deadline, retried only if a retry is safe."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc

from tessera import forking
from tessera.addresses import Round
from tessera.connection import CONNECT_TIMEOUT, Connection
from tessera.errors import CallError, ClosedError, PassingError, call_error
from tessera.retry import Backoff
from tessera.v1 import key_service_pb2 as keys_pb
from tessera.v1 import revocation_service_pb2 as revocations_pb
from tessera.v1 import token_service_pb2 as tokens_pb
from tessera.v1.key_service_pb2_grpc import KeyServiceStub
from tessera.v1.revocation_service_pb2_grpc import RevocationServiceStub
from tessera.v1.token_service_pb2_grpc import TokenServiceStub

_log = logging.getLogger("tessera")
_KEYS_PAGE = 500
#: More pages than any realm has: a list of a server that never ends is not followed forever.
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
    """An answer, and when its request was sent, on the monotonic clock."""

    answer: Answer
    sent_at: float


class _Services:
    """The services of one channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.tokens: Any = TokenServiceStub(channel)
        self.revocations: Any = RevocationServiceStub(channel)
        self.keys: Any = KeyServiceStub(channel)


class _Channels:
    """The services at each address of an authority, on channels that are made when they are needed, closed before each
    fork, and made again after it: neither process can use a channel from before."""

    def __init__(self, connection: Connection, deadline: float) -> None:
        self._connection = connection
        count = len(connection.addresses)
        # With several addresses, one that can't be reached leaves a call the time to try the others.
        self._connect_timeout = CONNECT_TIMEOUT if count == 1 else min(CONNECT_TIMEOUT, deadline / (count + 1))
        self._condition = threading.Condition()
        # Guarded by the condition.
        self._services: dict[str, _Services] = {}
        self._users = 0
        self._is_paused = False
        self.is_closed = False
        #: The number of forks.
        self.forks = 0

    @contextmanager
    def services(self, address: str) -> Iterator[_Services]:
        """The services at an address, for one call; waits during a fork."""
        with self._condition:
            self._condition.wait_for(lambda: not self._is_paused)
            if self.is_closed:
                raise ClosedError("the client is closed")
            if address not in self._services:
                self._services[address] = _Services(self._connection.channel(address, self._connect_timeout))
            services = self._services[address]
            self._users += 1
        try:
            yield services
        finally:
            with self._condition:
                self._users -= 1
                self._condition.notify_all()

    def close(self) -> None:
        """Closes the channels; calls in progress end."""
        with self._condition:
            self.is_closed = True
        self._close_channels()

    def pause(self) -> None:
        with self._condition:
            self._is_paused = True
            self.forks += 1
        self._close_channels()

    def wait_paused(self, ends_at: float) -> bool:
        with self._condition:
            return self._condition.wait_for(lambda: self._users == 0, max(0.0, ends_at - time.monotonic()))

    def resume(self, is_child: bool) -> None:
        if is_child:
            self._condition = threading.Condition()
            self._users = 0
            self._connection.addresses.resume_in_child()
        with self._condition:
            self._is_paused = False
            self._condition.notify_all()

    def _close_channels(self) -> None:
        with self._condition:
            closed, self._services = self._services, {}
        for services in closed.values():
            services.channel.close()


class Client:
    """Calls an authority. Threads share it, and so do a process and its children after a fork.

    UNAVAILABLE and ABORTED are retried with backoff until the deadline, and at least after the wait that the authority
    asks for; other errors are not retried. With several addresses, UNAVAILABLE is retried at the next one, at once
    until each was tried. An attempt that the deadline cuts off ends with DEADLINE_EXCEEDED, and the message says how
    the previous attempt failed; if there was no answer, the next call begins at another address. If the deadline leaves
    no time for a retry, the call ends at once with the last failure. Every call raises `CallError`.
    """

    def __init__(self, connection: Connection, options: ClientOptions = ClientOptions()) -> None:
        self.options = options
        self._connection = connection
        self._credential = connection.credential
        self._channels = _Channels(connection, options.deadline)
        forking.start(self._channels)

    def issue(self, request: tokens_pb.IssueRequest) -> tokens_pb.IssueResponse:
        """Starts a session. Without a `request_id` it gets a random one, so that a retry gives the same session if the
        first answer was lost."""
        return self.issue_timed(request).answer

    def refresh(self, request: tokens_pb.RefreshRequest) -> tokens_pb.RefreshResponse:
        """Spends a refresh token. Retries are safe: within the grace window they give the same successor."""
        return self.refresh_timed(request).answer

    def introspect(self, request: tokens_pb.IntrospectRequest) -> tokens_pb.IntrospectResponse:
        """Returns what a token says, and whether it is active; an inactive token is not an error."""
        answered: Answered[tokens_pb.IntrospectResponse] = self._retried(lambda services: services.tokens.Introspect, request)
        return answered.answer

    def revoke(self, request: tokens_pb.RevokeRequest) -> tokens_pb.RevokeResponse:
        """Ends a token, a session, or everything of a subject, client, API key, label, key or realm."""
        answered: Answered[tokens_pb.RevokeResponse] = self._retried(lambda services: services.tokens.Revoke, request)
        return answered.answer

    def await_propagation(self, cursor: str) -> revocations_pb.AwaitPropagationResponse:
        """Answers when every required subscriber has the position of `cursor`, or refuses by itself."""
        request = revocations_pb.AwaitPropagationRequest(cursor=cursor)
        answered: Answered[revocations_pb.AwaitPropagationResponse] = self._retried(
            lambda services: services.revocations.AwaitPropagation, request
        )
        return answered.answer

    def list_keys(self, realm: str) -> list[keys_pb.VerifyingKey]:
        """All verifying keys of a realm."""

        def page(request: keys_pb.ListKeysRequest) -> keys_pb.ListKeysResponse:
            answered: Answered[keys_pb.ListKeysResponse] = self._retried(
                lambda services: services.keys.ListKeys, request
            )
            return answered.answer

        return all_keys(page, realm)

    def close(self) -> None:
        """Closes the connection."""
        self._channels.close()

    def issue_timed(self, request: tokens_pb.IssueRequest) -> Answered[tokens_pb.IssueResponse]:
        """As `issue`, with the time at which the request was sent."""
        if not request.request_id:
            named = tokens_pb.IssueRequest(request_id=str(uuid.uuid4()))
            named.MergeFrom(request)
            request = named
        return self._retried(lambda services: services.tokens.Issue, request)

    def refresh_timed(self, request: tokens_pb.RefreshRequest) -> Answered[tokens_pb.RefreshResponse]:
        """As `refresh`, with the time at which the request was sent."""
        return self._retried(lambda services: services.tokens.Refresh, request)

    def _retried(self, method: Callable[[_Services], Callable[..., Answer]], request: Request) -> Answered[Answer]:
        ends_at = time.monotonic() + self.options.deadline
        backoff = Backoff(self.options.backoff, self.options.backoff_max)
        round = Round(self._connection.addresses)
        asked = 0.0
        before: tuple[CallError, str] | None = None
        while True:
            address, forks, sent_at = round.address, self._channels.forks, time.monotonic()
            try:
                with self._channels.services(address) as services:
                    timeout = max(0.0, ends_at - sent_at)
                    answer = method(services)(request, timeout=timeout, metadata=self._credential)
                round.worked()
                return Answered(answer, sent_at)
            except grpc.RpcError as error:
                failure = call_error(error)
            except ValueError:
                # The channel was closed in between.
                if self._channels.forks == forks:
                    raise ClosedError("the client is closed") from None
                continue
            if failure.code is grpc.StatusCode.CANCELLED and self._channels.forks != forks:
                # A fork ended it; every call here may be sent again.
                continue
            if failure.code is grpc.StatusCode.CANCELLED and self._channels.is_closed:
                raise ClosedError("the client is closed")
            asked = max(asked, failure.retry_after or 0)
            if self._is_time_to_wait(failure, round):
                wait, asked = max(backoff.wait(), asked), 0.0
            else:
                wait = 0.0
            if failure.is_deadline:
                raise failure.cut_off(before and self._explained(*before)) from None
            if not failure.is_retried or time.monotonic() + wait >= ends_at:
                raise self._explained(failure, address) from None
            before = failure, address
            _log.debug("a call to %s is tried again in %.3f s: %s", address, wait, failure)
            time.sleep(wait)

    def _is_time_to_wait(self, failure: CallError, round: Round) -> bool:
        """Moves to the next address if that may help. Returns whether to wait before the next attempt."""
        if failure.is_deadline and failure.reason is None:
            # There was no answer: the node may be frozen. The next call begins elsewhere.
            self._connection.addresses.leave(round.at)
        # For other retried errors, another node would answer the same.
        return failure.code is not grpc.StatusCode.UNAVAILABLE or round.leave()

    def _explained(self, failure: CallError, address: str) -> CallError:
        explained = failure.explained(address, lambda: self._connection.diagnosis(address))
        return explained.at(address) if len(self._connection.addresses) > 1 else explained


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
    """The authority's answer is not valid."""
    return PassingError(grpc.StatusCode.INTERNAL, None, message)
