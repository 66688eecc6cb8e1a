"""What is revoked now: the log as look-ups that cost the same for any number of entries."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum, auto

from tessera.claims import Claims


class Kind(IntEnum):
    """The kind of a revocation's target."""

    TOKEN = auto()
    SESSION = auto()
    #: Some scopes of a session.
    NARROWED = auto()
    KEY = auto()
    SUBJECT = auto()
    CLIENT = auto()
    LABEL = auto()
    REALM = auto()


#: A kind, and the id or the name of the target; the realm has none.
Target = tuple[Kind, str]


@dataclass(frozen=True)
class Revocation:
    """One event that revokes."""

    target: Target
    sequence: int
    #: The time at which it stops mattering.
    until: datetime
    lost_scopes: tuple[str, ...] = ()


class Revocations:
    """The revocations of a realm that can still matter. It has no lock: its users share one."""

    def __init__(self) -> None:
        self._entries: dict[Target, Revocation] = {}
        #: The scopes that sessions lost, each with the last event that removed it.
        self._taken: dict[str, dict[str, int]] = {}
        #: When entries stop mattering. An entry that was replaced since is skipped.
        self._expiry: list[tuple[datetime, int, Target]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def apply(self, revocation: Revocation) -> None:
        """Applies one event."""
        target, session = revocation.target, revocation.target[1]
        older = self._entries.get(target)
        # A replayed event changes nothing; a later one of the same target replaces the earlier.
        if older and older.sequence > revocation.sequence:
            return
        if target[0] is Kind.NARROWED:
            taken = self._taken.setdefault(session, {})
            taken.update(dict.fromkeys(revocation.lost_scopes, revocation.sequence))
            if older:
                # Scopes that were lost before stay lost: a later loss adds to them and replaces nothing.
                revocation = replace(revocation, until=max(revocation.until, older.until))
        self._entries[target] = revocation
        heapq.heappush(self._expiry, (revocation.until, revocation.sequence, target))

    def revokes(self, claims: Claims, kid: str) -> bool:
        """Whether a token with the signing key `kid` is revoked."""
        return (
            (Kind.TOKEN, claims.token_id) in self._entries
            or (Kind.SESSION, claims.session_id) in self._entries
            or (Kind.KEY, kid) in self._entries
            or self._is_before((Kind.REALM, ""), claims)
            or self._is_before((Kind.SUBJECT, claims.subject), claims)
            or self._is_before((Kind.CLIENT, claims.client), claims)
            or any(self._is_before((Kind.LABEL, label), claims) for label in claims.labels)
        )

    def taken(self, claims: Claims) -> frozenset[str]:
        """The scopes of the token that changes of policy removed after it was issued."""
        taken = self._taken.get(claims.session_id)
        if not taken:
            return frozenset()
        return frozenset(scope for scope in claims.scopes if claims.rev < taken.get(scope, 0))

    def forget_before(self, horizon: datetime) -> None:
        """Removes entries that stopped mattering before `horizon`."""
        while self._expiry and self._expiry[0][0] < horizon:
            until, sequence, target = heapq.heappop(self._expiry)
            entry = self._entries.get(target)
            if entry and (entry.until, entry.sequence) == (until, sequence):
                del self._entries[target]
                if target[0] is Kind.NARROWED:
                    self._taken.pop(target[1], None)

    def _is_before(self, target: Target, claims: Claims) -> bool:
        """Whether the token was issued before everything of this target ended: exact, with no clock."""
        entry = self._entries.get(target)
        return entry is not None and claims.rev < entry.sequence
