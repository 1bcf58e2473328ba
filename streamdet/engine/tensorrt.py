"""Runs a model file with TensorRT on an NVIDIA GPU; the states of all streams stay in the GPU's memory.

Not verified on a GPU by its authors: what can be decided without one is tested, parity is tested where one is.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from streamdet.engine.base import Slots
from streamdet.engine.device import Device, empty
from streamdet.engine.gpu import find_gpu
from streamdet.engine.modelfile import ModelInfo, read_model
from streamdet.engine.plans import LARGEST_POOL, Library, cached_plan, find_tensorrt, profile_for, profiles
from streamdet.engine.state import SlotPool
from streamdet.errors import DependencyError, ModelError, StreamdetError
from streamdet.features.logmel import FloatArray

log = structlog.get_logger(__name__)
FIRST_CAPACITY = 64  # slots; one more than can be given out, as the last one takes what fills up a batch
WARM = 2  # calls of one size before they are recorded as a graph


def padded(count: int, most: int) -> int:
    """Size of the batch that ``count`` streams are filled up to: few sizes, so that each can be recorded once."""
    return min(most, 1 << (count - 1).bit_length())


@dataclass(slots=True)
class _State:
    """One state of all streams: two buffers, of which the network reads one and writes the other."""

    number: str
    row: int  # bytes of one stream
    buffers: list[int] = field(default_factory=list)


class TensorRTEngine:
    """Engine on an NVIDIA GPU (see :class:`streamdet.engine.base.Engine`), through TensorRT or TensorRT for RTX.

    The plan is built unless it is cached, which takes minutes with TensorRT. A CUDA graph is recorded of each size of
    batch where the context can be captured.

    Args:
        path: model file in fp32, fp16 or qdq.
        max_batch: streams a call of the network; larger steps are split.
        cache: folder of the plans.

    Raises:
        ModelError: see :func:`streamdet.engine.modelfile.read_model`; or no plan can be made of the network.
        DependencyError: a package or the GPU is missing.
    """

    name = "tensorrt"

    def __init__(self, path: Path | str, *, max_batch: int = 32, cache: Path | None = None) -> None:
        content, self._info = read_model(path)
        gpu, library = find_gpu(), find_tensorrt()
        if isinstance(gpu, str):
            raise DependencyError(f"engine tensorrt cannot be used: {gpu}")
        if library is None:
            raise DependencyError("engine tensorrt needs tensorrt or tensorrt_rtx: pip install 'streamdet[gpu]'")
        self._max_batch = max_batch
        self._profiles = profiles(max_batch)
        plan = cached_plan(content, self._info, gpu, library, most=max_batch, cache=cache)
        self._device = Device()
        self._trt, self._plan, self._context = _loaded(library, plan)
        self._states = self._describe_states()
        self._capacity = 0
        self._side = 0  # the buffer of each state that is read at the next call
        self._slots = SlotPool((), FIRST_CAPACITY - 1)
        self._graphs: dict[tuple[int, int], int] = {}
        self._calls: dict[tuple[int, int], int] = {}
        self._recording = True
        self._profile = 0
        self._make_buffers()
        self._grow(FIRST_CAPACITY)

    @property
    def info(self) -> ModelInfo:
        """What the model file says of itself."""
        return self._info

    def allocate(self) -> int:
        """Take a free slot with fresh state; slots grow as needed."""
        slot = self._slots.allocate()
        if self._slots.capacity >= self._capacity:
            self._grow(2 * self._capacity)
        self.reset(slot)
        return slot

    def release(self, slot: int) -> None:
        """Give a slot back."""
        self._slots.release(slot)

    def reset(self, slot: int) -> None:
        """Return one slot to the state of a stream that just began."""
        self._slots.reset(slot)
        for state in self._states:
            self._device.clear(state.buffers[self._side] + slot * state.row, state.row)

    def step(self, slots: Slots, features: FloatArray) -> FloatArray:
        """Advance ``slots`` (distinct, ``[n]``) by one hop: float32 ``[n, 32, values]`` to columns ``[n, 2]``."""
        columns = np.empty((len(slots), 2), np.float32)
        for begin in range(0, len(slots), self._max_batch):
            part = slice(begin, begin + self._max_batch)
            columns[part] = self._step(slots[part], features[part])
        return columns

    def close(self) -> None:
        """Free what the engine holds on the GPU."""
        self._device.wait()
        self._forget_graphs()
        for address in [*self._io.values(), *(buffer for state in self._states for buffer in state.buffers)]:
            self._device.free(address)
        self._context = self._plan = None
        self._device.close()

    def _step(self, slots: Slots, features: FloatArray) -> FloatArray:
        count, size = len(slots), padded(len(slots), self._max_batch)
        self._host_slots[:count], self._host_slots[count:size] = slots, self._capacity - 1
        self._host_features[:count], self._host_features[count:size] = features, 0.0
        self._run(size)
        self._side = 1 - self._side
        return self._host_columns[:count].copy()

    def _run(self, size: int) -> None:
        """Run a whole batch, with the graph of its size and side if there is one."""
        key = size, self._side
        self._device.upload(self._io["slots"], self._host_slots[:size])
        self._device.upload(self._io["features"], self._host_features[:size])
        if key in self._graphs:
            self._device.replay(self._graphs[key])
        else:
            self._bind(size)
            self._enqueue()
            self._maybe_record(key)
        self._device.download(self._host_columns[:size], self._io["column"])
        self._device.wait()

    def _bind(self, size: int) -> None:
        wanted = profile_for(size, self._profiles)
        if wanted != self._profile:
            self._context.set_optimization_profile_async(wanted, self._device.stream)
            self._device.wait()
            self._profile = wanted
        front_end = self._info.front_end
        self._context.set_input_shape("slots", (size,))
        self._context.set_input_shape("features", (size, front_end.hop_frames, front_end.values))
        for name, address in self._io.items():
            self._context.set_tensor_address(name, address)
        for state in self._states:
            shape = tuple(self._plan.get_tensor_shape(f"pool_{state.number}"))[1:]
            self._context.set_input_shape(f"pool_{state.number}", (self._capacity, *shape))
            self._context.set_tensor_address(f"pool_{state.number}", state.buffers[self._side])
            self._context.set_tensor_address(f"kept_{state.number}", state.buffers[1 - self._side])

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._device.stream):
            raise StreamdetError("TensorRT failed to run a batch; its log says why")

    def _maybe_record(self, key: tuple[int, int]) -> None:
        """Record the next call of this size, once it has run a few times as it is."""
        self._calls[key] = self._calls.get(key, 0) + 1
        if not self._recording or self._calls[key] < WARM:
            return
        self._device.wait()
        try:
            self._graphs[key] = self._device.record(self._enqueue)
        except StreamdetError as error:
            self._recording = False
            log.warning("no_cuda_graphs", reason=str(error))

    def _forget_graphs(self) -> None:
        for recorded in self._graphs.values():
            self._device.forget(recorded)
        self._graphs.clear()
        self._calls.clear()

    def _describe_states(self) -> list[_State]:
        names = (self._plan.get_tensor_name(index) for index in range(self._plan.num_io_tensors))
        return [self._describe_state(name) for name in names if name.startswith("pool_")]

    def _describe_state(self, name: str) -> _State:
        values = math.prod(tuple(self._plan.get_tensor_shape(name))[1:])
        size = np.dtype(self._trt.nptype(self._plan.get_tensor_dtype(name))).itemsize
        return _State(name.removeprefix("pool_"), values * size)

    def _make_buffers(self) -> None:
        front_end, most = self._info.front_end, self._max_batch
        self._host_slots = empty((most,), np.int32)
        self._host_features = empty((most, front_end.hop_frames, front_end.values), np.float32)
        self._host_columns = empty((most, 2), np.float32)
        arrays = {"slots": self._host_slots, "features": self._host_features, "column": self._host_columns}
        self._io = {name: self._device.allocate(array.nbytes) for name, array in arrays.items()}

    def _grow(self, capacity: int) -> None:
        """Move all states into larger buffers.

        Raises:
            StreamdetError: more streams than a plan is made for.
        """
        if capacity > LARGEST_POOL:
            raise StreamdetError(f"more than {LARGEST_POOL - 1} streams on one GPU")
        self._device.wait()
        self._forget_graphs()
        for state in self._states:
            before, state.buffers = state.buffers, [self._device.allocate(capacity * state.row) for _ in range(2)]
            if before:
                self._device.copy(state.buffers[self._side], before[self._side], self._capacity * state.row)
            self._device.wait()
            for address in before:
                self._device.free(address)
        self._capacity = capacity


def _loaded(library: Library, path: Path) -> tuple[Any, Any, Any]:
    """Load a plan: the library, the plan and a context to run it in."""
    trt = importlib.import_module(library.name)
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    plan = runtime.deserialize_cuda_engine(path.read_bytes())
    if plan is None:
        raise ModelError(f"the plan {path} cannot be used here; delete it and run `streamdet engine build`")
    return trt, plan, plan.create_execution_context()
