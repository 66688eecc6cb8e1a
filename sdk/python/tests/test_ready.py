"""What a verifier says when it does not work, and when it works again."""

from __future__ import annotations

import asyncio
import base64
import http.server
import threading
import time
import unittest
from concurrent import futures
from unittest import mock

import grpc

import tessera
from support import PATIENCE, AuthorityCase, is_stale, reason
from tessera import problems


class Ready(AuthorityCase):
    def not_ready(self, connection: tessera.Connection, audience: str = "api", timeout: float = PATIENCE) -> tessera.NotReadyError:
        """Why a verifier does not become ready, of which it warns."""
        with self.assertLogs("tessera", "WARNING") as logged, self.assertRaises(tessera.NotReadyError) as refused:
            verifier = tessera.Verifier(connection, "production", audience, staleness_bound=5)
            self.addCleanup(verifier.close)
            verifier.ready(timeout)
        error = refused.exception
        self.until("a warning", lambda: logged.output)
        self.assertIn(error.problem.split(": ")[-1], logged.output[0])
        self.assertFalse(verifier.is_ready or verifier.is_fresh)
        return error

    def test_what_waiting_does_not_help_ends_it_at_once(self) -> None:
        address = self.authority.address
        unknown = tessera.Connection(address, "tsk_production_" + "0" * 50)
        not_watching = tessera.Connection(address, self.authority.api_key("shop"))
        for what, connection, audience, expected in [
            ("an unknown API key", unknown, "api", "CLIENT_AUTH_FAILED"),
            ("no permission to watch", not_watching, "api", "CALL_NOT_ALLOWED"),
            ("a misspelled audience", self.authority.connection(), "apo", "did you mean `api`?"),
            ("the key of another realm", self.authority.connection("sandbox"), "api", "of the realm `sandbox`"),
        ]:
            with self.subTest(what):
                started_at = time.monotonic()
                error = self.not_ready(connection, audience)
                self.assertTrue(error.is_permanent, error)
                self.assertIn(expected, str(error))
                self.assertIn(address, str(error))
                self.assertLess(time.monotonic() - started_at, PATIENCE / 2)

    def test_another_http_server_is_told(self) -> None:
        listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        self.addCleanup(listener.server_close)
        self.addCleanup(listener.shutdown)
        for address in (self.authority.ready["admin"], f"http://127.0.0.1:{listener.server_port}"):
            with self.subTest(address), mock.patch.object(listener.RequestHandlerClass, "log_message"):
                expected = f"no Tessera answers at {address}: is this the admin socket, or another HTTP server?"
                connection = tessera.Connection(address, "tsk_x")
                client = tessera.Client(connection, tessera.ClientOptions(deadline=1))
                self.addCleanup(client.close)
                with self.assertRaises(tessera.CallError) as failed:
                    client.list_keys("production")
                self.assertIn(expected, str(failed.exception))
                self.assertIn(expected, str(self.not_ready(connection, timeout=1)))

    def test_another_grpc_server_is_told(self) -> None:
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
        address = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        self.addCleanup(server.stop, None)
        expected = f"the server at {address} does not have this call: is it another gRPC server, or an older Tessera?"
        connection = tessera.Connection(address, "tsk_x")
        client = tessera.Client(connection)
        self.addCleanup(client.close)
        with self.assertRaises(tessera.PermanentError) as failed:
            client.list_keys("production")
        self.assertIn(expected, str(failed.exception))
        error = self.not_ready(connection)
        self.assertTrue(error.is_permanent, error)
        self.assertIn(expected, str(error))

    def test_what_may_pass_is_told_at_the_timeout(self) -> None:
        error = self.not_ready(tessera.Connection("http://127.0.0.1:1", "tsk_x"), timeout=0.5)
        self.assertFalse(error.is_permanent)
        self.assertIn("refused", str(error))

    def test_what_goes_wrong_on_the_way_to_a_stream_does_not_end_the_following(self) -> None:
        with mock.patch.object(tessera.Connection, "diagnosis", side_effect=ValueError("a host of another kind")):
            error = self.not_ready(tessera.Connection("http://127.0.0.1:1", "tsk_x"), timeout=0.5)
        self.assertIn("UNAVAILABLE", str(error))
        with mock.patch.object(tessera.Connection, "channel", side_effect=OSError("no such file")):
            verifier = self.verifier_of()
            self.until("told", lambda: "no such file" in (verifier.status.problem or ""))
        verifier.ready(PATIENCE)

    def test_freshness_is_told_beside_readiness(self) -> None:
        verifier, token = self.ready_verifier(), self.issue().tokens.access_token
        self.assertTrue(verifier.is_ready and verifier.is_fresh and verifier.status.is_fresh)
        self.authority.stall()
        self.addCleanup(self.authority.go_on)
        self.until("stale", lambda: is_stale(verifier, token))
        self.assertTrue(verifier.is_ready)
        self.assertFalse(verifier.is_fresh or verifier.status.is_fresh)
        with self.assertLogs("tessera", "WARNING") as logged:
            self.until("told", lambda: any("interrupted" in line for line in logged.output))
            self.authority.go_on()
            self.until("fresh again", lambda: verifier.is_fresh)
            self.until("told", lambda: any("are followed after" in line for line in logged.output))

    def test_a_service_sees_its_own_revocations(self) -> None:
        verifier = self.ready_verifier(staleness_bound=60)
        for _ in range(5):
            issued = self.issue()
            self.assertTrue(verifier.applied(self.revoke(session_id=issued.session_id).cursor))
            self.assertEqual(reason(verifier, issued.tokens.access_token), tessera.DenyReason.REVOKED)
        cursor = self.revoke(session_id=self.issue().session_id).cursor
        decoded = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        decoded[24] += 1
        ahead = base64.urlsafe_b64encode(decoded).decode().rstrip("=")
        self.assertFalse(verifier.applied(ahead, timeout=0.05), "that place has not come yet")
        decoded[1] ^= 1
        with self.assertRaises(tessera.OtherLogError):
            verifier.applied(base64.urlsafe_b64encode(decoded).decode().rstrip("="))
        for wrong in ("", "x", cursor[:-1], cursor + "="):
            with self.assertRaises(tessera.ConfigurationError):
                verifier.applied(wrong)

    def test_what_is_closed_allows_nothing(self) -> None:
        verifier, token = self.ready_verifier(staleness_bound=60), self.issue().tokens.access_token
        self.assertIsInstance(verifier.verify(token), tessera.Allow)
        verifier.close()
        modes: list[tessera.Mode] = [tessera.FailClosed(), tessera.Introspect(), tessera.FailOpen(86_400)]
        for mode in modes:
            self.assertEqual(verifier.verify(token, None, mode), tessera.Stale(max(60, getattr(mode, "max", 0)), None))
            decision = asyncio.run(verifier.verify_async(token, None, mode))
            self.assertIsInstance(decision, tessera.Stale)
        self.assertEqual(reason(verifier, token + "A"), tessera.DenyReason.MALFORMED)
        self.assertFalse(verifier.is_fresh or verifier.status.is_fresh or verifier.wait_ready())
        cursor = self.revoke(session_id=self.issue().session_id).cursor
        for wait in (verifier.ready, lambda: verifier.applied(cursor)):
            started_at = time.monotonic()
            with self.assertRaises(tessera.ClosedError):
                wait()
            self.assertLess(time.monotonic() - started_at, PATIENCE / 2)
        verifier.close()

    def test_closing_wakes_who_waits(self) -> None:
        verifier = self.start_verifier(tessera.Connection("http://127.0.0.1:1", "tsk_x"), staleness_bound=60)
        seen: list[type[Exception]] = []

        def wait() -> None:
            try:
                verifier.ready(PATIENCE)
            except tessera.TesseraError as error:
                seen.append(type(error))

        with self.assertLogs("tessera", "WARNING") as logged:
            self.until("a warning", lambda: logged.output)
        waiting = threading.Thread(target=wait)
        waiting.start()
        verifier.close()
        waiting.join(PATIENCE / 2)
        self.assertEqual(seen, [tessera.ClosedError])

    def test_who_waits_is_woken(self) -> None:
        verifier = self.ready_verifier(staleness_bound=60)
        seen: list[bool] = []
        issued = self.issue()
        before = self.revoke(session_id=issued.session_id).cursor
        waiting = threading.Thread(target=lambda: seen.append(verifier.applied(before)))
        waiting.start()
        waiting.join(PATIENCE)
        self.assertEqual(seen, [True])


class Sampled(unittest.TestCase):
    def test_a_failure_is_told_at_once_then_once_a_minute_and_its_end(self) -> None:
        now = 0.0
        log = problems.ProblemLog("it failed", "it works")
        with mock.patch.object(problems.time, "monotonic", lambda: now), self.assertLogs("tessera") as logged:
            for now in (0.0, 1.0, 59.0, 60.0, 61.0):
                log.failed(f"at {now:.0f}")
            now = 62.0
            log.worked()
            log.worked()
            # One that follows soon is not logged, and neither is its end.
            log.failed("again")
            log.worked()
        said = [record.getMessage() for record in logged.records]
        last = "it failed: at 60 (and 2 times since the last warning)"
        self.assertEqual(said, ["it failed: at 0", last, "it works after 62.0 s"])
