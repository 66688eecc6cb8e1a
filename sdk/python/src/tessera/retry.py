"""Waiting between attempts."""

from __future__ import annotations

import random


class Backoff:
    """Exponential backoff with jitter, in seconds."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = min(first, longest)
        self._longest = longest
        self._next = self._first

    def wait(self) -> float:
        """How long to wait now: between half of the step and all of it."""
        step = self._next
        self._next = min(step * 2, self._longest)
        return step * random.uniform(0.5, 1)

    def reset(self) -> None:
        """Begins again with the first step."""
        self._next = self._first
