"""Where the authority is, and with which API key to call it."""

from __future__ import annotations

import ipaddress
import warnings
from dataclasses import dataclass, field

import grpc

from tessera.errors import ConfigurationError

_OPTIONS = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # How long connecting may take.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Channels share connections otherwise, and one that stalled would stall the next channel too.
    ("grpc.use_local_subchannel_pool", 1),
]


def _is_this_machine(target: str) -> bool:
    host = target.rsplit(":", 1)[0].strip("[]") if not target.endswith("]") else target.strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Connection:
    """The address of an authority (`https://…`, or `http://…` without encryption), and the API key to
    call it with. `certificate_authority` is what an `https://` address is trusted by, as PEM; without it,
    the certificates that gRPC brings along."""

    address: str
    api_key: str = field(repr=False)
    certificate_authority: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        scheme, separator, target = self.address.partition("://")
        if scheme not in ("http", "https") or not separator or not target:
            raise ConfigurationError(
                f"`{self.address}` is not an address such as https://auth.example.org:7600"
            )
        if not self.api_key.startswith("tsk_") or not self.api_key.isascii() or not self.api_key.isprintable():
            raise ConfigurationError("the API key is none: one begins with `tsk_`")

    def channel(self) -> grpc.Channel:
        """A new connection, made when it is needed."""
        scheme, _, target = self.address.partition("://")
        target = target.rstrip("/")
        if scheme == "http":
            if not _is_this_machine(target):
                warnings.warn(
                    f"the API key goes to {target} without encryption: use https://", stacklevel=3
                )
            return grpc.insecure_channel(target, _OPTIONS)
        credentials = grpc.ssl_channel_credentials(self.certificate_authority)
        return grpc.secure_channel(target, credentials, _OPTIONS)

    @property
    def credential(self) -> tuple[tuple[str, str], ...]:
        """The metadata that carries the API key."""
        return (("authorization", f"Bearer {self.api_key}"),)
