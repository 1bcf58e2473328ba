"""The few things of the CUDA runtime that an engine needs, through NVIDIA's ``cuda-python``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdet.errors import DependencyError, StreamdetError

Array = npt.NDArray[Any]


class Device:
    """A stream of work on the GPU, and the memory it works in.

    Raises:
        DependencyError: ``cuda-python`` is not installed, or finds no GPU.
    """

    def __init__(self) -> None:
        try:
            self._cuda: ModuleType = importlib.import_module("cuda.bindings.runtime")
        except (ImportError, OSError) as error:
            raise DependencyError(f"cuda-python cannot be used: {error}; pip install 'streamdet[gpu]'") from error
        try:
            self.stream = int(self._call("cudaStreamCreate"))
        except StreamdetError as error:
            raise DependencyError(str(error)) from error

    def allocate(self, size: int) -> int:
        """Take ``size`` bytes of zeros; returns their address."""
        address = int(self._call("cudaMalloc", size))
        self._call("cudaMemsetAsync", address, 0, size, self.stream)
        return address

    def free(self, address: int) -> None:
        """Give memory back."""
        self._call("cudaFree", address)

    def clear(self, address: int, size: int) -> None:
        """Set ``size`` bytes to zero."""
        self._call("cudaMemsetAsync", address, 0, size, self.stream)

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy within the device."""
        self._call("cudaMemcpyAsync", target, source, size, self._kind("cudaMemcpyDeviceToDevice"), self.stream)

    def upload(self, target: int, source: Array) -> None:
        """Copy a contiguous array to the device; it must live until :meth:`wait`."""
        kind = self._kind("cudaMemcpyHostToDevice")
        self._call("cudaMemcpyAsync", target, source.ctypes.data, source.nbytes, kind, self.stream)

    def download(self, target: Array, source: int) -> None:
        """Copy from the device to a contiguous array, which is filled after :meth:`wait`."""
        kind = self._kind("cudaMemcpyDeviceToHost")
        self._call("cudaMemcpyAsync", target.ctypes.data, source, target.nbytes, kind, self.stream)

    def wait(self) -> None:
        """Wait until all work is done."""
        self._call("cudaStreamSynchronize", self.stream)

    def record(self, work: Callable[[], None]) -> int:
        """Record ``work`` as a CUDA graph instead of doing it; returns what :meth:`replay` takes."""
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self.stream, mode)
        try:
            work()
        finally:
            graph = self._call("cudaStreamEndCapture", self.stream)
        recorded = int(self._call("cudaGraphInstantiate", graph, 0))
        self._call("cudaGraphDestroy", graph)
        return recorded

    def replay(self, recorded: int) -> None:
        """Do recorded work."""
        self._call("cudaGraphLaunch", recorded, self.stream)

    def forget(self, recorded: int) -> None:
        """Throw recorded work away."""
        self._call("cudaGraphExecDestroy", recorded)

    def close(self) -> None:
        """Give the stream back."""
        self._call("cudaStreamDestroy", self.stream)

    def _kind(self, name: str) -> Any:
        return getattr(self._cuda.cudaMemcpyKind, name)

    def _call(self, name: str, *arguments: Any) -> Any:
        code, *results = getattr(self._cuda, name)(*arguments)
        if int(code):
            raise StreamdetError(f"{name} failed: {getattr(code, 'name', code)}")
        return results[0] if results else None


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Make a contiguous host array to copy from or to."""
    return np.empty(shape, dtype)
