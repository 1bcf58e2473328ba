"""Events as JSON lines on a byte stream."""

from __future__ import annotations

import os
from typing import BinaryIO

from streamdet.errors import SinkEndedError, SinkError
from streamdet.events import Event


class JsonLinesSink:
    """Writes one event a line, at once; the stream, such as ``sys.stdout.buffer``, stays open on close.

    The stream's own buffer is left out: a reader that stalls would hold its lock, and Python cannot exit then.
    """

    name = "jsonl"

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._raw: BinaryIO = getattr(stream, "raw", stream)

    def emit(self, event: Event, payload: bytes) -> None:  # noqa: ARG002  as the protocol has it
        """Write one line.

        Raises:
            SinkEndedError: the reader of the pipe has gone, which is how ``| head`` ends.
            SinkError: the line could not be written, such as on a full disk.
        """
        try:
            self._write(payload + b"\n")
        except BrokenPipeError as error:
            _silence(self._stream)
            raise SinkEndedError("the reader of the JSON lines has gone") from error
        except OSError as error:
            raise SinkError(f"cannot write JSON lines: {error.strerror}") from error

    def close(self) -> None:
        """Do nothing: every line is written already."""

    def _write(self, line: bytes) -> None:
        """Write all of a line, however little a pipe takes at a time."""
        rest = memoryview(line)
        while rest:
            rest = rest[self._raw.write(rest) or 0 :]


def _silence(stream: BinaryIO) -> None:
    """Send nowhere what others still write to the stream; else Python complains once more when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
