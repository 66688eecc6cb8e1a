"""The SDK of Tessera, for services.

- `Client`: typed calls, each with a deadline, retried only if a retry is safe.
- `TokenSource`: an access token that is always valid, from an API key.
- `Verifier`: verifies access tokens without a call, and knows how stale its knowledge of revocations may be.
- `tessera.grpc_hooks`, `tessera.grpc_aio`, `tessera.asgi`, `tessera.fastapi`: verifying in servers, and gRPC clients.
- `tessera.httpx`, `tessera.requests`: calling services over HTTP.
- `tessera.v1`: the messages on the wire.
"""

from tessera.calls import Client, ClientOptions
from tessera.claims import Claims
from tessera.connection import Connection
from tessera.decision import (
    Allow,
    Decision,
    Deny,
    DenyReason,
    FailClosed,
    FailOpen,
    Introspect,
    Mode,
    Stale,
)
from tessera.errors import (
    CallError,
    ClosedError,
    ConfigurationError,
    NotReadyError,
    OtherLogError,
    PassingError,
    PermanentError,
    SignInError,
    TesseraError,
)
from tessera.refusal import Require
from tessera.token_source import AccessToken, TokenRequest, TokenSource
from tessera.verifier import Verifier, VerifierStatus

__all__ = [
    "AccessToken",
    "Allow",
    "CallError",
    "Claims",
    "Client",
    "ClientOptions",
    "ClosedError",
    "ConfigurationError",
    "Connection",
    "Decision",
    "Deny",
    "DenyReason",
    "FailClosed",
    "FailOpen",
    "Introspect",
    "Mode",
    "NotReadyError",
    "OtherLogError",
    "PassingError",
    "PermanentError",
    "Require",
    "SignInError",
    "Stale",
    "TesseraError",
    "TokenRequest",
    "TokenSource",
    "Verifier",
    "VerifierStatus",
]
