"""A source of tokens against the real authority."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any
from unittest import mock

import grpc

import tessera
from support import AuthorityCase, Gate
from tessera import token_source

VIEWER = {"audience": "api", "subject": "user:ann", "roles": ("role:viewer",)}
#: A call gives up soon, and waits little.
IMPATIENT = tessera.ClientOptions(deadline=0.5, backoff=0.005, backoff_max=0.02)


class Source(AuthorityCase):
    def setUp(self) -> None:
        self.gate = Gate(self.authority)
        self.addCleanup(self.gate.close)

    def source(self, options: tessera.ClientOptions = tessera.ClientOptions(), **request: Any) -> tessera.TokenSource:
        client = tessera.Client(self.gate.connection, options)
        source = tessera.TokenSource(client, tessera.TokenRequest(**{**VIEWER, **request}))
        self.addCleanup(client.close)
        self.addCleanup(source.close)
        return source

    def test_a_thousand_callers_make_one_call(self) -> None:
        source = self.source()
        self.gate.hold()
        tokens: set[str] = set()
        callers = [threading.Thread(target=lambda: tokens.add(source.token().expose())) for _ in range(1000)]
        for caller in callers:
            caller.start()
        self.until("the call", lambda: self.gate.calls["issue"])
        self.gate.release()
        for caller in callers:
            caller.join()
        self.assertEqual((len(tokens), self.gate.calls), (1, {"issue": 1, "refresh": 0}))
        token = source.token()
        self.assertGreater(token.remaining, 3590)
        self.assertNotIn(token.expose(), f"{token!r} {source!r} {token}")

    def test_renewing_serves_the_old_token_and_then_the_new(self) -> None:
        source = self.source(access_ttl=3)
        old = source.token()
        began_at = time.monotonic()
        self.gate.hold()
        self.until("renewing", lambda: self.gate.calls["refresh"] == 1)
        renewed_after = time.monotonic() - began_at
        # Two thirds of 3 s, give or take a tenth; the rest is this machine's scheduling.
        self.assertTrue(1.75 < renewed_after < 2.8, renewed_after)
        for _ in range(100):
            self.assertEqual(source.token().expose(), old.expose())
        self.gate.release()
        self.until("the new one", lambda: source.token().expose() != old.expose())
        self.assertEqual(self.gate.calls, {"issue": 1, "refresh": 1})

    def test_a_session_that_is_gone_is_replaced(self) -> None:
        source = self.source(access_ttl=1)
        old = source.token()
        self.revoke(subject="user:ann")
        self.until("issued again", lambda: self.gate.calls == {"issue": 2, "refresh": 1})
        self.until("the new one", lambda: source.token().expose() != old.expose())

    def test_a_token_that_a_service_refuses_is_given_up_but_not_often(self) -> None:
        source, another = self.source(), self.source()
        refused = source.token()
        # Who was refused with another token says nothing of this one.
        source.invalidate(another.token())
        self.assertIs(source.token(), refused)
        for _ in range(10):
            source.invalidate(refused)
        token = self.token_soon(source)
        self.assertNotEqual(token.expose(), refused.expose())
        self.assertEqual(self.gate.calls, {"issue": 2, "refresh": 1})
        # The next is given up no sooner than 10 s later.
        source.invalidate(token)
        self.assertIs(source.token(), token)
        with mock.patch.object(token_source, "_INVALIDATION_PAUSE", 0.0):
            self.revoke(subject="user:ann")
            source.invalidate(token)
        self.assertNotEqual(self.token_soon(source).expose(), token.expose())
        self.assertEqual(self.gate.calls, {"issue": 3, "refresh": 2})

    def test_what_passes_is_retried_and_leaves_the_old_token_in_use(self) -> None:
        self.gate.faults = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED]
        source = self.source(IMPATIENT, access_ttl=2)
        old = source.token()
        self.assertEqual(self.gate.calls["issue"], 3)
        self.gate.faults = [grpc.StatusCode.UNAVAILABLE] * 10_000
        self.until("renewing fails", lambda: self.gate.calls["refresh"] > 2)
        while self.error_of(source) is None:
            time.sleep(0.002)
        self.assertLessEqual(old.remaining, 0)
        # Beyond its life there is none, and waiting helps.
        self.until("an error", lambda: isinstance(self.error_of(source), tessera.PassingError))
        self.gate.faults = []
        self.until("it passes", lambda: self.error_of(source) is None)
        self.assertEqual(self.gate.calls["issue"], 3, "the session went on")

    def test_what_does_not_pass_is_not_retried(self) -> None:
        self.gate.faults = [grpc.StatusCode.INTERNAL]
        self.assertIsInstance(self.error_of(self.source()), tessera.PassingError)
        self.assertEqual(self.gate.calls["issue"], 1)

    def test_an_error_that_stays_is_told_to_all_without_a_call_each(self) -> None:
        source = self.source(scopes=("videos:write",), require_all=True)
        for _ in range(10):
            error = self.error_of(source)
            assert isinstance(error, tessera.PermanentError), error
            self.assertEqual((error.code, error.reason), (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_DENIED"))
        self.assertEqual(self.gate.calls["issue"], 1)

    def test_a_wrong_api_key_is_permanent_and_in_no_text(self) -> None:
        key = "tsk_production_" + "0" * 50
        client = tessera.Client(tessera.Connection(self.authority.address, key))
        self.addCleanup(client.close)
        with self.assertLogs("tessera") as logged:
            error = self.error_of(tessera.TokenSource(client))
        assert isinstance(error, tessera.SignInError), error
        self.assertIsInstance(error, tessera.PermanentError)
        self.assertEqual(error.reason, "CLIENT_AUTH_FAILED")
        self.assertNotIn("0000", f"{error} {error!r} {logged.output}")

    def test_what_goes_wrong_on_the_way_to_a_call_does_not_end_the_renewing(self) -> None:
        client = tessera.Client(tessera.Connection("http://127.0.0.1:1", "tsk_x"), IMPATIENT)
        self.addCleanup(client.close)
        with mock.patch.object(tessera.Connection, "diagnosis", side_effect=ValueError("a host of another kind")):
            source = tessera.TokenSource(client)
            self.addCleanup(source.close)
            error = self.error_of(source)
        assert isinstance(error, tessera.PassingError), error
        self.assertIs(error.code, grpc.StatusCode.UNAVAILABLE)
        source = self.source()
        with mock.patch.object(tessera.Connection, "channel", side_effect=OSError("no such file")):
            error = self.error_of(source)
        self.assertIsInstance(error, tessera.PassingError)
        self.assertIn("no such file", str(error))
        self.until("it passes", lambda: self.error_of(source) is None)

    def test_closing_wakes_who_waits(self) -> None:
        source = self.source()
        self.gate.hold()
        seen: list[object] = []
        caller = threading.Thread(target=lambda: seen.append(self.error_of(source)))
        caller.start()
        self.until("the call", lambda: self.gate.calls["issue"])
        source.close()
        caller.join()
        self.assertIsInstance(seen[0], tessera.ClosedError)

    def test_a_closed_source_has_no_token(self) -> None:
        source = self.source()
        source.token()
        source.close()
        self.assertIsInstance(self.error_of(source), tessera.ClosedError)
        with self.assertRaises(tessera.ClosedError):
            asyncio.run(source.token_async())

    def test_a_request_of_other_types_is_refused_when_it_is_made(self) -> None:
        wrong: dict[str, list[Any]] = {name: ["videos:read", b"a", None, 1, (1,), {"a": 1}] for name in ("scopes", "roles", "labels")}
        wrong |= {"audience": [None, ["api"]], "subject": [None], "access_ttl": ["60", 1.5, True], "require_all": ["no", None]}
        for name, values in wrong.items():
            for value in values:
                with self.subTest(name=name, value=value), self.assertRaises(tessera.ConfigurationError) as refused:
                    tessera.TokenRequest(**{name: value})
                self.assertIn(name, str(refused.exception))
                self.assertIn(repr(value), str(refused.exception))
        tessera.TokenRequest(scopes=("a:b",), roles=(), access_ttl=60)

    def test_an_event_loop_is_not_blocked(self) -> None:
        source = self.source()

        async def callers() -> set[str]:
            self.gate.hold()
            waiting = [asyncio.create_task(source.token_async()) for _ in range(100)]
            while not self.gate.calls["issue"]:
                await asyncio.sleep(0.002)
            self.gate.release()
            return {token.expose() for token in await asyncio.gather(*waiting)}

        self.assertEqual(len(asyncio.run(callers())), 1)
        self.assertEqual(self.gate.calls["issue"], 1)

    def token_soon(self, source: tessera.TokenSource) -> tessera.AccessToken:
        """The token, of a source that may keep its callers waiting."""
        got: list[tessera.AccessToken] = []
        threading.Thread(target=lambda: got.append(source.token()), daemon=True).start()
        self.until("a token", lambda: got)
        return got[0]

    @staticmethod
    def error_of(source: tessera.TokenSource) -> tessera.TesseraError | None:
        try:
            source.token()
        except tessera.TesseraError as error:
            return error
        return None


