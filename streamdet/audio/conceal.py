"""Stands in for short losses by repeating the pitch of what was heard last, after ITU-T G.711 Appendix I (1999).

What it makes up is for ears, and for a network that takes a hole for an artefact; whoever uses it marks it as lost.
As in the recommendation: the period is sought from 5 to 15 ms; the first 10 ms repeat one period, the next two, then
three, so that no buzz arises; each 10 ms after the first lose a fifth of the level, and after 60 ms there is silence.
Different from it: sound that did arrive is never altered (there is no delay to do so in), and the seam to what follows
the gap, which is known here, is cross-faded into its mirror image.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

from streamdet.features.logmel import FloatArray

LONGEST_SECONDS: Final = 0.06
HISTORY_SECONDS: Final = 0.06
_STEP_SECONDS: Final = 0.01
_SHORTEST_PERIOD: Final = 0.005
_LONGEST_PERIOD: Final = 0.015
_TEMPLATE_SECONDS: Final = 0.02
_SEAM_SECONDS: Final = 0.004
_COARSE_RATE: Final = 4000


def conceal(history: FloatArray, count: int, rate: int, following: FloatArray | None = None) -> FloatArray:
    """Make up the ``count`` samples after ``history``, at most 60 ms; fewer or none where too little was heard.

    ``history`` is float32 ``[n]`` at ``rate`` Hz, oldest first; ``following`` is what came after the gap, where known.
    """
    whole = count <= int(LONGEST_SECONDS * rate)
    count = min(count, int(LONGEST_SECONDS * rate))
    if count <= 0 or len(history) < int((_LONGEST_PERIOD + _TEMPLATE_SECONDS) * rate):
        return np.empty(0, np.float32)
    made = _repeat(history, _period(history, rate), count, int(_STEP_SECONDS * rate))
    made *= _fade(count, rate)
    seam = min(int(_SEAM_SECONDS * rate), count // 2, 0 if following is None else len(following))
    if whole and following is not None and seam:
        weight = np.linspace(0, 1, seam, endpoint=False, dtype=np.float32)
        made[-seam:] += weight * (following[:seam][::-1] - made[-seam:])
    return made


def _period(history: FloatArray, rate: int) -> int:
    """Find the lag of the highest normalised cross-correlation: coarsely at 4 kHz, then to the sample."""
    stride = max(1, rate // _COARSE_RATE)
    usable = len(history) // stride * stride
    coarse = history[-usable:].reshape(-1, stride).mean(axis=1)
    lag = stride * _best_lag(coarse, rate / stride, None)
    return _best_lag(history, rate, lag) if stride > 1 else lag


def _best_lag(sound: FloatArray, rate: float, near: int | None) -> int:
    shortest, longest = round(_SHORTEST_PERIOD * rate), round(_LONGEST_PERIOD * rate)
    if near is not None:
        around = max(1, int(rate) // _COARSE_RATE)
        shortest, longest = max(shortest, near - around), min(longest, near + around)
    size = min(round(_TEMPLATE_SECONDS * rate), len(sound) - longest)
    template = sound[-size:]
    candidates = sound[len(sound) - size - longest : len(sound) - shortest]
    products = np.correlate(candidates, template, "valid")  # of lags longest to shortest
    energy = np.convolve(candidates * candidates, np.ones(size, np.float32), "valid")
    return longest - int(np.argmax(products / np.sqrt(energy + 1e-9)))


def _repeat(history: FloatArray, period: int, count: int, step: int) -> FloatArray:
    made = np.empty(count, np.float32)
    quarter = period // 4
    before: FloatArray | None = None
    for begin in range(0, count, step):
        end = min(begin + step, count)
        periods = min(1 + begin // step, 3)
        while periods > 1 and (periods * period + quarter) > len(history):
            periods -= 1
        loop = _loop(history, periods * period, quarter)
        index = np.arange(begin, end) % len(loop)
        made[begin:end] = loop[index]
        if before is not None and len(before) != len(loop):
            blend = min(quarter, end - begin)
            weight = np.linspace(0, 1, blend, endpoint=False, dtype=np.float32)
            old = before[np.arange(begin, begin + blend) % len(before)]
            made[begin : begin + blend] = old + weight * (made[begin : begin + blend] - old)
        before = loop
    return made


def _loop(history: FloatArray, length: int, quarter: int) -> FloatArray:
    """Cut the last periods so that their end runs smoothly into their beginning."""
    loop = history[-length:].copy()
    weight = np.linspace(0, 1, quarter, endpoint=False, dtype=np.float32)
    lead = history[-length - quarter : -length]
    if quarter and len(lead) == quarter:
        loop[-quarter:] += weight * (lead - loop[-quarter:])
    return loop


def _fade(count: int, rate: int) -> FloatArray:
    tens = np.arange(count, dtype=np.float32) / np.float32(_STEP_SECONDS * rate)
    return np.asarray(np.clip(1.2 - 0.2 * tens, 0, 1), np.float32)


class Concealer:
    """Remembers the last 60 ms of one stream, to stand in for what is lost after them."""

    def __init__(self) -> None:
        self._parts: deque[FloatArray] = deque()
        self._count = 0
        self._rate = 0

    def hear(self, samples: FloatArray, rate: int) -> None:
        """Take sound that arrived, float32 ``[n]``; a change of rate forgets what came before."""
        if rate != self._rate:
            self.forget()
            self._rate = rate
        self._parts.append(samples)
        self._count += len(samples)
        enough = int(HISTORY_SECONDS * rate)
        while self._count - len(self._parts[0]) >= enough:
            self._count -= len(self._parts.popleft())

    def forget(self) -> None:
        """Begin anew, where what follows has nothing to do with what came before."""
        self._parts.clear()
        self._count = 0

    def fill(self, count: int, rate: int, following: FloatArray | None = None) -> FloatArray:
        """Make up ``count`` samples as :func:`conceal` does; none at a rate that was not heard."""
        if rate != self._rate or not self._parts:
            return np.empty(0, np.float32)
        history = np.concatenate(self._parts)[-int(HISTORY_SECONDS * rate) :]
        return conceal(history, count, rate, following)
