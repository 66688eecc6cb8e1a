"""How a verifier follows: what only an authority that follows a script would show."""

from __future__ import annotations

import queue
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import tessera
from fake import TOKEN_ID, Fake, SigningKey, Stream, revoked, timestamp
from support import EVER, PATIENCE, Case, allows, is_stale, reason
from tessera import DenyReason, paseto, session
from tessera.v1 import revocation_service_pb2 as pb
from tessera.v1 import token_service_pb2 as tokens_pb

SESSION = str(uuid.uuid4())
HOUR = timedelta(hours=1)


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


class Following(Case):
    def setUp(self) -> None:
        self.fake = Fake()
        self.addCleanup(self.fake.close)
        self.key = self.fake.keys[0]
        self.doomed = self.key.token(sid=SESSION)
        self.good = self.key.token()

    def follow(self, **options: Any) -> tuple[tessera.Verifier, Stream]:
        verifier = self.start_verifier(self.fake.connection, **{"staleness_bound": 5, **options})
        return verifier, self.fake.next_stream()

    def ready(self, *items: pb.RevocationEvent, **options: Any) -> tuple[tessera.Verifier, Stream]:
        verifier, stream = self.follow(**options)
        stream.snapshot(*items)
        stream.echo()
        self.assertTrue(verifier.wait_ready(PATIENCE), verifier.status)
        return verifier, stream

    def never_fresh(self, verifier: tessera.Verifier) -> None:
        for mode in (tessera.FailClosed(), tessera.FailOpen(EVER)):
            decision = verifier.verify(self.good, mode=mode)
            assert isinstance(decision, tessera.Stale), decision
            self.assertIsNone(decision.behind)
        self.assertFalse(verifier.status.is_ready)

    def test_the_stream_begins_as_the_options_say(self) -> None:
        _, stream = self.follow(subscriber="api-1", required=True, staleness_bound=0.5)
        start = stream.start
        self.assertEqual((start.snapshot, list(start.filter.audiences)), (True, ["api"]))
        self.assertEqual((start.subscriber, start.required), ("api-1", True))
        self.assertEqual(start.staleness_bound.ToMilliseconds(), 500)

    def test_a_snapshot_that_never_ends_makes_nothing_fresh(self) -> None:
        verifier, stream = self.follow(staleness_bound=0.3)
        stream.say(snapshot_begin=pb.SnapshotBegin())
        self.until("it gave up", lambda: verifier.status.problem)
        self.never_fresh(verifier)

    def test_a_checkpoint_that_answers_no_ping_makes_nothing_fresh(self) -> None:
        verifier, stream = self.follow()
        stream.snapshot(revoked(SESSION, 1, now() + HOUR))
        stream.checkpoint()
        stream.checkpoint(nonce=b"of another")
        self.until("in force", lambda: reason(verifier, self.doomed) is DenyReason.REVOKED)
        self.never_fresh(verifier)
        stream.echo()
        self.until("fresh", lambda: allows(verifier, self.good))

    def test_a_token_of_a_place_that_was_not_heard_of_waits_for_it(self) -> None:
        verifier, stream = self.ready()
        ahead = self.key.token(rev=2)
        answers: queue.Queue[tessera.Decision] = queue.Queue()
        asking = threading.Thread(target=lambda: answers.put(verifier.verify(ahead)))
        asking.start()
        # The token made it ask.
        stream.echo(2)
        asking.join(PATIENCE)
        self.assertIsInstance(answers.get(timeout=PATIENCE), tessera.Allow)
        # One that says what nobody issued: an answer without that place shows that there is none.
        made_up = self.key.token(rev=2**62)
        asking = threading.Thread(target=lambda: answers.put(verifier.verify(made_up, mode=tessera.FailOpen(EVER))))
        asking.start()
        stream.echo(2)
        asking.join(PATIENCE)
        self.assertIsInstance(answers.get(timeout=PATIENCE), tessera.Stale)

    def test_a_stale_verifier_may_ask_the_authority(self) -> None:
        verifier, _ = self.follow()
        both = self.key.token(scope="videos:read videos:write")
        active = tokens_pb.IntrospectResponse(active=True, jti=TOKEN_ID, scope="videos:read")
        another = tokens_pb.IntrospectResponse(active=True, jti=str(uuid.uuid4()), scope="videos:read")
        for token, answer, scope, expected in [
            (both, active, "videos:read", None),
            (both, active, "videos:write", DenyReason.SCOPE_TAKEN),
            (both, active, "analytics:read", DenyReason.SCOPE_MISSING),
            (both, another, None, DenyReason.INACTIVE),
            (both, tokens_pb.IntrospectResponse(), None, DenyReason.INACTIVE),
            (self.key.token(aud="player"), active, None, DenyReason.WRONG_AUDIENCE),
            (SigningKey().token(realm="sandbox"), active, None, DenyReason.WRONG_REALM),
        ]:
            self.fake.introspected = answer
            decision = verifier.verify(token, scope, tessera.Introspect())
            if expected is None:
                assert isinstance(decision, tessera.Allow), decision
                self.assertEqual(decision.claims.scopes, frozenset({"videos:read"}))
            else:
                self.assertEqual(decision, tessera.Deny(expected))

    def test_staleness_counts_from_the_ping_and_not_from_its_answer(self) -> None:
        verifier, stream = self.follow()
        stream.snapshot()
        nonce = stream.pings.get(timeout=PATIENCE)
        pinged_at = time.monotonic()
        self.until("a slow answer", lambda: time.monotonic() - pinged_at > 0.2)
        stream.checkpoint(nonce=nonce)
        self.assertTrue(verifier.wait_ready(PATIENCE))
        self.assertGreater(verifier.status.behind or 0, 0.2)

    def test_what_is_not_understood_makes_it_start_again(self) -> None:
        verifier, stream = self.ready(revoked(SESSION, 1, now() + HOUR))
        for what in (
            {"event": pb.RevocationEvent(kind=99, realm="production")},  # type: ignore[arg-type]
            {"event": pb.RevocationEvent(kind=pb.EVENT_KIND_SUBJECT_REVOKED, realm="production")},
            {"snapshot_item": revoked(SESSION, 2, now() + HOUR)},
            {"checkpoint": pb.Checkpoint(through="x", key_set="1")},
            {},
        ):
            with self.subTest(what):
                stream.say(**what)
                stream = self.fake.next_stream()
                self.assertTrue(stream.start.snapshot)
                self.assertIn("not understood", verifier.status.problem or "")
                self.assertEqual(reason(verifier, self.doomed), DenyReason.REVOKED)
                stream.snapshot(revoked(SESSION, 1, now() + HOUR))
                stream.echo()
                self.until("again", lambda: verifier.status.problem is None)

    def test_a_snapshot_with_a_hole_is_not_complete(self) -> None:
        verifier, stream = self.follow()
        stream.say(snapshot_begin=pb.SnapshotBegin())
        stream.say(snapshot_end=pb.SnapshotEnd(cursor="x", items=1))
        stream = self.fake.next_stream()
        self.assertTrue(stream.start.snapshot)
        self.never_fresh(verifier)

    def test_a_snapshot_is_in_force_only_once_it_is_complete(self) -> None:
        verifier, stream = self.ready(revoked(SESSION, 1, now() + HOUR))
        stream.end("CURSOR_EXPIRED")
        stream = self.fake.next_stream()
        self.assertTrue(stream.start.snapshot)
        # All of an empty snapshot, but no checkpoint before the stream breaks off.
        stream.snapshot()
        stream.say(event=pb.RevocationEvent(kind=99, realm="production"))  # type: ignore[arg-type]
        stream = self.fake.next_stream()
        self.assertEqual(reason(verifier, self.doomed), DenyReason.REVOKED)
        stream.snapshot()
        stream.say(event=revoked(str(uuid.uuid4()), 5, now() + HOUR))
        stream.echo(5)
        self.until("in force", lambda: reason(verifier, self.doomed) is None)
        self.assertEqual((verifier.status.entries, verifier.status.through), (1, 5))

    def test_who_is_required_acknowledges_and_nobody_else(self) -> None:
        _, required = self.ready(subscriber="api-1", required=True)
        other, stream = self.ready()
        for told in (stream, required):
            told.say(event=revoked(SESSION, 2, now() + HOUR))
        self.until("revoked", lambda: reason(other, self.doomed) is DenyReason.REVOKED)
        self.until("acknowledged", lambda: "event-2" in required.acks)
        # It pings again once it is answered: what it had to say of the event comes before its second ping.
        stream.echo(2)
        stream.echo(2)
        self.assertEqual(stream.acks, [])

    def test_a_stream_that_ends_is_resumed_where_it_was(self) -> None:
        verifier, stream = self.ready()
        stream.say(event=revoked(SESSION, 2, now() + HOUR))
        self.until("revoked", lambda: reason(verifier, self.doomed) is DenyReason.REVOKED)
        stream.end()
        stream = self.fake.next_stream()
        self.assertEqual(stream.start.cursor, "event-2")
        stream.end("CURSOR_INVALID")
        self.assertTrue(self.fake.next_stream().start.snapshot)

    def test_entries_are_forgotten_by_the_authoritys_clock(self) -> None:
        """This machine's clock stands still an hour before."""
        end, before = now() + HOUR, now()
        doomed = self.key.token(sid=SESSION, exp=end)
        verifier, stream = self.ready(revoked(SESSION, 1, end), clock=lambda: before, staleness_bound=1)
        stream.echo(server_time=timestamp(end + timedelta(seconds=29)))
        stream.echo(2)
        self.until("heard", lambda: verifier.status.through == 2 or verifier.status.problem)
        self.assertEqual(reason(verifier, doomed), DenyReason.REVOKED)
        verifier, stream = self.ready(revoked(SESSION, 1, end), clock=lambda: before, staleness_bound=1)
        stream.echo(server_time=timestamp(end + timedelta(seconds=31)))
        self.until("forgotten", lambda: verifier.status.entries == 0)
        # However this machine sees it, the token is over.
        self.assertEqual(reason(verifier, doomed), DenyReason.EXPIRED)

    def test_what_a_snapshot_may_have_left_out_is_over(self) -> None:
        expired = self.key.token(exp=now() - timedelta(seconds=10))
        verifier, _ = self.ready()
        self.assertEqual(reason(verifier, expired), DenyReason.EXPIRED)

    def test_an_authority_whose_clock_goes_back_is_started_again_with(self) -> None:
        _, stream = self.ready(staleness_bound=1)
        stream.echo(server_time=timestamp(now() - HOUR))
        self.assertTrue(self.fake.next_stream().start.snapshot)

    def test_an_unknown_key_makes_the_keys_be_read_but_not_often(self) -> None:
        verifier, stream = self.ready()
        self.fake.keys.append(SigningKey())
        token = self.fake.keys[1].token()
        for _ in range(100):
            self.assertEqual(reason(verifier, token), DenyReason.UNKNOWN_KEY)
        stream.checkpoint(2)
        self.until("what came before is handled", lambda: verifier.status.through == 2)
        self.assertEqual(self.fake.key_reads, 1)
        with mock.patch.object(session, "_REREAD_INTERVAL", 0.0):
            self.until("the second page of keys", lambda: allows(verifier, token))
        self.assertTrue(allows(verifier, self.good))

    def test_a_stale_verifier_does_not_say_that_a_key_is_unknown(self) -> None:
        verifier, _ = self.ready(staleness_bound=0.3)
        self.until("stale", lambda: is_stale(verifier, self.good))
        token = SigningKey().token()
        decision = verifier.verify(token)
        assert isinstance(decision, tessera.Stale), decision
        self.assertEqual(decision.bound, 0.3)
        self.assertGreater(decision.behind or 0, 0.3)
        # As stale as is allowed here, the key is unknown.
        open_decision = verifier.verify(token, mode=tessera.FailOpen(EVER))
        self.assertEqual(open_decision, tessera.Deny(DenyReason.UNKNOWN_KEY))
        self.fake.introspected = tokens_pb.IntrospectResponse(active=True, jti=TOKEN_ID, scope="videos:read")
        self.assertIsInstance(verifier.verify(token, mode=tessera.Introspect()), tessera.Allow)

    def test_keys_that_are_read_again_keep_the_tokens_that_they_verified(self) -> None:
        verifier, stream = self.ready(staleness_bound=1)
        self.assertTrue(allows(verifier, self.good))
        with mock.patch.object(paseto, "is_signed_by", wraps=paseto.is_signed_by) as checked:
            stream.echo(2, key_set="2")
            self.until("the same keys", lambda: verifier.status.through == 2)
            self.assertTrue(allows(verifier, self.good))
            self.assertEqual((self.fake.key_reads, checked.call_count), (2, 0))
            self.fake.keys.append(SigningKey())
            stream.echo(3, key_set="3")
            self.until("another key", lambda: verifier.status.through == 3)
            self.assertTrue(allows(verifier, self.good))
            self.assertEqual((self.fake.key_reads, checked.call_count), (3, 1))

    def test_a_checkpoint_with_another_key_set_makes_the_keys_be_read(self) -> None:
        verifier, stream = self.ready(staleness_bound=1)
        self.fake.keys = [SigningKey()]
        self.assertTrue(allows(verifier, self.good))
        stream.echo(key_set="2")
        self.until("the keys", lambda: reason(verifier, self.good) is DenyReason.UNKNOWN_KEY)
        self.assertTrue(allows(verifier, self.fake.keys[0].token()))

    def test_what_a_key_may_not_say_is_refused(self) -> None:
        verifier, _ = self.ready()
        self.assertTrue(allows(verifier, self.good))
        for wrong in ({"iss": "urn:other"}, {"admin": True}):
            denied = reason(verifier, self.key.token(**wrong))
            self.assertIn(denied, (DenyReason.BAD_SIGNATURE, DenyReason.MALFORMED))
        self.assertEqual(reason(verifier, self.key.token(aud="player")), DenyReason.WRONG_AUDIENCE)
        self.assertEqual(reason(verifier, self.key.token(labels=["x" * 24 * 1024])), DenyReason.MALFORMED)

    def test_a_clock_that_is_late_accepts_a_new_token_without_leeway(self) -> None:
        issued = now()
        verifier, _ = self.ready(leeway=0, clock=lambda: issued - timedelta(seconds=10))
        backdated = {"iat": issued, "nbf": issued - timedelta(seconds=10)}
        self.assertTrue(allows(verifier, self.key.token(**backdated)))
        self.assertTrue(allows(verifier, self.key.token(iat=issued, nbf=issued - HOUR)))
        for late in ({"iat": issued, "nbf": issued}, {"iat": issued + timedelta(seconds=1), "nbf": issued - HOUR}):
            self.assertEqual(reason(verifier, self.key.token(**late)), DenyReason.NOT_YET_VALID)

    def test_the_largest_token_that_is_issued_is_read(self) -> None:
        verifier, _ = self.ready()
        largest = self.key.token(
            sub="s" * 255,
            scope=" ".join(f"{number:03}{'x' * 123}:r" for number in range(100)),
            roles=[f"role:{number:02}{'x' * 62}" for number in range(32)],
            labels=[f"{number}{'x' * 127}" for number in range(8)],
            client_id="client:" + "c" * 64,
            gen=2**53 - 1,
            rev=1,
            pol="0" * 64,
        )
        self.assertGreater(len(largest), 20_000)
        self.assertTrue(allows(verifier, largest, f"000{'x' * 123}:r"))

    def test_the_cache_is_bounded_and_no_way_around_a_revocation(self) -> None:
        verifier, stream = self.ready(cache_capacity=2)
        for _ in range(5):
            self.assertTrue(allows(verifier, self.key.token()))
        self.assertTrue(allows(verifier, self.doomed) and allows(verifier, self.doomed))
        stream.say(event=revoked(SESSION, 2, now() + HOUR))
        self.until("revoked", lambda: reason(verifier, self.doomed) is DenyReason.REVOKED)


