"""Keeps glibc's allocator from handing memory back and forth; does nothing with other C libraries."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
LARGE = 1 << 20  # bytes; what is smaller comes from the heap. No array of a micro-batch is larger, every ring is
KEPT = 32 << 20  # bytes at the end of the heap that are kept for the next hop


def keep_working_memory() -> bool:
    """Let arrays that live for one hop be made from memory that is there already; returns whether that worked.

    By default glibc gives such memory back to the kernel after every hop, and the next one faults it in again page by
    page: at eight streams that was two thirds of the front end's time. Called before anything else is loaded.
    """
    mallopt = _function("mallopt", ctypes.c_int, ctypes.c_int)
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, LARGE)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT))


def give_back_memory() -> None:
    """Give the kernel what loading has left free; called once everything is loaded."""
    trim = _function("malloc_trim", ctypes.c_size_t)
    if trim is not None:
        trim(0)


def _function(name: str, *arguments: type[ctypes._SimpleCData[int]]) -> ctypes._FuncPointer | None:
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function.argtypes, function.restype = arguments, ctypes.c_int
    return function
