"""Alerts against ground truth: false alarms an hour, turns caught, delay, time to clear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.streams.replay import Alert, Track
from trainer.streams.splice import Turn

Array = npt.NDArray[np.float64]
LONG = 6.0  # seconds; turns of this length or more count as missed when no alert is raised in them
PROMPT = 4.0  # seconds; a catch within so much is prompt
LAG = 3.0  # seconds; an alert raised so soon after a synthetic turn is late, not false
POISSON_95 = 2.996  # -ln 0.05: upper limit of the mean of a count that came out as 0


@dataclass(frozen=True, slots=True)
class Caught:
    """What became of one synthetic turn; ``delay`` is None where no alert was raised while it lasted."""

    turn: Turn
    delay: float | None
    carried: bool  # an alert from before stood at its begin
    to_clear: float | None  # seconds after its end until the alert was cleared; None where none stood
    cleared: bool  # False where the next synthetic turn or the end of the stream came first


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one stream."""

    source: str  # of a human-only stream; empty if mixed
    seconds: float
    human_seconds: float
    false_alarms: int
    late: int
    turns: tuple[Caught, ...]


def compare(track: Track, alerts: Sequence[Alert]) -> Outcome:
    """Lay a stream's alerts beside its truth."""
    fakes = [turn for turn in track.turns if turn.label == 1]
    slack = track.hop_seconds  # a hop that ends just after a turn heard it
    inside = [any(turn.begin < alert.raised <= turn.end + slack for turn in fakes) for alert in alerts]
    late = [
        not within and any(turn.end < alert.raised <= turn.end + LAG for turn in fakes)
        for alert, within in zip(alerts, inside, strict=True)
    ]
    ends = [*(turn.begin for turn in fakes[1:]), track.seconds][: len(fakes)]
    return Outcome(
        source="" if track.mixed else track.turns[0].source,
        seconds=track.seconds,
        human_seconds=track.seconds - sum(turn.seconds for turn in fakes),
        false_alarms=sum(not (a or b) for a, b in zip(inside, late, strict=True)),
        late=sum(late),
        turns=tuple(_caught(turn, until, alerts, slack) for turn, until in zip(fakes, ends, strict=True)),
    )


def _caught(turn: Turn, until: float, alerts: Sequence[Alert], slack: float) -> Caught:
    """Judge one turn; ``until`` is when the next synthetic turn begins, or the stream ends."""
    raised = [alert.raised for alert in alerts if turn.begin < alert.raised <= turn.end + slack]
    standing = [alert for alert in alerts if alert.raised <= turn.end + slack and alert.cleared > turn.end]
    return Caught(
        turn,
        delay=raised[0] - turn.begin if raised else None,
        carried=any(alert.raised <= turn.begin < alert.cleared for alert in alerts),
        to_clear=min(standing[-1].cleared, until) - turn.end if standing else None,
        cleared=not standing or standing[-1].cleared < until,
    )


@dataclass(frozen=True)
class Tally:
    """All streams under one setting."""

    streams: tuple[Outcome, ...]

    @cached_property
    def human(self) -> tuple[Outcome, ...]:
        """The human-only streams."""
        return tuple(stream for stream in self.streams if stream.source)

    @cached_property
    def long_turns(self) -> tuple[Caught, ...]:
        """Synthetic turns of 6 s or more."""
        return tuple(c for stream in self.streams for c in stream.turns if c.turn.seconds >= LONG)

    @property
    def hours(self) -> float:
        """Hours of human-only streams."""
        return sum(stream.seconds for stream in self.human) / 3600.0

    @property
    def false_alarms(self) -> int:
        """Alerts in human-only streams."""
        return sum(stream.false_alarms for stream in self.human)

    @property
    def per_hour(self) -> float:
        """False alarms an hour of human-only streams."""
        return self.false_alarms / self.hours if self.hours else 0.0

    @property
    def share_caught(self) -> float:
        """Share of the long synthetic turns in which an alert was raised."""
        return _share([c.delay is not None for c in self.long_turns])

    @property
    def delays(self) -> list[float]:
        """Seconds from the begin of each long turn that was caught to its alert."""
        return [c.delay for c in self.long_turns if c.delay is not None]

    @property
    def delay_p50(self) -> float:
        """Median delay; NaN where nothing was caught."""
        return float(np.median(self.delays)) if self.delays else float("nan")

    def figures(self) -> dict[str, Any]:
        """All figures as plain values; shares in [0, 1], times in seconds."""
        every = [c for stream in self.streams for c in stream.turns]
        short = [c for c in every if c.turn.seconds < LONG]
        stood = [c for c in every if c.to_clear is not None]
        mixed = [stream for stream in self.streams if not stream.source]
        return {
            "human_only": {
                "hours": self.hours,
                "sources": len({stream.source for stream in self.human}),
                "false_alarms": self.false_alarms,
                "per_hour": self.per_hour,
                "by_source": _by_source(self.human),
            },
            "turns_of_6_s": {
                "turns": len(self.long_turns),
                "caught": self.share_caught,
                "missed": 1.0 - self.share_caught,
                "caught_within_4_s": _share([_prompt(c) for c in self.long_turns]),
                "missed_under_an_older_alert": _share([c.carried and c.delay is None for c in self.long_turns]),
                "delay": _quantiles(self.delays),
            },
            "shorter_turns": {"turns": len(short), "caught": _share([c.delay is not None for c in short])},
            "time_to_clear": {
                **_quantiles([c.to_clear for c in stood if c.to_clear is not None]),
                "cut_short": _share([not c.cleared for c in stood]),
            },
            "mixed": {
                "human_hours": sum(stream.human_seconds for stream in mixed) / 3600.0,
                "false_alarms": sum(stream.false_alarms for stream in mixed),
                "late_alerts": sum(stream.late for stream in mixed),
            },
        }


