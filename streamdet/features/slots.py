"""The front end of many streams, what it remembers of each in a numbered slot, as an engine keeps its states."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from streamdet.features.frontend import FrontEnd, FrontEndState
from streamdet.features.logmel import FloatArray, FrontEndConfig


class SlotFrontEnd:
    """Slots exist from their first :meth:`reset` on; each stream's features are its own, whoever shares the call."""

    def __init__(self, config: FrontEndConfig) -> None:
        self._front_end = FrontEnd(config)
        fresh = self._front_end.start(0)
        self._context, self._level = fresh.context, fresh.level

    def reset(self, slot: int) -> None:
        """Make a slot that of a stream that just began."""
        missing = max(0, slot + 1 - len(self._context))
        fresh = self._front_end.start(missing + 1)
        self._context = np.concatenate((self._context, fresh.context[1:])) if missing else self._context
        self._level = np.concatenate((self._level, fresh.level[1:])) if missing else self._level
        self._context[slot], self._level[slot] = fresh.context[0], fresh.level[0]

    def __call__(self, slots: npt.NDArray[np.intp], samples: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Advance ``slots`` (distinct, ``[n]``) by ``samples`` (float32 ``[n, k]``).

        Returns:
            Features ``[n, frames, values]`` and gains ``[n]``, see :meth:`streamdet.features.FrontEnd.gain`.
        """
        features, state = self._front_end(samples, FrontEndState(self._context[slots], self._level[slots]))
        self._context[slots], self._level[slots] = state.context, state.level
        return features, self._front_end.gain(state)

    def moved(self, moves: Mapping[int, int]) -> SlotFrontEnd:
        """Return the same streams in other slots: ``moves`` says which slot each of the old ones becomes."""
        other = SlotFrontEnd(self._front_end.config)
        for old, new in moves.items():
            other.reset(new)
            other._context[new], other._level[new] = self._context[old], self._level[old]
        return other
