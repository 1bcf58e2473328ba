"""One stream inside the process: from a source's blocks, at any rate, to whole hops on the sample clock."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from streamdet.audio.block import Block
from streamdet.audio.resample import Resampler
from streamdet.audio.ring import Ring
from streamdet.features.logmel import FloatArray

SHORTEST_REST = 0.08  # seconds; a rest shorter than this at the end of a stream is not worth a hop of its own
BRIDGE = 1.0  # seconds; a longer gap is jumped instead of being sent through the resampler as silence


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop: samples (float32), how many of them are missing, its end on the sample clock, when that end came."""

    samples: FloatArray
    lost: int
    end: int
    arrived: float
    skipped: int = 0  # samples before it that were overwritten unread, or lie in a gap longer than the ring


class Voice:
    """Takes blocks from one source thread and hands hops to the scoring thread; neither ever waits for the other."""

    def __init__(self, name: str, *, rate: int, hop_samples: int, ring_seconds: float) -> None:
        self.name = name
        self.ring = Ring(int(ring_seconds * rate), grid=hop_samples)
        self.ended: str | None = None
        self._rate = rate
        self._hop_samples = hop_samples
        self._resampler: Resampler | None = None
        self._base = 0  # clock position at which the present resampler began
        self._arrivals: deque[tuple[int, float]] = deque()
        self._length: int | None = None
        self._taken = 0  # end of the hop taken last

    @property
    def length(self) -> int:
        """Clock position of the end of the sound, without what fills up the last hop."""
        return self.ring.written if self._length is None else self._length

    @property
    def ready(self) -> bool:
        """Whether a whole hop waits."""
        return self.ring.available >= self._hop_samples

    @property
    def waiting_since(self) -> float:
        """Monotonic time at which the oldest waiting sound arrived; infinity where none waits."""
        return self._arrivals[0][1] if self._arrivals else float("inf")

    def accept(self, block: Block) -> None:
        """Write a block to the ring."""
        resampler = self._bridge(block)
        start = self._base + resampler.position
        self.ring.write(resampler.push(block.samples))
        stop = self._base + resampler.position
        if block.concealed:
            self.ring.mark_lost(start, stop)
        self._arrivals.append((stop, block.arrived))

    def finish(self, reason: str) -> None:
        """End the stream: empty the resampler and fill the last hop up with silence."""
        if self.ended is not None:
            return
        self._flush()
        self._length = self.ring.written
        rest = self._length % self._hop_samples
        if rest >= SHORTEST_REST * self._rate:
            self.ring.write(np.zeros(self._hop_samples - rest, np.float32))
        self.ended = reason

    def take(self) -> Hop | None:
        """Fetch the next hop, or None while it is not complete."""
        span = self.ring.read(self._hop_samples)
        if span is None:
            return None
        arrived = time.monotonic()
        while self._arrivals:
            position, arrived = self._arrivals[0]
            if position >= span.stop:
                break
            self._arrivals.popleft()
        end = span.stop if self._length is None else min(span.stop, self._length)
        skipped, self._taken = span.start - self._taken, span.stop
        return Hop(span.samples, span.lost, end, arrived, skipped)

    def seconds(self, position: int) -> float:
        """Media time of a clock position, in seconds."""
        return position / self._rate

    def _bridge(self, block: Block) -> Resampler:
        """Cover what was lost before the block, and follow a change of rate."""
        resampler = self._resampler
        lost = block.lost / block.rate
        if resampler is None or resampler.rate != block.rate or lost > BRIDGE:
            self._flush()
            if lost:
                self.ring.skip(round(lost * self._rate))
            self._base = self.ring.written
            resampler = self._resampler = Resampler(block.rate, self._rate)
        elif lost:
            start = self._base + resampler.position
            self.ring.write(resampler.push(np.zeros(block.lost, np.float32)))
            self.ring.mark_lost(start, self._base + resampler.position)
        return resampler

    def _flush(self) -> None:
        if self._resampler is not None:
            self.ring.write(self._resampler.finish())
