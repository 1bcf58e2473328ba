"""The compressed complex spectrum: what the log of power leaves out, the phase, for networks that hear it."""

from __future__ import annotations

import numpy as np

from streamdet.features.level import Levels
from streamdet.features.logmel import SPECTRUM_BINS, SPECTRUM_WINDOW, FloatArray, FrontEndConfig, mel_filters

COMPRESSION = 0.3  # power of the magnitude
FLOOR = 1e-14  # of the power, so that digital silence stays zero
# Mean power of a bin of speech whose peak is full scale, what Distill-MOS, whose compression this is, was trained on.
USUAL_POWER = 2.165889


class Spectrum:
    """Short-time spectrum with its magnitude to the power 0.3, in relation to the running level of the stream.

    Frames of 20 ms under a periodic Hann window, each ending where the log-mel frame of the same number ends, so they
    are causal and need no more of the past. A gain moves spectrum and level alike, hence cancels. The compression is
    that of B. Stahl and H. Gamper, "Distillation and Pruning for Scalable Self-Supervised Representation-Based Speech
    Quality Assessment" (2025), whose level is that of the whole file; here it is the one that
    :class:`streamdet.features.LevelNorm` follows.
    """

    def __init__(self, config: FrontEndConfig) -> None:
        self.config = config
        self._taper = np.hanning(SPECTRUM_WINDOW + 1)[:-1].astype(np.float32)
        # The level is the mean power of the bands; of white noise, those of the spectrum have this share of it.
        bands = float(mel_filters(config).sum(axis=0).mean()) * float(np.square(np.hanning(config.window)).sum())
        self._share = float(np.square(self._taper).sum()) / bands

    def __call__(self, samples: FloatArray, level: Levels) -> FloatArray:
        """Compute the frames that log-mel computes of the same samples.

        Args:
            samples: float32 ``[streams, m]``: the context of the log-mel frames and the new samples.
            level: natural log ``[streams, frames]``, from :meth:`streamdet.features.LevelNorm.track`.

        Returns:
            float32 ``[streams, frames, 322]``: the real parts of the 161 bins, then the imaginary ones.
        """
        config, count = self.config, level.shape[1]
        if count == 0:
            return np.empty((len(samples), 0, 2 * SPECTRUM_BINS), np.float32)
        late = samples[:, config.context - (SPECTRUM_WINDOW - config.hop) :]
        frames = np.lib.stride_tricks.sliding_window_view(late, SPECTRUM_WINDOW, axis=1)[:, :: config.hop][:, :count]
        spectrum = np.fft.rfft(frames * self._taper, axis=2)
        power = np.square(spectrum.real) + np.square(spectrum.imag) + np.float32(FLOOR)
        usual = (np.log(USUAL_POWER / self._share) - level)[:, :, None].astype(np.float32)
        # One exponential does both: magnitude**0.3 in place of magnitude, and the level's share of that.
        factor = np.exp((COMPRESSION - 1.0) / 2 * np.log(power) + COMPRESSION / 2 * usual)
        return np.concatenate((spectrum.real * factor, spectrum.imag * factor), axis=2, dtype=np.float32)
