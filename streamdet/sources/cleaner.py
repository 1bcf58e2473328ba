"""Keeps what is no number out of the sound of one stream, and says so without repeating itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from streamdet.audio.block import Status
from streamdet.audio.pcm import clean
from streamdet.features.logmel import FloatArray
from streamdet.sources.lifecycle import LifeCycle
from streamdet.sources.pace import Quiet

REPORT_SECONDS: Final = 10.0


class Cleaner:
    """Replaces NaN, infinite and absurd samples of one stream by 0 and counts them in ``bad_samples``."""

    def __init__(self) -> None:
        self.bad_samples = 0
        self._reported = 0
        self._quiet = Quiet(REPORT_SECONDS)

    def take(self, samples: FloatArray) -> FloatArray:
        """Clean float32 samples of any shape."""
        samples, bad = clean(samples)
        self.bad_samples += bad
        return samples

    def report(self, life: LifeCycle) -> Iterator[Status]:
        """Yield ``degraded`` where more was bad since the last look, or ``live`` again; at most every ten seconds."""
        news = self.bad_samples > self._reported
        if (news or life.phase == "degraded") and self._quiet.allows(time.monotonic()):
            yield self.summary(life) if news else life.move("live", "all samples are numbers again")

    def summary(self, life: LifeCycle) -> Status:
        """Say what was bad until now."""
        self._reported = self.bad_samples
        reason = f"{self.bad_samples} samples that are no numbers, or far out of range, became 0"
        return life.move("degraded", reason, {"bad_samples": self.bad_samples})
