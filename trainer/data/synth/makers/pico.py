"""SVOX Pico, the voice of early Android."""

from __future__ import annotations

import shutil
from pathlib import Path

from trainer.data.synth.base import Made, Rng, Sentences, execute, pick, wave

VOICES = {"en-US": "en", "en-GB": "en", "de-DE": "de", "es-ES": "es", "fr-FR": "fr", "it-IT": "it"}


class Pico:
    """Statistical parametric synthesis on a small footprint, six voices."""

    name, family, default = "pico", "svox-pico", True
    licence = "Apache-2.0; the source of its voices is not published"

    def missing(self) -> str:
        """See :class:`trainer.data.synth.base.Speaker`."""
        return "" if shutil.which("pico2wave") else "apt install libttspico-utils (non-free)"

    def speak(self, sentences: Sentences, rng: Rng, scratch: Path) -> Made:
        """See :class:`trainer.data.synth.base.Speaker`."""
        voice = pick(rng, tuple(VOICES))
        speed, pitch = int(rng.integers(85, 116)), int(rng.integers(85, 116))
        words = sentences.draw(VOICES[voice], rng).replace("&", " ").replace("<", " ")
        text = f'<speed level="{speed}"><pitch level="{pitch}">{words}</pitch></speed>'
        execute(["pico2wave", "-l", voice, "-w", scratch / "out.wav", text])
        return Made(*wave(scratch / "out.wav"), f"svoxpico-{voice}", VOICES[voice], {"speed": speed, "pitch": pitch})
