"""Several addresses: verifiers and calls go on at another one where one does not work."""

from __future__ import annotations

import socket
import threading
import unittest
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc

import tessera
from fake import Fake, revoked
from support import PATIENCE, AuthorityCase, Case, Gate, allows, reason
from tessera import DenyReason
from tessera.addresses import Addresses, Round, split
from tessera.connection import Connection
from tessera.following import End, Following
from tessera.v1 import token_service_pb2 as pb
from tessera.view import Options, View

#: Nobody listens there.
NOBODY = "http://127.0.0.1:1"
SESSION = str(uuid.uuid4())
#: The wait between two attempts is so long that a test which waits for one fails.
IMPATIENT = tessera.ClientOptions(deadline=10, backoff=60, backoff_max=60)
#: Addresses by what is wrong with them.
WRONG = {
    "it begins neither with https:// nor with http://": ["a:1", "ftp://a:1", "//a:1", "https:/a", "tsk_secret"],
    "it has a user": ["http://user:secret@a:1", "https://secret@a", "https://a:1/@secret@b"],
    "it has a path": ["http://a:1/api", "http://a:1//", "https://a/x/"],
    "it has a query": ["http://a:1?b=c", "http://a:1/?b"],
    "it has a fragment": ["http://a:1#b", "http://a:1/#"],
    "it has no host": ["http://", "http://:1", "https:///"],
    "its host can't be read": ["http://a:b:1", "http://::1:7600", "http://[::1", "http://[g]:1", "http://a\\b:1"],
    "its port is not between 1 and 65535": ["http://a:", "http://a:0", "http://127.0.0.1:99999", "https://a:65536"],
    "a space or a control character": ["http://a b:1", "http://a\n:1", "http://a\x00:1"],
}
NAMES = [f"http://h{number}:1" for number in range(17)]


