"""Compares ways to raise the alarm at equal false alarms an hour, and chooses thresholds.

A threshold that keeps to a budget on the very sources it was chosen on breaks it on others. So sources are drawn with
replacement, thresholds are chosen on those drawn, and false alarms are counted on those left out (B. Efron and
R. Tibshirani, "Improvements on cross-validation: the .632+ bootstrap method", 1997, for the idea).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context

import numpy as np
import numpy.typing as npt

from streamdet.decide.alarm import AlarmConfig
from streamdet.decide.smooth import CusumConfig
from trainer.streams.figures import Counts, Tally, compare, counts, draw_sources
from trainer.streams.replay import Array, Method, Track, alerts, cusum, ema, gather, top_k

BUDGETS = (0.5, 1.0, 2.0, 4.0)  # false alarms an hour at which methods are compared
TOO_MANY = 15.0  # false alarms an hour; lower thresholds are not looked at
TIE = 0.005  # settings whose scores differ by less are equally good; the simpler one is taken
SIMPLER = ("EMA", "top-k", "CUSUM")
INNER = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1, 0.0)  # shares of a budget that a threshold may use where it is chosen


@dataclass(frozen=True, slots=True)
class Setting:
    """A method with the alarm's other settings; ``gap`` is how far below raising lies clearing, in nats."""

    method: Method
    min_seconds: float
    gap: float

    @property
    def name(self) -> str:
        """Name for tables."""
        return f"{self.method.name}, held {self.min_seconds:g} s, gap {self.gap:g}"

    def alarm(self, raise_at: float) -> AlarmConfig:
        """Set the alarm to raise at ``raise_at`` nats; accumulated evidence never falls below 0, so it clears there."""
        clear_at = raise_at - self.gap
        if self.method.cusum is not None:
            clear_at = max(0.0, clear_at)
        return AlarmConfig(raise_at=raise_at, clear_at=clear_at, min_seconds=self.min_seconds)


@dataclass(frozen=True)
class Curve:
    """One setting over falling thresholds."""

    setting: Setting
    thresholds: tuple[float, ...]
    tallies: tuple[Tally, ...]

    @cached_property
    def counts(self) -> tuple[Counts, ...]:
        """Each tally by source."""
        return tuple(counts(tally) for tally in self.tallies)

    def within(self, per_hour: float) -> int:
        """Place of the lowest threshold that, like all above it, keeps to ``per_hour``; the first where none does."""
        good = np.array([tally.per_hour <= per_hour + 1e-9 for tally in self.tallies])
        return int(_last_good(good[None, :])[0])


def settings(hop_seconds: float) -> Iterator[Setting]:
    """All that is compared."""
    averages = [ema(seconds) for seconds in (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0)]
    tops = [top_k(seconds, count, hop_seconds) for seconds, count in ((5.0, 3), (5.0, 8), (10.0, 8), (10.0, 16))]
    for method in (*averages, *tops):
        for min_seconds in (0.0, 1.0, 2.0):
            for gap in (1.0, 2.0):
                yield Setting(method, min_seconds, gap)
    for clip in (1.0, 2.0, 4.0):
        for drift in (0.0, 0.5, 1.0, 1.5):
            for cap in (3.0, 6.0, 12.0):
                yield Setting(cusum(CusumConfig(clip=clip, drift=drift, cap=cap)), 0.0, 2.0)


def thresholds(evidence: Sequence[Array]) -> Array:
    """Evidence in nats at which to raise, falling: above all there is, then at ever larger shares of all hops."""
    values = np.concatenate(evidence)
    values = values[~np.isnan(values)]
    tail = np.unique(np.quantile(values, 1.0 - np.geomspace(1e-4, 0.4, 60)))[::-1]
    return np.concatenate(([float(values.max()) + 0.1], tail[(tail > 0.0) | (values.min() < 0.0)]))


def sweep(tracks: Sequence[Track], setting: Setting) -> Curve:
    """Lower the threshold until false alarms are too many."""
    evidence = [gather(track, setting.method) for track in tracks]
    chosen: list[float] = []
    tallies: list[Tally] = []
    for raise_at in thresholds(evidence).tolist():
        tally = tally_of(tracks, evidence, setting.alarm(raise_at))
        chosen.append(raise_at)
        tallies.append(tally)
        if tally.per_hour > TOO_MANY:
            break
    return Curve(setting, tuple(chosen), tuple(tallies))


