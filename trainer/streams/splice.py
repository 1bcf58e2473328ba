"""From script to sound: one room, one level, one channel for all turns of a stream, so that no splice tells a label."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.fft import next_fast_len

from streamdet.features.logmel import FloatArray
from trainer.augment import Bank, WaveAugment
from trainer.data.audio import read_audio
from trainer.demo.join import FADE, RATE, prepare, room, trim
from trainer.streams.script import Line, Script

SPEECH_DB, ROOM_DB = -26.0, (-70.0, -50.0)  # dBFS; the room's noise is drawn between its bounds
UNSTEADY = ("speed", "silence", "rawboost", "clip")  # steps that move the clock, or that no channel does

Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Turn:
    """Ground truth of one turn; ``begin`` and ``end`` in seconds of the stream, ``label`` 1 if synthetic."""

    begin: float
    end: float
    label: int
    source: str
    family: str

    @property
    def seconds(self) -> float:
        """How long the turn lasts."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Splicer:
    """Renders scripts.

    ``clean`` is the share of streams whose channel is left alone but for its noise floor and gain; the others get
    echo, noise, band limit and codec by :class:`trainer.augment.WaveAugment`, drawn from the script's seed.
    """

    bank: Bank = field(default_factory=Bank)
    clean: float = 0.5

    def __call__(self, script: Script) -> tuple[FloatArray, tuple[Turn, ...]]:
        """Splice a script.

        Returns:
            Samples, float32 ``[n]`` at 16 kHz, and the ground truth.

        Raises:
            DataError: a clip cannot be read.
        """
        rng = np.random.default_rng(script.seed)
        parts = [voice(line, rng) for line in script.lines]
        begins, total = _lay_out([len(part) for part in parts], rng)
        # The room's noise is made by one Fourier transform, which is slow for lengths with large prime factors.
        floor = room(next_fast_len(total), level=rng.uniform(*ROOM_DB), seed=int(rng.integers(2**31)))
        out = floor[:total]
        for begin, part in zip(begins, parts, strict=True):
            out[begin : begin + len(part)] += part
        channel = WaveAugment(self.bank, clean=self.clean, without=UNSTEADY)
        truth = tuple(
            Turn(begin / RATE, (begin + len(part)) / RATE, line.label, line.source, line.family)
            for begin, part, line in zip(begins, parts, script.lines, strict=True)
        )
        return channel(out, rng), truth


def voice(line: Line, rng: Rng) -> FloatArray:
    """Join the clips of a turn with short pauses; quiet ends are cut, and each piece fades in and out."""
    pieces: list[FloatArray] = []
    missing = round(line.seconds * RATE)
    for clip in line.clips:
        samples = trim(_long_enough(read_audio(clip.path)))
        begin = int(rng.integers(max(1, len(samples) - missing + 1)))
        piece = prepare(samples[begin : begin + max(missing, 2 * FADE)], level=SPEECH_DB + rng.uniform(-2.0, 2.0))
        pause = np.zeros(int(rng.uniform(0.1, 0.4) * RATE), np.float32)
        pieces += [piece, pause]
        missing -= len(piece) + len(pause)
        if missing < 2 * FADE:
            break
    return np.concatenate(pieces[:-1])


def _long_enough(samples: FloatArray) -> FloatArray:
    return np.pad(samples, (0, max(0, 2 * FADE - len(samples))))


def _lay_out(lengths: list[int], rng: Rng) -> tuple[list[int], int]:
    """First sample of each turn, and the stream's length: turns cross-fade or are parted by a pause."""
    begins, at = [], RATE // 2
    for length in lengths:
        begins.append(at)
        gap = -FADE if rng.random() < 0.3 else int(rng.uniform(0.1, 1.2) * RATE)
        at += length + gap
    return begins, begins[-1] + lengths[-1] + RATE // 2