class Given(unittest.TestCase):
    def test_what_can_be_given_is_a_table(self) -> None:
        none, mixed = "no address: name at least one", "some of the addresses have encryption"
        for given, expected in [
            ("http://a:1", ""),
            (["https://a:1", "https://b:1"], ""),
            ("http://a:1,http://b:1", ""),
            ([], none),
            ((), none),
            (["https://a:1", "http://b:1"], mixed),
            (["https://a:1", "b:1"], "`b:1` is not an address"),
            ("http://a:1,", "`` is not an address"),
            ("", none),
            (" , ", "`` is not an address"),
            (None, none),
            (1, none),
            (b"http://a:1", none),
            ([None], "an address is a text"),
            ("HTTPS://a:1", ""),
            ("http://a", ""),
            ("https://a/", ""),
            ("http://[::1]:7600", ""),
            ("http://a:65535", ""),
            *((address, wrong) for wrong, addresses in WRONG.items() for address in addresses),
            # One of several.
            *((f"http://a:1,{addresses[0]}", wrong) for wrong, addresses in WRONG.items()),
            (NAMES[:16], ""),
            (NAMES, "17 addresses are more than 16"),
        ]:
            with self.subTest(given):
                try:
                    address: Any = given
                    tessera.Connection(address, "tsk_x")
                    problem = ""
                except tessera.ConfigurationError as error:
                    problem = str(error)
                self.assertEqual(bool(expected), bool(problem), problem)
                self.assertIn(expected, problem)
                self.assertNotIn("secret", problem)

    def test_the_target_of_an_address_has_the_port_of_its_scheme(self) -> None:
        for address, expected in [
            ("HTTP://a:1/", ("http", "a:1")),
            ("http://a", ("http", "a:80")),
            ("http://[::1]", ("http", "[::1]:80")),
            ("https://a", ("https", "a")),
        ]:
            self.assertEqual(split(address), expected)

    def test_an_api_key_is_taken_out_of_what_is_around_it(self) -> None:
        for given in ("tsk_x", "tsk_x\n", " \ttsk_x\r\n\v\f"):
            connection = tessera.Connection("http://a:1", given)
            self.assertEqual((connection.api_key, connection.credential[0][1]), ("tsk_x", "Bearer tsk_x"))

    def test_what_is_no_api_key_is_refused_with_a_true_reason(self) -> None:
        missing, inside, other = "the API key is missing", "a space or a line break inside", "this is not an API key"
        cases: list[tuple[Any, str]] = [(None, missing), ("", missing), (" \n", missing), ("tsk_x tsk_y", inside)]
        cases += [("tsk_x\ntsk_y", inside), ("secret", other), ("tsk_\u00fc", other), ("tsk_\x00", other)]
        cases += [(b"tsk_secret", "the API key is a text"), (1, "the API key is a text")]
        for given, expected in cases:
            with self.subTest(given), self.assertRaises(tessera.ConfigurationError) as refused:
                tessera.Connection("http://a:1", given)
            self.assertIn(expected, str(refused.exception))
            self.assertNotIn("secret", str(refused.exception))

    def test_an_address_that_is_given_twice_is_tried_once(self) -> None:
        addresses = Addresses(["http://a:1", "http://b:1 , HTTP://A:1/", "http://b:1"])
        self.assertEqual(addresses.given, ("http://a:1", "http://b:1"))

    def test_many_clients_spread_over_the_nodes_and_each_tries_all(self) -> None:
        given = ("http://a:1", "http://b:1", "http://c:1")
        orders = Counter(Addresses(given).tried for _ in range(600))
        self.assertEqual({tuple(sorted(order)) for order in orders}, {given})
        # Each of the six orders, by chance: none is rare.
        self.assertEqual(len(orders), 6)
        self.assertGreater(min(orders.values()), 40)
        self.assertEqual(Addresses(given, in_order=True).tried, given)
        # What is forked begins anywhere, too.
        begins: Counter[int] = Counter()
        addresses = Addresses(given)
        for _ in range(300):
            addresses.resume_in_child()
            begins[addresses.preferred] += 1
        self.assertGreater(min(begins[place] for place in range(3)), 40)

    def test_certificates_are_for_addresses_with_encryption(self) -> None:
        with self.assertRaises(tessera.ConfigurationError):
            tessera.Connection(["http://a:1", "http://b:1"], "tsk_x", certificate_authority=b"none")


class Next(unittest.TestCase):
    def test_which_address_is_next_is_a_table(self) -> None:
        # For each count of addresses: where it is after each failure, and whether it waits there.
        table: list[tuple[int, list[tuple[int, bool]]]] = [
            (1, [(0, True), (0, True), (0, True)]),
            (2, [(1, False), (0, True), (1, False), (0, True)]),
            (3, [(1, False), (2, False), (0, True), (1, False), (2, False)]),
        ]
        for count, expected in table:
            round = Round(Addresses(NAMES[:count], in_order=True))
            for step, (at, waits) in enumerate(expected):
                with self.subTest(count=count, step=step):
                    self.assertEqual((round.is_over, round.is_at_last), (step >= count, waits))
                    self.assertEqual((round.leave(), round.at), (waits, at))

    def test_what_worked_last_is_tried_first(self) -> None:
        addresses = Addresses(NAMES[:3], in_order=True)
        round, other = Round(addresses), Round(addresses)
        self.assertEqual([round.leave(), round.leave(), round.at], [False, False, 2])
        # What never failed prefers nothing: another one may have moved meanwhile.
        self.assertFalse(other.worked())
        self.assertTrue(round.worked())
        self.assertFalse(round.is_over)
        self.assertEqual(Round(addresses).address, NAMES[2])
        # One that comes late with an old failure moves nobody.
        addresses.leave(0)
        self.assertEqual(Round(addresses).at, 2)
        addresses.leave(2)
        self.assertEqual(Round(addresses).at, 0)
        # A round that worked begins anew: it waits only when each has failed again.
        self.assertEqual([round.leave(), round.leave(), round.leave()], [False, False, True])


