"""Finds the lowest threshold that raises no more false alarms than are wanted."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np

from streamdet.decide.alarm import AlarmConfig
from streamdet.decide.calibrate import log_odds, probability
from streamdet.errors import ConfigError
from streamdet.tune.poisson import most_allowed, upper_bound
from streamdet.tune.track import Track, count_alarms

CONFIDENCE: Final = 0.95
HOURS: Final = {"hour": 1.0, "day": 24.0, "week": 168.0, "month": 720.0}
RATE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*(hour|day|week|month)")
HELD: Final = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0)  # seconds above the threshold that are looked at
LOWEST: Final = 0.0  # log-odds: at p_fake 0.5 nothing speaks for either side
GRID: Final = 0.1  # nats between two thresholds that are looked at
HIGHEST: Final = log_odds(0.9999)


def parse_rate(text: str) -> float:
    """Read ``1/day``, ``0.5/hour`` or ``2/week`` as alarms an hour.

    Raises:
        ConfigError: it is none of these, or 0.
    """
    found = RATE.fullmatch(text.strip())
    if found is None or float(found[1]) == 0:
        raise ConfigError(f"{text!r} is no rate: try 1/day, 0.5/hour or 2/week")
    return float(found[1]) / HOURS[found[2]]


def rate_text(per_hour: float) -> str:
    """Write a rate in the unit that suits it."""
    unit = "hour" if per_hour >= 1 else "day" if per_hour * 24 >= 1 else "week"
    return f"{per_hour * HOURS[unit]:.2g} a{'n' if unit == 'hour' else ''} {unit}"


@dataclass(frozen=True, slots=True)
class Choice:
    """Thresholds (as probabilities), how many false alarms they raised, and the rate that this allows (95 %)."""

    raise_at: float
    clear_at: float
    min_seconds: float
    alarms: int
    at_most_per_hour: float


@dataclass(frozen=True, slots=True)
class Proposal:
    """What was found; ``others`` are the lowest thresholds for other ``min_seconds``."""

    hours: float
    judged_hours: float
    streams: int
    wanted_per_hour: float
    present: Choice
    proposed: Choice
    others: tuple[Choice, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"confidence": CONFIDENCE, **asdict(self)}


def propose(tracks: Sequence[Track], present: AlarmConfig, per_hour: float) -> Proposal:
    """Propose thresholds for at most ``per_hour`` false alarms an hour of one stream, from human-only tracks.

    ``raise`` is the lowest threshold at which the alarm, replayed, was raised so seldom that the rate wanted holds with
    95 % confidence; ``clear`` keeps its distance to it in log-odds; ``min_seconds`` stays unless no threshold suits it.

    Raises:
        ConfigError: there is too little audio to say that of any threshold, or no threshold is high enough.
    """
    hours = sum(track.seconds for track in tracks) / 3600
    judged = sum(track.judged for track in tracks) / 3600
    if not judged:
        raise ConfigError("there is no speech in it: nothing to tune on")
    allowed = most_allowed(per_hour * hours, CONFIDENCE)
    if allowed is None:
        needed = upper_bound(0, CONFIDENCE) / per_hour
        raise ConfigError(
            f"{hours:.2g} h of audio are too little to promise {rate_text(per_hour)}: even no alarm at all only shows"
            f" that there are at most {rate_text(upper_bound(0) / hours)}. Give {_hours(needed)} (streams add up),"
            " or allow more false alarms"
        )
    seconds = sorted({present.min_seconds, *HELD})
    choices = [choice for held in seconds if (choice := _lowest(tracks, present, held, allowed, hours))]
    if not choices:
        raise ConfigError("even the highest thresholds raise too many alarms: is everybody in it really human?")
    proposed = next((choice for choice in choices if choice.min_seconds >= present.min_seconds), choices[-1])
    names = len({track.name for track in tracks})
    now = _choice(tracks, present, hours)
    return Proposal(hours, judged, names, per_hour, now, proposed, tuple(c for c in choices if c != proposed))


def _lowest(tracks: Sequence[Track], present: AlarmConfig, held: float, allowed: int, hours: float) -> Choice | None:
    best = None
    apart = present.raise_at - present.clear_at
    for raise_at in np.arange(HIGHEST, LOWEST - GRID / 2, -GRID).tolist():
        config = replace(present, raise_at=raise_at, clear_at=raise_at - apart, min_seconds=held)
        choice = _choice(tracks, config, hours)
        if choice.alarms > allowed:
            break
        best = choice
    return best


def _choice(tracks: Sequence[Track], config: AlarmConfig, hours: float) -> Choice:
    alarms = count_alarms(tracks, config)
    raise_at, clear_at = (round(probability(value), 4) for value in (config.raise_at, config.clear_at))
    return Choice(raise_at, clear_at, config.min_seconds, alarms, upper_bound(alarms, CONFIDENCE) / hours)


def histogram(tracks: Sequence[Track], width: int = 40) -> list[str]:
    """Draw how often each p_fake came, as lines; the bars are logarithmic, since the rare ones matter."""
    edges = np.array([-np.inf, *(log_odds(p) for p in (0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.99)), np.inf])
    values = np.concatenate([track.evidence[~np.isnan(track.evidence)] for track in tracks])
    counts = np.histogram(values, edges)[0]
    full = np.log1p(counts.max())
    names = [0.0, *(probability(edge) for edge in edges[1:-1].tolist()), 1.0]
    return [
        f"{low:>4.0%} to {high:>4.0%} {'█' * round(width * float(np.log1p(count) / full)):<{width}} {count:>9,}"
        for low, high, count in zip(names, names[1:], counts.tolist(), strict=False)
    ]


def _hours(needed: float) -> str:
    """Round up, to whole hours or below one to whole minutes, so that what is asked for is enough."""
    return f"{math.ceil(needed)} h" if needed > 1 else f"{math.ceil(60 * needed)} min"
