"""A service without an SDK, which keeps the keys of `/keys` for as long as it may and asks for no others meanwhile.

`tests/it/rotations.rs` writes a token a line; this prints whether pyseto accepts it, a line each.
"""

import base64
import json
import os
import re
import sys
import time
import urllib.request

import pyseto
from pyseto import Key

URL = os.environ["TESSERA_ADDR"] + "/keys"
keys = {}
fresh_until = 0.0


def fetch():
    global keys, fresh_until
    asked_at = time.monotonic()
    with urllib.request.urlopen(URL) as answer:
        max_age = int(re.search(r"max-age=(\d+)", answer.headers["cache-control"]).group(1))
        keys = {key["kid"]: Key.from_paserk(key["key"]) for key in json.load(answer)["keys"]}
    fresh_until = asked_at + max_age


def verdict(token):
    if time.monotonic() >= fresh_until:
        fetch()
    footer = token.rsplit(".", 1)[1]
    kid = json.loads(base64.urlsafe_b64decode(footer + "=" * (-len(footer) % 4)))["kid"]
    if kid not in keys:
        return f"deny unknown key {kid}"
    try:
        pyseto.decode(keys[kid], token, deserializer=json, aud="api")
    except Exception as error:
        return f"deny {error!r}"
    return "allow"


fetch()
print("ready", flush=True)
for line in sys.stdin:
    print(verdict(line.strip()), flush=True)
