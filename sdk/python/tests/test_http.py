"""Routes of FastAPI that need a token, and calls of httpx and requests that send one, over a real server."""

# No `from __future__ import annotations`: FastAPI reads the annotations of the routes below, which name what is local.

import asyncio
import socket
import threading
from typing import Annotated, Any
from unittest import mock

import fastapi
import httpx
import requests
import uvicorn

import tessera
import tessera.fastapi
import tessera.httpx
import tessera.requests
from support import PATIENCE, Served, is_stale
from tessera import token_source


class Http(Served):
    def setUp(self) -> None:
        super().setUp()
        requires = tessera.fastapi.Protect(self.verifier)
        app = fastapi.FastAPI()
        self.bodies: list[bytes] = []

        @app.get("/videos")
        async def videos(claims: Annotated[tessera.Claims, fastapi.Depends(requires("videos:read"))]) -> str:
            return claims.subject

        @app.post("/videos")
        async def upload(
            request: fastapi.Request, claims: Annotated[tessera.Claims, fastapi.Depends(requires(None))]
        ) -> str:
            self.bodies.append(await request.body())
            return claims.subject

        @app.put("/videos", dependencies=[fastapi.Depends(requires("videos:write"))])
        async def write() -> None: ...

        @app.get("/{kind}/{id}/play")
        async def play(kind: str, claims: Annotated[tessera.Claims, fastapi.Depends(requires("{kind}:read"))]) -> str:
            return f"{kind} for {claims.subject}"

        @app.get("/health")
        async def health() -> str:
            return "good"

        @app.get("/elsewhere")
        async def elsewhere() -> fastapi.responses.RedirectResponse:
            return fastapi.responses.RedirectResponse(self.url.replace("127.0.0.1", "localhost") + "/videos")

        @app.websocket("/live")
        async def live(
            socket: fastapi.WebSocket, claims: Annotated[tessera.Claims, fastapi.Depends(requires("videos:read"))]
        ) -> None: ...

        self.app = app
        self.url = self.serve(app)

    def serve(self, app: fastapi.FastAPI) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        serving = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        serving.start()

        def stop() -> None:
            server.should_exit = True
            serving.join(PATIENCE)
            listener.close()

        self.addCleanup(stop)
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    def get(self, token: str | None = None, path: str = "/videos", method: str = "GET") -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} if token is not None else {}
        return httpx.request(method, self.url + path, headers=headers)

    def test_a_scope_has_its_parameter_from_the_route(self) -> None:
        token = self.issue().tokens.access_token
        played = self.get(token, "/videos/1/play")
        self.assertEqual((played.status_code, played.json()), (200, "videos for user:ann"))
        other = self.get(token, "/films/1/play")
        challenge = 'Bearer realm="tessera", error="insufficient_scope", error_description="the access token lacks a scope", scope="films:read"'
        self.assertEqual((other.status_code, other.headers["www-authenticate"]), (403, challenge))
        self.assertEqual(self.get(token, "/a%20b/1/play").status_code, 403)

    def test_a_route_needs_a_good_token_with_its_scope(self) -> None:
        self.assertEqual(self.get(self.token).json(), "user:ann")
        self.assertEqual(self.get(path="/health").status_code, 200)
        missing = self.get()
        self.assertEqual((missing.status_code, missing.headers["www-authenticate"]), (401, 'Bearer realm="tessera"'))
        bad = self.get(self.token + "A")
        self.assertEqual((bad.status_code, bad.headers["www-authenticate"]), (401, 'Bearer realm="tessera", error="invalid_token", error_description="a good access token is needed"'))
        no_scope = self.get(self.token, method="PUT")
        challenge = 'Bearer realm="tessera", error="insufficient_scope", error_description="the access token lacks a scope", scope="videos:write"'
        self.assertEqual((no_scope.status_code, no_scope.headers["www-authenticate"]), (403, challenge))
        twice = [("authorization", f"Bearer {self.token}")] * 2
        self.assertEqual(httpx.get(self.url + "/videos", headers=twice).status_code, 401)
        schemes = self.app.openapi()["components"]["securitySchemes"]
        self.assertEqual(schemes, {"Tessera": {"type": "http", "scheme": "bearer", "bearerFormat": "PASETO"}})
        self.authority.stall()
        self.addCleanup(self.authority.go_on)
        self.until("stale", lambda: is_stale(self.verifier, self.token))
        stale = self.get(self.token)
        self.assertEqual((stale.status_code, stale.headers["retry-after"]), (503, "1"))

    def test_a_websocket_needs_one_too(self) -> None:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "websocket", "path": "/live", "headers": [], "query_string": b"", "subprotocols": []}
        asyncio.run(self.app(scope, receive, send))
        self.assertEqual((sent[0]["type"], sent[0]["code"]), ("websocket.close", 1008))

    def test_httpx_sends_tokens_and_repeats_a_refused_request_once(self) -> None:
        with mock.patch.object(token_source, "_INVALIDATION_PAUSE", 0.0):
            with httpx.Client(auth=tessera.httpx.TokenAuth(self.source)) as client:
                self.assertEqual(client.get(self.url + "/videos").json(), "user:bob")
                self.revoke_bob()
                self.assertEqual(client.post(self.url + "/videos", content=b"once more").json(), "user:bob")
                self.revoke_bob()
                streamed = client.post(self.url + "/videos", content=iter([b"gone"]))
                self.assertEqual(streamed.status_code, 401, "what was streamed can't be sent again")
            self.assertEqual(self.bodies, [b"once more"])

            async def asynchronous() -> None:
                async with httpx.AsyncClient(auth=tessera.httpx.TokenAuth(self.source)) as client:
                    self.assertEqual((await client.get(self.url + "/videos")).json(), "user:bob")
                    await asyncio.to_thread(self.revoke_bob)
                    self.assertEqual((await client.get(self.url + "/videos")).json(), "user:bob")

            asyncio.run(asynchronous())

    def test_requests_sends_tokens_and_repeats_a_refused_request_once(self) -> None:
        with mock.patch.object(token_source, "_INVALIDATION_PAUSE", 0.0), requests.Session() as session:
            session.auth = tessera.requests.TokenAuth(self.source)
            self.assertEqual(session.get(self.url + "/videos").json(), "user:bob")
            self.revoke_bob()
            answer = session.post(self.url + "/videos", data=b"once more")
            self.assertEqual((answer.json(), len(answer.history)), ("user:bob", 1))
            self.revoke_bob()
            streamed = session.post(self.url + "/videos", data=iter([b"gone"]))
            self.assertEqual(streamed.status_code, 401, "what was streamed can't be sent again")
            self.assertEqual(self.bodies, [b"once more"])
            # Another host gets no token, whatever it answers.
            elsewhere = session.get(self.url + "/elsewhere")
            self.assertEqual(elsewhere.status_code, 401)
            self.assertNotIn("authorization", elsewhere.request.headers)

    def test_a_service_that_always_refuses_is_not_asked_again_and_again(self) -> None:
        client = httpx.Client(auth=tessera.httpx.TokenAuth(self.source))
        self.addCleanup(client.close)
        with mock.patch.object(self.verifier, "verify_async", side_effect=self._denied) as asked:
            for _ in range(5):
                self.assertEqual(client.get(self.url + "/videos").status_code, 401)
        self.assertEqual(asked.call_count, 6, "repeated once within the pause")

    async def _denied(self, *_: object) -> tessera.Decision:
        return tessera.Deny(tessera.DenyReason.REVOKED)
