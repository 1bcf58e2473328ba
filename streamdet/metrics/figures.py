"""What is counted while the daemon runs; one object takes hops and events, another thread reads it."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from streamdet.decide.calibrate import log_odds
from streamdet.events import Event, Score, StatePhase
from streamdet.tap import Heard

LATENCY_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)  # seconds
DRIFT_SECONDS: Final = 300.0  # time constant of the mean log-odds of a stream
SURE: Final = 1e-9  # probabilities are kept this far from 0 and 1, so that log-odds stay finite


@dataclass(slots=True)
class StreamFigures:
    """What became of one open stream; seconds of audio."""

    hops: int = 0
    audio: float = 0.0
    lost: float = 0.0
    speech: float = 0.0
    log_odds: float | None = None  # running mean of the smoothed log-odds, None before there was any
    phase: StatePhase = "connecting"
    alerting: bool = False


@dataclass(slots=True)
class Latency:
    """Counts per bucket of :data:`LATENCY_BOUNDS`, the last one for all that is longer, and the sum in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one event."""
        self.counts[bisect_left(LATENCY_BOUNDS, seconds)] += 1
        self.total += seconds


class Figures:
    """Counts hops and events; memory is bounded by the streams that are open.

    Args:
        rate: samples a second of what hops hold.
        most: streams that are told apart; those beyond count in the totals alone, and ``untold`` says how many.
        clock: monotonic seconds.
    """

    def __init__(self, rate: int, *, most: int = 1000, clock: Callable[[], float] = time.monotonic) -> None:
        self.lock = threading.Lock()  # held by the two who write and the one who reads, never for long
        self.streams: dict[str, StreamFigures] = {}
        self.ended = StreamFigures()  # the sum over streams that are open no longer, and over those not told apart
        self.latency = Latency()
        self.alerts: Counter[tuple[str, str]] = Counter()  # by phase and reason
        self.states: Counter[str] = Counter()  # by phase
        self.verdicts: Counter[str] = Counter()
        self.untold = 0
        self.heard_at: float | None = None  # when a hop with sound was scored last
        self._rate = rate
        self._most = most
        self._clock = clock

    def hear(self, heard: Heard) -> None:
        """Take one hop; on the scoring thread."""
        seconds = len(heard.hop.samples) / self._rate
        with self.lock:
            if heard.column.lost < 1.0:
                self.heard_at = self._clock()
            stream = self._stream(heard.stream)
            stream.hops += 1
            stream.audio += seconds
            stream.lost += seconds * heard.column.lost
            stream.speech += seconds * heard.column.speech
            if heard.judgement.p_fake is not None:
                _follow(stream, log_odds(min(max(heard.judgement.p_fake, SURE), 1.0 - SURE)), seconds)

    def take(self, event: Event) -> None:
        """Take one event; on the thread of the sink."""
        with self.lock:
            if event.type == "score":
                self._score(event)
            elif event.type == "alert":
                self.alerts[event.phase, event.reason] += 1
                self._stream(event.stream).alerting = event.phase != "cleared"
            elif event.type == "state":
                self.states[event.phase] += 1
                self._state(event.stream, event.phase)

    def _score(self, score: Score) -> None:
        self.latency.add(score.latency_ms / 1000.0)
        self.verdicts[score.verdict] += 1

    def _state(self, name: str, phase: StatePhase) -> None:
        if phase != "ended":
            self._stream(name).phase = phase
            return
        stream = self.streams.pop(name, None)
        if stream is not None:
            self.ended.hops += stream.hops
            self.ended.audio += stream.audio
            self.ended.lost += stream.lost
            self.ended.speech += stream.speech

    def _stream(self, name: str) -> StreamFigures:
        found = self.streams.get(name)
        if found is None and len(self.streams) >= self._most:
            self.untold += 1
            return self.ended
        return found if found is not None else self.streams.setdefault(name, StreamFigures())


def _follow(stream: StreamFigures, value: float, seconds: float) -> None:
    if stream.log_odds is None:
        stream.log_odds = value
    else:
        stream.log_odds += (1.0 - math.exp(-seconds / DRIFT_SECONDS)) * (value - stream.log_odds)
