"""Joins turns so that nothing but the voice tells them apart: one level, one room, natural pauses, no clicks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import soxr

from streamdet.features.logmel import FloatArray

RATE = 16_000
FADE = 320  # 20 ms at each end of a turn: a splice makes no click, and no word loses its onset
FRAME = 320


def to_rate(samples: FloatArray, rate: int) -> FloatArray:
    """Float32 ``[n]`` or ``[n, channels]`` at ``rate`` Hz to mono at 16 kHz."""
    mono = samples.mean(axis=1) if samples.ndim == 2 else samples
    return np.asarray(soxr.resample(mono, rate, RATE), dtype=np.float32)


def frame_levels(samples: FloatArray) -> FloatArray:
    """RMS in dBFS of each full 20 ms frame, float32 ``[frames]``."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    return np.asarray(10 * np.log10(np.square(frames).mean(axis=1) + 1e-12), dtype=np.float32)


def speech_level(samples: FloatArray) -> float:
    """Level in dBFS of the frames within 25 dB of the loudest: pauses do not count."""
    levels = frame_levels(samples)
    active = levels[levels > levels.max() - 25]
    return float(10 * np.log10(np.mean(10 ** (active / 10))))


def trim(samples: FloatArray) -> FloatArray:
    """Cut leading and trailing quiet (over 35 dB below the loudest frame), leaving 60 ms of it."""
    loud = np.flatnonzero(frame_levels(samples) > frame_levels(samples).max() - 35)
    begin, end = max(0, loud[0] - 3) * FRAME, (loud[-1] + 4) * FRAME
    return samples[begin:end]


def prepare(samples: FloatArray, *, level: float) -> FloatArray:
    """Make a turn ready to be laid into the room: trimmed, at ``level`` dBFS, faded at both ends."""
    turn = trim(samples)
    turn = turn * np.float32(10 ** ((level - speech_level(turn)) / 20))
    ramp = np.float32(0.5) - np.float32(0.5) * np.cos(np.pi * np.arange(FADE, dtype=np.float32) / FADE)
    turn[:FADE] *= ramp
    turn[-FADE:] *= ramp[::-1]
    return turn


def room(samples: int, *, level: float, seed: int) -> FloatArray:
    """Noise floor of a quiet room at ``level`` dBFS, falling by 6 dB an octave above 500 Hz."""
    white = np.random.default_rng(seed).standard_normal(samples)
    spectrum = np.fft.rfft(white)
    frequency = np.fft.rfftfreq(samples, 1 / RATE)
    noise = np.fft.irfft(spectrum / np.sqrt(1 + (frequency / 500) ** 2), samples)
    return np.asarray(noise * 10 ** (level / 20) / noise.std(), dtype=np.float32)


def join(
    turns: Sequence[FloatArray], *, pauses: Sequence[float], noise: float, seed: int
) -> tuple[FloatArray, list[tuple[int, int]]]:
    """Lay prepared turns into one room; returns the samples and each turn's ``(begin, end)`` sample."""
    spans: list[tuple[int, int]] = []
    at = RATE // 2
    for number, turn in enumerate(turns):
        spans.append((at, at + len(turn)))
        at += len(turn) + round(pauses[number % len(pauses)] * RATE)
    out = room(spans[-1][1] + RATE // 2, level=noise, seed=seed)
    for (begin, end), turn in zip(spans, turns, strict=True):
        out[begin:end] += turn
    return out, spans
