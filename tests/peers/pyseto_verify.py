"""Verifies tokens with pyseto.

Reads {token, paserk, other_paserk, forgeries: {name: token}} as JSON from standard input, and prints
what pyseto made of it as JSON.
"""

import json
import sys
from datetime import datetime

import pyseto
from pyseto import Key


def outcome(key, token):
    """The name of the error that verifying ends with, or `accepted`."""
    try:
        pyseto.decode(key, token)
    except Exception as error:
        return type(error).__name__
    return "accepted"


def seconds(claims, name):
    """A claim that is a time, in seconds since the epoch."""
    return int(datetime.fromisoformat(claims[name]).timestamp())


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
        "forgeries": {name: outcome(key, token) for name, token in case["forgeries"].items()},
    }
    json.dump(seen, sys.stdout)


main()
