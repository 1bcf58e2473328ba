"""Codec 2, a sinusoidal vocoder for radio."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import soxr

from streamdet.features.logmel import FloatArray
from trainer.data.synth.base import RATE, Made, Rng, execute, pick

MODES = ("3200", "2400", "1600", "1300", "700C")
NARROW = 8_000


class Codec2:
    """D. Rowe's Codec 2 at 700 to 3,200 bit/s, through its programs; what comes out has 4 kHz of band."""

    name, family, licence, default = "codec2", "cs-codec2", "LGPL-2.1 (codec2)", True

    def missing(self) -> str:
        """See :class:`trainer.data.synth.base.Copier`."""
        return "" if shutil.which("c2enc") and shutil.which("c2dec") else "apt install codec2"

    def copy(self, samples: FloatArray, rng: Rng) -> Made:
        """See :class:`trainer.data.synth.base.Copier`."""
        mode = pick(rng, MODES)
        narrow = soxr.resample(samples, RATE, NARROW)
        with tempfile.TemporaryDirectory() as folder:
            pcm, bits, out = (Path(folder, name) for name in ("in.s16", "bits", "out.s16"))
            np.rint(narrow * (0.5 / (np.abs(narrow).max() + 1e-9)) * 32_767).astype("<i2").tofile(pcm)
            execute(["c2enc", mode, pcm, bits])
            execute(["c2dec", mode, bits, out])
            return Made(np.asarray(np.fromfile(out, "<i2") / 32_768, np.float32), NARROW, f"codec2-{mode}")
