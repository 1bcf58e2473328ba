"""State of many streams in slots, gathered for a batch and scattered back."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdet.engine.base import Slots

StateArray = npt.NDArray[Any]
FIRST_CAPACITY = 8


@dataclass(frozen=True, slots=True)
class StateSpec:
    """One state tensor of a stream: its shape without the batch, its type and the value it starts with."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    initial: float = 0.0


class SlotPool:
    """Numbered slots, each the state of one stream in preallocated arrays ``[capacity, ...]`` that double when full."""

    def __init__(self, specs: Sequence[StateSpec], capacity: int = FIRST_CAPACITY) -> None:
        self._specs = tuple(specs)
        self._arrays = [self._fresh(spec, capacity) for spec in self._specs]
        self._capacity = capacity
        self._free = list(range(capacity))
        self._used: set[int] = set()

    def __len__(self) -> int:
        return len(self._used)

    @property
    def capacity(self) -> int:
        """Slots that exist, used or not."""
        return self._capacity

    def allocate(self) -> int:
        """Take the lowest free slot, with fresh state."""
        if not self._free:
            self._grow()
        slot = heapq.heappop(self._free)
        self._used.add(slot)
        self.reset(slot)
        return slot

    def release(self, slot: int) -> None:
        """Give a slot back.

        Raises:
            ValueError: the slot is not in use.
        """
        self._check(slot)
        self._used.remove(slot)
        heapq.heappush(self._free, slot)

    def reset(self, slot: int) -> None:
        """Return a slot to the state of a stream that just began; ValueError where it is not in use."""
        self._check(slot)
        for spec, array in zip(self._specs, self._arrays, strict=True):
            array[slot] = spec.initial

    def gather(self, slots: Slots) -> list[StateArray]:
        """Copy out the states of ``slots`` ``[n]``: one array ``[n, ...]`` a tensor, contiguous."""
        return [array[slots] for array in self._arrays]

    def scatter(self, slots: Slots, states: Sequence[StateArray]) -> None:
        """Store ``states`` as returned by the network for ``slots``."""
        for array, state in zip(self._arrays, states, strict=True):
            array[slots] = state

    def _check(self, slot: int) -> None:
        if slot not in self._used:
            raise ValueError(f"slot {slot} is not in use")

    def _grow(self) -> None:
        more = self._capacity
        self._arrays = [
            np.concatenate((array, self._fresh(spec, more)))
            for spec, array in zip(self._specs, self._arrays, strict=True)
        ]
        self._free = list(range(self._capacity, self._capacity + more))
        self._capacity += more

    @staticmethod
    def _fresh(spec: StateSpec, count: int) -> StateArray:
        return np.full((count, *spec.shape), spec.initial, spec.dtype)
