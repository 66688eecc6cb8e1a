"""The address of the authority, and the API key for calls."""

from __future__ import annotations

import ipaddress
import string
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import grpc

from tessera import diagnosis, tls
from tessera.addresses import Addresses, split
from tessera.errors import ConfigurationError

#: The longest that connecting may take, in seconds.
CONNECT_TIMEOUT = 5.0
_NO_KEY = "the API key is missing: is the variable of the environment not set?"
_OPTIONS = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Channels share connections otherwise, and a stalled one would stall the next channel too.
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


def _api_key(given: object) -> str:
    """An API key, without the whitespace around it in a file. The error contains nothing of it."""
    if given is None:
        raise ConfigurationError(_NO_KEY)
    if not isinstance(given, str):
        raise ConfigurationError(f"the API key is a text: not of type {type(given).__name__}")
    key = given.strip(string.whitespace)
    if not key:
        raise ConfigurationError(_NO_KEY)
    if any(sign.isspace() for sign in key):
        raise ConfigurationError("the API key has a space or a line break inside: copy it whole, and nothing else")
    if not key.startswith("tsk_") or not key.isascii() or not key.isprintable():
        raise ConfigurationError("this is not an API key: one begins with `tsk_`")
    return key


@dataclass(frozen=True)
class Connection:
    """The address of an authority (`https://…`, or `http://…` without encryption), and the API key for calls.

    Several addresses are those of its nodes, at most 16: a list of them, or a text with commas between them. A verifier
    follows one, and calls go to one. If that does not answer, can't be reached or answers UNAVAILABLE, they continue at
    the next. Addresses are tried in a random order, so that many clients spread over the nodes, or `in_order`: if one
    of them is near. All objects of a connection share which address worked last.

    An `https://` address is verified with the roots of this system, or with `certificate_authority` instead. If the
    authority requires a client certificate, it is `client_certificate` with `client_key`. All are PEM, as bytes or as
    text."""

    address: str | Sequence[str]
    api_key: str = field(repr=False)
    certificate_authority: str | bytes | None = field(default=None, repr=False)
    client_certificate: str | bytes | None = field(default=None, repr=False)
    client_key: str | bytes | None = field(default=None, repr=False)
    in_order: bool = False
    addresses: Addresses = field(init=False, repr=False, compare=False)
    _pems: tls.Pems = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # As is usual in a frozen class.
        object.__setattr__(self, "addresses", Addresses(self.address, self.in_order))
        object.__setattr__(self, "api_key", _api_key(self.api_key))
        pems = tls.Pems(
            tls.pem_of(self.certificate_authority, "`certificate_authority`"),
            tls.pem_of(self.client_certificate, "`client_certificate`"),
            tls.pem_of(self.client_key, "`client_key`"),
        )
        object.__setattr__(self, "_pems", pems)
        self._check_certificates(self.addresses.scheme)

    def _check_certificates(self, scheme: str) -> None:
        if (self._pems.certificate is None) != (self._pems.key is None):
            raise ConfigurationError("a client certificate needs its key, and a key its certificate")
        if self._pems.authority is not None:
            tls.check_certificates(self._pems.authority, "the certificate authority")
        elif scheme == "https":
            tls.system_roots()
        if self._pems.certificate is not None and self._pems.key is not None:
            tls.check_certificates(self._pems.certificate, "the client certificate")
            tls.check_key(self._pems.key)
            tls.check_pair(self._pems.certificate, self._pems.key)
        if scheme == "http" and (self._pems.authority or self._pems.certificate):
            raise ConfigurationError(f"`{self.addresses}` has no encryption, so certificates are of no use: use https://")

    def channel(self, address: str | None = None, connect_timeout: float = CONNECT_TIMEOUT) -> grpc.Channel:
        """A new connection to one of the addresses (None: the first in the order), made when it is needed."""
        scheme, target = split(address or self.addresses.tried[0])
        options = [*_OPTIONS, ("grpc.min_reconnect_backoff_ms", round(connect_timeout * 1000))]
        if scheme == "http":
            if not _is_this_machine(target):
                warnings.warn(
                    f"the API key goes to {target} without encryption: use https://", stacklevel=3
                )
            return grpc.insecure_channel(target, options)
        credentials = grpc.ssl_channel_credentials(self._roots, self._pems.key, self._pems.certificate)
        return grpc.secure_channel(target, credentials, options)

    @property
    def credential(self) -> tuple[tuple[str, str], ...]:
        """The metadata that carries the API key."""
        return (("authorization", f"Bearer {self.api_key}"),)

    def diagnosis(self, address: str) -> str | None:
        """Why connecting to an address fails, in words for operators; None if it is not clear. It connects once more,
        and takes a second at most for each step."""
        scheme, target = split(address)
        url = urlsplit(f"//{target}")
        host, port = url.hostname or "", url.port or (443 if scheme == "https" else 80)
        if scheme == "http":
            return diagnosis.of_plaintext(host, port)
        with tls.ClientFiles(self._pems.certificate, self._pems.key) as client:
            return diagnosis.of_tls(host, port, self._roots, client)

    @property
    def _roots(self) -> bytes | None:
        return self._pems.authority or tls.system_roots()
