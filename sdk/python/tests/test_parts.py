"""The parts of a verifier that no authority would show: forgeries, odd claims and odd events."""

from __future__ import annotations

import json
import unittest
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from google.protobuf.timestamp_pb2 import Timestamp

from fake import SigningKey
from tessera import claims, paseto, path_scope, wire
from tessera.connection import Connection
from tessera.errors import ConfigurationError
from tessera.revocations import Kind, Revocation, Revocations
from tessera.session import End, Following, Session
from tessera.v1 import revocation_service_pb2 as pb
from tessera.view import Options, View

ID = "0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b"
T0 = datetime(2026, 1, 1, tzinfo=UTC)
SAID: dict[str, Any] = {
    "iss": "https://auth.example.org/production",
    "sub": "user:ann",
    "aud": "api",
    "jti": ID,
    "iat": "2026-01-01T00:00:00Z",
    "nbf": "2026-01-01T00:00:00Z",
    "exp": "2026-01-01T01:00:00Z",
    "scope": "videos:read videos:write",
    "roles": [],
    "realm": "production",
    "client_id": "client:app",
    "sid": ID,
    "gen": 1,
    "rev": 7,
    "pol": "0123456789abcdef",
}


def said(**changes: Any) -> bytes:
    return json.dumps({**SAID, **changes}).encode()


def decoded(**changes: Any) -> claims.Claims:
    decoded = claims.decode(said(**changes))
    assert decoded
    return decoded


class Claims(unittest.TestCase):
    def test_claims_are_exactly_ours(self) -> None:
        self.assertEqual(decoded(labels=["stream:1"]).labels, ("stream:1",))
        good = said().decode()
        for what, payload in [
            ("unknown", said(admin=True)),
            ("missing", said().replace(b'"rev": 7, ', b"")),
            ("twice", (good[:-1] + ', "sub": "user:bob"}').encode()),
            ("a truth for a number", said(rev=True)),
            ("a fraction", said(rev=7.0)),
            ("negative", said(rev=-1)),
            ("a text for a list", said(roles="role:admin")),
            ("a number in a list", said(labels=[1])),
            ("a number for a time", said(exp=1767225600)),
            ("a time without zone", said(exp="2026-01-01T01:00:00")),
            ("a short time", said(exp="20260101")),
            ("an id of another form", said(jti=ID.upper())),
            ("a list", b"[]"),
            ("no text", b"\xff"),
            ("deep", b"[" * 3000),
        ]:
            with self.subTest(what):
                self.assertIsNone(claims.decode(payload))


class Paseto(unittest.TestCase):
    def setUp(self) -> None:
        self.key = SigningKey()
        parsed = paseto.public_key(self.key.paserk)
        assert parsed
        self.public = parsed[1]

    def verifies(self, token: str) -> bool:
        parts = paseto.take_apart(token)
        return parts is not None and parts.kid == self.key.kid and paseto.is_signed_by(parts, self.public)

    def test_only_our_form_verifies(self) -> None:
        kid, said = self.key.kid, b"{}"
        self.assertTrue(self.verifies(self.key.sign(said)))
        for footer in (f'{{"kid": "{kid}"}}', f'{{"kid":"{kid}","a":1}}', kid, "", f'{{"kid":"k4.lid.{kid[7:]}"}}'):
            self.assertFalse(self.verifies(self.key.sign(said, footer.encode())), footer)
        self.assertFalse(self.verifies(self.key.sign(said, header="v3.public.")))
        self.assertFalse(self.verifies(self.key.sign(said, assertion=b"checkpoint")))
        self.assertFalse(self.verifies("v4.public." + "A" * 90))

    def test_a_key_is_read_only_where_it_is_one(self) -> None:
        paserk = self.key.paserk
        for wrong in ("", "k4.public.AAAA", paserk.replace("k4", "k3"), paserk + "=", paserk[:-1]):
            self.assertIsNone(paseto.public_key(wrong), wrong)


class Events(unittest.TestCase):
    @staticmethod
    def event(**fields: Any) -> pb.RevocationEvent:
        event: dict[str, Any] = {"sequence": 9, "realm": "production", "kind": pb.EVENT_KIND_SESSION_REVOKED}
        target: dict[str, Any] = {} if "kind" in fields else {"session_id": ID}
        return pb.RevocationEvent(**{"relevant_until": Timestamp(), **event, **target, **fields})

    def test_what_is_not_understood_is_not_passed_over(self) -> None:
        understood = wire.understand(self.event(), "production")
        self.assertTrue(understood and understood.revocation and not understood.changes_keys)
        wrong: dict[str, dict[str, Any]] = {
            "an unknown kind": {"kind": 99},
            "no kind": {"kind": 0},
            "no target": {"kind": pb.EVENT_KIND_SUBJECT_REVOKED},
            "another target": {"kind": pb.EVENT_KIND_SUBJECT_REVOKED, "client": "client:app"},
            "no session": {"session_id": "x"},
            "no end": {"relevant_until": None},
            "nothing lost": {"kind": pb.EVENT_KIND_SCOPES_NARROWED, "session_id": ID},
            "another realm": {"realm": "sandbox"},
        }
        for what, fields in wrong.items():
            with self.subTest(what):
                self.assertIsNone(wire.understand(self.event(**fields), "production"))

    def test_every_kind_of_the_contract_is_known(self) -> None:
        targets: dict[int, dict[str, Any]] = {1: {"jti": ID}, 4: {"subject": "s"}, 5: {"client": "c"}}
        targets |= {6: {"label": "b"}, 7: {"whole_realm": True}, 10: {"key_id": "k4.pid.x"}}
        changing_keys = 0
        for kind in pb.EventKind.values()[1:]:
            fields: dict[str, Any] = {"lost_scopes": ["a:b"], **targets.get(kind, {"session_id": ID})}
            understood = wire.understand(self.event(kind=kind, **fields), "production")
            assert understood, pb.EventKind.Name(kind)
            changing_keys += understood.changes_keys
        self.assertEqual(changing_keys, 3)

    def test_the_realm_of_a_stream_is_checked_where_it_is_said(self) -> None:
        options = Options("production", "api", 1, timedelta(0), 0, lambda: T0)
        following = Following(View(options), Connection("http://127.0.0.1:1", "tsk_x"), "", False)
        session = Session(following)
        self.addCleanup(session.stop)
        check = cast(Any, session)._check_realm
        for said in (SimpleNamespace(), SimpleNamespace(realm=""), SimpleNamespace(realm="production")):
            check(said)
        with self.assertRaises(End) as end:
            check(SimpleNamespace(realm="sandbox"))
        self.assertTrue("`sandbox`" in end.exception.problem and end.exception.starts_again)


