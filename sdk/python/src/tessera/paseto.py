"""PASETO v4.public, and the keys that verify it: splitting tokens, and checking signatures."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TOKEN_LENGTH_MAX = 24 * 1024
_HEADER = "v4.public."
_KEY_HEADER = "k4.public."
_KEY_ID_HEADER = "k4.pid."
_SIGNATURE_LENGTH = 64
# The footer is exactly this text around the id, so it is split without a JSON parser: PASETO advises against parsing
# JSON that is not authenticated yet.
_FOOTER_START = b'{"kid":"'
_FOOTER_END = b'"}'


@dataclass(frozen=True)
class Untrusted:
    """The parts of a token whose signature is not checked."""

    payload: bytes
    signature: bytes
    footer: bytes
    kid: str


def take_apart(token: str) -> Untrusted | None:
    """The parts of a token; None if it does not have the form of one."""
    if len(token) > TOKEN_LENGTH_MAX or not token.startswith(_HEADER):
        return None
    body, dot, footer_text = token[len(_HEADER) :].partition(".")
    message, footer = decode(body), decode(footer_text)
    if not dot or message is None or footer is None or len(message) <= _SIGNATURE_LENGTH:
        return None
    kid = _kid(footer)
    if kid is None:
        return None
    return Untrusted(message[:-_SIGNATURE_LENGTH], message[-_SIGNATURE_LENGTH:], footer, kid)


def is_signed_by(token: Untrusted, key: Ed25519PublicKey) -> bool:
    """Whether `key` signed the token, with no implicit assertion."""
    signed = _pre_authentication_encoding(_HEADER.encode(), token.payload, token.footer, b"")
    try:
        key.verify(token.signature, signed)
    except InvalidSignature:
        return False
    return True


def public_key(paserk: str) -> tuple[str, Ed25519PublicKey] | None:
    """A PASERK `k4.public.…` with its id; None if it is not one."""
    if not paserk.startswith(_KEY_HEADER):
        return None
    material = decode(paserk[len(_KEY_HEADER) :])
    if material is None or len(material) != 32:
        return None
    digest = hashlib.blake2b((_KEY_ID_HEADER + paserk).encode(), digest_size=33).digest()
    return _KEY_ID_HEADER + _encode(digest), Ed25519PublicKey.from_public_bytes(material)


def _kid(footer: bytes) -> str | None:
    if not footer.startswith(_FOOTER_START) or not footer.endswith(_FOOTER_END):
        return None
    kid = footer[len(_FOOTER_START) : -len(_FOOTER_END)].decode("ascii", errors="replace")
    return kid if kid.startswith(_KEY_ID_HEADER) else None


def _pre_authentication_encoding(*pieces: bytes) -> bytes:
    encoded = len(pieces).to_bytes(8, "little")
    for piece in pieces:
        encoded += len(piece).to_bytes(8, "little") + piece
    return encoded


def decode(text: str) -> bytes | None:
    """Base64url without padding, in its canonical form."""
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    # Python accepts stray bits at the end: then several texts would be one token.
    return decoded if _encode(decoded) == text else None


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
