"""A service with the Python SDK, one of whose authority's nodes is lost: its verifier, and a source of tokens.

The nodes and an API key are TESSERA_ADDR and TESSERA_API_KEY of the environment. `tests/it/nodes/loss.rs` says what is read
and printed, one line after the other; whatever fails ends this with an error.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable

import tessera

PATIENCE = 60
BOUND = float(os.environ["BOUND"])


class Said(logging.Handler):
    """What the SDK warned of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


said = Said()
logging.getLogger("tessera").addHandler(said)
connection = tessera.Connection(os.environ["TESSERA_ADDR"], os.environ["TESSERA_API_KEY"], in_order=True)
verifier = tessera.Verifier(connection, "production", "api", staleness_bound=BOUND)
request = tessera.TokenRequest(audience="api", subject="user:source", roles=("role:reader",), access_ttl=6)
source = tessera.TokenSource(tessera.Client(connection, tessera.ClientOptions(deadline=1)), request)


def tell(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def until(what: str, holds: Callable[[], object]) -> None:
    ends_at = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > ends_at:
            sys.exit(f"{what}: nothing happened: {verifier.status} {said.lines}")
        time.sleep(0.002)


def is_revoked(token: str) -> bool:
    return verifier.verify(token) == tessera.Deny(tessera.DenyReason.REVOKED)


verifier.ready(PATIENCE)
tell(at=verifier.status.address)
good, doomed = sys.stdin.readline().split()
seen: list[tuple[str, int]] = []


def look() -> None:
    """A good token is accepted, and the source has one."""
    decision = verifier.verify(good)
    if not isinstance(decision, tessera.Allow):
        raise AssertionError(f"{decision} {verifier.status}")
    decision = verifier.verify(source.token().expose())
    if not isinstance(decision, tessera.Allow):
        raise AssertionError(f"{decision} {verifier.status}")
    of = (decision.claims.session_id, decision.claims.generation)
    if not seen or seen[-1] != of:
        seen.append(of)


def keep_looking() -> None:
    try:
        while True:
            look()
            time.sleep(0.002)
    except BaseException as error:
        print(f"{error!r} {said.lines}", file=sys.stderr, flush=True)
        os._exit(1)


until("accepted", lambda: isinstance(verifier.verify(doomed), tessera.Allow))
look()
threading.Thread(target=keep_looking, daemon=True).start()
tell(accepts=True)
until("refused", lambda: is_revoked(doomed))
status = verifier.status
tell(refused=True, at=status.address, snapshots=status.snapshots)
count = len(seen)
until("renewed", lambda: len(seen) >= count + 2)
until("told", lambda: any("another address" in line for line in said.lines))
moved = next(line for line in said.lines if "another address" in line)
tell(renewed=seen, moved=moved, snapshots=verifier.status.snapshots)