class After(unittest.TestCase):
    """How a verifier goes on after a stream ended."""

    def following(self, count: int = 3) -> Following:
        options = Options("production", "api", 10, timedelta(0), 0, lambda: datetime.now(UTC), tuple(NAMES[:count]))
        following = Following(View(options), Connection(NAMES[:count], "tsk_x", in_order=True), "", False)
        following.place = "a place"
        return following

    def test_where_it_goes_on_and_whether_it_waits_is_a_table(self) -> None:
        no_such_place = End("expired", starts_again=True)
        no_such_place.is_about_place = True
        following = self.following()
        # How it ended; where it goes on, whether it waits before, and whether it keeps its place.
        for step, (end, at, waits, keeps) in enumerate(
            [
                (End("gone"), 1, False, True),
                (End("not understood", starts_again=True), 2, False, False),
                (End("gone"), 0, True, True),
                (End("permanent", is_permanent=True), 1, True, True),
                (End("gone"), 2, False, True),
                (no_such_place, 2, True, False),
                (End("gone"), 0, True, True),
            ]
        ):
            with self.subTest(step):
                following.place = "a place"
                wait = following.after(end)
                self.assertEqual((following.round.at, wait > 0, following.place is not None), (at, waits, keeps))

    def test_a_stream_that_ends_after_each_answer_is_waited_for(self) -> None:
        following = self.following()

        def waits(age: float) -> bool:
            following.answered(age)
            return following.after(End("gone")) > 0

        self.assertEqual([waits(2.499) for _ in range(6)], [False, False, True] * 2)
        # One that lasted has earned the whole round.
        self.assertEqual([waits(2.5) for _ in range(4)], [False] * 4)

    def test_how_long_nothing_may_come_is_a_table(self) -> None:
        def silence_max(of: Following) -> list[float]:
            return [of.silence_max(True), of.silence_max(False)]

        one, two = self.following(1), self.following(2)
        self.assertEqual(silence_max(one), [10, 10])
        one.after(End("gone"))
        self.assertEqual(silence_max(one), [10, 10])
        # One that is frozen, and each of the others: within the bound.
        self.assertEqual(silence_max(self.following(3)), [5, 2.5])
        self.assertEqual(silence_max(two), [5, 5])
        two.after(End("gone"))
        self.assertEqual(silence_max(two), [5, 5])
        # Each was tried: one may just be slow.
        two.after(End("gone"))
        self.assertEqual(silence_max(two), [10, 10])
        two.answered(3)
        self.assertEqual(silence_max(two), [5, 5])


