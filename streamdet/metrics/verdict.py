"""Is it well? Liveness and readiness, with the reasons when not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from streamdet.metrics.figures import Figures
from streamdet.parts import Inside

SOUNDLESS = ("recovering", "failed", "connecting")


@dataclass(frozen=True, slots=True)
class Checkup:
    """An answer to a health check: whether it is well, and one line for each thing that is not."""

    well: bool
    reasons: tuple[str, ...]
    hops: int
    streams: int
    lag_ms: float


class Doctor:
    """Judges a running daemon.

    Args:
        figures: what was counted.
        inside: the daemon.
        stale: seconds without a scored hop of sound after which it is not healthy.
        quiet_is_well: whether it is healthy while no stream is open, as a telephone line is at night.
        lag_limit: seconds behind the sound at which it is neither healthy nor ready.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        figures: Figures,
        inside: Inside,
        *,
        stale: float,
        quiet_is_well: bool,
        lag_limit: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._figures, self._inside = figures, inside
        self._stale, self._quiet_is_well, self._lag_limit = stale, quiet_is_well, lag_limit
        self._clock = clock
        self._began = clock()

    def health(self) -> Checkup:
        """Well only while audio flows and is scored."""
        now, health = self._clock(), self._inside.health()
        with self._figures.lock:
            heard = self._figures.heard_at
            silent = [(n, s.phase) for n, s in self._figures.streams.items() if s.phase in SOUNDLESS]
        reasons = self._late(health.lag_ms)
        quiet = now - (heard if heard is not None else self._began)
        if quiet > self._stale and not (self._quiet_is_well and health.streams == 0 and not silent):
            reasons.append(f"no sound was scored for {quiet:.0f} s")
            reasons += [f"{name} is {phase}" for name, phase in silent[:8]]
        return Checkup(not reasons, tuple(reasons), health.hops, health.streams, health.lag_ms)

    def readiness(self) -> Checkup:
        """Well while it can take another stream: it scores in time and is not overloaded."""
        health = self._inside.health()
        reasons = self._late(health.lag_ms)
        if health.overloaded:
            reasons.append("overload: more sound comes than can be scored")
        if health.max_streams is not None and health.streams >= health.max_streams:
            reasons.append(f"{health.streams} streams are open, max_streams is {health.max_streams}")
        return Checkup(not reasons, tuple(reasons), health.hops, health.streams, health.lag_ms)

    def _late(self, lag_ms: float) -> list[str]:
        lag = lag_ms / 1000.0
        return [f"scoring is {lag:.1f} s behind the sound"] if lag > self._lag_limit else []
