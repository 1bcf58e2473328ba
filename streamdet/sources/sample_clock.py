"""Finds sound that a device never gave, by counting."""

from __future__ import annotations

from typing import Final

EXCESS_SECONDS: Final = 0.2
SETTLE_SECONDS: Final = 1.0
DRIFT: Final = 1e-3  # by how much a sound card's clock may be slow


class SampleClock:
    """Finds lost sound by counting samples against the monotonic clock, since not every backend tells of overflow.

    The number of samples that should have come and did not varies as callbacks are late; its lowest value is normal
    latency, which may creep up with a slow sound card. More than ``EXCESS_SECONDS`` above that, for longer than
    ``SETTLE_SECONDS``, is lost.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._begun: float | None = None
        self._last = 0.0
        self._counted = 0
        self._floor = 0.0
        self._excess_since: float | None = None
        self._least = 0.0

    @property
    def owed(self) -> int:
        """Samples that are probably lost, though not for long enough to be sure; for when no more will come."""
        return 0 if self._excess_since is None else round(self._least)

    def add(self, count: int, at: float) -> int:
        """Count samples that came at monotonic time ``at``; return how many must have been lost."""
        if self._begun is None:
            self._begun = self._last = at
            return 0
        self._counted += count
        behind = (at - self._begun) * self._rate - self._counted
        self._floor = min(behind, self._floor + DRIFT * (at - self._last) * self._rate)
        self._last = at
        return self._judge(behind - self._floor, at)

    def _judge(self, excess: float, at: float) -> int:
        if excess < EXCESS_SECONDS * self._rate:
            self._excess_since = None
            return 0
        if self._excess_since is None:
            self._excess_since, self._least = at, excess
        self._least = min(self._least, excess)
        if at - self._excess_since < SETTLE_SECONDS:
            return 0
        self._excess_since = None
        lost = round(self._least)
        self._counted += lost
        return lost