class Verifying(Case):
    def setUp(self) -> None:
        self.one, self.two = Fake(), Fake()
        self.two.keys = self.one.keys
        for fake in (self.one, self.two):
            self.addCleanup(fake.close)
        key = self.one.keys[0]
        self.good, self.doomed = key.token(), key.token(sid=SESSION)

    def start(self, *addresses: str, bound: float = 4) -> tessera.Verifier:
        connection = tessera.Connection(addresses, "tsk_production_fake", in_order=True)
        return self.start_verifier(connection, staleness_bound=bound)

    def until_all_along(self, what: str, verifier: tessera.Verifier, holds: Callable[[], object]) -> None:
        """Waits until something holds; at each look a good token is allowed."""

        def looks() -> object:
            self.assertTrue(allows(verifier, self.good), (what, verifier.status))
            return holds()

        self.until(what, looks)

    def moves_from(self, verifier: tessera.Verifier, stops: Callable[[], None]) -> None:
        stream = self.one.next_stream()
        stream.snapshot()
        stream.echo()
        self.assertTrue(verifier.wait_ready(PATIENCE), verifier.status)
        self.assertEqual(verifier.status.address, self.one.address)
        stops()
        moved: list[Any] = []
        moving = threading.Thread(target=lambda: moved.append(self.two.next_stream()))
        moving.start()
        self.until_all_along("the move", verifier, lambda: moved)
        # It goes on at its place, and takes no snapshot.
        self.assertEqual((moved[0].start.cursor, moved[0].start.snapshot), ("place-1", False))
        moved[0].say(event=revoked(SESSION, 2, datetime.now(UTC) + timedelta(hours=1)))
        self.until_all_along("the revocation", verifier, lambda: reason(verifier, self.doomed) is DenyReason.REVOKED)
        with self.assertLogs("tessera", "WARNING") as logged:
            # It says so when the other one has worked for a while.
            for _ in range(10):
                moved[0].echo(2)
                self.assertTrue(allows(verifier, self.good), verifier.status)
                if any("another address" in line for line in logged.output):
                    break
        said = next(line for line in logged.output if "another address" in line)
        self.assertIn(f"{self.two.address}: {self.one.address} was left: ", said)
        status = verifier.status
        self.assertEqual((status.address, status.snapshots, status.problem), (self.two.address, 1, None))

    def test_one_whose_node_freezes_moves_within_its_bound(self) -> None:
        # One that refuses, too: it costs no time.
        self.moves_from(self.start(self.one.address, NOBODY, self.two.address), lambda: None)

    def test_one_whose_node_is_gone_moves(self) -> None:
        self.moves_from(self.start(self.one.address, self.two.address), self.one.close)

    def test_one_whose_node_is_not_ready_moves(self) -> None:
        self.one.refuses = grpc.StatusCode.UNAVAILABLE
        verifier = self.start(self.one.address, self.two.address)
        self.two.next_stream()
        self.assertEqual(self.one.refused, 1)
        self.assertEqual(verifier.status.problem, f"{self.one.address}: UNAVAILABLE: scripted")

    def test_what_waiting_does_not_help_ends_ready_at_once(self) -> None:
        self.one.refuses = grpc.StatusCode.PERMISSION_DENIED
        verifier = self.start(self.one.address, self.two.address)
        with self.assertRaises(tessera.NotReadyError) as refused:
            verifier.ready(PATIENCE)
        self.assertTrue(refused.exception.is_permanent)
        self.assertEqual(refused.exception.problem, f"{self.one.address}: PERMISSION_DENIED: scripted")


