"""How much faster or slower a sound card's clock runs than the monotonic one, and how to stay on real time.

A block of sound arrives when it was recorded, plus what the way took: a delay that is never below some floor, and often
above it. The floor's slope over time is the skew of the two clocks (S. Moon, P. Skelly, D. Towsley, "Estimation and
Removal of Clock Skew from Network Delay Measurements", INFOCOM 1999). The floor is taken as the least delay of each
second, its slope as the median of the slopes between pairs (Theil-Sen; P. K. Sen, "Estimates of the Regression
Coefficient Based on Kendall's Tau", 1968), which a quarter of wrong points does not move.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

from streamdet.audio.resample import MOST_DRIFT

BIN_SECONDS: Final = 1.0
MOST_BINS: Final = 300
LEAST_BINS: Final = 30
UPDATE_BINS: Final = 10
SETTLE_BINS: Final = 5  # the first callbacks of a device come in bursts
PULL_SECONDS: Final = 60.0  # in which what is still off real time is made up for


class DriftMeter:
    """Measures one device while it stays open; samples count with those that were lost.

    Attributes:
        drift: by how many millionths samples come faster than the rate says; None until known, after half a minute.
        correction: what the resampler is to assume, so that media time stays on real time: the drift, and a little more
            or less to make up for what went wrong before it was known.
        offset: seconds by which real time is ahead of media time as corrected.
    """

    def __init__(self, rate: int, drift: float | None = None) -> None:
        self.drift = drift
        self.correction = drift or 0.0
        self.offset = 0.0
        self._rate = rate
        self._begun: float | None = None
        self._count = 0
        self._media = 0.0  # seconds of sound as corrected
        self._until = 0.0
        self._least: tuple[float, float] | None = None  # delay of the device, and of media time
        self._floors: deque[tuple[float, float]] = deque(maxlen=MOST_BINS)  # time, least delay
        self._recent: deque[float] = deque(maxlen=UPDATE_BINS)  # least delays of media time
        self._start: float | None = None
        self._bins = 0

    def add(self, count: int, at: float) -> None:
        """Note that ``count`` more samples were complete at monotonic time ``at``."""
        if self._begun is None:
            self._begun, self._until = at, BIN_SECONDS
            return
        self._count += count
        self._media += count / (self._rate * (1 + self.correction * 1e-6))
        elapsed = at - self._begun
        delays = elapsed - self._count / self._rate, elapsed - self._media
        self._least = (
            delays if self._least is None else (min(self._least[0], delays[0]), min(self._least[1], delays[1]))
        )
        if elapsed >= self._until:
            self._close(elapsed)

    def _close(self, elapsed: float) -> None:
        assert self._least is not None
        self._bins += 1
        if self._bins > SETTLE_BINS:
            self._floors.append((elapsed, self._least[0]))
            self._recent.append(self._least[1])
        self._least, self._until = None, elapsed + BIN_SECONDS
        if len(self._recent) == UPDATE_BINS and self._bins % UPDATE_BINS == 0:
            self._update()

    def _update(self) -> None:
        floor = min(self._recent)
        if self._start is None:
            self._start = floor
        self.offset = floor - self._start
        if len(self._floors) >= LEAST_BINS:
            self.drift = -1e6 * _slope(np.array(self._floors))
        wanted = (self.drift or 0.0) - 1e6 * self.offset / PULL_SECONDS
        self.correction = max(-MOST_DRIFT, min(wanted, MOST_DRIFT))


def _slope(points: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """Theil-Sen slope of points ``[n, 2]``; pairs that are near each other tell little and are left out."""
    far = len(points) // 3
    early, late = np.triu_indices(len(points), far)
    steps = points[late] - points[early]
    return float(np.median(steps[:, 1] / steps[:, 0]))
