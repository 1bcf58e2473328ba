"""Which NVIDIA GPU there is, asked of the driver itself, so that no package is needed to know."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

DRIVER = "libcuda.so.1"
MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first GPU; ``capability`` is its compute capability, such as ``9.0``, ``driver`` the CUDA it supports."""

    name: str
    capability: str
    driver: str


def find_gpu(driver: str = DRIVER) -> Gpu | str:
    """Return the first GPU, or the reason why there is none."""
    try:
        cuda = ctypes.CDLL(driver)
    except OSError:
        return f"no NVIDIA driver ({driver} is not there)"
    code = cuda.cuInit(0)
    if code:
        return f"the NVIDIA driver does not start (CUDA error {code})"
    count, device, version = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if cuda.cuDeviceGetCount(ctypes.byref(count)) or not count.value or cuda.cuDeviceGet(ctypes.byref(device), 0):
        return "the NVIDIA driver finds no GPU"
    name = ctypes.create_string_buffer(256)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDriverGetVersion(ctypes.byref(version))
    capability = ".".join(str(_attribute(cuda, number, device)) for number in (MAJOR, MINOR))
    return Gpu(name.value.decode(errors="replace"), capability, f"{version.value // 1000}.{version.value % 1000 // 10}")


def _attribute(cuda: ctypes.CDLL, number: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(value), number, device)
    return value.value
