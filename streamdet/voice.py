"""One stream inside the process: from a source's blocks, at any rate, to whole hops on the sample clock."""

from __future__ import annotations

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

    def __init__(self, name: str, *, rate: int, hop_samples: int, ring_seconds: float, patient: bool = False) -> None:
        self.name = name
        self.patient = patient  # its source waits for room, so that it is never behind
        self.queued = False  # for the scheduler
        self.ring = Ring(int(ring_seconds * rate), grid=hop_samples)
        self.ended: str | None = None
        self._rate = rate
        self._hop_samples = hop_samples
        self._resampler: Resampler | None = None
        self._base = 0  # clock position at which the present resampler began
        held = self.ring.capacity // hop_samples + 2
        self._complete: deque[tuple[int, float]] = deque(maxlen=held)  # ends of hops, and when each came
        self._next_end = hop_samples
        self._heard_at = 0.0
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
    def waiting(self) -> int:
        """Whole hops that wait."""
        return self.ring.available // self._hop_samples

    @property
    def wanting(self) -> float:
        """Seconds of sound until the next hop is complete; for the source's thread."""
        return (self._hop_samples - self.ring.available % self._hop_samples) / self._rate

    @property
    def waiting_since(self) -> float:
        """Monotonic time at which the oldest hop that waits was complete; infinity where none waits. For any thread."""
        try:
            return self._complete[0][1]
        except IndexError:
            return float("inf")

    def accept(self, block: Block) -> None:
        """Write a block to the ring."""
        resampler = self._bridge(block)
        start = self._base + resampler.position
        self.ring.write(resampler.push(block.samples))
        stop = self._base + resampler.position
        if block.concealed:
            self.ring.mark_lost(start, stop)
        self._heard_at = block.arrived
        self._note_ends(stop)

    def finish(self, reason: str) -> None:
        """End the stream: empty the resampler and fill the last hop up with silence."""
        if self.ended is not None:
            return
        self._flush()
        self._length = self.ring.written
        rest = self._length % self._hop_samples
        if rest >= SHORTEST_REST * self._rate:
            self.ring.write(np.zeros(self._hop_samples - rest, np.float32))
        self._note_ends(self.ring.written)
        self.ended = reason

    def take(self) -> Hop | None:
        """Fetch the next hop, or None while it is not complete."""
        span = self.ring.read(self._hop_samples)
        if span is None:
            return None
        arrived = self._heard_at
        while self._complete and self._complete[0][0] <= span.stop:
            _, arrived = self._complete.popleft()
        end = span.stop if self._length is None else min(span.stop, self._length)
        skipped, self._taken = span.start - self._taken, span.stop
        return Hop(span.samples, span.lost, end, arrived, skipped)

    def seconds(self, position: int) -> float:
        """Media time of a clock position, in seconds."""
        return position / self._rate

    def _note_ends(self, stop: int) -> None:
        """Note when the hops that end by ``stop`` were complete; of more than the ring holds, those that it holds."""
        hop = self._hop_samples
        self._next_end = max(self._next_end, (stop - self.ring.capacity) // hop * hop)
        while self._next_end <= stop:
            self._complete.append((self._next_end, self._heard_at))
            self._next_end += hop

    def _bridge(self, block: Block) -> Resampler:
        """Cover what was lost before the block, and follow a change of rate."""
        resampler = self._resampler
        lost = block.lost / block.rate
        variable = block.drift is not None
        if resampler is None or (resampler.rate, resampler.variable) != (block.rate, variable) or lost > BRIDGE:
            self._flush()
            if lost:
                self.ring.skip(round(lost * self._rate))
            self._base = self.ring.written
            resampler = self._resampler = Resampler(block.rate, self._rate, variable=variable)
        elif lost:
            start = self._base + resampler.position
            self.ring.write(resampler.push(np.zeros(block.lost, np.float32)))
            self.ring.mark_lost(start, self._base + resampler.position)
        if block.drift is not None:
            resampler.follow(block.drift)
        return resampler

    def _flush(self) -> None:
        if self._resampler is not None:
            self.ring.write(self._resampler.finish())
