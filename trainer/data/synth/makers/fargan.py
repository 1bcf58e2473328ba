"""FARGAN, the neural vocoder inside Opus."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np

from streamdet.features.logmel import FloatArray
from trainer.data.synth.base import RATE, Made, Rng, execute, pick

PITCH = 18  # of the 20 features of a 10 ms frame: 18 cepstra, pitch (log2), voicing


class Fargan:
    """J.-M. Valin et al., "Very Low Complexity Speech Synthesis Using Framewise Autoregressive GAN" (2024).

    Args:
        program: ``fargan_demo`` of Opus 1.6 or newer (before, a frame had 36 features); None looks for it on the path.
    """

    name, family, licence, default = "fargan", "cs-fargan", "BSD-3-Clause (Opus)", True

    def __init__(self, program: Path | None = None) -> None:
        found = program or shutil.which("fargan_demo")
        self._program = Path(found) if found else None

    def missing(self) -> str:
        """See :class:`trainer.data.synth.base.Copier`."""
        if self._program is None:
            return "build fargan_demo from the source of Opus 1.6 or newer (docs/data.md says how) and give --fargan"
        return "" if self._program.is_file() else f"{self._program} is not there"

    def copy(self, samples: FloatArray, rng: Rng) -> Made:  # noqa: ARG002
        """See :class:`trainer.data.synth.base.Copier`."""
        return self._synthesise(samples, lambda features: features, "fargan")

    def _synthesise(self, samples: FloatArray, change: object, system: str) -> Made:
        assert self._program is not None
        assert callable(change)
        with tempfile.TemporaryDirectory() as folder:
            pcm, features, out = (Path(folder, name) for name in ("in.s16", "features.f32", "out.s16"))
            level = min(0.1 / max(float(np.sqrt(np.mean(samples**2))), 1e-4), 0.95 / (np.abs(samples).max() + 1e-9))
            np.rint(samples * level * 32_767).astype("<i2").tofile(pcm)
            execute([self._program, "-features", pcm, features])
            change(np.fromfile(features, "<f4").reshape(-1, 20)).astype("<f4").tofile(features)
            execute([self._program, "-fargan-synthesis", features, out])
            return Made(np.asarray(np.fromfile(out, "<i2") / 32_768, np.float32), RATE, system)


class FarganModified(Fargan):
    """FARGAN of features as a text-to-speech system gives them: smooth in time, at another pitch, or both."""

    name, family = "fargan-mod", "cs-fargan-mod"

    def copy(self, samples: FloatArray, rng: Rng) -> Made:
        """See :class:`trainer.data.synth.base.Copier`."""
        kind, shift, span = pick(rng, ("smooth", "pitch", "both")), rng.uniform(-0.35, 0.35), int(rng.choice((3, 5)))

        def change(features: FloatArray) -> FloatArray:
            if kind != "pitch":
                padded = np.pad(features[:, :PITCH], ((span // 2, span // 2), (0, 0)), mode="edge")
                windows = np.lib.stride_tricks.sliding_window_view(padded, span, axis=0)
                features[:, :PITCH] = windows.mean(axis=2)
            if kind != "smooth":
                features[:, PITCH] += shift
            return features

        return self._synthesise(samples, change, f"fargan-{kind}")
