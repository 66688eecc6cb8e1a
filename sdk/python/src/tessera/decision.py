"""The answers of a verifier."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tessera.claims import Claims
from tessera.errors import ConfigurationError


class DenyReason(StrEnum):
    """Why a token is refused. Tell the bearer only that it is."""

    MALFORMED = "malformed"
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    WRONG_AUDIENCE = "wrong_audience"
    WRONG_REALM = "wrong_realm"
    REVOKED = "revoked"
    #: It lacks the required scope.
    SCOPE_MISSING = "scope_missing"
    #: It had the required scope, and a change of policy removed it.
    SCOPE_TAKEN = "scope_taken"
    #: The authority answers that it is not active, or that this client may not introspect it.
    INACTIVE = "inactive"

    @property
    def is_about_scope(self) -> bool:
        """Whether the token is valid, but not for this."""
        return self in (DenyReason.SCOPE_MISSING, DenyReason.SCOPE_TAKEN)


@dataclass(frozen=True)
class Allow:
    """The token is valid. Scopes that policy removed after it was issued are left out of the claims."""

    claims: Claims


@dataclass(frozen=True)
class Deny:
    """The token is refused, however fresh the verifier is."""

    reason: DenyReason


@dataclass(frozen=True)
class Stale:
    """The token would be valid, but a revocation may not be known here yet; or the key that signed it is not known
    here, and may be new. Refuse it for now."""

    #: How stale the verifier may be and still allow, in seconds.
    bound: float
    #: How stale it actually may be; None before it has ever been fresh, and after it was closed.
    behind: float | None


Decision = Allow | Deny | Stale


@dataclass(frozen=True)
class FailClosed:
    """While stale: refuse."""


@dataclass(frozen=True)
class Introspect:
    """While stale: ask the authority about this token; if it does not answer, refuse."""


@dataclass(frozen=True)
class FailOpen:
    """While stale: allow up to this staleness in seconds, and no further; never before the first snapshot.
    AwaitPropagation does not wait until such a route refuses."""

    max: float

    def __post_init__(self) -> None:
        is_number = isinstance(self.max, int | float) and not isinstance(self.max, bool)
        # NaN is not 0 or more.
        if not is_number or not self.max >= 0:
            raise ConfigurationError(f"FailOpen({self.max!r}): the staleness is a number of seconds, 0 or more")


#: What to do with a token that would be valid while the verifier is stale.
Mode = FailClosed | Introspect | FailOpen


def check_mode(mode: object) -> None:
    """Refuses a value that is not a mode, such as a name, or a class that is not called. `ConfigurationError`."""
    if not isinstance(mode, Mode):
        raise ConfigurationError(f"{mode!r} is not a mode: use FailClosed(), Introspect() or FailOpen(seconds)")
