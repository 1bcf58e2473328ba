"""Windows: pooling lengths over one ring of columns, so that more windows cost next to nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Column:
    """What one hop contributes.

    ``logit`` is the network's raw log-odds of spoof, ``attention`` its log weight; ``speech`` is the hop's share of
    speech by the VAD and ``lost`` the share of its audio that never arrived, both in [0, 1].
    """

    logit: float
    attention: float
    speech: float
    lost: float = 0.0

    @property
    def weight(self) -> float:
        """Weight in a pool: attention times speech, so that a hop without speech has no say."""
        return math.exp(self.attention) * self.speech


@dataclass(frozen=True, slots=True)
class Pool:
    """Columns taken together; ``raw`` is None where none of them holds speech."""

    raw: float | None  # log-odds of spoof, not calibrated
    seconds: float  # audio held
    speech: float  # share of speech in it
    lost: float  # share of it that never arrived

    @property
    def speech_seconds(self) -> float:
        """Seconds of speech held."""
        return self.speech * self.seconds


EMPTY = Pool(None, 0.0, 0.0, 0.0)


def _terms(column: Column) -> FloatArray:
    """Compute what is summed over a pool, float64 ``[4]``: weight, weighted logit, speech, lost."""
    weight = column.weight
    return np.array((weight, weight * column.logit, column.speech, column.lost))


def _pool(sums: FloatArray, hops: int, hop_seconds: float) -> Pool:
    weight, weighted, speech, lost = sums.tolist()
    raw = weighted / weight if weight > 0 else None
    return Pool(raw, hops * hop_seconds, speech / hops, lost / hops)


class Windows:
    """The last columns of a stream, pooled over windows of several lengths: ``sum(w l) / sum(w)``.

    A window's length is rounded to whole hops. Until a window is full it pools what there is. Every column is written
    twice, a ring's length apart, so that any window is one contiguous slice; summing that slice anew is as cheap as
    running sums and gathers no rounding error.
    """

    def __init__(self, lengths: Sequence[float], hop_seconds: float) -> None:
        self.lengths = tuple(lengths)
        self.hop_seconds = hop_seconds
        self.hops = tuple(max(1, round(length / hop_seconds)) for length in self.lengths)
        self._capacity = max(self.hops)
        self._terms = np.zeros((2 * self._capacity, 4))
        self._seen = 0

    def push(self, column: Column) -> None:
        """Take the next column; the oldest falls out of each window that is full."""
        self._take(_terms(column))

    def resized(self, lengths: Sequence[float]) -> Windows:
        """Make windows of other lengths over the same columns, as far as they are still held."""
        other = Windows(lengths, self.hop_seconds)
        held = min(self._seen, self._capacity, other._capacity)
        for number in range(self._seen - held, self._seen):
            other._take(self._terms[number % self._capacity])
        return other

    def pools(self) -> tuple[Pool, ...]:
        """Pool each window, in the order of ``lengths``."""
        return tuple(self._last(hops) for hops in self.hops)

    def reset(self) -> None:
        """Forget all columns."""
        self._seen = 0

    def _take(self, terms: FloatArray) -> None:
        at = self._seen % self._capacity
        self._terms[at :: self._capacity] = terms
        self._seen += 1

    def _last(self, hops: int) -> Pool:
        held = min(hops, self._seen)
        if held == 0:
            return EMPTY
        end = (self._seen - 1) % self._capacity + self._capacity + 1
        return _pool(self._terms[end - held : end].sum(axis=0), held, self.hop_seconds)


class Whole:
    """All columns since the start, pooled: what a file as a whole is worth."""

    def __init__(self, hop_seconds: float) -> None:
        self.hop_seconds = hop_seconds
        self._sums = np.zeros(4)
        self._hops = 0

    def push(self, column: Column) -> None:
        """Take the next column."""
        self._sums += _terms(column)
        self._hops += 1

    def pool(self) -> Pool:
        """Pool all columns."""
        return _pool(self._sums, self._hops, self.hop_seconds) if self._hops else EMPTY
