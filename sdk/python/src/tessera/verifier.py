"""Verifying access tokens without a call.

A thread keeps the keys and the revocations of a realm up to date from the authority's stream. It pings at its own
monotonic moment; when the echo arrives, everything durable before that moment has been applied. So a verifier knows how
stale it may be without synchronized clocks, and refuses beyond its bound.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tessera import claims as claims_of
from tessera import forking, paseto
from tessera.calls import Client, ClientOptions
from tessera.connection import Connection
from tessera.decision import Decision, Deny, DenyReason, FailClosed, FailOpen, Introspect, Mode, Stale, check_mode
from tessera.cursor import parse as parse_cursor
from tessera.errors import CallError, ClosedError, ConfigurationError, NotReadyError, OtherLogError
from tessera.following import End, Following
from tessera.session import Session
from tessera.v1 import token_service_pb2 as tokens_pb
from tessera.view import Options, View

_log = logging.getLogger("tessera")
#: A caller waits for the answer about its token, and most of the time that a verifier is stale the authority can't be
#: reached.
_INTROSPECT = ClientOptions(deadline=2)
_SUBSCRIBER_MAX = 64
_SUBSCRIBER = re.compile(r"[A-Za-z0-9._:-]{1,64}")


@dataclass(frozen=True)
class VerifierStatus:
    """The state of a verifier."""

    #: Whether it has had keys, a snapshot, and a first answer that says how fresh it is.
    is_ready: bool
    #: Whether it is ready and within its staleness bound now: valid tokens are allowed.
    is_fresh: bool
    #: How stale it may be, in seconds; None before it is ready, and after it was closed.
    behind: float | None
    #: The last event of the revocation log that it has applied.
    through: int
    #: Revocations that it keeps.
    entries: int
    #: Why it does not follow now, for a log; None if it does.
    problem: str | None
    #: The address that it follows, or tries now.
    address: str
    #: The number of snapshots of the revocations that it took: one at its start, and one whenever the log no longer had
    #: the events after its position.
    snapshots: int


class Verifier:
    """Verifies access tokens of `realm` for `audience`. Threads share it.

    The connection's API key must be of that realm, and of a client that the policy allows to watch
    (`tessera/revocations:watch`). `close` ends the following, and so does losing the last reference. A closed verifier
    allows nothing: for valid tokens it returns `Stale`.
    """

    def __init__(
        self,
        connection: Connection,
        realm: str,
        audience: str,
        *,
        staleness_bound: float = 10.0,
        leeway: float = 30.0,
        subscriber: str = "",
        required: bool = False,
        cache_capacity: int = 10_000,
        calls: ClientOptions = _INTROSPECT,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Begins to follow the authority; `status` shows whether it answers.

        `staleness_bound`: how stale it may be and still allow, 0.1 s to 1 h. `leeway`: how far this machine's clock may
        differ from the authority's, at most a minute. `subscriber`: a name for logs and metrics, which two verifiers
        that run at once must not share. `required`: whether AwaitPropagation waits for this verifier; it then needs a
        name. `calls`: how `Introspect` calls, for 2 s at most unless set: a request may wait this long while this
        verifier is stale. `clock`: what tokens are compared with; staleness never depends on it.
        """
        _check(realm, audience, staleness_bound, leeway, subscriber, required)
        addresses = connection.addresses.given
        options = Options(realm, audience, staleness_bound, timedelta(seconds=leeway), cache_capacity, clock, addresses)
        self._view = View(options)
        self._client = Client(connection, calls)
        follower = _Follower(Following(self._view, connection, subscriber, required))
        self._finalizer = weakref.finalize(self, _end, follower, self._client)
        forking.start(follower)

    def ready(self, timeout: float | None = 30.0) -> None:
        """Waits until there are keys, a first snapshot, and an answer that says how fresh it is.

        Raises `NotReadyError` with the reason: at once if waiting does not help, such as for a wrong API key, a policy
        that does not allow it to watch, or an unknown audience, and after `timeout` seconds (None: never). Raises
        `ClosedError` if it is closed."""
        view = self._view
        with view.heard:
            view.heard.wait_for(lambda: view.is_closed or view.is_ready or view.is_permanent, timeout)
            self._check_open()
            if not view.is_ready:
                raise NotReadyError(f"{view.problem_at}: {view.problem or 'no answer yet'}", view.is_permanent)

    def wait_ready(self, timeout: float | None = 30.0) -> bool:
        """As `ready`, with False instead of an error."""
        try:
            self.ready(timeout)
        except (ClosedError, NotReadyError):
            return False
        return True

    def applied(self, cursor: str, timeout: float | None = 30.0) -> bool:
        """Waits until it has applied everything up to `cursor`, which a Revoke returned: from then on this verifier
        refuses what was revoked. It says nothing about other verifiers; AwaitPropagation does.

        False if that took longer than `timeout` seconds. Raises `OtherLogError` if the cursor is of another log,
        `ConfigurationError` if it is not a cursor, and `ClosedError` if this verifier is closed."""
        place, view = parse_cursor(cursor), self._view

        def is_decided() -> bool:
            known = view.known
            return known.log is not None and (known.log != place.log or known.through >= place.sequence)

        with view.heard:
            is_told = view.heard.wait_for(lambda: view.is_closed or is_decided(), timeout)
            self._check_open()
            if is_told and view.known.log != place.log:
                raise OtherLogError("the cursor is of another revocation log than the one that is followed")
        return is_told

    def verify(self, token: str, required_scope: str | None = None, mode: Mode = FailClosed()) -> Decision:
        """Whether `token` is valid, and has the required scope (None: any valid token); refuses when stale, unless
        `mode` says otherwise. It waits only when stale: `Introspect` for the authority's answer, and each mode for a
        moment if the token has a position of the revocation log that is not known yet. A token that stays ahead, such
        as one with an invented claim, is never allowed."""
        _check_question(required_scope, mode)
        bound = self._view.options.bound
        unheard_since = None
        if isinstance(mode, FailOpen):
            bound, unheard_since = max(bound, mode.max), time.monotonic()
        decision = self._view.decide(token, required_scope, bound)
        if isinstance(decision, Stale):
            self._view.catch_up(token)
            decision = self._view.decide(token, required_scope, bound, unheard_since)
        if isinstance(decision, Stale) and isinstance(mode, Introspect):
            return self._introspect(token, required_scope) or decision
        return decision

    async def verify_async(
        self, token: str, required_scope: str | None = None, mode: Mode = FailClosed()
    ) -> Decision:
        """As `verify`, without blocking the event loop."""
        _check_question(required_scope, mode)
        decision = self._view.decide(token, required_scope, self._view.options.bound)
        if not isinstance(decision, Stale):
            return decision
        return await asyncio.to_thread(self.verify, token, required_scope, mode)

    @property
    def is_ready(self) -> bool:
        """Whether it has ever been fresh."""
        return self._view.is_ready

    @property
    def is_fresh(self) -> bool:
        """Whether it is ready and within its staleness bound now: for a readiness endpoint."""
        behind = self._view.behind
        return behind is not None and behind <= self._view.options.bound

    @property
    def status(self) -> VerifierStatus:
        """Its state."""
        view = self._view
        with view.lock:
            known = view.known
            through, entries, snapshots = known.through, len(known.revoked), known.snapshots
        return VerifierStatus(
            view.is_ready, self.is_fresh, view.behind, through, entries, view.told, view.at, snapshots
        )

    def close(self) -> None:
        """Ends the following. From then on nothing is allowed."""
        self._view.close()
        self._finalizer()

    def _check_open(self) -> None:
        if self._view.is_closed:
            raise ClosedError("the verifier is closed")

    def _introspect(self, token: str, required_scope: str | None) -> Decision | None:
        """Asks the authority; None if it does not answer."""
        try:
            answer = self._client.introspect(tokens_pb.IntrospectRequest(token=token))
        except (CallError, ClosedError) as error:
            _log.warning("the authority could not be asked about a token: %s", error)
            return None
        untrusted = paseto.take_apart(token)
        claims = untrusted and claims_of.decode(untrusted.payload)
        if not claims or not answer.active or answer.jti != claims.token_id:
            return Deny(DenyReason.INACTIVE)
        return self._view.check_introspected(claims, frozenset(answer.scope.split(" ")), required_scope)

    def __enter__(self) -> Verifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Follower:
    """One session after another, in a thread that ends before each fork and starts again after it. It has no reference
    to the verifier, so that losing the verifier ends this."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._subscriber = following.subscriber
        self._is_stopped = False
        #: If set, the thread must end.
        self._interrupted = threading.Event()
        self._session: Session | None = None
        self._thread: threading.Thread | None = None

    def stop(self) -> None:
        self._is_stopped = True
        self._interrupted.set()
        session = self._session
        if session:
            # The thread closes the channel: this may run anywhere, in garbage collection.
            session.cancel()

    def pause(self) -> None:
        self._interrupted.set()
        session = self._session
        if session:
            session.stop()

    def wait_paused(self, ends_at: float) -> bool:
        if self._thread is None:
            return True
        self._thread.join(max(0.0, ends_at - time.monotonic()))
        return not self._thread.is_alive()

    def resume(self, is_child: bool) -> None:
        if is_child:
            self._following.view.resume_in_child()
            self._following.resume_in_child()
            self._following.subscriber = _name_in_child(self._subscriber)
        if not self._is_stopped:
            self._interrupted = threading.Event()
            # A fork that did not wait for the previous thread leaves it in the parent.
            previous = None if is_child else self._thread
            self._thread = threading.Thread(
                target=self._run, args=(self._interrupted, previous), name="tessera-verifier", daemon=True
            )
            self._thread.start()

    def _run(self, interrupted: threading.Event, previous: threading.Thread | None) -> None:
        if previous:
            previous.join()
        while not interrupted.is_set():
            end = self._run_session(interrupted)
            if interrupted.is_set():
                return
            interrupted.wait(self._following.after(end))

    def _run_session(self, interrupted: threading.Event) -> End:
        try:
            self._session = session = Session(self._following)
            if interrupted.is_set():
                session.stop()
            return session.run()
        except Exception as error:
            # For example a file of certificates that can't be read now: the next session may begin.
            return End(f"{type(error).__name__}: {error}")
        finally:
            self._session = None


def _check_question(required_scope: object, mode: object) -> None:
    if required_scope is not None and not isinstance(required_scope, str):
        raise ConfigurationError(f"the required scope is one text, or None for any good token: not {required_scope!r}")
    check_mode(mode)


def _end(follower: _Follower, client: Client) -> None:
    follower.stop()
    client.close()


def _name_in_child(subscriber: str) -> str:
    """A name for this process: two verifiers that run at once must not share one."""
    suffix = f":{os.getpid()}"
    return subscriber and subscriber[: _SUBSCRIBER_MAX - len(suffix)] + suffix


def _check(
    realm: str, audience: str, bound: float, leeway: float, subscriber: str, required: bool
) -> None:
    if not realm or not audience:
        raise ConfigurationError("a verifier needs the realm and the audience of its tokens")
    for name, seconds in (("staleness bound", bound), ("leeway", leeway)):
        if not isinstance(seconds, int | float):
            raise ConfigurationError(f"the {name} is a number of seconds, not {seconds!r}")
    if not 0.1 <= bound <= 3600:
        raise ConfigurationError("the staleness bound must be between 0.1 s and 1 h")
    if not 0 <= leeway <= 60:
        raise ConfigurationError("the leeway must be at most a minute")
    if subscriber and not _SUBSCRIBER.fullmatch(subscriber):
        raise ConfigurationError("a subscriber's name has 1 to 64 characters of `A-Za-z0-9._:-`")
    if required and not subscriber:
        raise ConfigurationError("a required verifier needs a subscriber name")
