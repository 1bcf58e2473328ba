"""How a source's child process and its parent talk; the child's half, which imports nothing but the standard library.

The parent writes lines of JSON to the child's standard input and then keeps it open: secrets never stand on a
command line, and where it closes the parent has died and the child ends as well. The child writes records to its
standard output: a header, then ``size`` octets. A record of kind ``A`` is sound, interleaved float32 in the byte order
of the machine; ``position`` counts samples of one channel from the start to its first one and ``at`` is the monotonic
time of its last one (Linux and macOS have one monotonic clock for all processes). Kind ``J`` is a JSON object.
"""

from __future__ import annotations

import json
import os
import queue
import struct
import sys
import threading
import time
from typing import Any, Final

HEADER: Final = struct.Struct("=cIdq")
SOUND: Final = b"A"
NEWS: Final = b"J"


class ChildEnd:
    """The child's end: its arguments, and the way back. Takes standard output away from everybody else."""

    def __init__(self) -> None:
        self._output = os.dup(1)
        os.dup2(2, 1)  # what libraries print must not stand between records
        self._lock = threading.Lock()
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._watch_parent, daemon=True).start()

    def hear(self) -> dict[str, Any]:
        """Wait for the next JSON object of the parent; the first holds the arguments."""
        heard: dict[str, Any] = json.loads(self._lines.get())
        return heard

    def sound(self, data: bytes, *, at: float, position: int) -> None:
        """Send interleaved float32."""
        self._send(SOUND, data, at, position)

    def say(self, **news: object) -> None:
        """Send a JSON object."""
        self._send(NEWS, json.dumps(news).encode(), time.monotonic(), 0)

    def _send(self, kind: bytes, data: bytes, at: float, position: int) -> None:
        view = memoryview(HEADER.pack(kind, len(data), at, position) + data)
        with self._lock:
            while view:
                view = view[os.write(self._output, view) :]

    def _watch_parent(self) -> None:
        for line in sys.stdin.buffer:
            self._lines.put(line)
        os._exit(0)  # not sys.exit: the main thread may hang in a library, which is why this process exists
