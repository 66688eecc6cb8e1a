"""An application that makes its verifier and its source of tokens before its server forks, as `gunicorn --preload` has
it. It answers with the process that answers, and what that one says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

import tessera

connection = tessera.Connection(os.environ["TESSERA_ADDR"], os.environ["TESSERA_API_KEY"])
client = tessera.Client(connection)
verifier = tessera.Verifier(connection, "production", "api", staleness_bound=float(os.environ["BOUND"]))
source = tessera.TokenSource(client, tessera.TokenRequest(audience="api"))
# Everything is in use before the fork.
assert verifier.wait_ready(20) and source.token()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    decision = verifier.verify(environ["HTTP_AUTHORIZATION"].removeprefix("Bearer "))
    # Each process spends refresh tokens of its own.
    source.invalidate(source.token())
    introspect = tessera.v1.token_service_pb2.IntrospectRequest(token=source.token().expose())
    answer = {
        "pid": os.getpid(),
        "decision": type(decision).__name__,
        "reason": getattr(decision, "reason", None),
        "session": client.introspect(introspect).session_id,
    }
    start_response("200 OK", [("content-type", "application/json")])
    return [json.dumps(answer).encode()]
