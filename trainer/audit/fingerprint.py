"""Finds recordings that occur twice, also when cut, levelled or coded anew.

Audio is summed up as 32 bits a frame: the signs of how energy differs between neighbouring bands and changes from
frame to frame (J. Haitsma and T. Kalker, "A highly robust audio fingerprinting system", ISMIR 2002). Gain does not
move them, and coding few. Pairs of clips with some equal words are lined up and compared bit by bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soxr

Words = npt.NDArray[np.uint32]
RATE, SIZE, HOP, BANDS = 8_000, 2_048, 128, 33  # frames of 256 ms every 16 ms
COMMON = 12  # words in more places than that, as of hum and silence, point nowhere
SEEDS = 3  # equal words at one displacement before a pair is compared


@dataclass(frozen=True, slots=True)
class Match:
    """Two clips, by their place in the list, whose overlap of ``seconds`` differs in a share ``errors`` of the bits."""

    first: int
    second: int
    seconds: float
    errors: float


def fingerprint(samples: npt.NDArray[np.float64], rate: int) -> Words:
    """Words of a recording, one every 16 ms; frames of digital silence give 0."""
    audio = soxr.resample(samples, rate, RATE) if rate != RATE else samples
    if len(audio) < SIZE + HOP:
        return np.zeros(0, np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(audio, SIZE)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(SIZE), axis=1)) ** 2
    edges = np.geomspace(250.0, 3_000.0, BANDS + 1) / RATE * SIZE
    cells = np.add.reduceat(power, np.round(edges).astype(int), axis=1)[:, :BANDS]
    level = np.log(cells + 1e-10)
    bits = np.diff(np.diff(level, axis=1), axis=0) > 0.0
    return np.asarray(bits @ (1 << np.arange(BANDS - 1, dtype=np.uint64)), np.uint32)


def duplicates(
    words: Sequence[Words], kind: Sequence[str], *, errors: float = 0.28, seconds: float = 1.5
) -> list[Match]:
    """Pairs of clips of different ``kind`` (their split) that overlap for ``seconds`` with few bit errors.

    The published threshold is 0.35 for 3.3 s; it is lower here because overlaps may be shorter.
    """
    votes = _votes(words, np.asarray(kind))
    best: dict[tuple[int, int], Match] = {}
    for (first, second, shift), count in votes.items():
        if count < SEEDS:
            continue
        match = _compare(words, first, second, shift)
        old = best.get((first, second))
        if match.seconds >= seconds and match.errors <= errors and (old is None or match.errors < old.errors):
            best[first, second] = match
    return sorted(best.values(), key=lambda m: m.errors)


def _votes(words: Sequence[Words], kind: npt.NDArray[np.str_]) -> Counter[tuple[int, int, int]]:
    """How often clips share a word, by how far they are displaced against each other."""
    lengths = [len(w) for w in words]
    value = np.concatenate([*words, np.zeros(0, np.uint32)])
    clip = np.repeat(np.arange(len(words)), lengths)
    place = np.concatenate([*(np.arange(n) for n in lengths), np.zeros(0, int)])
    keep = value != 0
    value, clip, place = value[keep], clip[keep], place[keep]
    order = np.argsort(value, kind="stable")
    value, clip, place = value[order], clip[order], place[order]
    begin = np.flatnonzero(np.r_[True, np.diff(value) > 0]) if len(value) else np.zeros(0, int)
    count = np.diff(np.r_[begin, len(value)])
    votes: Counter[tuple[int, int, int]] = Counter()
    for size in range(2, COMMON + 1):
        runs = begin[count == size]
        for i in range(size):
            for j in range(i + 1, size):
                a, b = runs + i, runs + j
                use = kind[clip[a]] != kind[clip[b]]
                votes.update(zip(clip[a][use], clip[b][use], (place[a] - place[b])[use], strict=True))
    return votes


def _compare(words: Sequence[Words], first: int, second: int, shift: int) -> Match:
    a, b = words[first], words[second]
    begin, end = max(0, shift), min(len(a), len(b) + shift)
    x, y = a[begin:end], b[begin - shift : end - shift]
    use = (x != 0) & (y != 0)
    errors = np.bitwise_count(x[use] ^ y[use]).mean() / 32.0 if use.any() else 1.0
    return Match(int(first), int(second), float(use.sum() * HOP / RATE), float(errors))
