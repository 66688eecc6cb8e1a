"""A verifier's knowledge: keys, revocations, and since when it may have missed something."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from tessera import claims as claims_of
from tessera import paseto
from tessera.claims import Claims
from tessera.decision import Allow, Decision, Deny, DenyReason, Stale
from tessera.revocations import Revocations
from tessera.wire import VerifyingKey

#: How long a token waits for its position of the revocation log, in seconds. An answer to a ping takes milliseconds.
_CATCH_UP_MAX = 0.5
#: How long before `iat` a token may be used: the authority backdates `nbf` by this.
NBF_BACKDATE = timedelta(seconds=10)
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class Options:
    """What is accepted."""

    realm: str
    audience: str
    #: How stale a verifier may be and still allow, in seconds.
    bound: float
    leeway: timedelta
    cache_capacity: int
    clock: Callable[[], datetime]
    #: The authority's addresses, for messages.
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Signed:
    """A token with a correct signature."""

    claims: Claims
    key: VerifyingKey


@dataclass
class Known:
    """What is revoked, and how fresh this is."""

    revoked: Revocations = field(default_factory=Revocations)
    #: Everything durable before this moment of the monotonic clock has been applied.
    fresh_as_of: float | None = None
    #: Revocations of tokens that expired before this may have been left out or removed, so no leeway goes back beyond
    #: it.
    forgotten_through: datetime = _EPOCH
    #: The last event of the revocation log that has been applied.
    through: int = 0
    #: The identity of that log.
    log: bytes | None = None
    #: How many snapshots were taken.
    snapshots: int = 0

    def forget_before(self, horizon: datetime) -> None:
        """Removes what matters to no token that this verifier would accept."""
        self.forgotten_through = max(self.forgotten_through, horizon)
        self.revoked.forget_before(self.forgotten_through)


class _Denied(Exception):
    def __init__(self, reason: DenyReason) -> None:
        self.reason = reason


class View:
    """Shared by a verifier and its follower."""

    def __init__(self, options: Options) -> None:
        self.options = options
        #: Whether it has had keys, a snapshot, and a first answer that says how fresh it is.
        self.is_ready = False
        #: Why it does not follow now, and whether waiting helps.
        self.problem: str | None = None
        self.is_permanent = False
        #: The address of the problem.
        self.problem_at = ", ".join(options.addresses)
        #: The address that it follows, or tries.
        self.at = ""
        #: Whether nothing is allowed any longer.
        self.is_closed = False
        #: Asks the follower to read the keys again.
        self.on_unknown_key: Callable[[], None] = lambda: None
        #: Asks the follower to ask the authority for the end of the log.
        self.on_ahead: Callable[[], None] = lambda: None
        self.lock = threading.Lock()
        #: Notified when the authority reported the end of the log, and when it can't be followed.
        self.heard = threading.Condition(self.lock)
        #: Guarded by the lock.
        self.known = Known()
        self._keys = _Keys({}, options.cache_capacity)

    def resume_in_child(self) -> None:
        """After a fork: threads that do not exist here may hold the locks."""
        self.lock = threading.Lock()
        self.heard = threading.Condition(self.lock)
        self._keys.resume_in_child()

    def close(self) -> None:
        """From now on nothing is fresh: no further revocation is received."""
        with self.lock:
            self.is_closed = True
            self.heard.notify_all()

    def fail(self, address: str, problem: str, is_permanent: bool) -> None:
        """The authority can't be followed now."""
        with self.lock:
            self.problem_at, self.problem, self.is_permanent = address, problem, is_permanent
            self.heard.notify_all()

    def follow(self) -> None:
        """The authority is followed, and has reported how fresh all this is."""
        with self.lock:
            self.problem, self.is_permanent, self.is_ready = None, False, True
            self.heard.notify_all()

    @property
    def told(self) -> str | None:
        """The problem, with its address if there are several."""
        has_one = len(self.options.addresses) < 2
        return self.problem if has_one or self.problem is None else f"{self.problem_at}: {self.problem}"

    def put_keys(self, ring: dict[str, VerifyingKey]) -> None:
        """Other keys, another cache. The same keys keep their cache: anyone can cause them to be read again, with a
        token of an unknown key."""
        if ring == self._keys.ring:
            return
        self._keys = _Keys(ring, self.options.cache_capacity)

    def decide(
        self, token: str, required: str | None, bound: float, unheard_since: float | None = None
    ) -> Decision:
        """The answer to `token` if a staleness up to `bound` is allowed.

        A token with a position of the log that is not known here is not allowed: it may have been issued a moment ago,
        or be invented, so that no revocation could reach it. If `unheard_since` is given, such a token is allowed for
        as long as the authority has not answered since that moment of the monotonic clock."""
        if not isinstance(token, str):
            return Deny(DenyReason.MALFORMED)
        keys = self._keys
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        try:
            signed = keys.signed(token, digest)
            if signed is None:
                raise _Denied(self._why_not_signed(token, keys))
            claims, fresh_as_of, through = self._decide(signed, required)
        except _Denied as denied:
            if denied.reason in (DenyReason.REVOKED, DenyReason.EXPIRED):
                keys.forget(digest)
            if denied.reason is not DenyReason.UNKNOWN_KEY:
                return Deny(denied.reason)
            # The authority may have a key that is not known here yet.
            with self.lock:
                fresh_as_of = self.known.fresh_as_of
            return self._unless_stale(Deny(denied.reason), fresh_as_of, bound)
        is_unheard = unheard_since is not None and (fresh_as_of is None or fresh_as_of < unheard_since)
        if claims.rev > through and not is_unheard:
            self.on_ahead()
            return Stale(bound, self._behind(fresh_as_of))
        return self._unless_stale(Allow(claims), fresh_as_of, bound)

    def catch_up(self, token: str) -> None:
        """Waits a moment until the log's position of `token` is known, if it is ahead."""
        untrusted = paseto.take_apart(token)
        claims = claims_of.decode(untrusted.payload) if untrusted else None
        if claims is None:
            return
        rev, since = claims.rev, time.monotonic()

        def is_told() -> bool:
            fresh = self.known.fresh_as_of
            return self.is_closed or rev <= self.known.through or (fresh is not None and fresh >= since)

        with self.heard:
            self.heard.wait_for(is_told, _CATCH_UP_MAX)

    @property
    def has_keys(self) -> bool:
        """Whether any token can be verified."""
        return bool(self._keys.ring)

    @property
    def behind(self) -> float | None:
        """How stale all this may be, in seconds."""
        with self.lock:
            fresh = self.known.fresh_as_of
        return self._behind(fresh)

    def _behind(self, fresh_as_of: float | None) -> float | None:
        return None if fresh_as_of is None or self.is_closed else time.monotonic() - fresh_as_of

    def _unless_stale(self, decision: Decision, fresh_as_of: float | None, bound: float) -> Decision:
        # The time is taken last: the time that the decision took counts as staleness.
        behind = self._behind(fresh_as_of)
        return decision if behind is not None and behind <= bound else Stale(bound, behind)

    def _decide(self, signed: _Signed, required: str | None) -> tuple[Claims, float | None, int]:
        """What a signed token may be used for, how fresh this is and up to where the log is known: all from under one
        lock."""
        self._check(signed)
        claims = signed.claims
        with self.lock:
            known = self.known
            if claims.expires_at < known.forgotten_through:
                raise _Denied(DenyReason.EXPIRED)
            if known.revoked.revokes(claims, signed.key.kid):
                raise _Denied(DenyReason.REVOKED)
            taken, fresh_as_of, through = known.revoked.taken(claims), known.fresh_as_of, known.through
        return self.left_of(claims, taken, required), fresh_as_of, through

    @staticmethod
    def left_of(claims: Claims, taken: frozenset[str], required: str | None) -> Claims:
        """The claims without the scopes that were removed; the required scope must not be among these."""
        if required is not None and required not in claims.scopes:
            raise _Denied(DenyReason.SCOPE_MISSING)
        if required is not None and required in taken:
            raise _Denied(DenyReason.SCOPE_TAKEN)
        if not taken:
            return claims
        left = claims.scopes - taken
        if not left:
            raise _Denied(DenyReason.REVOKED)
        return replace(claims, scopes=left)

    def _check(self, signed: _Signed) -> None:
        """Key, time, realm and audience."""
        claims, leeway, now = signed.claims, self.options.leeway, self.options.clock()
        if not signed.key.verifies_at(now) or now >= claims.expires_at + leeway:
            raise _Denied(DenyReason.EXPIRED)
        if now + leeway < max(claims.not_before, claims.issued_at - NBF_BACKDATE):
            raise _Denied(DenyReason.NOT_YET_VALID)
        self.check_for_whom(claims)

    def check_for_whom(self, claims: Claims) -> None:
        """Realm and audience."""
        if claims.realm != self.options.realm:
            raise _Denied(DenyReason.WRONG_REALM)
        if claims.audience != self.options.audience:
            raise _Denied(DenyReason.WRONG_AUDIENCE)

    def check_introspected(self, claims: Claims, active_scopes: frozenset[str], required: str | None) -> Decision:
        """The authority has verified this very token and reports that it is active; this checks its realm and
        audience."""
        try:
            self.check_for_whom(claims)
            return Allow(self.left_of(claims, claims.scopes - active_scopes, required))
        except _Denied as denied:
            return Deny(denied.reason)

    def _why_not_signed(self, token: str, keys: _Keys) -> DenyReason:
        """Distinguishes the refusals of a token that no key signed: by its own claims, which is enough to refuse it."""
        untrusted = paseto.take_apart(token)
        claims = claims_of.decode(untrusted.payload) if untrusted else None
        if untrusted is None or claims is None:
            return DenyReason.MALFORMED
        if untrusted.kid in keys.ring:
            return DenyReason.BAD_SIGNATURE
        if claims.realm != self.options.realm:
            return DenyReason.WRONG_REALM
        self.on_unknown_key()
        return DenyReason.UNKNOWN_KEY


