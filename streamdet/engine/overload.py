"""More sound than the machine can score: what is done about it, and when it is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Policy = Literal["score_all", "skip"]
CALM_SECONDS = 5.0  # without overload before it is called over


@dataclass(frozen=True, slots=True)
class Load:
    """How far scoring is behind the sound; all but ``lag`` count from the start.

    ``lag`` is the age in seconds of the oldest hop that waits, ``skipped`` the hops left out and ``overrun`` the
    samples overwritten unread.
    """

    lag: float = 0.0
    skipped: int = 0
    overrun: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(max(self.lag, other.lag), self.skipped + other.skipped, self.overrun + other.overrun)


@dataclass(frozen=True, slots=True)
class Change:
    """Overload began or is over; ``skipped`` and ``overrun`` count since it began."""

    begins: bool
    seconds: float  # it lasted
    lag: float  # the worst
    skipped: int
    overrun: int

    def detail(self) -> dict[str, float | int | str]:
        """Counters for a ``state`` event."""
        counters = {"lag_seconds": round(self.lag, 3), "skipped_hops": self.skipped, "overrun_samples": self.overrun}
        return {"cause": "overload", **counters, "seconds": round(self.seconds, 3)}


class OverloadWatch:
    """Says once that overload begins, and once that it is over.

    Args:
        late: seconds behind the sound from which it counts; it is over when scoring was less than half of that behind,
            and left nothing out, for ``CALM_SECONDS``.
    """

    def __init__(self, late: float) -> None:
        self.overloaded = False
        self._late = late
        self._base = self._last = Load()
        self._began = self._trouble = 0.0
        self._worst = 0.0

    def look(self, load: Load, now: float) -> Change | None:
        """Take the load at monotonic time ``now``; returns what has to be said."""
        lost_more = load.skipped > self._last.skipped or load.overrun > self._last.overrun
        before, self._last = self._last, load
        if not self.overloaded:
            return self._begin(before, load, now) if lost_more or load.lag >= self._late else None
        self._worst = max(self._worst, load.lag)
        if lost_more or load.lag >= self._late / 2:
            self._trouble = now
        if now - self._trouble < CALM_SECONDS:
            return None
        self.overloaded = False
        return self._change(load, now, begins=False)

    def _begin(self, before: Load, load: Load, now: float) -> Change:
        self.overloaded = True
        self._base, self._began, self._trouble, self._worst = before, now, now, load.lag
        return self._change(load, now, begins=True)

    def _change(self, load: Load, now: float, *, begins: bool) -> Change:
        skipped, overrun = load.skipped - self._base.skipped, load.overrun - self._base.overrun
        return Change(begins, now - self._began, self._worst, skipped, overrun)
