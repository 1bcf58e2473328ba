"""Augmentation on log-mel frames, done anew for each crop; the same distribution for both classes.

Masks follow D. Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition",
Interspeech 2019.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamdet.features.logmel import FloatArray

Rng = np.random.Generator


class FrameAugment:
    """Distorts batches of raw log-mel crops ``[rows, frames, mels]``; every row draws for itself.

    ``noise`` holds log-mels of noise, ``[frames, mels]`` each; adding powers before the logarithm is mixing up to
    cross terms. ``strength`` scales all probabilities, 0 switches everything off; ``without`` names steps to leave
    out (for ablations), see :attr:`STEPS`. ``top`` is where 3.4 kHz lies on the scale of the bands, as a share of it.
    """

    STEPS = ("shape", "mix", "top", "bands", "pauses")

    def __init__(
        self, noise: Sequence[FloatArray] = (), *, strength: float = 1.0, without: Sequence[str] = (), top: float = 0.7
    ) -> None:
        self._noise = noise
        self._top = top
        self._chance = {step: 0.0 if step in without else strength for step in self.STEPS}

    def raw(self, crops: FloatArray, rng: Rng) -> FloatArray:
        """Noise, spectral shape and missing top bands, before level normalisation; in place."""
        rows, frames, mels = crops.shape
        position = np.arange(mels, dtype=np.float32) / mels
        for row in range(rows):
            if rng.random() < 0.8 * self._chance["shape"]:
                crops[row] += _shape(rng, position)
            if self._noise and rng.random() < 0.35 * self._chance["mix"]:
                self._mix(crops[row], rng, frames)
            if rng.random() < 0.2 * self._chance["top"]:
                edge = int(rng.uniform(self._top, 1.0) * mels)
                crops[row, :, edge:] -= np.float32(rng.uniform(6.0, 16.0))
        return crops

    def _mix(self, crop: FloatArray, rng: Rng, frames: int) -> None:
        noise = self._noise[int(rng.integers(len(self._noise)))]
        rows = (np.arange(frames) + rng.integers(len(noise))) % len(noise)
        picked = noise[rows].astype(np.float32)
        speech_power = np.log(np.exp(crop).mean() + 1e-14)
        noise_power = np.log(np.exp(picked).mean() + 1e-14)
        snr = rng.uniform(8.0, 60.0) * 0.2303  # dB to nats of power
        np.logaddexp(crop, picked + np.float32(speech_power - noise_power - snr), out=crop)

    def masks(self, features: FloatArray, rng: Rng) -> FloatArray:
        """SpecAugment after level normalisation, where 0 means silence; in place."""
        rows, frames, mels = features.shape
        for row in range(rows):
            chance = rng.random()
            for _ in range(rng.integers(1, 3) if chance < 0.6 * self._chance["bands"] else 0):
                width, at = rng.integers(1, mels // 8 + 1), rng.integers(mels)
                features[row, :, at : at + width] = 0.0
            for _ in range(rng.integers(0, 3) if chance < 0.6 * self._chance["pauses"] else 0):
                width, at = rng.integers(2, 25), rng.integers(frames)
                features[row, at : at + width] = 0.0
        return features


def _shape(rng: Rng, position: FloatArray) -> FloatArray:
    """Draw a smooth spectrum ``[mels]`` in nats: tilt and three cosines, like a microphone or a room."""
    total = rng.normal(0.0, 0.8) * (position - 0.5) * 2.0
    for order in (1, 2, 3):
        total = total + rng.normal(0.0, 0.5) * np.cos(np.pi * order * position + rng.uniform(0.0, 2.0 * np.pi))
    return np.asarray(total, np.float32)
