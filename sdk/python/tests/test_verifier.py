"""A verifier against the real authority."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import tessera
from proxy import Proxy
from support import BOUND, EVER, PATIENCE, Authority, AuthorityCase, allows, is_stale, reason
from tessera import DenyReason
from tessera.v1 import revocation_service_pb2 as revocations_pb


def changed(text: str, at: int) -> str:
    """The text with another character at a place."""
    other = "B" if text[at] == "A" else "A"
    return text[:at] + other + text[at + 1 :] if at >= 0 else changed(text, len(text) + at)


class Judging(AuthorityCase):
    """What is allowed and what is not."""

    verifier: tessera.Verifier

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.verifier = tessera.Verifier(cls.authority.connection(), "production", "api", staleness_bound=5)
        cls.addClassCleanup(cls.verifier.close)
        if not cls.verifier.wait_ready(PATIENCE):
            raise AssertionError(cls.verifier.status)

    def test_a_good_token_says_who_it_is_for(self) -> None:
        issued = self.issue(labels=["stream:1"])
        decision = self.verifier.verify(issued.tokens.access_token, "videos:read")
        assert isinstance(decision, tessera.Allow), decision
        claims = decision.claims
        self.assertEqual((claims.subject, claims.audience, claims.realm), ("user:ann", "api", "production"))
        self.assertEqual((claims.client, claims.roles), ("client:dev", ("role:viewer",)))
        self.assertEqual(claims.scopes, frozenset(issued.tokens.scopes))
        self.assertEqual((claims.session_id, claims.labels), (issued.session_id, ("stream:1",)))
        self.assertEqual(claims.expires_at - claims.issued_at, timedelta(hours=1))
        self.assertEqual(reason(self.verifier, issued.tokens.access_token, "videos:write"), DenyReason.SCOPE_MISSING)

    def test_every_wrong_token_has_its_reason(self) -> None:
        token = self.issue().tokens.access_token
        body, _, footer = token.rpartition(".")
        payload = len("v4.public.") + 30
        for what, wrong, expected in [
            ("nothing", "", DenyReason.MALFORMED),
            ("garbage", "v4.public.garbage", DenyReason.MALFORMED),
            ("a lone surrogate", "v4.public.\ud800", DenyReason.MALFORMED),
            ("too long", "v4.public." + "A" * 24 * 1024, DenyReason.MALFORMED),
            ("another header", token.replace("v4.public", "v3.public"), DenyReason.MALFORMED),
            ("no footer", body, DenyReason.MALFORMED),
            ("another footer", f"{body}.{footer}AA", DenyReason.MALFORMED),
            ("padding", token + "=", DenyReason.MALFORMED),
            ("a changed signature", changed(token, len(body) - 5), DenyReason.BAD_SIGNATURE),
            ("a changed claim", changed(token, payload), None),
            ("of another audience", self.issue(audience="player").tokens.access_token, DenyReason.WRONG_AUDIENCE),
        ]:
            with self.subTest(what):
                denied = reason(self.verifier, wrong)
                self.assertIsNotNone(denied)
                self.assertIn(denied, [expected or denied])

    def test_what_is_no_text_is_no_token(self) -> None:
        wrong: list[Any] = [None, 1, b"v4.public.x", ["v4.public.x"], {}]
        for token in wrong:
            self.assertIs(reason(self.verifier, token), DenyReason.MALFORMED)
            decision = asyncio.run(self.verifier.verify_async(token, None, tessera.Introspect()))
            self.assertEqual(decision, tessera.Deny(DenyReason.MALFORMED))

    def test_a_token_of_another_realm_or_authority_is_refused(self) -> None:
        sandbox = self.authority.client("sandbox")
        self.addCleanup(sandbox.close)
        request = tessera.TokenRequest(audience="api", subject="user:ann", roles=("role:viewer",)).message()
        self.assertEqual(reason(self.verifier, sandbox.issue(request).tokens.access_token), DenyReason.WRONG_REALM)
        elsewhere = Authority()
        self.addCleanup(elsewhere.close)
        client = elsewhere.client()
        self.addCleanup(client.close)
        token = client.issue(request).tokens.access_token
        self.assertEqual(reason(self.verifier, token), DenyReason.UNKNOWN_KEY)

    def test_time_is_compared_with_leeway_on_both_sides(self) -> None:
        now = datetime.now(UTC)
        verifier = self.ready_verifier(staleness_bound=5, clock=lambda: now)
        token = self.issue().tokens.access_token
        decision = verifier.verify(token)
        assert isinstance(decision, tessera.Allow), decision
        claims = decision.claims
        for moment, expected in [
            (claims.not_before - timedelta(seconds=31), DenyReason.NOT_YET_VALID),
            (claims.not_before - timedelta(seconds=30), None),
            (claims.expires_at + timedelta(seconds=29), None),
            (claims.expires_at + timedelta(seconds=30), DenyReason.EXPIRED),
        ]:
            now = moment
            self.assertEqual(reason(verifier, token), expected, moment)

    def test_each_kind_of_revocation_turns_allow_into_deny(self) -> None:
        for what, others_too in [
            ("token", False),
            ("session_id", False),
            ("subject", False),
            ("label", False),
            ("client", True),
            ("whole_realm", True),
        ]:
            with self.subTest(what):
                other = self.issue("user:bob").tokens.access_token
                issued = self.issue(labels=["stream:1"])
                token = issued.tokens.access_token
                targets = {
                    "token": token,
                    "session_id": issued.session_id,
                    "subject": "user:ann",
                    "label": "stream:1",
                    "client": "client:dev",
                    "whole_realm": True,
                }
                # Twice, so that the second answer is about a token whose signature is remembered.
                self.assertTrue(allows(self.verifier, token) and allows(self.verifier, token))
                self.assertTrue(allows(self.verifier, other))
                self.revoke(**{what: targets[what]})
                self.until(what, lambda: reason(self.verifier, token) is DenyReason.REVOKED, within=5)
                self.assertEqual(reason(self.verifier, other), DenyReason.REVOKED if others_too else None)
                # What is issued after is good.
                self.assertTrue(allows(self.verifier, self.issue(labels=["stream:1"]).tokens.access_token))

    def test_a_revoked_signing_key_is_known_and_so_is_the_next(self) -> None:
        token = self.issue().tokens.access_token
        self.assertTrue(allows(self.verifier, token))
        kid = next(key.kid for key in self.client.list_keys("production") if key.status == 2)
        self.revoke(key_id=kid)
        self.until("the key", lambda: reason(self.verifier, token) in (DenyReason.REVOKED, DenyReason.UNKNOWN_KEY))
        token = self.issue().tokens.access_token
        self.until("the next key", lambda: allows(self.verifier, token), within=5)

    def test_what_was_revoked_before_a_verifier_starts_is_revoked(self) -> None:
        revoked, good = self.issue(), self.issue()
        self.revoke(session_id=revoked.session_id)
        verifier = self.ready_verifier(staleness_bound=5)
        self.assertEqual(reason(verifier, revoked.tokens.access_token), DenyReason.REVOKED)
        self.assertTrue(allows(verifier, good.tokens.access_token))

    def test_the_fence_hears_a_required_verifier(self) -> None:
        verifier = self.ready_verifier(staleness_bound=60, subscriber="python-1", required=True)
        for _ in range(5):
            issued = self.issue()
            revoked = self.revoke(session_id=issued.session_id)
            fence = self.client.await_propagation(revoked.cursor)
            self.assertEqual((fence.acknowledged, fence.failed_closed), (1, 0))
            self.assertEqual(reason(verifier, issued.tokens.access_token), DenyReason.REVOKED)

    def test_the_api_key_must_be_of_the_realm(self) -> None:
        if "realm" not in revocations_pb.Checkpoint.DESCRIPTOR.fields_by_name:
            self.skipTest("this proto does not say the realm")
        verifier = self.verifier_of("sandbox")
        self.until("told", lambda: "`sandbox`" in (verifier.status.problem or ""))
        self.assertFalse(verifier.status.is_ready)

    def test_keys_are_in_no_text_and_wrong_options_are_refused(self) -> None:
        connection = self.authority.connection()
        for shown in (repr(connection), repr(self.client), repr(self.verifier), str(self.verifier.status)):
            self.assertNotIn("tsk_", shown)
        with self.assertRaises(tessera.ConfigurationError) as refused:
            tessera.Connection("http://127.0.0.1:1", "secret")
        self.assertNotIn("secret", str(refused.exception))
        for options in ({"staleness_bound": 0.09}, {"required": True}, {"leeway": 61}, {"subscriber": "a b"}):
            with self.assertRaises(tessera.ConfigurationError):
                self.verifier_of(**options)


class Weather(AuthorityCase):
    """What a verifier answers when its authority is not there."""

    def test_nothing_is_allowed_before_the_first_snapshot(self) -> None:
        token = self.issue().tokens.access_token
        self.authority.stall()
        self.addCleanup(self.authority.go_on)
        verifier = self.verifier_of()
        self.until("it tried", lambda: verifier.status.problem)
        for mode in (tessera.FailClosed(), tessera.FailOpen(EVER)):
            self.assertEqual(verifier.verify(token, mode=mode).__class__, tessera.Stale)
        self.assertFalse(verifier.status.is_ready)
        self.authority.go_on()
        self.until("ready", lambda: allows(verifier, token))

    def test_a_stalled_authority_turns_allow_into_stale_and_back(self) -> None:
        token, doomed = self.issue().tokens.access_token, self.issue()
        verifier = self.ready_verifier()
        self.assertTrue(allows(verifier, token))
        self.authority.stall()
        self.addCleanup(self.authority.go_on)
        stalled_at = time.monotonic()
        self.until("stale", lambda: is_stale(verifier, token))
        # Its last ping was answered before the stall; the rest is this machine's scheduling.
        self.assertLess(time.monotonic() - stalled_at, 2 * BOUND)
        stale = verifier.verify(token)
        assert isinstance(stale, tessera.Stale) and stale.behind, stale
        self.assertGreater(stale.behind, BOUND)
        self.assertEqual(stale.bound, BOUND)
        # Per call: open up to a limit, and no further.
        self.assertIsInstance(verifier.verify(token, mode=tessera.FailOpen(EVER)), tessera.Allow)
        limit = BOUND + 0.001
        self.until("beyond the limit", lambda: (verifier.status.behind or 0) > limit)
        self.assertIsInstance(verifier.verify(token, mode=tessera.FailOpen(limit)), tessera.Stale)
        # A connection that stalled is replaced, so that going on is noticed whatever became of the first.
        self.until("it gave up", lambda: verifier.status.problem)
        self.authority.go_on()
        self.until("fresh again", lambda: allows(verifier, token))
        self.revoke(session_id=doomed.session_id)
        self.until("revoked", lambda: reason(verifier, doomed.tokens.access_token) is DenyReason.REVOKED, within=5)

    def test_a_connection_that_stalls_for_ever_is_replaced(self) -> None:
        proxy = Proxy(self.authority.address)
        self.addCleanup(proxy.close)
        connection = tessera.Connection(proxy.address, self.authority.connection().api_key)
        # Another client of the same address, whose connection stalls too.
        client = tessera.Client(connection)
        self.addCleanup(client.close)
        self.assertTrue(client.list_keys("production"))
        verifier = self.start_verifier(connection)
        self.assertTrue(verifier.wait_ready(PATIENCE), verifier.status)
        token = self.issue().tokens.access_token
        proxy.stall()
        self.until("stale", lambda: is_stale(verifier, token))
        # Long before keep-alive would find the connection dead.
        self.until("fresh again", lambda: allows(verifier, token), within=8)

    def test_a_killed_authority_comes_back_on_the_same_data(self) -> None:
        token, revoked = self.issue().tokens.access_token, self.issue()
        self.revoke(session_id=revoked.session_id)
        verifier = self.ready_verifier(calls=tessera.ClientOptions(deadline=0.2))
        entries = verifier.status.entries
        self.authority.kill()
        self.until("stale", lambda: is_stale(verifier, token))
        self.assertEqual(reason(verifier, revoked.tokens.access_token), DenyReason.REVOKED)
        asked = verifier.verify(token, mode=tessera.Introspect())
        self.assertIsInstance(asked, tessera.Stale, "nobody answers")
        self.authority.restart()
        self.until("fresh again", lambda: allows(verifier, token))
        self.assertEqual(verifier.status.entries, entries)
        self.until("no problem is left", lambda: verifier.status.problem is None)

    def test_a_scope_that_policy_takes_is_gone_and_the_others_stay(self) -> None:
        verifier = self.ready_verifier(staleness_bound=5)
        token = self.issue(scopes=["videos:read", "analytics:read"]).tokens.access_token
        self.assertTrue(allows(verifier, token, "analytics:read"))
        self.authority.take_rule("p, role:viewer, *, analytics")
        self.until("taken", lambda: reason(verifier, token, "analytics:read") is DenyReason.SCOPE_TAKEN)
        decision = verifier.verify(token, "videos:read")
        assert isinstance(decision, tessera.Allow), decision
        self.assertEqual(decision.claims.scopes, frozenset({"videos:read"}))
