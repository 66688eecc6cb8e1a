"""How a request is refused: the same reasons for every framework; details that the bearer is not told are in the
log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from tessera.claims import Claims
from tessera.decision import Decision, Deny, DenyReason, FailClosed, Mode, Stale, check_mode
from tessera.errors import ConfigurationError
from tessera.path_scope import PathError, PathPattern, fill, parameters_of

_log = logging.getLogger("tessera")
#: When to ask again while the verifier is stale. It reconnects by itself in less time, if an address answers.
_RETRY_AFTER = 1
#: The text for the bearer.
_NOT_GOOD = "a good access token is needed"
_LACKS = "the access token lacks a scope"


@dataclass(frozen=True)
class Require:
    """The requirement of a request: a valid token with this scope. None: any valid token.

    A scope may have parameters, `videos/{id}:play`: they are segments of the path, `path="/videos/{id}/play"`, or, in
    FastAPI, parameters of the route.

    Raises `ConfigurationError` if no token could ever have the scope, so that a mistake does not refuse every request.
    """

    scope: str | None
    #: What to do while the verifier is stale.
    mode: Mode = field(default_factory=FailClosed)
    #: The pattern of the path that has the scope's parameters. Over HTTP only.
    path: str | None = None

    def __post_init__(self) -> None:
        check_mode(self.mode)
        parameters = set() if self.scope is None else parameters_of(self.scope)
        if self.path is None:
            return
        if self.scope is None:
            raise ConfigurationError(f"the path {self.path!r} needs a scope whose parameters it has")
        missing = parameters - PathPattern(self.path).names
        if missing:
            raise ConfigurationError(f"the path {self.path!r} has no parameter {', '.join(sorted(missing))}")

    @property
    def missing(self) -> str:
        """The parameters of the scope without a path, as a text."""
        has_all = self.scope is None or self.path is not None
        return "" if has_all else ", ".join(sorted(parameters_of(self.scope or "")))

    def scope_of(self, raw_path: str) -> str | None:
        """The scope that a request to this path needs. PathError if no scope can be made from it."""
        if self.path is None or self.scope is None:
            return self.scope
        return fill(self.scope, PathPattern(self.path).parameters(raw_path))

    @classmethod
    def of(cls, required: str | Require | None, mode: Mode = FailClosed()) -> Require:
        """The requirement that a scope, or None, represents."""
        return required if isinstance(required, Require) else cls(required, mode)


@dataclass(frozen=True)
class Refusal:
    """Why a request is refused."""

    #: For the log only: the bearer is told only that the token is not valid.
    why: str
    level: int
    #: The HTTP status, as in RFC 6750 §3.
    status: int
    error: str
    headers: dict[str, str]
    #: The gRPC status.
    code: grpc.StatusCode
    reason: str
    message: str
    scope: str | None = None

    def log(self, path: str) -> None:
        """Logs the reason. Never the token."""
        _log.log(self.level, "refused %r: %s", path, self.why)

    @property
    def details(self) -> tuple[tuple[str, bytes], ...]:
        """The trailing metadata of a gRPC status, with a google.rpc.ErrorInfo."""
        metadata = {"scope": self.scope} if self.scope else {}
        info = Any()
        info.Pack(ErrorInfo(reason=self.reason, domain="tessera", metadata=metadata))
        details = [info]
        if self.code is grpc.StatusCode.UNAVAILABLE:
            retry = Any()
            retry.Pack(RetryInfo(retry_delay=Duration(seconds=_RETRY_AFTER)))
            details.append(retry)
        status = Status(code=self.code.value[0], message=self.message, details=details)
        return (("grpc-status-details-bin", status.SerializeToString()),)


def no_token() -> Refusal:
    """It has no bearer token."""
    # No error code: the client may not have known that it needs a token.
    return _unauthenticated("no bearer token", logging.DEBUG, "token_required", _challenge())


def no_good_token(why: str) -> Refusal:
    """It has a token that is not valid, or several."""
    challenge = _challenge(error="invalid_token", error_description=_NOT_GOOD)
    return _unauthenticated(why, logging.INFO, "invalid_token", challenge)


def unlisted() -> Refusal:
    """No requirement is set for this method."""
    code, message = grpc.StatusCode.PERMISSION_DENIED, "no caller is permitted to do this"
    why = "no requirement is listed for this method"
    return Refusal(why, logging.WARNING, 403, "forbidden", {}, code, "CALL_NOT_ALLOWED", message)


def unclear(why: str) -> Refusal:
    """No scope can be made from the path; the reason is for the log only."""
    code, message = grpc.StatusCode.PERMISSION_DENIED, "no caller is permitted to do this"
    return Refusal(why, logging.INFO, 403, "forbidden", {}, code, "CALL_NOT_ALLOWED", message)


def of_scope(claims: Claims, scope: str, parameters: Mapping[str, object]) -> Refusal | None:
    """The refusal of a token that lacks a scope with these parameters, if it does. ConfigurationError if it is not a
    scope, or if a parameter is not given."""
    missing = parameters_of(scope) - parameters.keys()
    if missing:
        raise ConfigurationError(f"no value is given for {', '.join(sorted(missing))} of {scope!r}")
    try:
        needed = fill(scope, parameters)
    except PathError as error:
        return unclear(str(error))
    return None if needed in claims.scopes else _no_scope(Deny(DenyReason.SCOPE_MISSING), needed)


def of(decision: Decision, required_scope: str | None) -> Refusal:
    """The refusal of a token that is not allowed."""
    if isinstance(decision, Stale):
        return _stale(decision)
    if isinstance(decision, Deny) and decision.reason.is_about_scope:
        return _no_scope(decision, required_scope or "")
    return no_good_token(f"the token is not good: {decision.reason if isinstance(decision, Deny) else decision}")


def _challenge(**parameters: str) -> dict[str, str]:
    """`WWW-Authenticate`, as in RFC 6750 §3, and as every other SDK and the authority send it."""
    parameters = {"realm": "tessera", **parameters}
    return {"www-authenticate": "Bearer " + ", ".join(f'{name}="{value}"' for name, value in parameters.items())}


def _unauthenticated(why: str, level: int, error: str, headers: dict[str, str]) -> Refusal:
    code, message = grpc.StatusCode.UNAUTHENTICATED, _NOT_GOOD
    return Refusal(why, level, 401, error, headers, code, "CLIENT_AUTH_FAILED", message)


def _no_scope(decision: Deny, scope: str) -> Refusal:
    why = f"the token does not have, or no longer has, `{scope}` ({decision.reason})"
    headers = _challenge(error="insufficient_scope", error_description=_LACKS, scope=scope)
    code, message = grpc.StatusCode.PERMISSION_DENIED, _LACKS
    return Refusal(why, logging.INFO, 403, "insufficient_scope", headers, code, "SCOPE_DENIED", message, scope)


def _stale(decision: Stale) -> Refusal:
    behind = f"is {decision.behind:.1f} s behind, and may be {decision.bound:g} s" if decision.behind is not None else None
    why = f"the verifier {behind or 'has never been fresh, or is closed'}"
    code, message = grpc.StatusCode.UNAVAILABLE, "revocations can't be checked now"
    headers = {"retry-after": str(_RETRY_AFTER)}
    error = "temporarily_unavailable"
    return Refusal(why, logging.WARNING, 503, error, headers, code, "NOT_FRESH_ENOUGH", message)
