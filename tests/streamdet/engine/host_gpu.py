"""A GPU made of host memory and ONNX Runtime, to run the TensorRT engine's own bookkeeping where no GPU is.

It takes addresses and sizes as CUDA does and bakes them into what is recorded; only the arithmetic is another's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from streamdet.engine.runtime import load_session

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int32)": np.int32}


class HostDevice:
    """See :class:`streamdet.engine.device.Device`."""

    recording: list[Callable[[], None]] | None = None

    def __init__(self) -> None:
        self.stream = 7
        self.replayed = 0
        self.recorded: dict[int, list[Callable[[], None]]] = {}
        self._held: dict[int, np.ndarray] = {}

    def allocate(self, size: int) -> int:
        memory = np.zeros(size, np.uint8)
        self._held[memory.ctypes.data] = memory
        return memory.ctypes.data

    def free(self, address: int) -> None:
        self._held.pop(address)[:] = 0xFF  # whoever still reads it gets nonsense

    def clear(self, address: int, size: int) -> None:
        ctypes.memset(address, 0, size)

    def copy(self, target: int, source: int, size: int) -> None:
        ctypes.memmove(target, source, size)

    def upload(self, target: int, source: np.ndarray) -> None:
        assert source.flags.c_contiguous
        ctypes.memmove(target, source.ctypes.data, source.nbytes)

    def download(self, target: np.ndarray, source: int) -> None:
        assert target.flags.c_contiguous
        ctypes.memmove(target.ctypes.data, source, target.nbytes)

    def wait(self) -> None:
        """Everything is done at once here."""

    def record(self, work: Callable[[], None]) -> int:
        HostDevice.recording = []
        work()
        number = len(self.recorded) + 1
        self.recorded[number], HostDevice.recording = HostDevice.recording, None
        return number

    def replay(self, recorded: int) -> None:
        self.replayed += 1
        for work in self.recorded[recorded]:
            work()

    def forget(self, recorded: int) -> None:
        self.recorded[recorded] = []

    def close(self) -> None:
        assert not self._held, "memory was not given back"


class HostPlan:
    """What the engine asks of ``ICudaEngine``, answered by a network in ONNX Runtime."""

    def __init__(self, network: bytes) -> None:
        self.session = load_session(network)
        self.entries = [*self.session.get_inputs(), *self.session.get_outputs()]
        self.num_io_tensors = len(self.entries)

    def get_tensor_name(self, index: int) -> str:
        return str(self.entries[index].name)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(n if isinstance(n, int) else -1 for n in self._entry(name).shape)

    def get_tensor_dtype(self, name: str) -> type:
        return TYPES[self._entry(name).type]

    def _entry(self, name: str) -> Any:
        return next(entry for entry in self.entries if entry.name == name)


class HostContext:
    """What the engine asks of ``IExecutionContext``."""

    def __init__(self, plan: HostPlan) -> None:
        self._plan = plan
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self.profiles: list[int] = []

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.profiles.append(profile)
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 7
        shapes, addresses = dict(self._shapes), dict(self._addresses)
        if HostDevice.recording is not None:
            HostDevice.recording.append(lambda: self._run(shapes, addresses))
        else:
            self._run(shapes, addresses)
        return True

    def _run(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        session = self._plan.session
        feeds = {
            entry.name: _view(addresses[entry.name], shapes[entry.name], TYPES[entry.type]).copy()
            for entry in session.get_inputs()
        }
        for entry, value in zip(session.get_outputs(), session.run(None, feeds), strict=True):
            _view(addresses[entry.name], value.shape, value.dtype)[...] = value


class HostLibrary:
    """The part of the ``tensorrt`` module that a loaded plan needs."""

    @staticmethod
    def nptype(dtype: type) -> type:
        return dtype


def _view(address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(shape)
