"""RHVoice with whichever voices are installed."""

from __future__ import annotations

import shutil
from pathlib import Path

from trainer.data.errors import DataError
from trainer.data.synth.base import Made, Rng, Sentences, execute, pick, wave

FOLDER = Path("/usr/share/RHVoice/voices")
LANGUAGES = {"English": "en", "Russian": "ru", "Ukrainian": "uk", "Kyrgyz": "ky", "Esperanto": "eo", "Czech": "cs"} | {
    "Brazilian-Portuguese": "pt",
    "Polish": "pl",
}


class RHVoice:
    """Statistical parametric voices (HTS) of RHVoice."""

    name, family, default = "rhvoice", "rhvoice", True
    licence = "LGPL-2.1 (program); each voice has its own, several forbid changes or commerce: see their packages"

    def missing(self) -> str:
        """See :class:`trainer.data.synth.base.Speaker`."""
        return "" if shutil.which("RHVoice-test") and installed() else "apt install rhvoice rhvoice-english"

    def speak(self, sentences: Sentences, rng: Rng, scratch: Path) -> Made:
        """See :class:`trainer.data.synth.base.Speaker`."""
        voices = {voice: language for voice, language in installed().items() if language in sentences.by_language}
        if not voices:
            raise DataError("no installed RHVoice voice has sentences in its language")
        voice = pick(rng, sorted(voices))
        speed, pitch = int(rng.integers(80, 121)), int(rng.integers(85, 116))
        options: list[str | Path] = ["-p", voice, "-r", str(speed), "-t", str(pitch), "-o", scratch / "out.wav"]
        execute(["RHVoice-test", *options], sentences.draw(voices[voice], rng).encode())
        return Made(*wave(scratch / "out.wav"), f"rhvoice-{voice}", voices[voice], {"speed": speed, "pitch": pitch})


def installed() -> dict[str, str]:
    """Voices by name with their language, as their ``voice.info`` says."""
    found = {}
    for info in sorted(FOLDER.glob("*/voice.info")):
        fields = dict(line.split("=", 1) for line in info.read_text(encoding="utf-8").splitlines() if "=" in line)
        language = LANGUAGES.get(fields.get("language", ""))
        if language:
            found[info.parent.name] = language
    return found
