"""Bearer tokens in the headers of requests."""

from __future__ import annotations


def token_of(header: str | None) -> str | None:
    """The token in an `authorization` header; None where there is none."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
