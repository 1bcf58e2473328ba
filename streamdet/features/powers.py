"""Log-powers of the single frequencies, for networks that want them finer than in bands."""

from __future__ import annotations

import numpy as np

from streamdet.features.level import Levels
from streamdet.features.logmel import POWER_FLOOR, FloatArray, FrontEndConfig, mel_filters

FLOOR = 12.0  # nats below the level, under which a recorder's noise and digital silence are all the same
SCALE = 20.0
# What the level itself becomes: the log-power of speech of -26 dBFS under the Hamming window of 512 samples, as PLCMOS,
# whose scale this is, heard it.
USUAL = float(np.log(0.05**2 * np.square(np.hamming(513)[:-1]).sum()))


class Powers:
    """Natural log of the power in each bin, in relation to the running level of the stream, over 20.

    The bins are those that the bands are made of. A gain moves powers and level alike, hence cancels. The scale is that
    of L. Diener et al., "PLCMOS: A Data-driven Non-intrusive Metric for The Evaluation of Packet Loss Concealment
    Algorithms" (Interspeech 2023), but for a floor.
    """

    def __init__(self, config: FrontEndConfig) -> None:
        # The level is the mean power of the bands; of white noise, a bin has this share of it.
        self._share = float(np.log(mel_filters(config).sum(axis=0).mean()))

    def __call__(self, powers: FloatArray, level: Levels) -> FloatArray:
        """Put ``powers`` in relation to the ``level``.

        Args:
            powers: float32 ``[streams, frames, bins]``, from :meth:`streamdet.features.LogMel.with_powers`.
            level: natural log ``[streams, frames]``, from :meth:`streamdet.features.LevelNorm.track`.

        Returns:
            float32 ``[streams, frames, bins]``.
        """
        usual = (self._share + USUAL - level)[:, :, None].astype(np.float32)
        values = np.log(np.maximum(powers, np.float32(POWER_FLOOR)))
        values += usual
        np.maximum(values, np.float32(USUAL - FLOOR), out=values)
        values *= np.float32(1.0 / SCALE)
        return values