class _Keys:
    """The keys of one moment, with the tokens whose signature they verified."""

    def __init__(self, ring: dict[str, VerifyingKey], capacity: int) -> None:
        self.ring = ring
        self._capacity = capacity
        self._verified: dict[bytes, _Signed] = {}
        self._lock = threading.Lock()

    def resume_in_child(self) -> None:
        """As in `View`."""
        self._lock = threading.Lock()

    def signed(self, token: str, digest: bytes) -> _Signed | None:
        """The token, if one of the keys signed it and its claims are allowed for that key."""
        cached = self._verified.get(digest)
        if cached:
            return cached
        untrusted = paseto.take_apart(token)
        key = untrusted and self.ring.get(untrusted.kid)
        # No claim is read before the signature is verified.
        if not untrusted or not key or not paseto.is_signed_by(untrusted, key.public):
            return None
        claims = claims_of.decode(untrusted.payload)
        if not claims or claims.issuer != key.issuer or claims.realm != key.realm:
            return None
        signed = _Signed(claims, key)
        self._keep(digest, signed)
        return signed

    def forget(self, digest: bytes) -> None:
        """An expired token is rarely presented again."""
        with self._lock:
            self._verified.pop(digest, None)

    def _keep(self, digest: bytes, signed: _Signed) -> None:
        if self._capacity == 0:
            return
        with self._lock:
            if len(self._verified) >= self._capacity:
                self._verified.pop(next(iter(self._verified)))
            self._verified[digest] = signed
