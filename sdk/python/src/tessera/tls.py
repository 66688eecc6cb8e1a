"""Certificates, and trusted roots."""

from __future__ import annotations

import codecs
import os
import ssl
import tempfile
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tessera.errors import ConfigurationError

#: The locations of the certificates that systems trust.
_SYSTEM_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def system_roots() -> bytes | None:
    """The roots of this system, or of the file that SSL_CERT_FILE names; None if they are not found, and gRPC's own
    list is used."""
    named = os.environ.get("SSL_CERT_FILE")
    for file in (named,) if named else (ssl.get_default_verify_paths().cafile, *_SYSTEM_ROOTS):
        if file and Path(file).is_file():
            return Path(file).read_bytes()
    if named:
        raise ConfigurationError(f"SSL_CERT_FILE names a file that does not exist: {named}")
    # Windows has a separate store.
    found = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(ssl.DER_cert_to_PEM_cert(certificate) for certificate in found).encode() or None


class Pems(NamedTuple):
    """The trusted roots of a connection, and its client certificate, as bytes."""

    authority: bytes | None
    certificate: bytes | None
    key: bytes | None


def pem_of(given: object, what: str) -> bytes | None:
    """A PEM that is given as bytes or as text, as bytes; None if none is given."""
    if given is None:
        return None
    if not isinstance(given, str | bytes):
        raise ConfigurationError(f"{what} is a PEM as bytes or text: not of type {type(given).__name__}")
    pem = given.encode("utf-8", "surrogatepass") if isinstance(given, str) else given
    if pem.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigurationError(f"{what} begins with a byte order mark: save it as plain text without one")
    return pem


def check_pair(certificates: bytes, key: bytes) -> None:
    """Refuses a key that does not belong to the first certificate."""
    if x509.load_pem_x509_certificates(certificates)[0].public_key() != load_pem_private_key(key, None).public_key():
        raise ConfigurationError(
            "`client_certificate` and `client_key`: the private key is not the key of the certificate"
        )


def check_certificates(pem: bytes, what: str) -> None:
    """Refuses a text without a certificate."""
    if b"-----BEGIN " not in pem:
        raise ConfigurationError(
            f"{what} is not a PEM certificate (`-----BEGIN CERTIFICATE-----`): give the content of a PEM file, not its name"
            " and not DER"
        )
    try:
        x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ConfigurationError(f"{what} is not a PEM certificate (`-----BEGIN CERTIFICATE-----`): {error}") from None


def check_key(pem: bytes) -> None:
    """Refuses a key that can't be used, and gives the reason; the error contains nothing of the key."""
    if b"ENCRYPTED" in pem:
        raise ConfigurationError(
            "the client key is encrypted: decrypt it first, for example with `openssl pkey -in key.pem -out decrypted.pem`"
        )
    try:
        load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError("the client key is not a PEM private key (`-----BEGIN PRIVATE KEY-----`)") from None


class ClientFiles:
    """A client certificate in files, as Python's TLS needs it, for the time of a check."""

    def __init__(self, certificate: bytes | None, key: bytes | None) -> None:
        self._pems = (certificate, key)
        self._directory = tempfile.TemporaryDirectory(prefix="tessera-")

    def __enter__(self) -> tuple[str, str] | None:
        names = []
        for name, pem in zip(("certificate", "key"), self._pems, strict=True):
            if pem is None:
                return None
            file = Path(self._directory.name) / name
            file.touch(0o600)
            file.write_bytes(pem)
            names.append(str(file))
        return names[0], names[1]

    def __exit__(self, *_: object) -> None:
        self._directory.cleanup()
