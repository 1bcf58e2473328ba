"""The judge of one stream: columns in, judgements out. Knows no transport, and no clock but media time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol, Self

from streamdet.decide.alarm import Alarm, AlarmConfig, Moment, Transition
from streamdet.decide.calibrate import Platt, probability
from streamdet.decide.onset import Onset
from streamdet.decide.smooth import Cusum, CusumConfig, Evidence, Smoother
from streamdet.decide.verdict import Rules
from streamdet.decide.window import Column, Pool, Whole, Windows
from streamdet.errors import ConfigError
from streamdet.events import AlertReason, Verdict

SHORTEST, LONGEST = 3.0, 10.0  # seconds; what a window's length may be


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeConfig:
    """How a stream is judged; the shortest window decides, the others are shown.

    Raises:
        ConfigError: no window, or one outside 3 to 10 s; a hop or a time constant that makes no sense.
    """

    windows: tuple[float, ...] = (3.0, 10.0)
    hop_seconds: float = 0.32
    smooth_seconds: float = 1.0
    rules: Rules = field(default_factory=Rules)
    alarm: AlarmConfig = field(default_factory=AlarmConfig)

    def __post_init__(self) -> None:
        if not self.windows:
            raise ConfigError("at least one window is needed")
        for seconds in self.windows:
            if not SHORTEST <= seconds <= LONGEST:
                raise ConfigError(f"window of {seconds:g} s: lengths from {SHORTEST:g} to {LONGEST:g} s are possible")
        if not 0 < self.hop_seconds < SHORTEST:
            raise ConfigError(f"hop of {self.hop_seconds:g} s: must be above 0 and shorter than a window")
        if not (self.smooth_seconds >= 0 and math.isfinite(self.smooth_seconds)):
            raise ConfigError(f"smoothing over {self.smooth_seconds:g} s: must be 0 or more")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is known of a stream at the end of one hop; times in seconds, shares and probabilities in [0, 1]."""

    media_time: float
    p_fake: float | None  # smoothed; None where the deciding window deserves no trust
    windows: dict[str, float | None]  # by length in seconds, not smoothed; None where that window deserves no trust
    speech: float  # share of speech in the deciding window
    lost: float  # share of it that never arrived
    verdict: Verdict
    alerts: tuple[Transition, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """A stream or file as a whole; ``p_fake`` is None only where there is no speech at all."""

    p_fake: float | None
    verdict: Verdict
    seconds: float
    speech_seconds: float
    lost: float


@dataclass(frozen=True, slots=True)
class Manner:
    """Everything that says how a stream is judged; ``cusum`` None goes by the smoothed log-odds."""

    config: JudgeConfig = field(default_factory=JudgeConfig)
    platt: Platt = field(default_factory=Platt)
    cusum: CusumConfig | None = None


class JudgeMaker(Protocol):
    """Makes the judge of a new stream, by its name."""

    def __call__(self, stream: str = ..., /) -> Judge:
        """Make it."""
        ...


class Judge:
    """Judges one stream, hop by hop.

    The alarm watches the smoothed log-odds that ``p_fake`` shows, or ``evidence`` where one is given (such as
    :class:`streamdet.decide.smooth.Cusum`; the alarm's thresholds are then in its unit).
    """

    def __init__(
        self, config: JudgeConfig | None = None, platt: Platt | None = None, evidence: Evidence | None = None
    ) -> None:
        self.config = config or JudgeConfig()
        self.platt = platt or Platt()
        lengths = tuple(sorted(set(self.config.windows)))
        self._names = tuple(f"{seconds:g}" for seconds in lengths)
        self._windows = Windows(lengths, self.config.hop_seconds)
        self._whole = Whole(self.config.hop_seconds)
        self._smoother = Smoother(self.config.smooth_seconds)
        self._evidence = evidence
        self._onset = Onset()
        self._alarm = Alarm(self.config.alarm)

    @classmethod
    def of(cls, manner: Manner) -> Self:
        """Make a judge that judges like this."""
        return cls(manner.config, manner.platt, None if manner.cusum is None else Cusum(manner.cusum))

    def adopt(self, manner: Manner) -> None:
        """Judge like this from the next hop on; what was heard stays, and so does an alert that is active.

        An active alert stays until its evidence is at or below the new ``clear_at``; one that was not yet raised goes
        on gathering its time above the new ``raise_at``. A window that became longer fills up as at the start.
        """
        self.config, self.platt = manner.config, manner.platt
        lengths = tuple(sorted(set(manner.config.windows)))
        self._names = tuple(f"{seconds:g}" for seconds in lengths)
        self._windows = self._windows.resized(lengths)
        self._smoother.seconds = manner.config.smooth_seconds
        self._alarm.config = manner.config.alarm
        before, after = self._evidence, manner.cusum
        if after is None:
            self._evidence = None
        elif isinstance(before, Cusum):
            before.config = after
        else:
            self._evidence = Cusum(after)

    def succeed(self, other: Judge) -> None:
        """Go on with what ``other`` heard of the same sound and how it judges; the alerts stay one's own."""
        alarm = self._alarm
        self.config, self.platt, self._names = other.config, other.platt, other._names
        self._windows, self._whole = other._windows, other._whole
        self._smoother, self._onset, self._evidence = other._smoother, other._onset, other._evidence
        alarm.config = other.config.alarm

    @property
    def alerting(self) -> bool:
        """Whether an alert is active."""
        return self._alarm.state == "active"

    def update(self, column: Column, media_time: float) -> Judgement:
        """Judge the hop that ends at ``media_time``."""
        self._windows.push(column)
        self._whole.push(column)
        self._follow_onset(column, media_time)
        pools = self._windows.pools()
        trusted = self.config.rules.trusted(pools[0])
        smoothed, evidence = self._weigh(pools[0], column.speech) if trusted else (0.0, None)
        p_fake = probability(smoothed) if trusted else None
        return Judgement(
            media_time=media_time,
            p_fake=p_fake,
            windows={name: self._trusted_p(pool) for name, pool in zip(self._names, pools, strict=True)},
            speech=pools[0].speech,
            lost=pools[0].lost,
            verdict=self.config.rules.verdict(pools[0], smoothed),
            alerts=self._watch(media_time, evidence, p_fake or 0.0),
        )

    def restart(self, media_time: float) -> tuple[Transition, ...]:
        """Forget what was heard, after a gap that is too long to bridge; an active alert is cleared."""
        self._windows.reset()
        self._smoother.reset()
        self._onset.reset()
        if self._evidence is not None:
            self._evidence.reset()
        return self._alarm.close(media_time, "gap")

    def end(self, media_time: float, reason: AlertReason = "ended") -> tuple[Transition, ...]:
        """Close the stream; an active alert is cleared."""
        return self._alarm.close(media_time, reason)

    def summary(self) -> Summary:
        """Judge all that was heard since the start, gaps and restarts included."""
        pool, rules = self._whole.pool(), self.config.rules
        calibrated = self.platt.log_odds(pool.raw) if pool.raw is not None else 0.0
        return Summary(
            p_fake=None if rules.speechless(pool) else probability(calibrated),
            verdict=rules.verdict(pool, calibrated),
            seconds=pool.seconds,
            speech_seconds=pool.speech_seconds,
            lost=pool.lost,
        )

    def _trusted_p(self, pool: Pool) -> float | None:
        if pool.raw is None or not self.config.rules.trusted(pool):
            return None
        return probability(self.platt.log_odds(pool.raw))

    def _weigh(self, pool: Pool, speech: float) -> tuple[float, float]:
        """Return the smoothed log-odds and the evidence of a window that deserves trust."""
        llr = self.platt.log_odds(pool.raw or 0.0)
        # The first window to deserve trust counts even if its last hop is silent: there is nothing before to hold.
        share = speech if self._smoother.value is not None else 1.0
        smoothed = self._smoother.update(llr, self.config.hop_seconds, share)
        if self._evidence is None:
            return smoothed, smoothed
        return smoothed, self._evidence.update(llr, self.config.hop_seconds, speech)

    def _follow_onset(self, column: Column, media_time: float) -> None:
        began = max(0.0, media_time - self.config.hop_seconds)
        self._onset.update(self.platt.log_odds(column.logit), began, column.speech)

    def _watch(self, media_time: float, evidence: float | None, p_fake: float) -> tuple[Transition, ...]:
        latest = max(0.0, media_time - self.config.hop_seconds)
        onset = self._onset.since(max(0.0, media_time - LONGEST), latest)
        steps = self._alarm.update(Moment(media_time, self.config.hop_seconds, evidence, p_fake, onset))
        if any(step.phase == "cleared" for step in steps):
            self._onset.reset()
        return steps