def _prompt(caught: Caught) -> bool:
    return caught.delay is not None and caught.delay <= PROMPT


def _share(flags: Sequence[bool]) -> float:
    return float(np.mean(flags)) if flags else 0.0


def _by_source(streams: Sequence[Outcome]) -> dict[str, int]:
    """Count false alarms of each source that has any."""
    alarms: dict[str, int] = {}
    for stream in streams:
        alarms[stream.source] = alarms.get(stream.source, 0) + stream.false_alarms
    return {source: count for source, count in sorted(alarms.items()) if count}


def _quantiles(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return {"p50": None, "p95": None}
    return {"p50": float(np.quantile(values, 0.5)), "p95": float(np.quantile(values, 0.95))}


@dataclass(frozen=True)
class Counts:
    """A tally by source, for drawing sources anew; float64 arrays, one value a source."""

    alarms: Array  # of human-only streams
    hours: Array
    caught: Array  # long synthetic turns
    prompt: Array  # caught within 4 s
    turns: Array


def counts(tally: Tally) -> Counts:
    """Count by source of human-only streams and by source of synthetic turns."""
    humans = sorted({stream.source for stream in tally.human})
    fakes = sorted({c.turn.source for c in tally.long_turns})
    human = np.array([humans.index(stream.source) for stream in tally.human], np.intp)
    fake = np.array([fakes.index(c.turn.source) for c in tally.long_turns], np.intp)
    return Counts(
        _sums(human, [stream.false_alarms for stream in tally.human], len(humans)),
        _sums(human, [stream.seconds / 3600.0 for stream in tally.human], len(humans)),
        _sums(fake, [c.delay is not None for c in tally.long_turns], len(fakes)),
        _sums(fake, [_prompt(c) for c in tally.long_turns], len(fakes)),
        _sums(fake, [1.0] * len(fake), len(fakes)),
    )


def _sums(index: npt.NDArray[np.intp], values: Sequence[float], size: int) -> Array:
    return np.bincount(index, np.asarray(values, np.float64), size).astype(np.float64)


def draw_sources(rng: np.random.Generator, sources: int, draws: int) -> Array:
    """How often each source is drawn, float64 ``[draws, sources]``: as many draws as sources, with replacement."""
    drawn = rng.multinomial(sources, np.full(sources, 1.0 / sources), size=draws)
    return np.asarray(drawn, np.float64)


def intervals(tally: Tally, *, draws: int = 1000, seed: int = 0) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of the main figures, whole sources drawn with replacement.

    The upper limit of false alarms an hour is never below what no alarm at all in so many hours would leave possible.
    """
    rng, count = np.random.default_rng(seed), counts(tally)
    human, fake = draw_sources(rng, len(count.hours), draws), draw_sources(rng, len(count.turns), draws)
    low, high = np.quantile(human @ count.alarms / (human @ count.hours), (0.025, 0.975))
    caught = np.quantile(fake @ count.caught / (fake @ count.turns), (0.025, 0.975))
    delays = _delay_interval(tally, fake)
    return {
        "per_hour": (float(low), max(float(high), POISSON_95 / tally.hours)),
        "caught": (float(caught[0]), float(caught[1])),
        **({"delay_p50": delays} if delays else {}),
    }


def _delay_interval(tally: Tally, drawn: Array) -> tuple[float, float] | None:
    by_source = [
        np.array([c.delay for c in tally.long_turns if c.turn.source == source and c.delay is not None])
        for source in sorted({c.turn.source for c in tally.long_turns})
    ]
    medians = []
    for times in drawn.astype(np.intp).tolist():
        values = np.concatenate([np.repeat(delays, n) for delays, n in zip(by_source, times, strict=True)])
        if len(values):
            medians.append(float(np.median(values)))
    if not medians:
        return None
    low, high = np.quantile(medians, (0.025, 0.975))
    return float(low), float(high)
