"""Stateful resampling to the model's rate, with positions that survive the change of rate."""

from __future__ import annotations

import numpy as np
import soxr

from streamdet.features.logmel import FloatArray


class Resampler:
    """One stream's converter from ``rate`` to ``target`` Hz; chunks join without seams (soxr, high quality)."""

    def __init__(self, rate: int, target: int) -> None:
        self.rate = rate
        self.target = target
        self._stream = None if rate == target else soxr.ResampleStream(rate, target, 1, dtype="float32")
        self._taken = 0

    @property
    def position(self) -> int:
        """Where, on the output clock, the next input sample will lie."""
        return self._taken * self.target // self.rate

    def push(self, samples: FloatArray) -> FloatArray:
        """Convert the next float32 ``[n]`` samples; what comes out lags by the filter's delay."""
        self._taken += len(samples)
        if self._stream is None:
            return samples
        return np.asarray(self._stream.resample_chunk(samples), np.float32)

    def finish(self) -> FloatArray:
        """Whatever the filter still holds at the end of the stream."""
        if self._stream is None:
            return np.empty(0, np.float32)
        return np.asarray(self._stream.resample_chunk(np.empty(0, np.float32), last=True), np.float32)
