"""Changes to recordings that must not change the verdict, drawn without looking at the label.

Two kinds: on samples (codecs, rooms, band limits, distortion), done once for each cached variant, and on log-mel
frames (noise, spectral shape, masks; see :mod:`trainer.shape`), done anew for each crop.

Raw waveform distortions follow H. Tak et al., "RawBoost: A Raw Data Boosting and Augmentation Method applied to
Automatic Speaker Verification Anti-Spoofing", ICASSP 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby
from typing import cast

import av
import numpy as np
import numpy.typing as npt
import soxr
from av.audio.codeccontext import AudioCodecContext
from scipy import signal

from streamdet.audio.conceal import HISTORY_SECONDS, conceal
from streamdet.features.logmel import FloatArray

RATE = 16_000
Rng = np.random.Generator
TELEPHONE = ("pcm_mulaw", "pcm_alaw", "libopencore_amrnb", "g722")


@dataclass(frozen=True, slots=True)
class Codec:
    """One encoder with the rates (Hz) and bit rates (bit/s, 0: fixed) it is used with."""

    encoder: str
    decoder: str
    rates: tuple[int, ...]
    bit_rates: tuple[int, ...]
    format: str = "s16"


CODECS = (
    Codec("libmp3lame", "mp3", (16_000,), (16_000, 24_000, 32_000, 48_000, 64_000), "s16p"),
    Codec("aac", "aac", (16_000,), (16_000, 24_000, 32_000, 48_000, 64_000), "fltp"),
    Codec("libopus", "libopus", (16_000, 48_000), (8_000, 12_000, 16_000, 24_000, 32_000), "s16"),
    Codec("pcm_mulaw", "pcm_mulaw", (8_000,), (0,)),
    Codec("pcm_alaw", "pcm_alaw", (8_000,), (0,)),
    Codec("g722", "g722", (16_000,), (0,)),
    Codec("libopencore_amrnb", "libopencore_amrnb", (8_000,), (4_750, 7_950, 12_200)),
)


def codec_available(codec: Codec) -> bool:
    """Whether this build of FFmpeg can encode and decode ``codec``."""
    try:
        av.codec.Codec(codec.encoder, "w")
        av.codec.Codec(codec.decoder, "r")
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def round_trip(
    samples: FloatArray,
    codec: Codec,
    bit_rate: int,
    rate: int,
    lose: Sequence[bool] = (),
    *,
    concealed: bool = False,
) -> FloatArray:
    """Encode and decode ``samples`` (16 kHz float32); packet ``i`` is dropped where ``lose[i % len(lose)]``.

    What a dropped packet held becomes silence, or, where ``concealed``, what the run time puts in its place
    (:mod:`streamdet.audio.conceal`). Either is put in after decoding, as FFmpeg's decoders have no way to be told of a
    loss: those whose packets depend on each other stay exact after it. The result is as long as the input; the codec's
    delay shifts it.
    """
    narrow = soxr.resample(samples, RATE, rate) if rate != RATE else samples
    encoder = cast(AudioCodecContext, av.CodecContext.create(codec.encoder, "w"))
    encoder.sample_rate, encoder.layout, encoder.format = rate, "mono", codec.format
    encoder.time_base = Fraction(1, rate)
    if bit_rate:
        encoder.bit_rate = bit_rate
    decoder = cast(AudioCodecContext, av.CodecContext.create(codec.decoder, "r"))
    decoder.sample_rate, decoder.layout = rate, "mono"
    encoder.open()
    if encoder.extradata:
        decoder.extradata = encoder.extradata
    packets = [
        p
        for frame in _frames(narrow, codec.format, rate, encoder.frame_size or rate // 50)
        for p in encoder.encode(frame)
    ]
    packets += encoder.encode(None)
    pieces: list[tuple[bool, FloatArray]] = []
    for number, packet in enumerate(packets):
        lost = len(lose) > 0 and lose[number % len(lose)]
        pieces.extend((lost, _plain(frame)) for frame in decoder.decode(packet))
    pieces.extend((False, _plain(frame)) for frame in decoder.decode(None))
    out_rate = decoder.sample_rate or rate
    wide = _with_losses(pieces, out_rate, concealed=concealed)
    wide = soxr.resample(wide, out_rate, RATE) if out_rate != RATE else wide
    return _fit(wide, len(samples))


def _with_losses(pieces: Sequence[tuple[bool, FloatArray]], rate: int, *, concealed: bool) -> FloatArray:
    """Join decoded ``pieces``, each with whether it is lost; losses in a row are one gap."""
    joined = np.concatenate([piece for _, piece in pieces]) if pieces else np.zeros(0, np.float32)
    end = 0
    for lost, gap in groupby(pieces, key=lambda piece: piece[0]):
        begin, end = end, end + sum(len(piece) for _, piece in gap)
        if lost:
            history = joined[max(0, begin - int(HISTORY_SECONDS * rate)) : begin]
            made = conceal(history, end - begin, rate, joined[end:]) if concealed else np.empty(0, np.float32)
            joined[begin:end] = _fit(made, end - begin)
    return joined


def _frames(samples: FloatArray, layout: str, rate: int, size: int) -> list[av.AudioFrame]:
    padded = np.pad(samples, (0, -len(samples) % size))
    frames = []
    for begin in range(0, len(padded), size):
        part = padded[begin : begin + size][None, :]
        if not layout.startswith("flt"):
            part = np.round(np.clip(part, -1.0, 1.0) * 32_767.0).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format=layout, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
        frames.append(frame)
    return frames


def _plain(frame: av.AudioFrame) -> FloatArray:
    data = frame.to_ndarray()
    scale = 1.0 / 32_768.0 if data.dtype == np.int16 else 1.0
    channels = data if frame.format.is_planar else data.reshape(-1, frame.layout.nb_channels).T
    return np.asarray(channels.mean(axis=0) * scale, np.float32)


def _fit(samples: FloatArray, size: int) -> FloatArray:
    return np.pad(samples[:size], (0, max(0, size - len(samples)))).astype(np.float32)


def add_at(samples: FloatArray, noise: FloatArray, snr: float) -> FloatArray:
    """Add ``noise`` (any length, repeated) at a signal-to-noise ratio of ``snr`` dB."""
    tiled = np.resize(noise, len(samples))
    power, target = float(np.mean(tiled**2)), float(np.mean(samples**2)) * 10.0 ** (-snr / 10.0)
    return samples + tiled * np.float32(np.sqrt(target / (power + 1e-20)))


def room(rng: Rng) -> FloatArray:
    """Make up an impulse response: direct sound, sparse early reflections, a tail that is shorter at high pitch."""
    decay, direct = float(np.exp(rng.uniform(np.log(0.08), np.log(0.9)))), rng.uniform(-6.0, 14.0)
    size = int(decay * RATE)
    time = np.arange(size) / RATE
    tail = rng.standard_normal(size) * np.exp(-6.9 * time / decay)
    dull = signal.lfilter([1.0], [1.0, -0.6], rng.standard_normal(size)) * np.exp(-6.9 * time / (1.3 * decay))
    tail = tail * rng.uniform(0.2, 1.0) + dull * rng.uniform(0.0, 0.6)
    tail[: int(rng.uniform(0.001, 0.008) * RATE)] = 0.0
    for _ in range(rng.integers(3, 9)):
        tail[rng.integers(16, max(17, min(size, int(0.05 * RATE))))] += rng.choice((-1.0, 1.0)) * rng.uniform(1.0, 5.0)
    tail *= 10.0 ** (-direct / 20.0) / np.sqrt(np.sum(tail**2) + 1e-12)
    tail[0] += 1.0
    return np.asarray(tail, np.float32)


@dataclass(slots=True)
class Bank:
    """What augmentation draws from: noise, impulse responses, and human speech for babble (16 kHz float32)."""

    noise: list[FloatArray] = field(default_factory=list)
    rooms: list[FloatArray] = field(default_factory=list)
    speech: list[FloatArray] = field(default_factory=list)
    codecs: tuple[Codec, ...] = field(default_factory=lambda: tuple(c for c in CODECS if codec_available(c)))


# Steps in their order with the chance of each: for most variants, and for those that are distorted.
EDGES = (("highpass", 0.35), ("offset", 0.2), ("gain", 1.0))
CLEAN = (("polarity", 0.5), ("silence", 0.3), ("floor", 0.3), *EDGES)
DISTORTED = (
    *(("polarity", 0.5), ("speed", 0.35), ("rawboost", 0.2), ("silence", 0.3), ("echo", 0.3), ("noise", 0.35)),
    *(("clip", 0.1), ("band", 0.35), ("codec", 0.5), ("floor", 0.3), *EDGES),
)


class WaveAugment:
    """Draws a chain of distortions for a clip. The same seed and clip give the same result.

    ``clean`` is the share of variants that get little: polarity, gain, silence around, a floor of noise, high-pass
    filters and DC, since these tell data sets apart, not voices. ``without`` names steps to leave out (for ablations),
    see :attr:`STEPS`.
    """

    STEPS = (
        *("polarity", "gain", "silence", "floor", "highpass", "offset"),
        *("speed", "rawboost", "echo", "noise", "clip", "band", "codec"),
    )

    def __init__(self, bank: Bank, *, clean: float = 0.7, without: Sequence[str] = ()) -> None:
        self.bank = bank
        self.clean = clean
        self._without = frozenset(without)

    def __call__(self, samples: FloatArray, rng: Rng) -> FloatArray:
        """Distort ``samples`` (16 kHz float32) with draws from ``rng``; the length may change."""
        result = samples
        for name, chance in CLEAN if rng.random() < self.clean else DISTORTED:
            if rng.random() < chance and name not in self._without:
                result = self.apply(name, result, rng)
        return result.astype(np.float32)

    def apply(self, step: str, samples: FloatArray, rng: Rng) -> FloatArray:
        """Do one of :attr:`STEPS`, whatever its chance."""
        change: Callable[[FloatArray, Rng], FloatArray] = getattr(self, f"_{step}")
        return change(samples, rng)

    def _polarity(self, samples: FloatArray, rng: Rng) -> FloatArray:  # noqa: ARG002
        return -samples

    def _gain(self, samples: FloatArray, rng: Rng) -> FloatArray:
        return samples * np.float32(10.0 ** (rng.uniform(-18.0, -1.0) / 20.0) / (float(np.abs(samples).max()) + 1e-9))

    def _highpass(self, samples: FloatArray, rng: Rng) -> FloatArray:
        edge = float(np.exp(rng.uniform(np.log(20.0), np.log(120.0))))
        sections = signal.butter(int(rng.integers(1, 5)), edge, "highpass", fs=RATE, output="sos")
        return np.asarray(signal.sosfilt(sections, samples), np.float32)

    def _offset(self, samples: FloatArray, rng: Rng) -> FloatArray:
        size = float(np.abs(samples).max()) * 10.0 ** rng.uniform(-4.0, -1.5)
        return samples + np.float32(size * rng.choice((-1.0, 1.0)))

    def _speed(self, samples: FloatArray, rng: Rng) -> FloatArray:
        return np.asarray(soxr.resample(samples, RATE, RATE / rng.uniform(0.95, 1.05)), np.float32)

    def _echo(self, samples: FloatArray, rng: Rng) -> FloatArray:
        measured = self.bank.rooms and rng.random() < 0.15
        response = self.bank.rooms[rng.integers(len(self.bank.rooms))] if measured else room(rng)
        return np.asarray(signal.fftconvolve(samples, response)[: len(samples)], np.float32)

    def _noise(self, samples: FloatArray, rng: Rng) -> FloatArray:
        snr = rng.uniform(5.0, 35.0)
        if self.bank.speech and rng.random() < 0.3:
            voices = [self.bank.speech[i] for i in rng.integers(len(self.bank.speech), size=rng.integers(3, 8))]
            return add_at(samples, np.sum([np.resize(v, len(samples)) for v in voices], axis=0), max(snr, 10.0))
        if self.bank.noise and rng.random() < 0.75:
            noise = self.bank.noise[rng.integers(len(self.bank.noise))]
            return add_at(samples, np.roll(noise, rng.integers(len(noise))), snr)
        return add_at(samples, coloured(rng, len(samples)), snr + 5.0)

    def _rawboost(self, samples: FloatArray, rng: Rng) -> FloatArray:
        kind = rng.integers(3)
        if kind == 0:  # linear and non-linear convolutive noise
            peak = float(np.abs(samples).max()) + 1e-9
            unit, result = samples / peak, np.zeros(len(samples))
            for power in range(1, 4):
                shaped = signal.lfilter(notches(rng), [1.0], unit**power)
                result += shaped * 10.0 ** (-(0.0 if power == 1 else rng.uniform(8.0, 25.0)) / 20.0)
            return (result * peak).astype(np.float32)
        if kind == 1:  # impulsive noise that depends on the signal
            hit = rng.random(len(samples)) < rng.uniform(0.0, 0.1)
            return (samples + samples * hit * rng.uniform(-1.0, 1.0, len(samples)) * rng.uniform(0.2, 1.0)).astype(
                np.float32
            )
        noise = signal.lfilter(notches(rng), [1.0], rng.standard_normal(len(samples))).astype(np.float32)
        return add_at(samples, noise, rng.uniform(10.0, 35.0))

    def _clip(self, samples: FloatArray, rng: Rng) -> FloatArray:
        limit = np.float32(np.abs(samples).max() * rng.uniform(0.2, 0.8))
        return np.clip(samples, -limit, limit)

    def _band(self, samples: FloatArray, rng: Rng) -> FloatArray:
        high = float(np.exp(rng.uniform(np.log(3_400.0), np.log(7_900.0))))
        low = rng.uniform(20.0, 350.0) if rng.random() < 0.4 else 0.0
        order = int(rng.choice((4, 8, 12)))
        edges, kind = ((low, high), "bandpass") if low else (high, "lowpass")
        sections = signal.butter(order, edges, kind, fs=RATE, output="sos")
        return np.asarray(signal.sosfilt(sections, samples), np.float32)

    def _codec(self, samples: FloatArray, rng: Rng) -> FloatArray:
        codec = self.bank.codecs[rng.integers(len(self.bank.codecs))]
        scaled = samples * np.float32(rng.uniform(0.1, 0.9) / (np.abs(samples).max() + 1e-9))
        lose: Sequence[bool] = ()
        if rng.random() < 0.3 and codec.encoder in (*TELEPHONE, "libopus"):
            lose = list(rng.random(997) < rng.uniform(0.0, 0.2))
        bit_rate, rate = int(rng.choice(codec.bit_rates)), int(rng.choice(codec.rates))
        return round_trip(scaled, codec, bit_rate, rate, lose, concealed=bool(rng.random() < 0.5))

    def _silence(self, samples: FloatArray, rng: Rng) -> FloatArray:
        before, after = rng.integers(0, RATE * 4 // 5, size=2)
        return np.pad(samples, (before, after))

    def _floor(self, samples: FloatArray, rng: Rng) -> FloatArray:
        return add_at(samples, coloured(rng, len(samples)), rng.uniform(40.0, 80.0))


def coloured(rng: Rng, size: int) -> FloatArray:
    """Stationary noise whose spectrum falls (or rises) by a random slope between white and red."""
    white = rng.standard_normal(size)
    pole = rng.uniform(-0.3, 0.98)
    return np.asarray(signal.lfilter([1.0], [1.0, -pole], white), np.float32)


def notches(rng: Rng) -> npt.NDArray[np.float64]:
    """Coefficients of an FIR filter with a few random notches."""
    taps = np.array([1.0])
    for _ in range(rng.integers(1, 5)):
        centre, width = rng.uniform(20.0, 7_900.0), rng.uniform(100.0, 1_000.0)
        low, high = max(10.0, centre - width / 2), min(7_990.0, centre + width / 2)
        depth = rng.uniform(0.3, 1.0)
        stop = signal.firwin(int(rng.integers(5, 50)) * 2 + 1, (low, high), fs=RATE)
        middle = np.zeros(len(stop))
        middle[len(stop) // 2] = 1.0
        taps = np.convolve(taps, (1.0 - depth) * middle + depth * stop)
    return np.asarray(taps / (np.abs(taps).sum() + 1e-9) * 2.0)
