"""Converting the wire's events and keys to what a verifier keeps. Unknown content is never skipped."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.timestamp_pb2 import Timestamp

from tessera import paseto
from tessera.claims import canonical_uuid
from tessera.revocations import Kind, Revocation
from tessera.v1 import key_service_pb2 as keys_pb
from tessera.v1 import revocation_service_pb2 as pb

_log = logging.getLogger("tessera")

_REVOCATIONS = {
    pb.EVENT_KIND_TOKEN_REVOKED: (Kind.TOKEN, "jti"),
    pb.EVENT_KIND_SESSION_REVOKED: (Kind.SESSION, "session_id"),
    pb.EVENT_KIND_SCOPES_NARROWED: (Kind.NARROWED, "session_id"),
    pb.EVENT_KIND_SUBJECT_REVOKED: (Kind.SUBJECT, "subject"),
    pb.EVENT_KIND_CLIENT_REVOKED: (Kind.CLIENT, "client"),
    pb.EVENT_KIND_LABEL_REVOKED: (Kind.LABEL, "label"),
    pb.EVENT_KIND_REALM_REVOKED: (Kind.REALM, "whole_realm"),
    pb.EVENT_KIND_KEY_REVOKED: (Kind.KEY, "key_id"),
}
_CHANGES_KEYS = {
    pb.EVENT_KIND_KEY_PUBLISHED,
    pb.EVENT_KIND_KEY_ACTIVATED,
    pb.EVENT_KIND_KEY_REVOKED,
}
#: They end nothing that a verifier knows: the sessions that an API key began are ended one by one.
_OTHERS = {pb.EVENT_KIND_POLICY_APPLIED, pb.EVENT_KIND_API_KEY_REVOKED}
_VERIFYING = {keys_pb.KEY_STATUS_PUBLISHED, keys_pb.KEY_STATUS_ACTIVE, keys_pb.KEY_STATUS_RETIRED}


@dataclass(frozen=True)
class Understood:
    """An event, as far as a verifier needs it."""

    revocation: Revocation | None
    changes_keys: bool


@dataclass(frozen=True)
class VerifyingKey:
    """The public half of a signing key, and the realm whose tokens it verifies."""

    kid: str
    public: Ed25519PublicKey
    realm: str
    issuer: str
    not_after: datetime | None

    def verifies_at(self, now: datetime) -> bool:
        """Whether it still verifies."""
        return self.not_after is None or now <= self.not_after


def understand(event: pb.RevocationEvent, realm: str) -> Understood | None:
    """The meaning of an event; None if this verifier does not know it."""
    if event.realm != realm:
        return None
    changes_keys = event.kind in _CHANGES_KEYS
    if event.kind not in _REVOCATIONS:
        return Understood(None, changes_keys) if changes_keys or event.kind in _OTHERS else None
    revocation = _revocation(event)
    return Understood(revocation, changes_keys) if revocation else None


def _revocation(event: pb.RevocationEvent) -> Revocation | None:
    kind, field = _REVOCATIONS[event.kind]
    if event.WhichOneof("target") != field or not event.HasField("relevant_until"):
        return None
    lost = tuple(event.lost_scopes)
    name = "" if kind is Kind.REALM else getattr(event, field)
    has_a_name = event.whole_realm if kind is Kind.REALM else bool(name)
    if not has_a_name or (kind is Kind.NARROWED and not lost):
        return None
    if field in ("jti", "session_id"):
        try:
            canonical_uuid(name)
        except ValueError:
            return None
    return Revocation((kind, name), event.sequence, moment(event.relevant_until), lost)


def moment(timestamp: Timestamp) -> datetime:
    """A time on the wire."""
    return timestamp.ToDatetime(tzinfo=UTC)


def keyring(keys: Iterable[keys_pb.VerifyingKey], realm: str, leeway: timedelta) -> dict[str, VerifyingKey]:
    """The keys of the realm that verify, by their id. A key that can't be read, or whose use is not known here,
    verifies nothing. A retired key still verifies for the leeway of its last token."""
    ring = {}
    for key in keys:
        if key.realm != realm or key.status not in _VERIFYING:
            continue
        parsed = paseto.public_key(key.paserk)
        if parsed is None or parsed[0] != key.kid:
            _log.warning("a verifying key can't be read: %s", key.kid)
            continue
        not_after = moment(key.not_after) + leeway if key.HasField("not_after") else None
        ring[key.kid] = VerifyingKey(key.kid, parsed[1], realm, key.issuer, not_after)
    return ring
