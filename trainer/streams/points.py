"""Operating points: thresholds for the model file, and what they do in the run time's own judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streamdet.assembly import judge_maker
from streamdet.config import Config
from streamdet.decide.calibrate import log_odds, probability
from streamdet.engine.modelfile import ModelInfo
from trainer.data.errors import DataError
from trainer.streams.choose import Curve, Draws, inner_budget
from trainer.streams.figures import Tally, compare, intervals
from trainer.streams.hear import Heard
from trainer.streams.replay import Array, Track, ema, gather, judged

SHOWN = 3.0  # a budget can be shown on so many hours that this many false alarms would be expected
MISSED_WINDOWS = 0.1  # share of synthetic windows that may be called human


@dataclass(frozen=True, slots=True)
class Budget:
    """What a named operating point may cost."""

    per_hour: float  # false alarms an hour of human speech
    windows: float  # share of human windows that may be called synthetic


POINTS = {"default": Budget(1.0, 0.05), "strict": Budget(0.1, 0.01), "sensitive": Budget(6.0, 0.1)}


def choose_points(
    tracks: Sequence[Track], curve: Curve, draws: Draws, smoothing: float
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, Any]]]:
    """Thresholds of each of :data:`POINTS` by one curve, and how each came about.

    ``smoothing`` is the time constant of the ``p_fake`` that is shown, and that verdicts go by.
    """
    human, fake = pure_windows(tracks, smoothing)
    points, notes = {}, {}
    for name, budget in POINTS.items():
        inner = inner_budget(draws, curve, budget.per_hour)
        raise_at = raising(curve, inner, budget.per_hour)
        spoof = max(log_odds(0.55), float(np.quantile(human, 1.0 - budget.windows)))
        bona_fide = min(log_odds(0.45), float(np.quantile(fake, MISSED_WINDOWS)))
        points[name] = entry(curve, raise_at, smoothing, spoof, bona_fide)
        notes[name] = {
            "budget_per_hour": budget.per_hour,
            "kept_to_where_chosen": inner,
            "per_hour_on_sources_left_out": draws.left_out(curve, inner),
            "shown": curve.tallies[0].hours * budget.per_hour >= SHOWN,
        }
    return points, notes


def raising(curve: Curve, inner: float, budget: float) -> float:
    """Threshold that keeps to ``inner`` false alarms an hour.

    Where the hours are too few to show ``budget``, also as high as the tail of the curve foretells: false alarms fall
    exponentially with the threshold, by least squares over the thresholds with three or more of them.
    """
    observed = curve.thresholds[curve.within(inner)]
    if curve.tallies[0].hours * budget >= SHOWN:
        return observed
    pairs = zip(curve.thresholds, curve.tallies, strict=True)
    usable = np.array([(t, tally.per_hour) for t, tally in pairs if tally.false_alarms >= 3])
    if len(usable) < 3:
        return observed
    slope, level = np.polyfit(usable[:, 0], np.log(usable[:, 1]), 1)
    foretold = (np.log(budget) - level) / slope if slope < 0 else observed
    return float(min(max(observed, foretold), curve.thresholds[0]))


def entry(curve: Curve, raise_at: float, smoothing: float, spoof: float, bona_fide: float) -> dict[str, float]:
    """Write down a point for the model file: probabilities, seconds, and the evidence's own numbers if it has any."""
    alarm, cusum = curve.setting.alarm(raise_at), curve.setting.method.cusum
    values = {
        "raise": probability(alarm.raise_at),
        "clear": probability(alarm.clear_at),
        "min_seconds": alarm.min_seconds,
        "smoothing": smoothing,
        "spoof": probability(spoof),
        "bona_fide": probability(bona_fide),
    }
    if cusum is not None:
        values |= {"cusum_clip": cusum.clip, "cusum_drift": cusum.drift, "cusum_cap": cusum.cap}
    return values


def pure_windows(tracks: Sequence[Track], smoothing: float) -> tuple[Array, Array]:
    """Smoothed log-odds of windows that hold one turn's voice only: of human-only streams, and of synthetic turns.

    Raises:
        DataError: there is none of one kind.
    """
    human: list[Array] = []
    fake: list[Array] = []
    for track in tracks:
        values = gather(track, ema(smoothing))
        known = ~np.isnan(values)
        if not track.mixed:
            human.append(values[known])
            continue
        for turn in track.turns:
            if turn.label == 1:
                fake.append(values[known & (track.at >= turn.begin + 3.0 + smoothing) & (track.at <= turn.end)])
    found = [np.concatenate(values or [np.empty(0)]) for values in (human, fake)]
    for kind, values in zip(("human", "synthetic"), found, strict=True):
        if not len(values):
            raise DataError(f"no {kind} turn of {3.0 + smoothing:g} s with speech; give more --hours or --mixed")
    return found[0], found[1]


def judge_points(heard: Sequence[Heard], tracks: Sequence[Track], info: ModelInfo) -> dict[str, dict[str, Any]]:
    """Figures of every operating point of a model file, each by the judge that the run time would build."""
    result = {}
    for name in sorted(info.operating_points):
        make = judge_maker(Config(operating_point=name), info)
        pairs = zip(heard, tracks, strict=True)
        tally = Tally(tuple(compare(track, judged(stream, make())) for stream, track in pairs))
        result[name] = {**tally.figures(), "interval_95": intervals(tally)}
    return result


def with_points(info: ModelInfo, points: dict[str, dict[str, float]]) -> ModelInfo:
    """Describe the same model with other operating points."""
    return replace(info, operating_points={**info.operating_points, **points})
