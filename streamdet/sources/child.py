"""A process of its own for a library that may hang or crash: started, listened to, and killed without mercy.

A thread that hangs in a C library cannot be ended, and takes with it whatever lock it holds. A process can.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from streamdet.errors import SourceError
from streamdet.sources import pipe
from streamdet.sources.child_io import HEADER, NEWS, SOUND

READ: Final = 1 << 18
LARGEST: Final = 1 << 26  # of one record; more is a child that has lost its mind


@dataclass(frozen=True, slots=True)
class Sound:
    """Interleaved float32; see :mod:`streamdet.sources.child_io`."""

    data: bytes
    at: float
    position: int


@dataclass(frozen=True, slots=True)
class News:
    """A JSON object that the child said."""

    fields: dict[str, Any]


Record = Sound | News


class Child:
    """One child process that runs a module of this package; use it with ``contextlib.closing``.

    Raises:
        SourceError: no process can be started.
    """

    def __init__(self, module: str, arguments: Mapping[str, object]) -> None:
        self.ended = False  # its output is over
        self._buffer = bytearray()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # ALSA and FFmpeg chatter; what matters comes as a record
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for the parent, who then ends it
            )
        except OSError as error:
            raise SourceError(f"cannot start a process for {module}: {error.strerror}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        pipe.widen(self._output.fileno(), READ)  # sound can be left in it for longer
        self._poll = select.poll()
        self._poll.register(self._output, select.POLLIN)
        self.tell(arguments)

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def room(self) -> int:
        """Bytes that it can write before it waits until they are taken; 0 where the system does not say."""
        return pipe.room(self._output.fileno())

    def take(self, timeout: float) -> list[Record]:
        """Take what it wrote, in order; wait up to ``timeout`` seconds where there is nothing yet."""
        if not self.ended and self._poll.poll(1e3 * timeout):
            data = os.read(self._output.fileno(), READ)
            self._buffer += data
            self.ended = not data
        return list(self._records())

    def farewell(self) -> str:
        """Say how it ended; call it once it has ``ended``."""
        code = self._process.wait()
        name = signal.Signals(-code).name if -code in set(signal.Signals) else ""
        return f"its process was ended by {name}" if name else f"its process ended with code {code}"

    def close(self) -> None:
        """Kill it and leave nothing behind."""
        self._process.kill()
        self._process.wait()
        self._input.close()
        self._output.close()

    def tell(self, arguments: Mapping[str, object]) -> None:
        """Send it a JSON object."""
        with suppress(BrokenPipeError):  # it died at once, which `take` will find
            self._input.write(json.dumps(arguments).encode() + b"\n")

    def _records(self) -> Iterator[Record]:
        begin, buffer = 0, self._buffer
        while len(buffer) - begin >= HEADER.size:
            kind, size, at, position = HEADER.unpack_from(buffer, begin)
            if kind not in (SOUND, NEWS) or size > LARGEST:
                self.ended = True
                break
            if len(buffer) - begin - HEADER.size < size:
                break
            begin += HEADER.size + size
            data = bytes(buffer[begin - size : begin])
            yield Sound(data, at, position) if kind == SOUND else News(json.loads(data))
        del buffer[:begin]
