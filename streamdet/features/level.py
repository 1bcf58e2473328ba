"""Causal level normalisation: makes the score independent of gain without looking ahead."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from streamdet.features.logmel import POWER_FLOOR, FloatArray, FrontEndConfig

LevelState = npt.NDArray[np.float64]
Levels = npt.NDArray[np.float64]
BLOCK = 32  # frames per matrix product; longer input goes through in pieces


class LevelNorm:
    """Subtracts the running speech level from log-mel frames and clips what lies far below it.

    The level is the logarithm of an exponential average (time constant ``level_seconds``) of the frames' mean mel
    power, bias-corrected so that it is exact from the first frame on. Averaging *power* lets loud frames, which are
    speech, dominate. A gain moves frame and level alike, hence cancels. What lies more than ``floor`` nats below the
    level becomes 0, so neither digital silence nor a recorder's noise floor can give a clip away; the level never
    falls so low that digital silence alone would be anything but 0::

        y = max(0, x - level + floor) / scale
    """

    def __init__(self, config: FrontEndConfig) -> None:
        self.config = config
        self._decay = math.exp(-config.hop / config.rate / config.level_seconds)
        steps = np.arange(BLOCK)
        exponent = steps[:, None] - steps[None, :]
        self._history = np.where(exponent >= 0, self._decay ** np.maximum(exponent, 0), 0.0)  # [to, from]
        self._lowest = math.log(POWER_FLOOR) + config.floor
        self._fade = self._decay ** (steps + 1.0)

    def start(self, streams: int = 1) -> LevelState:
        """State of fresh streams, float64 ``[streams, 2]``: decayed sum of powers, decayed count."""
        return np.zeros((streams, 2))

    def track(self, frames: FloatArray, state: LevelState) -> tuple[Levels, LevelState]:
        """Follow the level: natural log ``[streams, n]``, float64, one for each of ``frames``, and the next state.

        Args:
            frames: float32 ``[streams, n, mels]``, natural log.
            state: from :meth:`start` or the previous call.
        """
        level: Levels = np.empty(frames.shape[:2])
        power = np.exp(frames.astype(np.float64)).mean(axis=2)
        for begin in range(0, frames.shape[1], BLOCK):
            part = power[:, begin : begin + BLOCK]
            n = part.shape[1]
            history, fade = self._history[:n, :n], self._fade[:n]
            total = part @ history.T + state[:, :1] * fade
            count = history.sum(axis=1) + state[:, 1:] * fade
            level[:, begin : begin + n] = np.maximum(np.log(total / count), self._lowest)
            state = np.stack((total[:, -1], count[:, -1]), axis=1)
        return level, state

    def normalise(self, frames: FloatArray, level: Levels) -> FloatArray:
        """Put ``frames`` as :meth:`track` takes them in relation to the ``level`` that it gives for them."""
        shifted = frames - level[:, :, None].astype(np.float32)
        normalised: FloatArray = np.maximum(shifted + np.float32(self.config.floor), 0.0) / np.float32(
            self.config.scale
        )
        return normalised

    def __call__(self, frames: FloatArray, state: LevelState) -> tuple[FloatArray, LevelState]:
        """Normalise ``frames`` and return them with the next state; see :meth:`track`."""
        level, state = self.track(frames, state)
        return self.normalise(frames, level), state
