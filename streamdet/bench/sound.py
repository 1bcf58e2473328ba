"""The sound that is judged: the bundled conversation, every stream somewhere else in it."""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
import soundfile

from streamdet.audio.pcm import encode_pcm
from streamdet.features import FrontEndConfig
from streamdet.features.logmel import FloatArray

STRIDE = 2.1  # seconds between the starts of two streams


@cache
def conversation() -> FloatArray:
    """Read the bundled conversation, float32 ``[n]`` at 16 kHz, whole hops."""
    path = resources.files("streamdet") / "demo" / "demo.flac"
    samples, rate = soundfile.read(str(path), dtype="float32")
    config = FrontEndConfig()
    assert rate == config.rate
    whole: FloatArray = samples[: len(samples) // config.hop_samples * config.hop_samples]
    return whole


def hop(stream: int, number: int) -> FloatArray:
    """Cut out one hop of one stream, which goes round in the conversation without end."""
    config, samples = FrontEndConfig(), conversation()
    begin = int(stream * STRIDE * config.rate) + number * config.hop_samples
    return np.take(samples, np.arange(begin, begin + config.hop_samples), mode="wrap")


def pcm(stream: int, number: int) -> bytes:
    """Encode the same hop as 16-bit PCM."""
    return encode_pcm(hop(stream, number), pcm_format="s16le")
