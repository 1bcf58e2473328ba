"""What became of each stream: kept for those that are open and those that ended last, summed up for all others."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from streamdet.decide.judge import Summary

KEPT = 1000  # streams that ended last and are still known by name


@dataclass(slots=True)
class Totals:
    """What became of one stream so far, or of many together, for summary and health."""

    hops: int = 0
    seconds: float = 0.0
    end: float = 0.0  # media time of the last sample
    lost_seconds: float = 0.0
    skipped: int = 0  # hops left out under overload
    unscored: int = 0  # hops that still waited when there was no more time to score them
    overrun: int = 0
    alerts: int = 0
    peak: float | None = None
    failed: str | None = None
    summary: Summary | None = None
    verdicts: Counter[str] = field(default_factory=Counter)

    def add(self, other: Totals) -> None:
        """Sum up; what belongs to one stream alone, such as its summary, is left out."""
        self.hops += other.hops
        self.seconds += other.seconds
        self.lost_seconds += other.lost_seconds
        self.skipped += other.skipped
        self.unscored += other.unscored
        self.overrun += other.overrun
        self.alerts += other.alerts
        if other.peak is not None:
            self.peak = max(self.peak or 0.0, other.peak)
        self.verdicts += other.verdicts


def _nothing(_name: str) -> None:
    """Do nothing."""


class Ledger:
    """The totals of all streams in bounded memory, however many come and go. Used by one scoring thread.

    Args:
        kept: how many ended streams stay known by name.
        on_forget: hears the name of each ended stream that is known no longer.
    """

    def __init__(self, kept: int = KEPT, on_forget: Callable[[str], None] = _nothing) -> None:
        self.rest = Totals()  # of all streams that are known no longer
        self.forgotten = 0  # how many those are
        self._kept = kept
        self._on_forget = on_forget
        self._open: dict[str, Totals] = {}
        self._ended: OrderedDict[str, Totals] = OrderedDict()

    def __getitem__(self, name: str) -> Totals:
        return self._open[name] if name in self._open else self._ended[name]

    def open(self, name: str) -> Totals:
        """Give the totals of a stream that begins; one that comes again goes on where it was."""
        totals = self._open.get(name)
        if totals is None:
            totals = self._open[name] = self.pop(name) or Totals()
        return totals

    def close(self, name: str) -> None:
        """Note that a stream ended; the one that ended longest ago may be forgotten for it."""
        totals = self._open.pop(name, None)
        if totals is None:
            return
        self._ended[name] = totals
        while len(self._ended) > self._kept:
            old, lost = self._ended.popitem(last=False)
            self.rest.add(lost)
            self.forgotten += 1
            self._on_forget(old)

    def pop(self, name: str) -> Totals | None:
        """Give the totals of an ended stream away, as if it had never been; None where there are none."""
        return self._ended.pop(name) if name in self._ended else None

    def items(self) -> list[tuple[str, Totals]]:
        """List every stream that is still known; a copy, for any thread."""
        return [*list(self._open.items()), *list(self._ended.items())]

    @property
    def seconds(self) -> float:
        """Seconds of audio judged over all streams that ever were."""
        return self.rest.seconds + sum(totals.seconds for _, totals in self.items())
