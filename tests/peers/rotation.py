"""A service with the Python SDK, whose authority replaces its signing keys.

`tests/it/rotations.rs` writes a token a line; this prints what the verifier says of it, a line each.
"""

import os
import sys

import tessera

connection = tessera.Connection(os.environ["TESSERA_ADDR"], os.environ["TESSERA_API_KEY"])
bound = float(os.environ["BOUND"])
verifier = tessera.Verifier(
    connection, "production", "api", staleness_bound=bound, subscriber="python", required=True
)
verifier.ready(60)
print("ready", flush=True)
for line in sys.stdin:
    match verifier.verify(line.strip()):
        case tessera.Allow():
            print("allow", flush=True)
        case tessera.Stale():
            print("stale", flush=True)
        case tessera.Deny(reason):
            print(f"deny {reason}", flush=True)
