"""One stream of revocations, from its start to its end."""

from __future__ import annotations

import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from tessera import cursor, wire
from tessera.calls import all_keys
from tessera.errors import CallError, ConfigurationError, call_error
from tessera.following import End, Following
from tessera.revocations import Revocations
from tessera.v1 import key_service_pb2 as keys_pb
from tessera.v1 import revocation_service_pb2 as pb
from tessera.v1.key_service_pb2_grpc import KeyServiceStub
from tessera.v1.revocation_service_pb2_grpc import RevocationServiceStub
from tessera.view import View
from tessera.wire import Understood

#: The number of messages that may wait for handling; more wait in the connection.
_INBOX = 1024
_NONCE_LENGTH = 16
#: How often an unknown key may cause the keys to be read again, in seconds.
_REREAD_INTERVAL = 10.0


@dataclass
class _Ping:
    nonce: bytes
    made_at: float


@dataclass
class _Snapshot:
    """An incomplete snapshot. Once complete, with the events after it, it is in force from the next checkpoint, which
    has the authority's time of the snapshot."""

    revoked: Revocations
    items: int = 0
    is_complete: bool = False


#: In the inbox: a token with an unknown key arrived.
_UNKNOWN_KEY = object()
#: In the inbox: a token arrived with a position of the log that is not known yet.
_AHEAD = object()


