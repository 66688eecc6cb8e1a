"""An authority that follows a script: its streams say what a test wants, at the moment that it wants."""

from __future__ import annotations

import base64
import json
import queue
import threading
import uuid
from collections.abc import Iterator
from concurrent import futures
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

import tessera
from tessera import paseto
from tessera.v1 import key_service_pb2 as keys_pb
from tessera.v1 import revocation_service_pb2 as pb
from tessera.v1 import token_service_pb2 as tokens_pb
from tessera.v1.key_service_pb2_grpc import KeyServiceServicer, add_KeyServiceServicer_to_server
from tessera.v1.revocation_service_pb2_grpc import (
    RevocationServiceServicer,
    add_RevocationServiceServicer_to_server,
)
from tessera.v1.token_service_pb2_grpc import TokenServiceServicer, add_TokenServiceServicer_to_server

PATIENCE = 20.0
ISSUER = "urn:fake"
TOKEN_ID = str(uuid.uuid4())


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def pre_authentication_encoding(*pieces: bytes) -> bytes:
    encoded = len(pieces).to_bytes(8, "little")
    for piece in pieces:
        encoded += len(piece).to_bytes(8, "little") + piece
    return encoded


class SigningKey:
    """A key of the fake authority."""

    def __init__(self) -> None:
        self._private = Ed25519PrivateKey.generate()
        self.paserk = "k4.public." + encode(self._private.public_key().public_bytes_raw())
        key = paseto.public_key(self.paserk)
        assert key
        self.kid = key[0]

    def message(self) -> keys_pb.VerifyingKey:
        return keys_pb.VerifyingKey(
            kid=self.kid,
            paserk=self.paserk,
            realm="production",
            issuer=ISSUER,
            status=keys_pb.KEY_STATUS_ACTIVE,
        )

    def sign(
        self,
        payload: bytes,
        footer: bytes | None = None,
        header: str = "v4.public.",
        assertion: bytes = b"",
    ) -> str:
        footer = f'{{"kid":"{self.kid}"}}'.encode() if footer is None else footer
        signature = self._private.sign(pre_authentication_encoding(header.encode(), payload, footer, assertion))
        return f"{header}{encode(payload + signature)}.{encode(footer)}"

    def token(self, **changes: Any) -> str:
        """A good token, but for the changes."""
        now = datetime.now(UTC).replace(microsecond=0)
        claims = {
            "iss": ISSUER,
            "sub": "user:ann",
            "aud": "api",
            "jti": TOKEN_ID,
            "iat": now,
            "nbf": now,
            "exp": now + timedelta(hours=1),
            "scope": "videos:read",
            "roles": [],
            "realm": "production",
            "client_id": "client:app",
            "sid": str(uuid.uuid4()),
            "gen": 1,
            "rev": 1,
            "pol": "0123456789abcdef",
            **changes,
        }
        return self.sign(json.dumps(claims, default=datetime.isoformat).encode())


def revoked(session_id: str, sequence: int, until: datetime) -> pb.RevocationEvent:
    """A session ends."""
    return pb.RevocationEvent(
        sequence=sequence,
        cursor=f"event-{sequence}",
        kind=pb.EVENT_KIND_SESSION_REVOKED,
        relevant_until=timestamp(until),
        realm="production",
        session_id=session_id,
    )


def timestamp(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message


class Stream:
    """One Watch, from the side of the authority."""

    def __init__(self, requests: Iterator[pb.WatchRequest]) -> None:
        self.start = next(requests).start
        self.pings: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.acks: list[str] = []
        self.says: queue.SimpleQueue[pb.WatchResponse | str | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(requests,), daemon=True).start()

    def _listen(self, requests: Iterator[pb.WatchRequest]) -> None:
        try:
            for request in requests:
                if request.WhichOneof("message") == "ping":
                    self.pings.put(request.ping.nonce)
                else:
                    self.acks.append(request.ack.cursor)
        except (grpc.RpcError, Exception):
            pass
        self.says.put(None)

    def say(self, **message: Any) -> None:
        self.says.put(pb.WatchResponse(**message))

    def snapshot(self, *items: pb.RevocationEvent) -> None:
        self.say(snapshot_begin=pb.SnapshotBegin())
        for item in items:
            self.say(snapshot_item=item)
        self.say(snapshot_end=pb.SnapshotEnd(cursor="snapshot", items=len(items)))

    def echo(self, through: int = 1, **fields: Any) -> None:
        """Answers the next ping."""
        self.checkpoint(through, nonce=self.pings.get(timeout=PATIENCE), **fields)

    def checkpoint(self, through: int = 1, **fields: Any) -> None:
        fields = {"server_time": timestamp(datetime.now(UTC)), "key_set": "1", **fields}
        self.say(checkpoint=pb.Checkpoint(through=f"place-{through}", through_sequence=through, **fields))

    def end(self, reason: str = "") -> None:
        """Ends the stream, with the reason of an error if there is one."""
        self.says.put(reason or None)


class Fake(RevocationServiceServicer, KeyServiceServicer, TokenServiceServicer):
    """The server."""

    def __init__(self) -> None:
        self.keys = [SigningKey()]
        self.key_reads = 0
        self.introspected = tokens_pb.IntrospectResponse()
        #: How each Watch fails, if it does, and how many did.
        self.refuses: grpc.StatusCode | None = None
        self.refused = 0
        self._streams: queue.SimpleQueue[Stream] = queue.SimpleQueue()
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
        add_RevocationServiceServicer_to_server(self, self._server)
        add_KeyServiceServicer_to_server(self, self._server)
        add_TokenServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self.address = f"http://127.0.0.1:{port}"
        self.connection = tessera.Connection(self.address, "tsk_production_fake")

    def next_stream(self) -> Stream:
        """The next Watch that a verifier opens."""
        return self._streams.get(timeout=PATIENCE)

    def close(self) -> None:
        self._server.stop(None)

    def Watch(self, request_iterator: Any, context: grpc.ServicerContext) -> Iterator[pb.WatchResponse]:
        if self.refuses is not None:
            self.refused += 1
            context.abort(self.refuses, "scripted")
        stream = Stream(request_iterator)
        self._streams.put(stream)
        while True:
            said = stream.says.get()
            if said is None:
                return
            if isinstance(said, str):
                detail = AnyMessage()
                detail.Pack(ErrorInfo(reason=said, domain="tessera"))
                code = grpc.StatusCode.OUT_OF_RANGE.value[0]
                context.abort_with_status(rpc_status.to_status(Status(code=code, message="scripted", details=[detail])))
            else:
                yield said

    def Introspect(self, request: Any, context: grpc.ServicerContext) -> tokens_pb.IntrospectResponse:
        return self.introspected

    def ListKeys(self, request: keys_pb.ListKeysRequest, context: grpc.ServicerContext) -> Any:
        """One key a page."""
        self.key_reads += not request.page_token
        at = int(request.page_token or 0)
        following = str(at + 1) if at + 1 < len(self.keys) else ""
        return keys_pb.ListKeysResponse(keys=[self.keys[at].message()], next_page_token=following)
