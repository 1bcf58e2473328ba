"""Incremental log-mel filter banks, batched over streams.

Frames are *causal*: frame ``t`` ends at sample ``(t + 1) * hop``, so a stream starts with ``window - hop`` zeros
of context and every hop of audio yields its frames at once, with no look-ahead. The mel scale and the triangular
filters follow HTK and Kaldi (S. Young et al., *The HTK Book*, section 5.4; D. Povey et al., "The Kaldi Speech
Recognition Toolkit", ASRU 2011), so an independent implementation can serve as oracle.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

# Power of a mel band below which the logarithm stops: far under 16-bit rounding noise, so that only digital silence
# meets it and gain stays a pure offset of the features.
POWER_FLOOR = 1e-14

SPECTRUM_WINDOW = 320  # samples; a frame of the spectrum ends where its log-mel frame does
SPECTRUM_BINS = SPECTRUM_WINDOW // 2 + 1

# What is transformed at a time: what lies between samples and features of more would not fit a core's cache.
STREAMS, FRAMES = 4, 32
# Bands of one matrix product. With FRAMES it keeps products so small (2**18 multiplications) that OpenBLAS does not
# share them out: its threads wait for each other in a busy loop, which on a busy machine took dozens of times as long.
BANDS = 32


@dataclass(frozen=True, slots=True)
class FrontEndConfig:
    """Everything that defines the features; it travels inside the model file.

    ``rate`` is in Hz; ``window``, ``hop`` and ``fft`` in samples; ``low`` and ``high`` in Hz; ``hop_frames`` is the
    number of frames of one streaming hop. ``level_seconds`` is the time constant of the level tracker and ``floor``
    and ``scale`` its clipping (nats below the running level) and divisor, see :class:`streamdet.features.LevelNorm`.
    ``bands`` says on which scale the bands are spaced equally; ``spectrum`` whether the compressed complex spectrum
    follows them in each frame, see :class:`streamdet.features.Spectrum`, and ``powers`` whether log-powers of all bins
    do, see :class:`streamdet.features.Powers`.
    """

    rate: int = 16_000
    window: int = 400
    hop: int = 160
    fft: int = 512
    mels: int = 64
    low: float = 20.0
    high: float = 8_000.0
    hop_frames: int = 32
    level_seconds: float = 3.0
    floor: float = 12.0
    scale: float = 4.0
    bands: Literal["mel", "linear"] = "mel"
    spectrum: bool = False
    powers: bool = False

    @property
    def context(self) -> int:
        """Samples that frames need of what came before a hop."""
        return max(self.window, self.fft if self.powers else 0) - self.hop

    @property
    def bins(self) -> int:
        """Frequencies that the transform tells apart."""
        return self.fft // 2 + 1

    @property
    def values(self) -> int:
        """Numbers of one frame: the bands, then the parts of the spectrum and the powers, where there are such."""
        return self.mels + (2 * SPECTRUM_BINS if self.spectrum else 0) + (self.bins if self.powers else 0)

    @property
    def fine(self) -> bool:
        """Whether single frequencies follow the bands; a network that hears them takes many times the work."""
        return self.spectrum or self.powers

    @property
    def hop_samples(self) -> int:
        """Samples of one streaming hop (5,120 = 0.32 s by default)."""
        return self.hop * self.hop_frames

    @property
    def hop_seconds(self) -> float:
        """Seconds of one streaming hop."""
        return self.hop_samples / self.rate

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what came later only if not the default, as files from before it were."""
        values = dataclasses.asdict(self)
        usual = {"bands": "mel", "spectrum": False, "powers": False}
        return {name: value for name, value in values.items() if name not in usual or value != usual[name]}


def mel_filters(config: FrontEndConfig) -> FloatArray:
    """Triangular filters ``[fft // 2 + 1, mels]``, float32, unit peak, equally spaced on the HTK mel scale or in Hz."""

    def mel(hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return hz if config.bands == "linear" else 1127.0 * np.log1p(hz / 700.0)

    low, high = mel(np.array([config.low, config.high]))
    edges = np.linspace(low, high, config.mels + 2)
    bins = mel(np.arange(config.fft // 2 + 1) * config.rate / config.fft)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    up, down = (bins - left) / (centre - left), (right - bins) / (right - centre)
    filters: FloatArray = np.maximum(0.0, np.minimum(up, down)).astype(np.float32)
    filters[-1] = 0.0  # Kaldi leaves the Nyquist bin out
    return filters


def _grouped(filters: FloatArray) -> Iterator[tuple[slice, slice, FloatArray]]:
    """Cut filters ``[bins, bands]`` into groups of neighbours: the bins that a group needs, its bands, its filters."""
    for begin in range(0, filters.shape[1], BANDS):
        group = filters[:, begin : begin + BANDS]
        used = np.flatnonzero(group.any(axis=1))
        bins = slice(int(used[0]), int(used[-1]) + 1)
        yield bins, slice(begin, begin + group.shape[1]), np.ascontiguousarray(group[bins])


class LogMel:
    """Turns new samples into new log-mel frames; holds no stream state itself.

    ``context`` is the tail of samples that later frames still need; start a stream with :meth:`start`.
    """

    def __init__(self, config: FrontEndConfig) -> None:
        self.config = config
        self._taper = np.hanning(config.window).astype(np.float32)
        self._filters = list(_grouped(mel_filters(config)))

    def start(self, streams: int = 1) -> FloatArray:
        """Context of ``streams`` fresh streams: zeros ``[streams, config.context]``."""
        return np.zeros((streams, self.config.context), np.float32)

    def __call__(self, samples: FloatArray, context: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Compute the frames that ``samples`` complete.

        Args:
            samples: float32 ``[streams, n]`` in [-1, 1] at ``config.rate``; any ``n``.
            context: float32 ``[streams, m]`` from :meth:`start` or the previous call.

        Returns:
            ``(frames, context)``: natural-log mel powers ``[streams, frames, mels]`` and the context to pass next.
        """
        config = self.config
        joined = np.concatenate((context, samples), axis=1)
        count = max(0, (joined.shape[1] - config.context) // config.hop)
        rest = joined[:, count * config.hop :].copy()
        features = np.empty((len(joined), count, config.mels), np.float32)
        if count == 0:
            return features, rest
        late = joined[:, config.context - (config.window - config.hop) :]
        frames = np.lib.stride_tricks.sliding_window_view(late, config.window, axis=1)[:, :: config.hop]
        for stream in range(0, len(joined), STREAMS):
            for frame in range(0, count, FRAMES):
                part = np.s_[stream : stream + STREAMS, frame : min(frame + FRAMES, count)]
                self._transform(frames[part], features[part])
        return features, rest

    def _transform(self, frames: FloatArray, features: FloatArray) -> None:
        config = self.config
        centred = frames - frames.mean(axis=2, keepdims=True)
        spectrum = np.fft.rfft(centred * self._taper, n=config.fft, axis=2)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        for bins, bands, filters in self._filters:
            np.matmul(power[:, :, bins], filters, out=features[:, :, bands])
        np.log(np.maximum(features, POWER_FLOOR, out=features), out=features)
