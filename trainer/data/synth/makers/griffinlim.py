"""Griffin-Lim: phases guessed from a mel spectrogram."""

from __future__ import annotations

import numpy as np
from scipy import signal

from streamdet.features.logmel import FloatArray, FrontEndConfig, mel_filters
from trainer.data.synth.base import RATE, Made, Rng

ITERATIONS = 32
SIZES = ((1024, 256), (1024, 200), (800, 200))  # window and hop


class GriffinLim:
    """D. Griffin and J. Lim, "Signal Estimation from Modified Short-Time Fourier Transform" (1984), from 80 mels."""

    name, family, licence, default = "griffinlim", "cs-griffinlim", "own code", True

    def missing(self) -> str:
        """See :class:`trainer.data.synth.base.Copier`."""
        return ""

    def copy(self, samples: FloatArray, rng: Rng) -> Made:
        """See :class:`trainer.data.synth.base.Copier`."""
        size, hop = SIZES[int(rng.integers(len(SIZES)))]
        fft = {"nperseg": size, "noverlap": size - hop}
        filters = mel_filters(FrontEndConfig(fft=size, mels=80)).T
        mel = filters @ np.abs(signal.stft(samples, **fft)[2])
        magnitude = np.maximum(np.linalg.pinv(filters) @ mel, 1e-9)
        spectrum = magnitude * np.exp(2j * np.pi * rng.random(magnitude.shape))
        for _ in range(ITERATIONS):
            again = signal.stft(signal.istft(spectrum, **fft)[1], **fft)[2]
            columns = min(again.shape[1], magnitude.shape[1])
            spectrum[:, :columns] = magnitude[:, :columns] * np.exp(1j * np.angle(again[:, :columns]))
        result = signal.istft(spectrum, **fft)[1][: len(samples)]
        return Made(np.asarray(result, np.float32), RATE, "griffinlim-mel80", settings={"window": size, "hop": hop})
