"""Contestants take turns, round after round, so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to do a piece of work; ``run`` does it for ``hops`` hops, each of one stream.

    ``settle`` waits for what ``run`` left to other threads; it ends a turn and counts.
    """

    kind: str  # what it is, such as "stream" or "window"
    label: str  # unique, for people
    hops: int
    run: Callable[[], object]
    details: dict[str, Any]
    settle: Callable[[], None] = _nothing


@dataclass(frozen=True, slots=True)
class Timing:
    """CPU milliseconds of one hop of one stream: the median of the rounds, and the least and most of them."""

    kind: str
    label: str
    median: float
    low: float
    high: float
    details: dict[str, Any]

    def streams_per_core(self, hop_seconds: float) -> float:
        """How many streams keep one core fully busy."""
        return 1e3 * hop_seconds / self.median

    def to_dict(self, hop_seconds: float) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "kind": self.kind,
            "label": self.label,
            **self.details,
            "ms_per_hop": round(self.median, 4),
            "low": round(self.low, 4),
            "high": round(self.high, 4),
            "streams_per_core": round(self.streams_per_core(hop_seconds), 1),
        }


def interleave(
    contestants: Sequence[Contestant], *, rounds: int, seconds: float, advance: Callable[[], None]
) -> list[Timing]:
    """Let all take turns.

    Args:
        contestants: who takes part.
        rounds: how often each has its turn; every second round goes backwards.
        seconds: least CPU time of a turn.
        advance: called after each turn.
    """
    for contestant in contestants:
        contestant.run()
    turns: list[list[float]] = [[] for _ in contestants]
    for number in range(rounds):
        order = range(len(contestants)) if number % 2 == 0 else reversed(range(len(contestants)))
        for index in order:
            turns[index].append(_turn(contestants[index], seconds))
            advance()
    return [
        Timing(c.kind, c.label, statistics.median(taken), min(taken), max(taken), c.details)
        for c, taken in zip(contestants, turns, strict=True)
    ]


def _turn(contestant: Contestant, seconds: float) -> float:
    """CPU milliseconds a hop, of all threads of this process."""
    runs, spent, begin = 0, 0.0, time.process_time()
    while runs == 0 or spent < seconds:
        contestant.run()
        runs += 1
        spent = time.process_time() - begin
    contestant.settle()
    return 1e3 * (time.process_time() - begin) / (runs * contestant.hops)
