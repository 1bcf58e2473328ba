"""Ring buffer of one stream: preallocated, with a sample clock that counts what was lost as well as what was heard."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

from streamdet.features.logmel import FloatArray


@dataclass(frozen=True, slots=True)
class Span:
    """Samples ``[start, stop)`` of a stream's clock, and how many of them were lost or concealed."""

    start: int
    stop: int
    samples: FloatArray
    lost: int


class Ring:
    """The last ``capacity`` samples (float32) of one stream, for one writer and one reader thread.

    Positions are sample counts since the stream began; they never wrap. A writer never waits: it overwrites the
    oldest samples, and what the reader had not fetched by then counts as ``overrun`` and shows up as lost.
    """

    def __init__(self, capacity: int, *, grid: int = 1) -> None:
        self.capacity = capacity
        self._grid = grid  # the reader goes on at a multiple of this after an overrun
        self.overrun = 0
        self._data = np.zeros(capacity, np.float32)
        self._written = 0
        self._read = 0
        self._gaps: deque[tuple[int, int]] = deque()
        self._lock = threading.Lock()

    @property
    def written(self) -> int:
        """Position of the next sample to be written: the stream's clock."""
        return self._written

    @property
    def position(self) -> int:
        """Position of the next sample to be read."""
        return self._read

    @property
    def available(self) -> int:
        """Samples written and not yet read."""
        return self._written - self._read

    def write(self, samples: FloatArray) -> None:
        """Append samples, overwriting the oldest."""
        tail = samples[-self.capacity :]
        with self._lock:
            begin = (self._written + len(samples) - len(tail)) % self.capacity
            first = min(len(tail), self.capacity - begin)
            self._data[begin : begin + first] = tail[:first]
            self._data[: len(tail) - first] = tail[first:]
            self._written += len(samples)
            self._drop_unread(self._written)

    def skip(self, count: int) -> None:
        """Move the clock over ``count`` samples that will never come: silence, marked as lost."""
        with self._lock:
            begin = self._written
            blank = min(count, self.capacity)
            index = np.arange(begin + count - blank, begin + count) % self.capacity
            self._data[index] = 0.0
            self._written += count
            self._gaps.append((begin, begin + count))
            self._drop_unread(begin)

    def mark_lost(self, start: int, stop: int) -> None:
        """Mark ``[start, stop)`` as lost or concealed; it may lie ahead of what is written."""
        if stop > start:
            with self._lock:
                self._gaps.append((start, stop))

    def read(self, count: int) -> Span | None:
        """Fetch the next ``count`` samples, or None while they are not there yet."""
        with self._lock:
            if self._written - self._read < count:
                return None
            span = self._span(self._read, self._read + count)
            self._read += count
            self._forget_gaps()
            return span

    def slice(self, start: int, stop: int) -> Span:
        """Copy ``[start, stop)`` as far as it is still held; for evidence, so it does not move the reader."""
        with self._lock:
            oldest = max(0, self._written - self.capacity)
            begin = min(max(start, oldest), self._written)
            return self._span(begin, max(begin, min(stop, self._written)))

    def _span(self, start: int, stop: int) -> Span:
        begin = start % self.capacity
        first = min(stop - start, self.capacity - begin)
        samples = np.concatenate((self._data[begin : begin + first], self._data[: stop - start - first]))
        lost = sum(max(0, min(stop, b) - max(start, a)) for a, b in self._gaps)
        return Span(start, stop, samples, min(lost, stop - start))

    def _drop_unread(self, heard: int) -> None:
        """Move the reader over what is overwritten; what lies before ``heard`` was sound and counts as overrun."""
        oldest = self._written - self.capacity
        if self._read < oldest:
            resume = -(-oldest // self._grid) * self._grid
            self.overrun += max(0, min(resume, heard) - self._read)
            self._gaps.append((self._read, resume))
            self._read = resume

    def _forget_gaps(self) -> None:
        oldest = self._written - self.capacity
        while self._gaps and self._gaps[0][1] <= oldest:
            self._gaps.popleft()
