"""The credential of a request (RFC 6750 §2.1)."""

from __future__ import annotations

from collections.abc import Sequence

from tessera import refusal
from tessera.refusal import Refusal


def token_of(headers: Sequence[str]) -> str | Refusal:
    """The one bearer token in the `authorization` headers of a request."""
    if len(headers) > 1:
        # It is not known which of them another reader of this request would use.
        return refusal.no_good_token("more than one authorization header")
    scheme, _, token = (headers[0] if headers else "").partition(" ")
    if scheme.lower() != "bearer":
        return refusal.no_token()
    return token.strip() or refusal.no_good_token("an empty bearer token")
