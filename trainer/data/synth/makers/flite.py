"""Flite, diphones and statistical clusters of recordings."""

from __future__ import annotations

import shutil
from pathlib import Path

from trainer.data.synth.base import Made, Rng, Sentences, execute, pick, wave

PITCHES = {"awb": 120, "rms": 100, "slt": 180, "kal16": 105, "kal": 105}  # Hz, about what each voice was recorded at


class Flite:
    """A. Black and K. Lenzo, "Flite: a small fast run-time synthesis engine" (2001), with its bundled voices."""

    name, family, licence, default = "flite", "flite", "BSD-like (CMU)", True

    def missing(self) -> str:
        """See :class:`trainer.data.synth.base.Speaker`."""
        return "" if shutil.which("flite") else "apt install flite"

    def speak(self, sentences: Sentences, rng: Rng, scratch: Path) -> Made:
        """See :class:`trainer.data.synth.base.Speaker`."""
        voice = pick(rng, tuple(PITCHES))
        stretch, pitch = rng.uniform(0.85, 1.2), PITCHES[voice] * rng.uniform(0.8, 1.25)
        tuning = ["--setf", f"duration_stretch={stretch:.2f}", "--setf", f"int_f0_target_mean={pitch:.0f}"]
        text = sentences.draw("en", rng)
        execute(["flite", "-voice", voice, *tuning, "-t", text, "-o", scratch / "out.wav"])
        return Made(*wave(scratch / "out.wav"), f"flite-{voice}", "en", {"voice": voice, "stretch": stretch})
