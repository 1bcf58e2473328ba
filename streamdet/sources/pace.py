"""Waiting longer after each failure, and speaking up only so often."""

from __future__ import annotations

import random


class Backoff:
    """Delays that grow from ``first`` to ``limit`` seconds by doubling, each varied by a quarter.

    The variation keeps many devices that lost the same server from coming back in step.
    """

    def __init__(self, *, first: float, limit: float) -> None:
        self._first = first
        self._limit = limit
        self._next = first

    def reset(self) -> None:
        """Start small again, after a success."""
        self._next = self._first

    def delay(self) -> float:
        """Take the next delay, in seconds."""
        delay = self._next
        self._next = min(delay * 2, self._limit)
        return delay * random.uniform(0.75, 1.25)


class Quiet:
    """Lets one in so many seconds through; for messages about trouble that comes in floods."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._last: float | None = None

    def allows(self, now: float) -> bool:
        """Tell whether to speak at monotonic time ``now``."""
        if self._last is not None and now - self._last < self._every:
            return False
        self._last = now
        return True
