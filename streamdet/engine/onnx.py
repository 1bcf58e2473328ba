"""Runs a model file with ONNX Runtime on one core."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from streamdet.engine.base import Slots
from streamdet.engine.modelfile import ModelInfo, read_model
from streamdet.engine.runtime import load_session
from streamdet.engine.state import SlotPool, StateSpec
from streamdet.errors import ModelError
from streamdet.features.logmel import FloatArray

MAX_BATCH = 32  # the gain from batching is used up here, and a larger batch only holds up its first stream
WIDE_BATCH = 8  # of a network that hears single frequencies: with more, what is between its layers leaves the caches
TYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(uint8)": np.dtype(np.uint8),
}
# What a provider cannot run falls to the next; the last one runs everything.
PROVIDERS: dict[str, tuple[str, ...]] = {
    "onnx-cpu": ("CPUExecutionProvider",),
    "onnx-cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "onnx-tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
# All that loading can raise; ONNX Runtime's exceptions have no base of their own.
LOAD_FAILURES = (
    failures.Fail,
    failures.InvalidArgument,
    failures.InvalidGraph,
    failures.InvalidProtobuf,
    failures.NotImplemented,
    failures.RuntimeException,
)


class OnnxEngine:
    """Engine on ONNX Runtime, on one thread without spinning (see :class:`streamdet.engine.base.Engine`).

    The network takes ``features`` and the states by slot and returns ``column`` and the next states, in one order.

    Args:
        path: model file.
        max_batch: most streams a call of the network; larger steps are split, finer where that is faster.
        name: ``onnx-cpu``, or ``onnx-cuda`` or ``onnx-tensorrt``, whose states travel to the GPU and back at each call.

    Raises:
        ModelError: see :func:`streamdet.engine.modelfile.read_model`; or ONNX Runtime cannot run the network.
    """

    def __init__(self, path: Path | str, *, max_batch: int = MAX_BATCH, name: str = "onnx-cpu") -> None:
        self.name = name
        loaded = list(read_model(path))
        self._info = cast(ModelInfo, loaded.pop())
        try:
            self._session = load_session(cast(bytes, loaded.pop()), providers=PROVIDERS[name])
        except LOAD_FAILURES as error:
            raise ModelError(f"model {path}: ONNX Runtime cannot run it: {error}") from error
        inputs = self._session.get_inputs()
        self._check_signature(path, inputs)
        self._names = [entry.name for entry in inputs]
        wide = self._info.front_end.fine and name == "onnx-cpu"
        self._max_batch = min(max_batch, WIDE_BATCH) if wide else max_batch
        self._pool = SlotPool([StateSpec(tuple(state.shape[1:]), TYPES[state.type]) for state in inputs[1:]])

    @property
    def info(self) -> ModelInfo:
        """What the model file says of itself."""
        return self._info

    def allocate(self) -> int:
        """Take a free slot with fresh state; slots grow as needed."""
        return self._pool.allocate()

    def release(self, slot: int) -> None:
        """Give a slot back."""
        self._pool.release(slot)

    def reset(self, slot: int) -> None:
        """Return one slot to the state of a stream that just began."""
        self._pool.reset(slot)

    def step(self, slots: Slots, features: FloatArray) -> FloatArray:
        """Advance ``slots`` (distinct, ``[n]``) by one hop: float32 ``[n, 32, values]`` to columns ``[n, 2]``."""
        columns = np.empty((len(slots), 2), np.float32)
        for begin in range(0, len(slots), self._max_batch):
            part = slice(begin, begin + self._max_batch)
            columns[part] = self._step(slots[part], features[part])
        return columns

    def close(self) -> None:
        """Free the slots; the session goes with the engine."""
        self._pool = SlotPool(())

    def _step(self, slots: Slots, features: FloatArray) -> FloatArray:
        feeds = dict(zip(self._names, (features, *self._pool.gather(slots)), strict=True))
        column, *states = cast(list[Any], self._session.run(None, feeds))
        self._pool.scatter(slots, states)
        return cast(FloatArray, column)

    def _check_signature(self, path: Path | str, inputs: Sequence[Any]) -> None:
        front_end = self._info.front_end
        outputs = self._session.get_outputs()
        fits = inputs[0].name == "features" and inputs[0].shape[1:] == [front_end.hop_frames, front_end.values]
        fits = fits and outputs[0].name == "column" and all(state.type in TYPES for state in inputs[1:])
        if not fits or [entry.shape for entry in inputs[1:]] != [entry.shape for entry in outputs[1:]]:
            raise ModelError(f"model {path}: the network's inputs and outputs are not those of streamdet")
