"""What the video company's clients take for its API: one address for signing in and for videos.

Signing in is the authority's (AUTHORITY of the environment), passed on as it came. Videos are those of the
example service (VIDEOS), which verifies the access token; only the bodies are put into the company's shape.
With CERTIFICATE and PRIVATE_KEY it speaks TLS, which the uploader insists on. Prints its port.
"""

import base64
import json
import os
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.request import Request, urlopen

AUTHORITY = os.environ["AUTHORITY"]
VIDEOS = os.environ["VIDEOS"]
PASSED_BACK = ["content-type", "retry-after", "www-authenticate"]


def call(method, url, headers, body=None):
    """Calls, and gives status, headers and body whatever they are."""
    try:
        with urlopen(Request(url, data=body, headers=headers, method=method), timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except HTTPError as error:
        return error.code, error.headers, error.read()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path.startswith("/auth/"):
            # urllib would add a content type of its own.
            headers = {"content-type": "application/octet-stream", **self.sent()}
            self.answer(*call("POST", AUTHORITY + self.path, headers, body))
        elif self.path.startswith("/videos/") and self.path.endswith("/source"):
            name = self.path.split("/")[2]
            status, headers, _ = self.videos("PUT", f"/videos/{name}")
            self.answer(status, headers, json.dumps({"videoId": name, "assets": {}}).encode())
        else:
            self.answer(404, {}, b"{}")

    def do_GET(self):
        status, headers, _ = self.videos("GET", "/videos")
        page = {"currentPage": 1, "pageSize": 25, "pagesTotal": 1, "itemsTotal": 0, "currentPageItems": 0, "links": []}
        self.answer(status, headers, json.dumps({"data": [], "pagination": page}).encode())

    def videos(self, method, path):
        """Asks the service with the caller's credential. The newest client shows its API key at each call:
        it is traded for a token here, as the company does it behind its endpoint."""
        credential = self.headers.get("authorization", "")
        if credential.startswith("Basic "):
            api_key = base64.b64decode(credential.removeprefix("Basic ")).decode().removesuffix(":")
            body = json.dumps({"apiKey": api_key}).encode()
            status, headers, answer = call("POST", AUTHORITY + "/auth/api-key", {}, body)
            if status != 200:
                return status, headers, answer
            credential = "Bearer " + json.loads(answer)["access_token"]
        return call(method, VIDEOS + path, {"authorization": credential})

    def sent(self):
        """The headers as they came, but for those of the connection."""
        own = {"host", "connection", "content-length", "accept-encoding"}
        return {name: value for name, value in self.headers.items() if name.lower() not in own}

    def answer(self, status, headers, body):
        self.send_response(status)
        kinds = {"content-type": "application/json"} if status < 400 else {}
        for name in PASSED_BACK:
            if headers.get(name):
                kinds[name] = headers[name]
        if self.path.startswith("/videos"):
            kinds["content-type"] = "application/json"
        for name, value in kinds.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
if "CERTIFICATE" in os.environ:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.environ["CERTIFICATE"], os.environ["PRIVATE_KEY"])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
