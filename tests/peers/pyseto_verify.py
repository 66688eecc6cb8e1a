"""Verifies tokens with pyseto.

Reads {token, paserk, other_paserk, forgeries: {name: token}} as JSON from standard input, and prints
what pyseto made of it as JSON.
"""

import json
import sys
from datetime import UTC, datetime, timedelta

import pyseto
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pyseto import Key


def outcome(key, token, **options):
    """The name of the error that verifying ends with, or `accepted`."""
    try:
        pyseto.decode(key, token, **options)
    except Exception as error:
        return type(error).__name__
    return "accepted"


def seconds(claims, name):
    """A claim that is a time, in seconds since the epoch."""
    return int(datetime.fromisoformat(claims[name]).timestamp())


def ahead(claim):
    """The outcome for a token whose claim lies an hour ahead."""
    pair = Ed25519PrivateKey.generate()
    encoding, raw = serialization.Encoding.PEM, serialization.NoEncryption()
    private = pair.private_bytes(encoding, serialization.PrivateFormat.PKCS8, raw)
    public = pair.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    time = datetime.now(UTC) + timedelta(hours=1)
    claims = {claim: time.isoformat(timespec="seconds")}
    token = pyseto.encode(Key.new(4, "public", private), claims, serializer=json)
    return outcome(Key.new(4, "public", public), token, deserializer=json)


def main():
    case = json.load(sys.stdin)
    key = Key.from_paserk(case["paserk"])
    claims = pyseto.decode(key, case["token"], deserializer=json, aud="api").payload
    seen = {
        "claims": claims,
        "times": {name: seconds(claims, name) for name in ("iat", "nbf", "exp")},
        "footer": pyseto.decode(key, case["token"]).footer.decode(),
        "key_id": key.to_paserk_id(),
        "other_key": outcome(Key.from_paserk(case["other_paserk"]), case["token"]),
        # It looks at `nbf`, and not at `iat`.
        "iat_ahead": ahead("iat"),
        "nbf_ahead": ahead("nbf"),
        "forgeries": {name: outcome(key, token) for name, token in case["forgeries"].items()},
    }
    json.dump(seen, sys.stdout)


main()
