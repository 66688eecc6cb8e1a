"""Positions in the revocation log."""

from __future__ import annotations

from dataclasses import dataclass

from tessera import paseto
from tessera.errors import ConfigurationError

_VERSION = 3
_TAG_LENGTH = 16
#: A version, a log and a sequence; the digest of a filter may follow.
_LENGTHS = (25, 57)


@dataclass(frozen=True)
class Cursor:
    """A position, as far as a verifier needs it."""

    log: bytes
    sequence: int


def parse(text: str) -> Cursor:
    """The content of a cursor of the authority. Raises `ConfigurationError` if it is not a cursor."""
    body = (paseto.decode(text) or b"")[:-_TAG_LENGTH]
    if len(body) not in _LENGTHS or body[0] != _VERSION:
        raise ConfigurationError("not a cursor: pass one on exactly as the authority gave it")
    return Cursor(body[1:17], int.from_bytes(body[17:25]))
