"""What every engine is: a causal network that keeps one state per slot and turns a hop into a column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from streamdet.features.logmel import FloatArray

if TYPE_CHECKING:
    from streamdet.engine.modelfile import ModelInfo

Slots = npt.NDArray[np.intp]


class Engine(Protocol):
    """Scores one hop of many streams at once; the state of each stream lives in the engine, in a numbered slot."""

    @property
    def info(self) -> ModelInfo:
        """What the model file says of itself."""
        ...

    @property
    def name(self) -> str:
        """Short name for status and logs, such as ``onnx-cpu``."""
        ...

    def allocate(self) -> int:
        """Take a free slot with fresh state; slots grow as needed."""
        ...

    def release(self, slot: int) -> None:
        """Give a slot back."""
        ...

    def reset(self, slot: int) -> None:
        """Return one slot to the state of a stream that just began."""
        ...

    def step(self, slots: Slots, features: FloatArray) -> FloatArray:
        """Advance ``slots`` (distinct, ``[n]``) by one hop.

        Args:
            slots: slot numbers, one a row of ``features``.
            features: float32 ``[n, hop_frames, values]`` from :class:`streamdet.features.FrontEnd`.

        Returns:
            Columns, float32 ``[n, 2]``: log-odds of spoof (uncalibrated) and log attention weight.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds."""
        ...
