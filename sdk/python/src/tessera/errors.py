"""Why a call failed, and what its caller can do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import grpc
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status

_log = logging.getLogger("tessera")
_PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DATA_LOSS,
}
_RETRIED = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED}
#: How messages of gRPC begin if there is no connection.
_NOT_CONNECTED = ("failed to connect", "connections to all backends failing", "Socket closed", "recvmsg:", "Stream removed")
#: How gRPC maps the statuses of an HTTP server without gRPC, and its messages if the server does not even support
#: HTTP/2.
_OTHER_SERVER = {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}
_NOT_HTTP2 = ("Failed parsing HTTP/2", "http1.x server")
#: The stream must begin at another position of the log; this is not an error of the caller.
_ANOTHER_PLACE = ("CURSOR_EXPIRED", "CURSOR_INVALID")


class TesseraError(Exception):
    """Any error of this package."""


class ConfigurationError(TesseraError):
    """An invalid option."""


class ClosedError(TesseraError):
    """It was closed."""


class NotReadyError(TesseraError):
    """A verifier is not ready."""

    def __init__(self, problem: str, is_permanent: bool) -> None:
        super().__init__(problem, is_permanent)
        #: The reason.
        self.problem = problem
        #: Whether waiting does not help: the API key, the policy or the options are wrong.
        self.is_permanent = is_permanent

    def __str__(self) -> str:
        return f"the verifier is not ready{', and waiting does not help' if self.is_permanent else ''}: {self.problem}"


class OtherLogError(TesseraError):
    """A cursor is of another revocation log than the one that a verifier follows: of another authority, or of this one
    before its data was recreated."""


class CallError(TesseraError):
    """A call failed. The subclass says what the caller can do."""

    def __init__(
        self, code: grpc.StatusCode, reason: str | None, message: str, retry_after: float | None = None
    ) -> None:
        super().__init__(code, reason, message, retry_after)
        self.code = code
        #: The `reason` of the authority's google.rpc.ErrorInfo, such as `SESSION_REVOKED`, or None.
        self.reason = reason
        self.message = message
        #: How many seconds the authority asks to wait before a retry, or None.
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.reason or self.code.name}: {self.message}"

    def explained(self, address: str, diagnosis: Callable[[], str | None]) -> CallError:
        """This error at an address, with a diagnosis if no Tessera was reached, since gRPC gives little information."""
        if self.reason is not None:
            return self
        why = self._diagnosed(diagnosis) or self._other_server(address)
        return type(self)(self.code, None, f"{why} ({self.message})", self.retry_after) if why else self

    def _diagnosed(self, diagnosis: Callable[[], str | None]) -> str | None:
        if self.code is not grpc.StatusCode.UNAVAILABLE or not self.message.startswith(_NOT_CONNECTED):
            return None
        try:
            return diagnosis()
        except Exception as failure:
            # The diagnosis only supplements the error, and must not replace it.
            _log.debug("no diagnosis of %s: %r", self, failure)
            return None

    def _other_server(self, address: str) -> str | None:
        # With UNAVAILABLE, a status of HTTP comes from a proxy before an authority that is unavailable.
        has_status = self.code in _OTHER_SERVER and "http2 header with status: " in self.message
        if has_status or any(text in self.message for text in _NOT_HTTP2):
            return f"no Tessera answers at {address}: is this the admin socket, or another HTTP server?"
        if self.code is grpc.StatusCode.UNIMPLEMENTED:
            return f"the server at {address} does not have this call: is it another gRPC server, or an older Tessera?"
        return None

    def at(self, address: str) -> CallError:
        """This error, with its address; an answer of the authority does not need it."""
        if self.reason is not None or self.code is not grpc.StatusCode.UNAVAILABLE:
            return self
        return type(self)(self.code, None, f"{address}: {self.message}", self.retry_after)

    def cut_off(self, before: CallError | None) -> CallError:
        """This error of an attempt that a deadline cut off, with the failure of the previous attempt."""
        message = self.message
        if self.reason is None:
            message = "the deadline passed; the call may still have its effect"
        if before is not None:
            message = f"{message}; the attempt before failed: {before}"
        return type(self)(self.code, self.reason, message, self.retry_after)

    @property
    def is_deadline(self) -> bool:
        """Whether the deadline passed before the call was answered."""
        return self.code is grpc.StatusCode.DEADLINE_EXCEEDED

    @property
    def asks_for_another_place(self) -> bool:
        """Whether the revocation log can't be followed from the given cursor."""
        return self.reason in _ANOTHER_PLACE

    @property
    def is_retried(self) -> bool:
        """Whether the same request may be sent again at once."""
        return self.code in _RETRIED


class PassingError(CallError):
    """It may be temporary: try the same again later."""


class PermanentError(CallError):
    """Don't repeat it unchanged."""


class SignInError(PermanentError):
    """Sign in again: the API key, the session or the refresh token is not accepted."""


def call_error(error: grpc.RpcError) -> CallError:
    """The error of a call that gRPC raised."""
    # Every error that a call raises is also that call, which gRPC's types don't express.
    call: Any = error
    code: grpc.StatusCode = call.code()
    reason, retry_after = _details(call)
    return of_code(code)(code, reason, call.details() or "", retry_after)


def of_code(code: grpc.StatusCode) -> type[CallError]:
    """The class of the errors with this code."""
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return SignInError
    return PassingError if code in _PASSING else PermanentError


def _details(call: Any) -> tuple[str | None, float | None]:
    try:
        status = rpc_status.from_call(call)
    except ValueError:
        # Details of another status: they say nothing about this one.
        return None, None
    reason, retry_after = None, None
    for detail in status.details if status else ():
        info, retry = ErrorInfo(), RetryInfo()
        if detail.Unpack(info) and info.domain == "tessera":
            reason = info.reason
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToMilliseconds() / 1000
    return reason, retry_after