def _sweep_one(tracks: Sequence[Track], setting: Setting, progress: Callable[[], None]) -> Curve:
    curve = sweep(tracks, setting)
    progress()
    return curve


def tally_of(tracks: Sequence[Track], evidence: Sequence[Array], config: AlarmConfig) -> Tally:
    """Run one alarm over all streams."""
    pairs = zip(tracks, evidence, strict=True)
    return Tally(tuple(compare(track, alerts(track, values, config)) for track, values in pairs))


def sweep_all(
    tracks: Sequence[Track], *, processes: int = 1, progress: Callable[[], None] = lambda: None
) -> list[Curve]:
    """Sweep every setting; ``progress`` hears of each."""
    chosen = list(settings(tracks[0].hop_seconds))
    if processes <= 1:
        return [_sweep_one(tracks, setting, progress) for setting in chosen]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(sweep, tracks, setting) for setting in chosen]
        for job in jobs:
            job.add_done_callback(lambda _: progress())
        return [job.result() for job in jobs]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A curve with its score in each draw of sources.

    The score is the mean of the share of long turns caught and the share caught within 4 s, over :data:`BUDGETS`.
    """

    curve: Curve
    scores: npt.NDArray[np.float64]

    @property
    def score(self) -> float:
        """Mean over the draws."""
        return float(self.scores.mean())


class Draws:
    """Draws of sources, the same for every curve, so that their scores can be compared pair by pair."""

    def __init__(self, example: Counts, *, draws: int = 300, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.human = draw_sources(rng, len(example.hours), draws)
        self.fake = draw_sources(rng, len(example.turns), draws)

    def rank(self, curve: Curve) -> Ranked:
        """Score a curve in each draw."""
        alarms, hours = self._human(curve, self.human)
        weight = self.fake @ curve.counts[0].turns
        good = np.stack([(c.caught + c.prompt) / 2.0 for c in curve.counts], axis=1)
        shares = self.fake @ good / weight[:, None]
        rows = np.arange(len(shares))
        picks = [shares[rows, _last_good(alarms <= budget * hours + 1e-9)] for budget in BUDGETS]
        return Ranked(curve, np.asarray(np.mean(picks, axis=0)))

    def left_out(self, curve: Curve, per_hour: float) -> float:
        """Count false alarms an hour on sources left out, where the threshold kept to ``per_hour`` on those drawn."""
        alarms, hours = self._human(curve, self.human)
        picks = _last_good(alarms <= per_hour * hours + 1e-9)
        unseen = (self.human == 0).astype(np.float64)
        alarms, hours = self._human(curve, unseen)
        total = float(hours[:, 0].sum())
        return float(alarms[np.arange(len(picks)), picks].sum()) / total if total else math.nan

    def _human(self, curve: Curve, weights: Array) -> tuple[Array, Array]:
        alarms = weights @ np.stack([c.alarms for c in curve.counts], axis=1)
        return alarms, (weights @ curve.counts[0].hours)[:, None]


def _last_good(good: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Per row the last place before the first False; 0 where the first is False already."""
    run = np.cumprod(good, axis=1).sum(axis=1)
    return np.asarray(np.maximum(run - 1, 0), np.intp)


def best(ranked: Sequence[Ranked]) -> Ranked:
    """Take the highest score; of equally good ones the simplest kind, then the highest."""
    top = max(entry.score for entry in ranked)
    equal = [entry for entry in ranked if entry.score >= top - TIE]
    return min(equal, key=lambda entry: (SIMPLER.index(entry.curve.setting.method.kind), -entry.score))


def best_by_kind(ranked: Sequence[Ranked]) -> dict[str, Ranked]:
    """Best setting of each kind of evidence."""
    return {
        kind: max(same, key=lambda entry: entry.score)
        for kind in SIMPLER
        if (same := [entry for entry in ranked if entry.curve.setting.method.kind == kind])
    }


def inner_budget(draws: Draws, curve: Curve, budget: float) -> float:
    """Budget to keep to where the threshold is chosen, so that sources left out keep to ``budget``."""
    for share in INNER:
        if draws.left_out(curve, share * budget) <= budget:
            return share * budget
    return 0.0
