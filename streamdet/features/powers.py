"""Log-powers of the single frequencies, for networks that want them finer than in bands."""

from __future__ import annotations

import numpy as np

from streamdet.features.level import Levels
from streamdet.features.logmel import POWER_FLOOR, FloatArray, FrontEndConfig, mel_filters

FLOOR = 12.0  # nats below the level, under which a recorder's noise and digital silence are all the same
SCALE = 20.0
SPEECH = 0.05  # RMS of full scale, -26 dBFS, that the level is taken for


class Powers:
    """Natural log of the power in each bin, in relation to the running level of the stream, over 20.

    Frames of 32 ms under a periodic Hamming window, each ending where the log-mel frame of the same number ends. A gain
    moves powers and level alike, hence cancels. Window and scale are those of L. Diener et al., "PLCMOS: A Data-driven
    Non-intrusive Metric for The Evaluation of Packet Loss Concealment Algorithms" (Interspeech 2023); the floor is not.
    """

    def __init__(self, config: FrontEndConfig) -> None:
        self.config = config
        self._taper = np.hamming(config.fft + 1)[:-1].astype(np.float32)
        energy = float(np.square(self._taper).sum())
        # The level is the mean power of the bands; of white noise, a bin has this share of it.
        bands = float(mel_filters(config).sum(axis=0).mean()) * float(np.square(np.hanning(config.window)).sum())
        self._share = float(np.log(energy / bands))
        self.usual = float(np.log(SPEECH**2 * energy))  # what a power of the level itself becomes, before the scale

    def __call__(self, samples: FloatArray, level: Levels) -> FloatArray:
        """Compute the frames that log-mel computes of the same samples.

        Args:
            samples: float32 ``[streams, m]``: the context of the log-mel frames and the new samples.
            level: natural log ``[streams, frames]``, from :meth:`streamdet.features.LevelNorm.track`.

        Returns:
            float32 ``[streams, frames, fft // 2 + 1]``.
        """
        config, count = self.config, level.shape[1]
        if count == 0:
            return np.empty((len(samples), 0, config.bins), np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(samples, config.fft, axis=1)[:, :: config.hop][:, :count]
        spectrum = np.fft.rfft(frames * self._taper, axis=2)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        values: FloatArray = np.log(np.maximum(power, np.float32(POWER_FLOOR)))
        values += (self.usual - self._share - level)[:, :, None].astype(np.float32)
        np.maximum(values, np.float32(self.usual - FLOOR), out=values)
        values *= np.float32(1.0 / SCALE)
        return values
