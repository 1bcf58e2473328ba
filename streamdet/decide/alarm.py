"""The alarm: hysteresis, minimum duration, cool-down, and the life cycle of one alert after the other."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from streamdet.decide.calibrate import log_odds, probability
from streamdet.errors import ConfigError
from streamdet.events import AlertPhase, AlertReason

AlarmState = Literal["quiet", "pending", "active", "cooling"]

# Every move the alarm may make; anything else is a fault of this module.
ALLOWED: Mapping[AlarmState, frozenset[AlarmState]] = {
    "quiet": frozenset({"pending"}),
    "pending": frozenset({"quiet", "active"}),
    "active": frozenset({"cooling"}),
    "cooling": frozenset({"quiet"}),
}
TINY = 1e-9  # seconds; hops add up to the wanted time only to within rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmConfig:
    """When an alert begins and ends. Thresholds are in the unit of the evidence, all times in seconds of audio.

    Raises:
        ConfigError: the thresholds are the wrong way round, or a time is negative.
    """

    raise_at: float = log_odds(0.9)  # evidence at or above this for min_seconds raises
    clear_at: float = log_odds(0.5)  # evidence at or below this clears
    min_seconds: float = 1.0
    cooldown_seconds: float = 5.0  # no new alert for this long after one was cleared
    update_seconds: float = 5.0  # an alert that lasts is repeated this often
    silence_seconds: float = 20.0  # an alert ends when nothing could be judged for this long
    max_seconds: float = 600.0  # an alert ends after this long; if the voice goes on, another follows

    def __post_init__(self) -> None:
        if self.clear_at >= self.raise_at:
            asked = f"clear {probability(self.clear_at):.3g} must lie below raise {probability(self.raise_at):.3g}"
            raise ConfigError(f"alarm: {asked} (log-odds {self.clear_at:.3g} and {self.raise_at:.3g})")
        if min(self.min_seconds, self.cooldown_seconds) < 0:
            raise ConfigError("alarm: min_seconds and cooldown_seconds must not be negative")
        if min(self.update_seconds, self.silence_seconds, self.max_seconds) <= 0:
            raise ConfigError("alarm: update_seconds, silence_seconds and max_seconds must be above 0")


@dataclass(frozen=True, slots=True)
class Moment:
    """What the alarm sees of one hop."""

    at: float  # media time at the end of the hop
    hop_seconds: float
    evidence: float | None  # None where nothing could be judged
    p_fake: float = 0.0
    onset: float = 0.0  # media time at which the evidence most likely began


@dataclass(frozen=True, slots=True)
class Transition:
    """One step in the life of one alert; times are media times in seconds."""

    id: str
    phase: AlertPhase
    reason: AlertReason
    at: float
    onset: float
    peak: float

    @property
    def duration(self) -> float:
        """Seconds of audio since the onset."""
        return self.at - self.onset


def _new_id() -> str:
    return str(uuid.uuid4())


class Alarm:
    """Watches the evidence of one stream; knows no clock but media time."""

    def __init__(self, config: AlarmConfig | None = None, new_id: Callable[[], str] = _new_id) -> None:
        self.config = config or AlarmConfig()
        self.state: AlarmState = "quiet"
        self._new_id = new_id
        self._steps: Mapping[AlarmState, Callable[[Moment], tuple[Transition, ...]]] = {
            "quiet": self._quiet,
            "pending": self._pending,
            "active": self._active,
            "cooling": self._cooling,
        }
        self._alert = Transition("", "raised", "evidence", 0.0, 0.0, 0.0)  # the alert that is pending or active
        self._held = 0.0  # seconds of evidence gathered while pending
        self._silent = 0.0  # seconds since something could be judged
        self._raised = self._said = self._cleared = 0.0  # media times

    def update(self, moment: Moment) -> tuple[Transition, ...]:
        """Take the next hop and return what became of the alert."""
        self._silent = 0.0 if moment.evidence is not None else self._silent + moment.hop_seconds
        return self._steps[self.state](moment)

    def close(self, at: float, reason: AlertReason) -> tuple[Transition, ...]:
        """End what is under way, because the stream ended (``ended``) or cannot be bridged (``gap``)."""
        if self.state == "pending":
            self._move("quiet")
        return self._clear(at, reason) if self.state == "active" else ()

    def _quiet(self, moment: Moment) -> tuple[Transition, ...]:
        if moment.evidence is None or moment.evidence < self.config.raise_at:
            return ()
        self._move("pending")
        self._held = 0.0
        self._alert = Transition(self._new_id(), "raised", "evidence", moment.at, moment.onset, moment.p_fake)
        return self._pending(moment)

    def _pending(self, moment: Moment) -> tuple[Transition, ...]:
        if moment.evidence is None:
            if self._silent + TINY >= self.config.silence_seconds:
                self._move("quiet")
            return ()
        if moment.evidence < self.config.raise_at:
            self._move("quiet")
            return ()
        return self._gather(moment)

    def _gather(self, moment: Moment) -> tuple[Transition, ...]:
        self._see_peak(moment)
        self._held += moment.hop_seconds
        if self._held + TINY < self.config.min_seconds:
            return ()
        self._move("active")
        self._raised = moment.at
        return self._say("raised", "evidence", moment.at)

    def _active(self, moment: Moment) -> tuple[Transition, ...]:
        self._see_peak(moment)
        reason = self._why_over(moment)
        if reason is not None:
            return self._clear(moment.at, reason)
        if moment.at - self._said + TINY < self.config.update_seconds:
            return ()
        return self._say("updated", "evidence", moment.at)

    def _why_over(self, moment: Moment) -> AlertReason | None:
        if moment.evidence is not None and moment.evidence <= self.config.clear_at:
            return "evidence"
        if self._silent + TINY >= self.config.silence_seconds:
            return "silence"
        return "limit" if moment.at - self._raised + TINY >= self.config.max_seconds else None

    def _cooling(self, moment: Moment) -> tuple[Transition, ...]:
        if moment.at - self._cleared + TINY < self.config.cooldown_seconds:
            return ()
        self._move("quiet")
        return self._quiet(moment)

    def _clear(self, at: float, reason: AlertReason) -> tuple[Transition, ...]:
        self._move("cooling")
        self._cleared = at
        return self._say("cleared", reason, at)

    def _see_peak(self, moment: Moment) -> None:
        if moment.p_fake > self._alert.peak:
            self._alert = replace(self._alert, peak=moment.p_fake)

    def _say(self, phase: AlertPhase, reason: AlertReason, at: float) -> tuple[Transition, ...]:
        self._said = at
        return (replace(self._alert, phase=phase, reason=reason, at=at),)

    def _move(self, to: AlarmState) -> None:
        if to not in ALLOWED[self.state]:
            raise AssertionError(f"alarm: no way from {self.state} to {to}")
        self.state = to
