"""Between PortAudio's callback and the thread that reads: bounded, and aware of sound that never came."""

from __future__ import annotations

import queue
from dataclasses import dataclass
from typing import Final

from streamdet.features.logmel import FloatArray

MOST_CHUNKS: Final = 500  # 10 s of the usual 20 ms
MOST_TAKEN: Final = 50
EXCESS_SECONDS: Final = 0.2
SETTLE_SECONDS: Final = 1.0
DRIFT: Final = 5e-4  # by how much a sound card's clock may be slow


@dataclass(frozen=True, slots=True)
class Chunk:
    """Samples float32 ``[n, channels]`` that came ``at`` a monotonic time, with ``lost`` samples before them."""

    samples: FloatArray
    at: float
    lost: int = 0


class SampleClock:
    """Finds lost sound by counting samples against the monotonic clock, since not every backend tells of overflow.

    The number of samples that should have come and did not varies as callbacks are late; its lowest value is normal
    latency, which may creep up with a slow sound card. More than ``EXCESS_SECONDS`` above that, for longer than
    ``SETTLE_SECONDS``, is lost.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._begun: float | None = None
        self._last = 0.0
        self._counted = 0
        self._floor = 0.0
        self._excess_since: float | None = None
        self._least = 0.0

    def add(self, count: int, at: float) -> int:
        """Count samples that came at monotonic time ``at``; return how many must have been lost."""
        if self._begun is None:
            self._begun = self._last = at
            return 0
        self._counted += count
        behind = (at - self._begun) * self._rate - self._counted
        self._floor = min(behind, self._floor + DRIFT * (at - self._last) * self._rate)
        self._last = at
        return self._judge(behind - self._floor, at)

    def _judge(self, excess: float, at: float) -> int:
        if excess < EXCESS_SECONDS * self._rate:
            self._excess_since = None
            return 0
        if self._excess_since is None:
            self._excess_since, self._least = at, excess
        self._least = min(self._least, excess)
        if at - self._excess_since < SETTLE_SECONDS:
            return 0
        self._excess_since = None
        lost = round(self._least)
        self._counted += lost
        return lost


class CaptureQueue:
    """Takes chunks from the audio thread without ever making it wait; when full, new ones are dropped and counted."""

    def __init__(self, rate: int) -> None:
        self.last = 0.0
        self._clock = SampleClock(rate)
        self._chunks: queue.SimpleQueue[Chunk] = queue.SimpleQueue()
        self._lost = 0
        self._dropped = 0
        self._dropped_taken = 0

    def put(self, samples: FloatArray, at: float) -> None:
        """Add float32 ``[n, channels]`` that came at monotonic time ``at``; called by one thread."""
        self.last = at
        self._lost += self._clock.add(len(samples), at)
        if self._chunks.qsize() >= MOST_CHUNKS:
            self._dropped += len(samples)
            self._lost += len(samples)
            return
        self._chunks.put(Chunk(samples, at, self._lost))
        self._lost = 0

    def take(self, timeout: float) -> list[Chunk]:
        """Take what is there, in order; wait up to ``timeout`` seconds where there is nothing yet."""
        chunks: list[Chunk] = []
        try:
            chunks.append(self._chunks.get(timeout=timeout))
            while len(chunks) < MOST_TAKEN:
                chunks.append(self._chunks.get_nowait())
        except queue.Empty:
            pass
        return chunks

    def take_dropped(self) -> int:
        """Count the samples dropped since this was last asked; called by the thread that reads."""
        dropped = self._dropped - self._dropped_taken
        self._dropped_taken += dropped
        return dropped
