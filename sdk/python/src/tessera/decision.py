"""What a verifier answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tessera.claims import Claims
from tessera.errors import ConfigurationError


class DenyReason(StrEnum):
    """Why a token is not good. Tell the bearer no more than that it is not."""

    MALFORMED = "malformed"
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    WRONG_AUDIENCE = "wrong_audience"
    WRONG_REALM = "wrong_realm"
    REVOKED = "revoked"
    #: It lacks the scope that is required.
    SCOPE_MISSING = "scope_missing"
    #: It had the scope that is required, and a change of policy took it.
    SCOPE_TAKEN = "scope_taken"
    #: The authority says that it is not active, or that this client may not know.
    INACTIVE = "inactive"

    @property
    def is_about_scope(self) -> bool:
        """Whether the token is good, but not for this."""
        return self in (DenyReason.SCOPE_MISSING, DenyReason.SCOPE_TAKEN)


@dataclass(frozen=True)
class Allow:
    """The token is good. Scopes that policy took since it was issued are left out of the claims."""

    claims: Claims


@dataclass(frozen=True)
class Deny:
    """The token is not good, however fresh the verifier is."""

    reason: DenyReason


@dataclass(frozen=True)
class Stale:
    """The token would be good, but a revocation may not be known here yet; or the key that signed it is not
    known here, and may be a new one. Refuse it for now."""

    #: How stale the verifier may be and still allow, in seconds.
    bound: float
    #: How stale it may be in fact; None before it has ever been fresh, and after it was closed.
    behind: float | None


Decision = Allow | Deny | Stale


@dataclass(frozen=True)
class FailClosed:
    """While stale: refuse."""


@dataclass(frozen=True)
class Introspect:
    """While stale: ask the authority about this token; where it does not answer, refuse."""


@dataclass(frozen=True)
class FailOpen:
    """While stale: allow up to this staleness in seconds, and no further; never before the first snapshot.
    Calls of AwaitPropagation do not wait for what such a route still allows."""

    max: float

    def __post_init__(self) -> None:
        is_number = isinstance(self.max, int | float) and not isinstance(self.max, bool)
        # Not a number is not 0 or more.
        if not is_number or not self.max >= 0:
            raise ConfigurationError(f"FailOpen({self.max!r}): the staleness is a number of seconds, 0 or more")


#: What to do with a token that would be good while the verifier is stale.
Mode = FailClosed | Introspect | FailOpen


def check_mode(mode: object) -> None:
    """Refuses what is no mode, such as a name, or a class that is not called. `ConfigurationError`."""
    if not isinstance(mode, Mode):
        raise ConfigurationError(f"{mode!r} is not a mode: use FailClosed(), Introspect() or FailOpen(seconds)")
