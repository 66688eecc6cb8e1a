"""Requirements that can't be right: each is refused when it is made, and not when the first request comes."""

from __future__ import annotations

import asyncio
import math
import unittest
from collections.abc import Callable
from typing import Any

import tessera
from tessera import asgi, grpc_aio, grpc_hooks
from tessera.fastapi import Protect

LIST = "/videos.v1.Videos/List"


class Refused(unittest.TestCase):
    def setUp(self) -> None:
        # It is never asked, and nobody answers it.
        connection = tessera.Connection("http://127.0.0.1:1", "tsk_production_x")
        self.verifier: Any = tessera.Verifier(connection, "production", "api")
        self.addCleanup(self.verifier.close)
        self.requires: Any = Protect(self.verifier)

    def refused(self, made: Callable[[], object], *named: str) -> None:
        """What is made is refused, and the error names what is wrong."""
        with self.subTest(named), self.assertRaises(tessera.ConfigurationError) as refused:
            made()
        for name in named:
            self.assertIn(name, str(refused.exception))

    def test_a_scope_that_no_token_can_have(self) -> None:
        # Of these, a token has none; of the last, nobody knows which one is meant.
        wrong: list[Any] = ["videos", "", "videos:", ":read", "videos:*", "*", "videos:read videos:write", "a//b:c", "a b:c"]
        wrong += [("a:b", "c:d"), ["a:b"], {"a:b"}, 1, True, b"a:b"]
        for scope in wrong:
            required: Any = {LIST: scope}
            self.refused(lambda: tessera.Require(scope), repr(scope), "resource:action")
            self.refused(lambda: self.requires(scope), repr(scope), "resource:action")
            for hooks in (grpc_hooks, grpc_aio):
                self.refused(lambda: hooks.ServerInterceptor(self.verifier, required), LIST, repr(scope))
        for right in ("videos:read", "videos/v1/a:b:play", "tessera/tokens:issue", "videos/{id}:play"):
            tessera.Require(right)
            self.requires(right)

    def test_any_good_token_is_said_and_not_left_out(self) -> None:
        require: Any = tessera.Require
        for left_out in (lambda: require(), lambda: require(mode=tessera.FailClosed()), lambda: self.requires()):
            with self.assertRaises(TypeError):
                left_out()
        for misspelled in (lambda: require(scop="a:b"), lambda: self.requires(scopes="a:b")):
            with self.assertRaises(TypeError):
                misspelled()
        self.assertIsNone(tessera.Require(None).scope)
        self.requires(None)
        grpc_hooks.ServerInterceptor(self.verifier, {LIST: None})

    def test_times_that_are_no_numbers(self) -> None:
        connection = tessera.Connection("http://127.0.0.1:1", "tsk_production_x")
        verifier: Any = tessera.Verifier
        # As a variable of the environment has them.
        self.refused(lambda: verifier(connection, "production", "api", staleness_bound="5"), "staleness bound", "'5'")
        self.refused(lambda: verifier(connection, "production", "api", leeway=None), "leeway", "None")

    def test_claims_where_no_token_was_needed(self) -> None:
        self.refused(grpc_hooks.claims_of, "the method needs no token")

    def test_what_says_nothing_to_a_middleware(self) -> None:
        wrong: list[Any] = [None, "videos:read", tessera.Require, []]
        for require in wrong:
            self.refused(lambda: asgi.TokenMiddleware(_application, self.verifier, require), repr(require))
        self.refused(
            lambda: asgi.TokenMiddleware(_application, self.verifier, tessera.Require("videos/{id}:play")), "{id}", "path="
        )
        # What a function says is known when a request comes.
        by_request = asgi.TokenMiddleware(_application, self.verifier, lambda _: tessera.Require("videos/{id}:play"))
        request = {"type": "http", "path": "/", "headers": []}
        self.refused(lambda: asyncio.run(by_request(request, _nothing, _nothing)), "{id}", "path=")
        self.refused(lambda: tessera.Require(None, path="/videos/{id}"), "/videos/{id}")
        path: Any = 1
        self.refused(lambda: tessera.Require("videos:read", path=path), "1")

    def test_a_table_of_methods_that_matches_nothing(self) -> None:
        play = "videos/{id}:play"
        cases: list[tuple[Any, Any, tuple[str, ...]]] = [
            ({LIST: play}, (), (LIST, play, "require_scope")),
            ({LIST: tessera.Require(play, path="/videos/{id}")}, (), (LIST, "/videos/{id}")),
            ({LIST[1:]: "a:b"}, (), (LIST[1:], LIST)),
            ({"List": "a:b"}, (), ("List", LIST)),
            ({LIST + "/": "a:b"}, (), (LIST + "/",)),
            ({}, LIST, (LIST, "public")),
            ({}, None, ("public",)),
            ({}, [LIST[1:]], (LIST[1:],)),
            ([LIST], (), ("required",)),
            ({LIST: "a:b"}, [LIST], (LIST, "public")),
        ]
        for required, public, named in cases:
            for hooks in (grpc_hooks, grpc_aio):
                self.refused(lambda: hooks.ServerInterceptor(self.verifier, required, public=public), *named)

    def test_what_is_no_mode(self) -> None:
        required: Any = {LIST: "a:b"}
        wrong: list[Any] = ["introspect", tessera.Introspect, None, 60, True]
        for mode in wrong:
            self.refused(lambda: tessera.Require("a:b", mode), repr(mode), "Introspect()")
            self.refused(lambda: Protect(self.verifier, mode), repr(mode))
            self.refused(lambda: grpc_hooks.ServerInterceptor(self.verifier, required, mode=mode), repr(mode))
            self.refused(lambda: self.verifier.verify("x", None, mode), repr(mode))
            self.refused(lambda: asyncio.run(self.verifier.verify_async("x", None, mode)), repr(mode))
        most: list[Any] = [-1, -0.1, math.nan, "60", None, True]
        for longest in most:
            self.refused(lambda: tessera.FailOpen(longest), repr(longest))
        tessera.FailOpen(0)

    def test_a_question_about_no_scope(self) -> None:
        wrong: list[Any] = [["a:b"], ("a:b",), 1, True]
        for scope in wrong:
            self.refused(lambda: self.verifier.verify("x", scope), repr(scope), "None")
            self.refused(lambda: asyncio.run(self.verifier.verify_async("x", scope)), repr(scope))


async def _application(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None: ...


async def _nothing(*_: Any) -> Any: ...