class Revoked(unittest.TestCase):
    def setUp(self) -> None:
        self.revocations = Revocations()

    def apply(self, kind: Kind, name: str, sequence: int, until: int, *lost: str) -> None:
        self.revocations.apply(Revocation((kind, name), sequence, T0 + timedelta(seconds=until), lost))

    def test_what_was_issued_before_ends_and_what_is_issued_after_does_not(self) -> None:
        self.apply(Kind.SUBJECT, "user:ann", 8, 100)
        self.assertTrue(self.revocations.revokes(decoded(rev=7), "k"))
        self.assertFalse(self.revocations.revokes(decoded(rev=8), "k"))
        self.assertFalse(self.revocations.revokes(decoded(sub="user:bob"), "k"))

    def test_losses_add_up_and_concern_older_tokens_of_the_session_only(self) -> None:
        self.apply(Kind.NARROWED, ID, 5, 100, "videos:read")
        self.apply(Kind.NARROWED, ID, 9, 90, "videos:write")
        self.apply(Kind.NARROWED, ID, 5, 100, "videos:read")
        taken = [sorted(self.revocations.taken(decoded(rev=rev))) for rev in (4, 5, 9)]
        self.assertEqual(taken, [["videos:read", "videos:write"], ["videos:write"], []])
        self.revocations.forget_before(T0 + timedelta(seconds=95))
        self.assertTrue(self.revocations.taken(decoded(rev=4)))
        self.revocations.forget_before(T0 + timedelta(seconds=101))
        self.assertFalse(self.revocations.taken(decoded(rev=4)) or len(self.revocations))

    def test_a_later_event_replaces_the_earlier_and_its_end(self) -> None:
        self.apply(Kind.SUBJECT, "user:ann", 8, 100)
        self.apply(Kind.SUBJECT, "user:ann", 9, 200)
        self.apply(Kind.SUBJECT, "user:ann", 8, 100)
        self.revocations.forget_before(T0 + timedelta(seconds=150))
        self.assertTrue(self.revocations.revokes(decoded(rev=8), "k"))
        self.revocations.forget_before(T0 + timedelta(seconds=201))
        self.assertEqual(len(self.revocations), 0)


class Paths(unittest.TestCase):
    def test_a_path_is_matched_whatever_its_spelling(self) -> None:
        for pattern, path, found in [
            ("/videos/{id}", "/videos/v1?a=/../b", {"id": "v1"}),
            ("/videos/{id}", "/%76ideos/v%31/", {"id": "v1"}),
            ("/", "/", {}),
            ("/*", "/a/b", {}),
            ("/files/*", "/files", {}),
            ("/100%/{id}".replace("%", "x"), "/100x/a%25", {"id": "a%"}),
        ]:
            self.assertEqual(path_scope.PathPattern(pattern).parameters(path), found, path)

    def test_what_services_may_read_differently_is_refused(self) -> None:
        unclear = "* videos http://h/v // //videos /videos//v1 /videos// /videos/. /videos/../a /v/%2e%2E/a /v%2fv1"
        unclear += " /v%5Cv1 /v\\v1 /v;a=b/v1 /v/..;/a /v/%3b /v#a /v/% /v/%2 /v/%zz /v/%252e /v/%ff /v/%00 /v/%0a /vidéos"
        for path in [*unclear.split(" "), "", "/a b", "/" + "a" * 9000]:
            with self.assertRaises(path_scope.PathError, msg=path):
                path_scope.called(path)

    def test_what_would_match_something_else_is_no_pattern(self) -> None:
        wrong = "videos /videos/ // /a//b /*/ /a* /*/a /a/{id /{} /{a}b /{a}/{a} /. /a/.. /a%20b /a?b /a#b /a;b /{a-b}"
        for pattern in [*wrong.split(" "), ""]:
            with self.assertRaises(ConfigurationError, msg=pattern):
                path_scope.PathPattern(pattern)
        for scope in ("videos", "videos/{id}", "videos/{id}:", "videos/a{id}:play", "videos:{action}", "videos/{}:x", ""):
            with self.assertRaises(ConfigurationError, msg=scope):
                path_scope.parameters_of(scope)

    def test_a_value_is_one_segment_of_a_scope(self) -> None:
        self.assertEqual(path_scope.fill("videos/{id}:play", {"id": "a:b"}), "videos/a:b:play")
        for value in ("", "a/b", "..", "*", "a b", "ü", "{id}"):
            with self.assertRaises(path_scope.PathError, msg=value):
                path_scope.fill("videos/{id}:play", {"id": value})
