"""The content of an access token."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
_TEXTS = ("iss", "sub", "aud", "jti", "iat", "nbf", "exp", "scope", "realm", "client_id", "sid", "pol")
_NUMBERS = ("gen", "rev")
_LISTS = ("roles", "labels")
_REQUIRED = frozenset((*_TEXTS, *_NUMBERS, "roles"))
_KNOWN = _REQUIRED | {"labels"}


@dataclass(frozen=True)
class Claims:
    """The claims of an access token."""

    issuer: str
    subject: str
    audience: str
    token_id: str
    issued_at: datetime
    not_before: datetime
    expires_at: datetime
    scopes: frozenset[str]
    roles: tuple[str, ...]
    realm: str
    #: The client that it was issued to (`client:<name>`).
    client: str
    #: The session.
    session_id: str
    generation: int
    #: The last sequence of the revocation log when it was issued.
    rev: int
    policy_revision: str
    labels: tuple[str, ...]


def decode(payload: bytes) -> Claims | None:
    """The claims in a payload; None if anything in it is not exactly right."""
    try:
        wire = json.loads(payload.decode("utf-8"), object_pairs_hook=_unique)
        return _claims(wire) if _has_the_form(wire) else None
    except (ValueError, RecursionError):
        return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice")
    return members


def _has_the_form(wire: Any) -> bool:
    return (
        isinstance(wire, dict)
        and _REQUIRED <= wire.keys() <= _KNOWN
        and all(isinstance(wire[name], str) for name in _TEXTS)
        and all(type(wire[name]) is int and wire[name] >= 0 for name in _NUMBERS)
        and all(_is_texts(wire.get(name, [])) for name in _LISTS)
    )


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _claims(wire: dict[str, Any]) -> Claims:
    return Claims(
        issuer=wire["iss"],
        subject=wire["sub"],
        audience=wire["aud"],
        token_id=canonical_uuid(wire["jti"]),
        issued_at=_time(wire["iat"]),
        not_before=_time(wire["nbf"]),
        expires_at=_time(wire["exp"]),
        scopes=frozenset(scope for scope in wire["scope"].split(" ") if scope),
        roles=tuple(wire["roles"]),
        realm=wire["realm"],
        client=wire["client_id"],
        session_id=canonical_uuid(wire["sid"]),
        generation=wire["gen"],
        rev=wire["rev"],
        policy_revision=wire["pol"],
        labels=tuple(wire.get("labels", ())),
    )


def canonical_uuid(text: str) -> str:
    """The text, if it is a UUID in its usual form: then equal ids are equal texts."""
    if str(uuid.UUID(text)) != text:
        raise ValueError("a UUID of another form")
    return text


def _time(text: str) -> datetime:
    if not _TIME.fullmatch(text):
        raise ValueError("not an RFC 3339 time")
    return datetime.fromisoformat(text)
