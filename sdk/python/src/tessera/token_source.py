"""A source of access tokens that are always valid.

One thread makes every call, so callers can't stampede: they read what it published, or wait for it. Expiry is
`expires_in` on the monotonic clock from when the request was sent, never the wall clock.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import math
import random
import threading
import time
import weakref
from dataclasses import dataclass

import grpc
from google.protobuf.duration_pb2 import Duration

from tessera import forking
from tessera.calls import Client, protocol_error
from tessera.errors import CallError, ClosedError, ConfigurationError, PassingError, SignInError
from tessera.problems import ProblemLog
from tessera.retry import Backoff
from tessera.v1 import token_service_pb2 as pb

_log = logging.getLogger("tessera")
_BACKOFF = 0.25
_BACKOFF_MAX = 15.0
#: The shortest time between two renewals, for tokens with a very short life.
_RENEWAL_PAUSE = 0.25
#: How long a permanent error is repeated before the authority is asked again: it may have been fixed.
_PERMANENT_FOR = 30.0
#: The shortest time between two tokens that are given up because a service refused them, in seconds: a service that
#: always refuses causes no more calls than this.
_INVALIDATION_PAUSE = 10.0
#: How much longer than its calls a caller waits at most.
_GRACE = 1.0


@dataclass(frozen=True)
class TokenRequest:
    """The tokens to get, as in an IssueRequest."""

    #: The audience; may be empty if the realm has exactly one.
    audience: str = ""
    #: The subject. Empty: the client itself.
    subject: str = ""
    roles: tuple[str, ...] = ()
    #: Empty: all scopes that the policy grants.
    scopes: tuple[str, ...] = ()
    #: The life of each access token, in whole seconds. None: the realm's default.
    access_ttl: int | None = None
    labels: tuple[str, ...] = ()
    #: Fail unless every scope is granted.
    require_all: bool = False

    def __post_init__(self) -> None:
        for name in ("audience", "subject"):
            if not isinstance(getattr(self, name), str):
                raise ConfigurationError(f"{name} is a text: not {getattr(self, name)!r}")
        for name in ("roles", "scopes", "labels"):
            _check_texts(name, getattr(self, name))
        if self.access_ttl is not None and type(self.access_ttl) is not int:
            raise ConfigurationError(f"access_ttl is a whole number of seconds: not {self.access_ttl!r}")
        if type(self.require_all) is not bool:
            raise ConfigurationError(f"require_all is True or False: not {self.require_all!r}")

    def message(self) -> pb.IssueRequest:
        """The request on the wire."""
        request = pb.IssueRequest(
            audience=self.audience,
            subject=self.subject,
            roles=self.roles,
            scopes=self.scopes,
            labels=self.labels,
            require_all=self.require_all,
        )
        if self.access_ttl is not None:
            request.access_ttl.CopyFrom(Duration(seconds=self.access_ttl))
        return request


def _check_texts(name: str, texts: object) -> None:
    """Refuses a text, which Python would treat as a list of its letters."""
    if not isinstance(texts, tuple | list | set | frozenset) or not all(isinstance(text, str) for text in texts):
        raise ConfigurationError(f"{name} is a tuple of texts, such as ('videos:read',): not {texts!r}")


class AccessToken:
    """An access token; only `expose` shows it."""

    def __init__(self, tokens: pb.TokenSet, sent_at: float) -> None:
        self._text = tokens.access_token
        self.scopes = tuple(tokens.scopes)
        self._sent_at = sent_at
        self._valid_until = sent_at + tokens.expires_in

    def expose(self) -> str:
        """The token itself."""
        return self._text

    @property
    def remaining(self) -> float:
        """The rest of its life, in seconds; 0 or less: it has ended."""
        return self._valid_until - time.monotonic()

    @property
    def renews_at(self) -> float:
        """At two thirds of its life, plus or minus a tenth of that, on the monotonic clock."""
        life = self._valid_until - self._sent_at
        return self._sent_at + life * random.uniform(0.9, 1.1) * 2 / 3

    def __repr__(self) -> str:
        return f"AccessToken(scopes={self.scopes!r}, remaining={self.remaining:.1f})"


class TokenSource:
    """Gives a valid access token at any time, to any number of threads.

    The first `token` issues. At two thirds of a token's life it is renewed in the background, while the old one is
    used; if the session is gone, a new one is issued with the API key. After an error that may be temporary, the old
    token stays in use for as long as it lives. `close` ends the renewal, and so does losing the last reference.
    """

    def __init__(self, client: Client, request: TokenRequest = TokenRequest()) -> None:
        self._renewer = _Renewer(client, request)
        self.close = weakref.finalize(self, self._renewer.stop)
        forking.start(self._renewer)

    def token(self) -> AccessToken:
        """A valid token: at once if there is one, otherwise when the call in progress has answered.

        Raises `PassingError` if trying later may help, `PermanentError` if it does not.
        """
        return self._renewer.token()

    def invalidate(self, token: AccessToken) -> None:
        """Gives `token` up, because a service refused it: most likely it is revoked. The next `token` waits for a new
        one, from the same session if it still lives.

        Does nothing if `token` is no longer the current one, so that many callers that are refused at once cost one
        call. Also does nothing within 10 s of the last token that was given up, so that a service that refuses every
        token can't cause calls to the authority without end.
        """
        self._renewer.invalidate(token)

    async def token_async(self) -> AccessToken:
        """As `token`, without blocking the event loop."""
        held = self._renewer.held()
        return held if held is not None else await asyncio.to_thread(self.token)

    def __enter__(self) -> TokenSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class _Failed:
    """The last attempt failed; before `until` there is no other attempt."""

    error: CallError
    until: float


class _Renewer:
    """Makes every call. It has no reference to the source, so that losing the source ends this."""

    def __init__(self, client: Client, request: TokenRequest) -> None:
        self._client = client
        self._request = request
        self._refresh_token = ""
        self._backoff = Backoff(_BACKOFF, _BACKOFF_MAX)
        self._problems = ProblemLog("renewing the access token failed", "the access token is renewed")
        self._make_locks()
        self._thread: threading.Thread | None = None
        # Guarded by the lock.
        self._state: AccessToken | _Failed | None = None
        self._published = 0
        self._is_asked = False
        self._is_stopped = False
        self._invalidated_at = -math.inf

    def _make_locks(self) -> None:
        lock = threading.Lock()
        #: For callers, and for the thread: to wake all callers for each new one would be a stampede too.
        self._answered = threading.Condition(lock)
        self._asked = threading.Condition(lock)

    # === around a fork ===

    def pause(self) -> None:
        """Only its client uses gRPC."""

    def wait_paused(self, ends_at: float) -> bool:
        return True

    def resume(self, is_child: bool) -> None:
        if is_child:
            self._make_locks()
            # The session continues in the parent. Two processes that spend its refresh tokens would look like a theft;
            # the access token is valid here too.
            self._refresh_token = ""
        if not self._is_stopped and (is_child or self._thread is None):
            self._thread = threading.Thread(target=self.run, name="tessera-tokens", daemon=True)
            self._thread.start()

    # === what callers do ===

    def held(self) -> AccessToken | None:
        state = self._state
        if self._is_stopped or not isinstance(state, AccessToken):
            return None
        return state if state.remaining > 0 else None

    def token(self) -> AccessToken:
        # The usual case takes no lock: a reference is read in one step.
        held = self.held()
        if held:
            return held
        # A refresh and an issue may follow each other; a call takes no more than that.
        ends_at = time.monotonic() + 2 * self._client.options.deadline + _GRACE
        with self._answered:
            seen = self._published
            while not self._is_stopped:
                state = self._state
                if isinstance(state, AccessToken) and state.remaining > 0:
                    return state
                # A caller that has waited gets a failure of any age.
                if isinstance(state, _Failed) and (self._published != seen or time.monotonic() < state.until):
                    raise copy.copy(state.error)
                self._is_asked = True
                self._asked.notify()
                if not self._answered.wait(ends_at - time.monotonic()):
                    raise PassingError(grpc.StatusCode.DEADLINE_EXCEEDED, None, "no answer came in time")
        raise ClosedError("the source of tokens is closed")

    def invalidate(self, token: AccessToken) -> None:
        with self._answered:
            now = time.monotonic()
            if self._state is token and now - self._invalidated_at >= _INVALIDATION_PAUSE:
                _log.info("a service refused the access token: the next caller gets a new one")
                self._invalidated_at = now
                self._state = None

    def stop(self) -> None:
        with self._answered:
            self._is_stopped = True
            self._answered.notify_all()
            self._asked.notify()

    # === what the thread does ===

    def run(self) -> None:
        try:
            held = self.held()
            if held:
                self._rest_until(held.renews_at)
            else:
                self._wait_until_asked()
            while not self._is_stopped:
                self._renew()
        except ClosedError:
            _log.info("the client of a source of tokens was closed")
        finally:
            # However this thread ends, no caller waits for it after that.
            self.stop()

    def _renew(self) -> None:
        try:
            token = self._obtain()
        except CallError as error:
            self._fail(error)
        except ClosedError:
            raise
        except Exception as error:
            # Any other error, such as a file of certificates that can't be read now: the next attempt may work.
            self._fail(PassingError(grpc.StatusCode.INTERNAL, None, f"{type(error).__name__}: {error}"))
        else:
            self._backoff.reset()
            self._problems.worked()
            self._publish(token)
            self._rest_until(max(token.renews_at, time.monotonic() + _RENEWAL_PAUSE))

    def _obtain(self) -> AccessToken:
        """The successor of the session, or a new session if there is none any longer."""
        if self._refresh_token:
            try:
                refreshed = self._client.refresh_timed(pb.RefreshRequest(refresh_token=self._refresh_token))
                return self._take(refreshed.answer.tokens, refreshed.sent_at)
            except SignInError as error:
                _log.info("the session is gone, a new one is issued: %s", error)
                self._refresh_token = ""
        issued = self._client.issue_timed(self._request.message())
        return self._take(issued.answer.tokens, issued.sent_at)

    def _take(self, tokens: pb.TokenSet, sent_at: float) -> AccessToken:
        if not tokens.access_token:
            raise protocol_error("an answer without tokens")
        self._refresh_token = tokens.refresh_token
        return AccessToken(tokens, sent_at)

    def _fail(self, error: CallError) -> None:
        """Tells the waiting callers, unless the old token is still valid; then waits until it is time again."""
        self._problems.failed(error)
        wait = max(self._backoff.wait(), error.retry_after or 0)
        is_passing = isinstance(error, PassingError)
        until = time.monotonic() + (wait if is_passing else _PERMANENT_FOR)
        held = self.held()
        if is_passing and held:
            self._wait_until(min(until, time.monotonic() + held.remaining))
            return
        self._publish(_Failed(error, until))
        self._wait_until(until)
        self._wait_until_asked()

    def _publish(self, state: AccessToken | _Failed) -> None:
        with self._answered:
            self._state = state
            self._published += 1
            self._is_asked = False
            self._answered.notify_all()

    def _wait_until_asked(self) -> None:
        with self._asked:
            self._asked.wait_for(lambda: self._is_asked or self._is_stopped)

    def _rest_until(self, moment: float) -> None:
        """Waits until it is time to renew, or a caller needs a token and the current one was given up."""
        with self._asked:
            self._asked.wait_for(
                lambda: self._is_stopped or (self._is_asked and self._state is None),
                timeout=max(0.0, moment - time.monotonic()),
            )

    def _wait_until(self, moment: float) -> None:
        with self._asked:
            self._asked.wait_for(lambda: self._is_stopped, timeout=max(0.0, moment - time.monotonic()))