class Session:
    """One stream, on a separate connection: a stalled one would stall the next stream too."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._view = following.view
        self._channel = following.connection.channel(following.round.address)
        self._inbox: queue.Queue[Any] = queue.Queue(_INBOX)
        self._outbox: queue.SimpleQueue[pb.WatchRequest | None] = queue.SimpleQueue()
        self._outbox.put(following.start())
        self._call = RevocationServiceStub(self._channel).Watch(
            iter(self._outbox.get, None), metadata=following.connection.credential
        )
        self._is_awaiting_snapshot = following.place is None
        self._snapshot: _Snapshot | None = None
        self._ping: _Ping | None = None
        #: Another ping must follow: a token is ahead that may be newer than the ping in progress.
        self._pings_again = False
        self._pings_at = 0.0
        self._acknowledge: str | None = None
        #: When something last arrived that shows that both directions work.
        self._opened_at = self._progressed_at = time.monotonic()
        #: Whether a ping was answered.
        self._has_answered = False

    def run(self) -> End:
        """Runs to the end of the stream."""
        reading = threading.Thread(
            target=_read,
            args=(self._call, self._inbox, self._following.explained),
            name="tessera-watch",
            daemon=True,
        )
        reading.start()
        try:
            return self._run()
        finally:
            self._close()
            reading.join()

    def _run(self) -> End:
        self._view.on_unknown_key = self._ask_for_keys
        self._view.on_ahead = self._ask_for_place
        try:
            while True:
                self._step()
        except End as end:
            return end
        except Exception as error:
            # A message that raises an exception here was not understood.
            return _not_understood(f"{type(error).__name__} at a message")
        finally:
            self._view.on_unknown_key = lambda: None
            self._view.on_ahead = lambda: None

    def cancel(self) -> None:
        """Ends it from another thread."""
        self._call.cancel()

    def stop(self) -> None:
        """Ends it from another thread, regardless of what it waits for."""
        self._call.cancel()
        self._channel.close()

    def _close(self) -> None:
        self._call.cancel()
        self._outbox.put(None)
        # The reader may wait for space in the inbox.
        while not isinstance(self._inbox.get(), End):
            pass
        self._channel.close()

    def _step(self) -> None:
        if time.monotonic() >= self._pings_at:
            self._send_ping()
        gives_up_at = self._progressed_at + self._following.silence_max(self._has_answered)
        wait = min(self._pings_at, gives_up_at) - time.monotonic()
        try:
            item = self._inbox.get(timeout=max(0.0, wait))
        except queue.Empty:
            if time.monotonic() >= gives_up_at:
                raise End("the stream is silent") from None
            return
        if isinstance(item, End):
            self._inbox.put(item)
            raise item
        if item is _UNKNOWN_KEY:
            self._read_keys_again()
        elif item is _AHEAD:
            self._pings_again = self._ping is not None
            self._send_ping()
        else:
            self._hear(item)
        if self._acknowledge is not None and self._inbox.empty():
            self._outbox.put(pb.WatchRequest(ack=pb.Ack(cursor=self._acknowledge)))
            self._acknowledge = None

    # === what the authority says ===

    def _hear(self, response: pb.WatchResponse) -> None:
        match response.WhichOneof("message"):
            case "snapshot_begin":
                self._check_realm(response.snapshot_begin)
                self._progressed_at = time.monotonic()
                self._snapshot = _Snapshot(Revocations())
            case "snapshot_item":
                self._add_to_snapshot(response.snapshot_item)
            case "snapshot_end":
                self._complete_snapshot(response.snapshot_end)
            case "event":
                self._apply(response.event)
            case "checkpoint":
                self._check(response.checkpoint)
            case _:
                raise _not_understood("a message")

    def _add_to_snapshot(self, item: pb.RevocationEvent) -> None:
        self._progressed_at = time.monotonic()
        understood = self._understand(item)
        if self._snapshot is None or self._snapshot.is_complete:
            raise _not_understood("an item without a snapshot")
        if understood.revocation:
            self._snapshot.revoked.apply(understood.revocation)
        self._snapshot.items += 1

    def _complete_snapshot(self, end: pb.SnapshotEnd) -> None:
        snapshot = self._snapshot
        if snapshot is None or snapshot.is_complete or snapshot.items != end.items:
            raise _not_understood("the end of a snapshot that is not complete")
        snapshot.is_complete = True

    def _apply(self, event: pb.RevocationEvent) -> None:
        self._progressed_at = time.monotonic()
        understood = self._understand(event)
        if understood.changes_keys:
            self._following.key_set = None
        if self._snapshot is not None and self._snapshot.is_complete:
            if understood.revocation:
                self._snapshot.revoked.apply(understood.revocation)
        elif self._snapshot is not None or self._is_awaiting_snapshot:
            raise _not_understood("an event before the snapshot is complete")
        else:
            with self._view.lock:
                known = self._view.known
                if understood.revocation:
                    known.revoked.apply(understood.revocation)
                known.through = max(known.through, event.sequence)
                self._view.heard.notify_all()
            if self._following.key_set is not None:
                self._take_place(event.cursor)
            else:
                # A subscriber that has acknowledged a key can verify with it: not before the next checkpoint.
                self._pings_again = self._ping is not None
                self._send_ping()

    def _check(self, checkpoint: pb.Checkpoint) -> None:
        """A checkpoint: it puts a snapshot in force, causes the keys to be read if they changed, and, if it answers our
        ping, says how fresh all this is. A checkpoint that answers no ping says nothing about freshness: it may be
        old."""
        self._check_realm(checkpoint)
        if not checkpoint.HasField("server_time"):
            raise _not_understood("a checkpoint without a time")
        if self._following.key_set != checkpoint.key_set:
            self._read_keys()
            self._following.key_set = checkpoint.key_set
        echoed = self._echoed(checkpoint.nonce)
        self._put_in_force(checkpoint, echoed)
        self._take_place(checkpoint.through)
        if echoed is not None:
            if self._pings_again:
                self._pings_again = False
                self._send_ping()
            self._progressed_at = time.monotonic()
            self._has_answered = True
            self._following.answered(self._progressed_at - self._opened_at)
            self._view.follow()

    def _echoed(self, nonce: bytes) -> float | None:
        """When the ping was sent that this answers."""
        ping = self._ping
        if ping is None or nonce != ping.nonce:
            return None
        self._ping = None
        return ping.made_at

    def _put_in_force(self, checkpoint: pb.Checkpoint, echoed: float | None) -> None:
        snapshot, leeway = self._snapshot, self._view.options.leeway
        if self._is_awaiting_snapshot if snapshot is None else not snapshot.is_complete:
            raise _not_understood("a checkpoint before the snapshot is complete")
        server_time = wire.moment(checkpoint.server_time)
        with self._view.lock:
            known = self._view.known
            if snapshot is not None:
                # The authority left out revocations for which no token was valid by its own clock.
                known.revoked, known.forgotten_through, known.through = snapshot.revoked, server_time, 0
                known.snapshots += 1
                self._snapshot, self._is_awaiting_snapshot = None, False
            elif server_time + leeway < known.forgotten_through:
                raise End("the authority's clock went back", starts_again=True)
            known.forget_before(server_time - leeway)
            known.through = max(known.through, checkpoint.through_sequence)
            known.log = _log_of(checkpoint.through)
            if echoed is not None:
                known.fresh_as_of = max(known.fresh_as_of or echoed, echoed)
            self._view.heard.notify_all()

    def _take_place(self, cursor: str) -> None:
        if self._following.place != cursor:
            self._following.place = cursor
            # Only the fence needs it, which waits for required subscribers.
            if self._following.required:
                self._acknowledge = cursor

    def _understand(self, event: pb.RevocationEvent) -> Understood:
        understood = wire.understand(event, self._view.options.realm)
        if understood is None:
            raise _not_understood(f"event {event.sequence} of kind {event.kind}")
        return understood

    def _check_realm(self, message: object) -> None:
        """Checks that the stream is of the API key's realm. An empty stream of another realm looks as if nothing were
        revoked. An authority that does not send the realm is an older version."""
        realm = getattr(message, "realm", "")
        if realm and realm != self._view.options.realm:
            raise End(
                f"the API key is of the realm `{realm}`, but the tokens to verify are of "
                f"`{self._view.options.realm}`",
                starts_again=True,
                is_permanent=True,
            )

    # === what we say and ask ===

    def _send_ping(self) -> None:
        """One ping at a time, so that the memory for pings stays bounded."""
        self._pings_at = time.monotonic() + self._following.ping_interval
        if self._ping is None:
            self._ping = _Ping(secrets.token_bytes(_NONCE_LENGTH), time.monotonic())
            self._outbox.put(pb.WatchRequest(ping=pb.Ping(nonce=self._ping.nonce)))

    def _ask_for_keys(self) -> None:
        """Called by the threads that verify, which never wait."""
        if self._may_read_keys_again():
            try:
                self._inbox.put_nowait(_UNKNOWN_KEY)
            except queue.Full:
                pass

    def _ask_for_place(self) -> None:
        """Called by the threads that verify."""
        try:
            self._inbox.put_nowait(_AHEAD)
        except queue.Full:
            pass

    def _may_read_keys_again(self) -> bool:
        read_at = self._following.keys_read_at
        return read_at is None or time.monotonic() - read_at >= _REREAD_INTERVAL

    def _read_keys_again(self) -> None:
        if self._may_read_keys_again():
            self._read_keys()

    def _read_keys(self) -> None:
        self._following.keys_read_at = time.monotonic()
        options = self._view.options
        gives_up_at = time.monotonic() + self._following.silence_max(self._has_answered)
        service = KeyServiceStub(self._channel)

        def page(request: keys_pb.ListKeysRequest) -> keys_pb.ListKeysResponse:
            answer: keys_pb.ListKeysResponse = service.ListKeys(request, timeout=gives_up_at - time.monotonic())
            return answer

        try:
            keys = all_keys(page, options.realm)
        except grpc.RpcError as error:
            raise End.of(call_error(error), "keys: ") from None
        except CallError as error:
            raise End.of(error, "keys: ") from None
        self._view.put_keys(wire.keyring(keys, options.realm, options.leeway))
        if not self._view.has_keys and not self._view.is_ready:
            raise End(f"the authority has no key that verifies tokens of the realm `{options.realm}`", is_permanent=True)
        self._progressed_at = time.monotonic()


def _log_of(place: str) -> bytes | None:
    """The log of a position. To continue from it, a cursor is opaque to this client."""
    try:
        return cursor.parse(place).log
    except ConfigurationError:
        return None


def _read(
    call: Iterator[pb.WatchResponse], inbox: queue.Queue[Any], explained: Callable[[CallError], CallError]
) -> None:
    """Moves messages into the inbox, and then the end."""
    try:
        for response in call:
            inbox.put(response)
        end = End("the stream ended")
    except grpc.RpcError as error:
        end = End.of(explained(call_error(error)))
    inbox.put(end)


def _not_understood(what: str) -> End:
    """To skip a message that is not understood would allow what may be revoked."""
    return End(f"not understood: {what}", starts_again=True)
