"""Any neural vocoder as an ONNX file: mel spectrogram in, waveform out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime
import soxr

from streamdet.engine.onnx import LOAD_FAILURES
from streamdet.engine.runtime import session_options
from streamdet.features.logmel import FloatArray
from trainer.data.errors import DataError
from trainer.data.synth.base import RATE, Made, Rng


@dataclass(frozen=True, slots=True)
class MelConfig:
    """Mel spectrogram a vocoder wants; the defaults are those of HiFi-GAN (J. Kong et al., 2020).

    Slaney's mel scale and area-normalised filters over magnitudes, natural logarithm, nothing below ``least``.
    """

    rate: int = 22_050
    fft: int = 1024
    hop: int = 256
    mels: int = 80
    low: float = 0.0
    high: float = 8_000.0
    least: float = 1e-5
    licence: str = "as its author says"


class OnnxVocoder:
    """One vocoder file; ``NAME.json`` beside ``NAME.onnx`` may change fields of :class:`MelConfig`.

    The network takes float32 ``[1, mels, frames]`` as its first input and returns the waveform as its first output.
    """

    default = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self.config = self._config()
        self.name, self.family, self.licence = f"vocoder-{path.stem}", f"cs-{path.stem}", self.config.licence

    def _config(self) -> MelConfig:
        beside = self._path.with_suffix(".json")
        if not beside.exists():
            return MelConfig()
        try:
            return MelConfig(**json.loads(beside.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise DataError(f"{beside}: {error}") from error

    def missing(self) -> str:
        """See :class:`trainer.data.synth.base.Copier`."""
        return "" if self._path.is_file() else f"{self._path} is not there"

    @cached_property
    def session(self) -> onnxruntime.InferenceSession:
        """The network, loaded.

        Raises:
            DataError: the file is none that ONNX Runtime can load.
        """
        try:
            return onnxruntime.InferenceSession(self._path, session_options(), providers=["CPUExecutionProvider"])
        except LOAD_FAILURES as error:
            raise DataError(f"{self._path}: not an ONNX file that can be loaded; fetch it anew ({error})") from error

    def copy(self, samples: FloatArray, rng: Rng) -> Made:  # noqa: ARG002
        """See :class:`trainer.data.synth.base.Copier`."""
        loud = samples * np.float32(0.5 / (np.abs(samples).max() + 1e-9))
        mel = mel_spectrogram(np.asarray(soxr.resample(loud, RATE, self.config.rate), np.float32), self.config)
        (result, *_) = self.session.run(None, {self.session.get_inputs()[0].name: mel[None]})
        return Made(np.asarray(result, np.float32).ravel(), self.config.rate, self._path.stem)


def mel_spectrogram(samples: FloatArray, config: MelConfig) -> FloatArray:
    """Logarithmic mel spectrogram ``[mels, frames]`` as HiFi-GAN and its relatives are trained on."""
    margin = (config.fft - config.hop) // 2
    padded = np.pad(samples, margin, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, config.fft)[:: config.hop]
    taper = np.hanning(config.fft + 1)[:-1]
    mel = slaney_filters(config) @ np.abs(np.fft.rfft(frames * taper, axis=1)).T
    return np.asarray(np.log(np.maximum(mel, config.least)), np.float32)


def slaney_filters(config: MelConfig) -> np.ndarray:
    """Triangular filters ``[mels, fft // 2 + 1]`` of M. Slaney's Auditory Toolbox (1998): linear below 1 kHz."""
    step = np.log(6.4) / 27.0

    def to_mel(hz: float) -> float:
        return hz * 3.0 / 200.0 if hz < 1_000.0 else 15.0 + float(np.log(hz / 1_000.0)) / step

    mels = np.linspace(to_mel(config.low), to_mel(config.high), config.mels + 2)
    edges = np.where(mels < 15.0, mels * 200.0 / 3.0, 1_000.0 * np.exp((mels - 15.0) * step))
    bins = np.linspace(0.0, config.rate / 2, config.fft // 2 + 1)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)) * 2.0 / (right - left))


def vocoders(paths: Iterable[Path]) -> list[OnnxVocoder]:
    """One maker a file."""
    return [OnnxVocoder(path) for path in paths]
