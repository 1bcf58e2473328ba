"""MBROLA diphones, spoken by eSpeak NG."""

from __future__ import annotations

import shutil
from pathlib import Path

from trainer.data.errors import DataError
from trainer.data.synth.base import Made, Rng, Sentences, execute, pick, wave

FOLDERS = (Path("/usr/share/mbrola"), Path("/usr/local/share/mbrola"))
LANGUAGES = {"us": "en", "en": "en", "br": "pt", "gr": "el", "cz": "cs", "sw": "sv"} | {
    name: name for name in ["de", "fr", "es", "it", "nl", "pl", "tr", "ro", "hu", "id", "lt"]
}


class Mbrola:
    """T. Dutoit et al., "The MBROLA project" (1996)."""

    name, family, default = "mbrola", "mbrola", True
    licence = "AGPL-3.0 (program); databases may not be sold or built into products without their owners' consent"

    def missing(self) -> str:
        """See :class:`trainer.data.synth.base.Speaker`."""
        there = shutil.which("mbrola") and shutil.which("espeak-ng") and installed()
        return "" if there else "apt install espeak-ng mbrola mbrola-us1 mbrola-de1 (non-free) or other voices"

    def speak(self, sentences: Sentences, rng: Rng, scratch: Path) -> Made:
        """See :class:`trainer.data.synth.base.Speaker`."""
        voices = [voice for voice in installed() if LANGUAGES[voice[:2]] in sentences.by_language]
        if not voices:
            raise DataError("no installed mbrola voice has sentences in its language")
        voice = pick(rng, voices)
        language, speed, pitch = LANGUAGES[voice[:2]], int(rng.integers(120, 176)), int(rng.integers(35, 66))
        options: list[str | Path] = ["-v", f"mb-{voice}", "-s", str(speed), "-p", str(pitch), "-w", scratch / "out.wav"]
        execute(["espeak-ng", *options], sentences.draw(language, rng).encode())
        return Made(*wave(scratch / "out.wav"), f"mbrola-{voice}", language, {"speed": speed, "pitch": pitch})


def installed() -> list[str]:
    """Names of the databases, such as us1."""
    names = {path.name for folder in FOLDERS for path in folder.glob("*/*") if path.name == path.parent.name}
    return sorted(name for name in names if name[:2] in LANGUAGES)
