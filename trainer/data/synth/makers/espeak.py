"""eSpeak NG, a formant synthesizer of more than a hundred languages."""

from __future__ import annotations

import shutil
from pathlib import Path

from trainer.data.synth.base import Made, Rng, Sentences, execute, pick, wave

VOICES = {
    "en": ("en-gb", "en-us", "en-gb-scotland", "en-029"),
    "fr": ("fr-fr", "fr-be"),
    "es": ("es", "es-419"),
    "pt": ("pt", "pt-br"),
    "zh": ("cmn",),
}
LANGUAGES = (
    *("ar", "ca", "cs", "de", "el", "en", "eo", "es", "fi", "fr", "hi", "hu", "id", "it"),
    *("lt", "nl", "pl", "pt", "ro", "ru", "sv", "sw", "te", "tr", "uk", "vi", "zh"),
)
VARIANTS = ("", "+m1", "+m3", "+m7", "+f1", "+f2", "+f4", "+f5", "+klatt", "+klatt2", "+klatt4", "+croak")


class Espeak:
    """Formant and Klatt synthesis, male and female variants, any rate and pitch."""

    name, family, licence, default = "espeak", "espeak", "GPL-3.0-or-later (program); its output is free", True

    def missing(self) -> str:
        """See :class:`trainer.data.synth.base.Speaker`."""
        return "" if shutil.which("espeak-ng") else "apt install espeak-ng"

    def speak(self, sentences: Sentences, rng: Rng, scratch: Path) -> Made:
        """See :class:`trainer.data.synth.base.Speaker`."""
        known = [language for language in LANGUAGES if language in sentences.by_language]
        language = pick(rng, known)
        voice = pick(rng, VOICES.get(language, (language,))) + pick(rng, VARIANTS)
        speed, pitch = int(rng.integers(120, 200)), int(rng.integers(25, 75))
        options: list[str | Path] = ["-v", voice, "-s", str(speed), "-p", str(pitch), "-w", scratch / "out.wav"]
        execute(["espeak-ng", *options], sentences.draw(language, rng).encode())
        settings: dict[str, float | int | str] = {"voice": voice, "speed": speed, "pitch": pitch}
        return Made(*wave(scratch / "out.wav"), f"espeak-ng-{voice}", language, settings)