class Calling(AuthorityCase):
    def call_at(self, *addresses: str, options: tessera.ClientOptions = IMPATIENT) -> tessera.Client:
        api_key = self.authority.connection().api_key
        client = tessera.Client(tessera.Connection(addresses, api_key, in_order=True), options)
        self.addCleanup(client.close)
        return client

    def gate(self) -> Gate:
        gate = Gate(self.authority)
        self.addCleanup(gate.close)
        return gate

    @staticmethod
    def request(subject: str = "user:ann") -> pb.IssueRequest:
        return pb.IssueRequest(subject=subject, roles=["role:viewer"], audience="api")

    def test_a_call_goes_on_at_the_next_address_without_waiting(self) -> None:
        gate = self.gate()
        gate.faults = [grpc.StatusCode.UNAVAILABLE]
        client = self.call_at(NOBODY, gate.address, self.authority.address)
        # The next call begins where the last one worked.
        for _ in range(2):
            client.issue(self.request())
            self.assertEqual(gate.calls["issue"], 1)

    def test_a_call_goes_on_where_an_address_accepts_connections_and_says_nothing(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = "http://127.0.0.1:%d" % silent.getsockname()[1]
            options = tessera.ClientOptions(deadline=3, backoff=60, backoff_max=60)
            self.call_at(address, self.authority.address, options=options).issue(self.request())

    def test_a_call_waits_when_each_address_was_tried(self) -> None:
        one, two = self.gate(), self.gate()
        options = tessera.ClientOptions(deadline=0.6, backoff=0.05, backoff_max=0.05)
        client = self.call_at(one.address, two.address, options=options)
        one.faults, two.faults = ([grpc.StatusCode.UNAVAILABLE] * 1000 for _ in range(2))
        with self.assertRaises(tessera.PassingError):
            client.issue(self.request())
        # A wait of 25 ms to 50 ms after each round.
        rounds = one.calls["issue"]
        self.assertIn(rounds, range(2, 26))
        self.assertIn(two.calls["issue"], (rounds - 1, rounds))
        # What another node would answer in the same way is not asked there.
        for code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INTERNAL):
            one.faults, two.faults = [code], [code]
            before = one.calls["issue"] + two.calls["issue"]
            with self.assertRaises(tessera.CallError) as failed:
                client.issue(self.request())
            self.assertIs(failed.exception.code, code)
            self.assertEqual(one.calls["issue"] + two.calls["issue"], before + 1)

    def lose(self, gate: Gate, name: str, call: Callable[[], Any]) -> Any:
        """The answer of a call that was done at a node, which is lost before it answers."""
        gate.hold()
        answers: list[Any] = []
        calling = threading.Thread(target=lambda: answers.append(call()))
        calling.start()
        self.until("done", lambda: gate.done[name] == 1)
        gate.lose()
        calling.join(PATIENCE)
        return answers[0]

    def test_a_call_that_was_done_at_a_lost_node_is_not_done_twice(self) -> None:
        gate = self.gate()
        client = self.call_at(gate.address, self.authority.address)
        issued = self.lose(gate, "issue", lambda: client.issue(self.request("user:lost")))
        # The refresh token is spent at the node that is lost.
        gate = self.gate()
        client = self.call_at(gate.address, self.authority.address)
        request = pb.RefreshRequest(refresh_token=issued.tokens.refresh_token)
        refreshed = self.lose(gate, "refresh", lambda: client.refresh(request))
        self.assertEqual((refreshed.generation, refreshed.replayed), (2, True))
        self.assertEqual(self.revoke(subject="user:lost").matched, 1, "one session")

    def test_a_call_that_its_deadline_cuts_off_says_how_the_attempt_before_failed(self) -> None:
        """The same table is in the tests of the other SDKs."""
        cut_off = "DEADLINE_EXCEEDED: the deadline passed; the call may still have its effect"
        before = "; the attempt before failed: "
        unavailable, aborted = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED
        table: list[tuple[list[grpc.StatusCode], str]] = [
            ([], cut_off),
            ([unavailable], f"{cut_off}{before}UNAVAILABLE: scripted"),
            ([unavailable, aborted], f"{cut_off}{before}ABORTED: scripted"),
        ]
        gate = self.gate()
        client = tessera.Client(gate.connection)
        self.addCleanup(client.close)
        for faults, expected in table:
            # As a timer on the way that is a little early, so that no load of the machine decides which attempt it ends.
            gate.faults = [*faults, grpc.StatusCode.DEADLINE_EXCEEDED]
            with self.assertRaises(tessera.PassingError) as failed:
                client.issue(self.request())
            error = failed.exception
            self.assertEqual((error.code, error.reason), (grpc.StatusCode.DEADLINE_EXCEEDED, None))
            self.assertEqual(str(error), expected)
            self.assertEqual(gate.faults, [])

    def test_after_a_call_that_nobody_answered_the_next_begins_elsewhere(self) -> None:
        gate = self.gate()
        gate.hold()
        addresses, api_key = [gate.address, self.authority.address], self.authority.connection().api_key
        connection = tessera.Connection(addresses, api_key, in_order=True)
        client = tessera.Client(connection, tessera.ClientOptions(deadline=0.2))
        self.addCleanup(client.close)
        with self.assertRaises(tessera.PassingError) as failed:
            client.issue(self.request())
        self.assertIs(failed.exception.code, grpc.StatusCode.DEADLINE_EXCEEDED)
        self.assertEqual(failed.exception.message, "the deadline passed; the call may still have its effect")
        # All that is made of the connection knows it.
        other = tessera.Client(connection, IMPATIENT)
        self.addCleanup(other.close)
        source = tessera.TokenSource(other, tessera.TokenRequest(audience="api"))
        self.addCleanup(source.close)
        source.token()
        self.assertEqual(gate.calls["issue"], 1)


if __name__ == "__main__":
    unittest.main()
