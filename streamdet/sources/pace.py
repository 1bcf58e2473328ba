"""Waiting longer after each failure, speaking up only so often, and knowing when sound is due."""

from __future__ import annotations

import random
from typing import Final

REMEMBERED_SECONDS: Final = 5.0  # at least, of how early sound came, and twice that at most


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


class Pace:
    """Tells when sound is due that comes as it is spoken, by the earliest that some came lately.

    However large the pieces are in which it comes, none is due later than it can come: what came late, after a pause or
    because nobody looked, does not count. What comes faster than it is spoken is there before it is due.
    """

    def __init__(self) -> None:
        self._before = self._least = float("inf")  # monotonic time less seconds of sound, at the earliest
        self._until = 0.0

    def add(self, seconds: float, at: float) -> None:
        """Note that ``seconds`` of sound in all were there at monotonic time ``at``."""
        if at > self._until:
            self._before, self._least, self._until = self._least, float("inf"), at + REMEMBERED_SECONDS
        self._least = min(self._least, at - seconds)

    def due(self, seconds: float) -> float:
        """Monotonic time at which so much sound in all will be there at the earliest; :meth:`add` came before."""
        return min(self._before, self._least) + seconds
