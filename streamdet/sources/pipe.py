"""How much a pipe holds, for those who leave sound in it until it is wanted."""

from __future__ import annotations

import fcntl
import struct
import termios
from contextlib import suppress


def room(descriptor: int) -> int:
    """Bytes that can be written to a pipe before its writer waits; 0 for what is no pipe, or outside Linux."""
    if hasattr(fcntl, "F_GETPIPE_SZ"):
        with suppress(OSError):
            return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
    return 0


def waiting(descriptor: int) -> int:
    """Bytes that can be read from a pipe at once."""
    count: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))[0]
    return count


def widen(descriptor: int, size: int) -> None:
    """Let a pipe hold so many bytes where the system allows it: a user who has very many keeps smaller ones."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, size)
