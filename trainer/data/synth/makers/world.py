"""The WORLD vocoder."""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np

from streamdet.features.logmel import FloatArray
from trainer.data.synth.base import RATE, Made, Rng, pick


class World:
    """M. Morise et al., "WORLD: A Vocoder-Based High-Quality Speech Synthesis System" (2016), through pyworld."""

    name, family, licence, default = "world", "cs-world", "MIT (pyworld), modified BSD (WORLD)", True

    def missing(self) -> str:
        """See :class:`trainer.data.synth.base.Copier`."""
        there = importlib.util.find_spec("pyworld") and importlib.util.find_spec("pkg_resources")
        return "" if there else "pip install pyworld 'setuptools<81'"

    def copy(self, samples: FloatArray, rng: Rng) -> Made:
        """Analyse and synthesise; a third with another pitch, a third with a coded envelope."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the way in which it asks for its own version
            import pyworld  # noqa: PLC0415 - optional

        kind = pick(rng, ("plain", "pitch", "coded"))
        x = samples.astype(np.float64)
        pitch, times = pyworld.dio(x, RATE)
        pitch = pyworld.stonemask(x, pitch, times, RATE)
        envelope = pyworld.cheaptrick(x, pitch, times, RATE)
        noise = pyworld.d4c(x, pitch, times, RATE)
        factor = float(rng.uniform(0.8, 1.25)) if kind == "pitch" else 1.0
        if kind == "coded":
            coded = pyworld.code_spectral_envelope(envelope, RATE, 40)
            envelope = pyworld.decode_spectral_envelope(coded, RATE, 2 * (envelope.shape[1] - 1))
        result = pyworld.synthesize(pitch * factor, envelope, noise, RATE)
        return Made(np.asarray(result, np.float32), RATE, f"world-{kind}", settings={"pitch": factor})
