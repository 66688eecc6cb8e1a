"""A TCP proxy whose connections can stall while they stay open."""

from __future__ import annotations

import socket
import threading


class Proxy:
    """Forwards to `address`; `stall` stops what is connected, and not what connects later."""

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self._stalled = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "http://127.0.0.1:%d" % self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self) -> None:
        """Connections of now forward nothing more."""
        stalled, self._stalled = self._stalled, threading.Event()
        stalled.set()

    def close(self) -> None:
        # What is accepted in another thread ends with the listener's shutdown, and not with its close.
        self._listener.shutdown(socket.SHUT_RDWR)
        for opened in (self._listener, *self._sockets):
            opened.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
            except OSError:
                return
            self._sockets += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=_forward, args=(source, target, self._stalled), daemon=True).start()


def _forward(source: socket.socket, target: socket.socket, stalled: threading.Event) -> None:
    try:
        while data := source.recv(65536):
            if stalled.is_set():
                return
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
