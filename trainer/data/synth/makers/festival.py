"""Festival with whichever voices are installed."""

from __future__ import annotations

import shutil
from pathlib import Path

from trainer.data.errors import DataError
from trainer.data.synth.base import Made, Rng, Sentences, execute, pick, wave

FOLDERS = (Path("/usr/share/festival/voices"), Path("/usr/local/share/festival/voices"))
LANGUAGES = {
    "english": "en",
    "us": "en",
    "italian": "it",
    "catalan": "ca",
    "finnish": "fi",
    "czech": "cs",
    "russian": "ru",
    "hindi": "hi",
    "telugu": "te",
    "spanish": "es",
}
ENCODINGS = {"it": "latin-1", "ca": "latin-1", "fi": "latin-1", "es": "latin-1", "cs": "iso-8859-2"}


class Festival:
    """Diphones, unit selection and HTS voices of Festival (P. Taylor et al., 1998)."""

    name, family, default = "festival", "festival", True
    licence = "X11-like (CSTR) or GPL, see the copyright file of each festvox package"

    def missing(self) -> str:
        """See :class:`trainer.data.synth.base.Speaker`."""
        there = shutil.which("text2wave") and installed()
        return "" if there else "apt install festival festvox-kallpc16k festvox-us-slt-hts (or other festvox packages)"

    def speak(self, sentences: Sentences, rng: Rng, scratch: Path) -> Made:
        """See :class:`trainer.data.synth.base.Speaker`."""
        voices = {voice: language for voice, language in installed().items() if language in sentences.by_language}
        if not voices:
            raise DataError("no installed festival voice has sentences in its language")
        voice = pick(rng, sorted(voices))
        language = voices[voice]
        text = sentences.draw(language, rng).encode(ENCODINGS.get(language, "utf-8"), "ignore")
        execute(["text2wave", "-eval", f"(voice_{voice})", "-o", scratch / "out.wav"], text)
        return Made(*wave(scratch / "out.wav"), f"festival-{voice}", language, {"voice": voice})


def installed() -> dict[str, str]:
    """Voices by name with their language; the folder above a voice names the latter."""
    found = {
        voice.name: LANGUAGES[voice.parent.name]
        for folder in FOLDERS
        for voice in sorted(folder.glob("*/*"))
        if voice.parent.name in LANGUAGES and (voice / "festvox").is_dir()
    }
    return dict(sorted(found.items()))
