"""Continuing in the child of `os.fork`, for servers that load an application before they start their workers.

Threads do not exist in the child, locks that they held are held forever, and gRPC crashes or hangs there if it was
running at the fork. So before a fork, everything here that uses gRPC ends its connections, and waits until gRPC has
ended its threads; afterwards both processes connect again. Knowledge such as revocations and their age stays.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from pathlib import Path
from typing import Protocol

import grpc

_log = logging.getLogger("tessera")
#: How long a fork waits at most for calls and streams to end, in seconds. It takes milliseconds.
_PAUSE_MAX = 5.0
#: How long a fork waits at most for gRPC's own threads. Those of other channels of the application do not end.
_GRPC_MAX = 0.25
#: The names of gRPC's threads.
_GRPC_THREADS = frozenset(("event_engine", "grpc_global_tim", "grpc_shutdown", "lifeguard", "timer_manager"))
_TASKS = Path("/proc/self/task")


class Forkable(Protocol):
    """An object with threads, locks or connections."""

    def pause(self) -> None:
        """Before a fork: begins to end every connection, and does not wait."""

    def wait_paused(self, ends_at: float) -> bool:
        """Before a fork: waits until no connection is left; False if one is left at this monotonic moment."""

    def resume(self, is_child: bool) -> None:
        """After a fork, or at the beginning: starts. In a child no other thread exists, and no lock can be trusted."""


class _Registry:
    """The objects that survive a fork."""

    def __init__(self) -> None:
        self._things: weakref.WeakSet[Forkable] = weakref.WeakSet()
        self._paused: list[Forkable] = []
        self._is_registered = False
        #: Held during a fork.
        self._lock = threading.RLock()

    def start(self, thing: Forkable) -> None:
        """Starts something, now and after each fork."""
        with self._lock:
            self._register()
            self._things.add(thing)
            thing.resume(is_child=False)

    def _register(self) -> None:
        if self._is_registered or not hasattr(os, "register_at_fork"):
            return
        # If GRPC_ENABLE_FORK_SUPPORT is set, gRPC registers itself with its first channel. The last registered function
        # runs first before a fork: after gRPC's own preparation no channel could be closed.
        grpc.insecure_channel("127.0.0.1:1").close()
        os.register_at_fork(
            before=self._before, after_in_parent=self._after_in_parent, after_in_child=self._after_in_child
        )
        self._is_registered = True

    def _before(self) -> None:
        self._lock.acquire()
        self._paused = list(self._things)
        if not self._paused:
            return
        ends_at = time.monotonic() + _PAUSE_MAX
        # In a separate thread, so that the fork does not wait forever for the closing of a channel.
        pausing = threading.Thread(target=self._pause, name="tessera-fork", daemon=True)
        pausing.start()
        pausing.join(_PAUSE_MAX)
        if pausing.is_alive() or not all([thing.wait_paused(ends_at) for thing in self._paused]):
            _log.warning("a fork did not wait longer for connections to end: the child may not be able to connect")
        _wait_for_grpc()

    def _pause(self) -> None:
        for thing in self._paused:
            thing.pause()

    def _after_in_parent(self) -> None:
        self._resume(is_child=False)
        self._lock.release()

    def _after_in_child(self) -> None:
        self._lock = threading.RLock()
        self._resume(is_child=True)

    def _resume(self, is_child: bool) -> None:
        paused, self._paused = self._paused, []
        for thing in paused:
            thing.resume(is_child)


def _wait_for_grpc() -> None:
    ends_at = time.monotonic() + _GRPC_MAX
    while _is_grpc_running() and time.monotonic() < ends_at:
        time.sleep(0.001)


def _is_grpc_running() -> bool:
    try:
        tasks = list(_TASKS.iterdir())
    except OSError:
        # Not Linux: it is not known.
        return True
    return any(_name(task) in _GRPC_THREADS for task in tasks)


def _name(task: Path) -> str:
    try:
        return (task / "comm").read_text().strip()
    except OSError:
        # It has ended in the meantime.
        return ""


start = _Registry().start
