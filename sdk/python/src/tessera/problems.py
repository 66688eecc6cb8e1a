"""Warnings about repeated failures, without filling a log."""

from __future__ import annotations

import logging
import time

_log = logging.getLogger("tessera")
_INTERVAL = 60.0


class ProblemLog:
    """Warns of a failure at once, then once a minute with the number of failures, and reports when it is over. All are
    warnings, so that Python shows them even if logging is not configured."""

    def __init__(self, failure: str, recovery: str) -> None:
        self._failure = failure
        self._recovery = recovery
        self._warned_at: float | None = None
        self._failing_since: float | None = None
        self._suppressed = 0

    def failed(self, problem: object) -> None:
        """It failed."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        if self._warned_at is not None and now - self._warned_at < _INTERVAL:
            self._suppressed += 1
            return
        more = f" (and {self._suppressed} times since the last warning)" if self._suppressed else ""
        _log.warning("%s: %s%s", self._failure, problem, more)
        self._warned_at, self._suppressed = now, 0

    def worked(self) -> None:
        """It works."""
        since, self._failing_since = self._failing_since, None
        # A failure without a warning ends without one.
        if since is not None and self._warned_at is not None and since <= self._warned_at:
            _log.warning("%s after %.1f s", self._recovery, time.monotonic() - since)
