"""Open JTalk: Japanese HTS voices, by its program or by pyopenjtalk-plus."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np

from trainer.data.synth.base import Made, Rng, Sentences, execute, pick, wave

DICTIONARY = Path("/var/lib/mecab/dic/open-jtalk/naist-jdic")
VOICES = Path("/usr/share/hts-voice")


class OpenJTalk:
    """HMM-based synthesis of Japanese (Nagoya Institute of Technology)."""

    name, family, default = "openjtalk", "openjtalk-hts", True
    licence = "modified BSD (program), MIT (pyopenjtalk-plus), CC BY 3.0 (nitech and mei voices)"

    def missing(self) -> str:
        """See :class:`trainer.data.synth.base.Speaker`."""
        if self._voices() or importlib.util.find_spec("pyopenjtalk"):
            return ""
        return (
            "apt install open-jtalk open-jtalk-mecab-naist-jdic hts-voice-nitech-jp-atr503-m001, or "
            "pip install pyopenjtalk-plus"
        )

    @staticmethod
    def _voices() -> list[str]:
        if shutil.which("open_jtalk") is None or not DICTIONARY.is_dir():
            return []
        return sorted(str(path) for path in VOICES.glob("*/*.htsvoice"))

    def speak(self, sentences: Sentences, rng: Rng, scratch: Path) -> Made:
        """See :class:`trainer.data.synth.base.Speaker`."""
        text, speed, tone = sentences.draw("ja", rng), rng.uniform(0.85, 1.2), rng.uniform(-4.0, 4.0)
        settings: dict[str, float | int | str] = {"speed": speed, "half tones": tone}
        voices = self._voices()
        if not voices:
            import pyopenjtalk  # type: ignore[import-not-found]  # noqa: PLC0415 - optional

            samples, rate = pyopenjtalk.tts(text, speed=speed, half_tone=tone)
            return Made(np.asarray(samples / 32_768, np.float32), rate, "pyopenjtalk-mei", "ja", settings)
        voice = pick(rng, voices)
        tuning = ["-r", f"{speed:.2f}", "-fm", f"{tone:.1f}", "-a", f"{rng.uniform(0.42, 0.58):.2f}"]
        files: list[str | Path] = ["-x", DICTIONARY, "-m", voice, "-ow", scratch / "out.wav"]
        execute(["open_jtalk", *files, *tuning], text.encode())
        return Made(*wave(scratch / "out.wav"), f"openjtalk-{Path(voice).stem}", "ja", settings)
