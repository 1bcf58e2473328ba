"""Raw PCM on standard input, as ``arecord``, ``sox`` or ``ffmpeg`` write it."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Final, Self

from streamdet.audio.block import Block, Item
from streamdet.audio.pcm import PCM_FORMATS, PcmFormat, check_rate, decode_pcm, sample_bytes, to_mono
from streamdet.errors import SourceError
from streamdet.features.logmel import FloatArray
from streamdet.sources import pipe
from streamdet.sources.address import Address, stream_name
from streamdet.sources.cleaner import Cleaner
from streamdet.sources.lifecycle import LifeCycle
from streamdet.sources.pace import Pace

# s; a writer of single samples shall not make a block of each. A hop is eight blocks of 40 ms, which end where it ends:
# none waits for them, and they cost half of what blocks of 20 ms do.
SHORTEST_BLOCK: Final = 0.04
LONGEST_BLOCK: Final = 1.0
POLL_SECONDS: Final = 0.25
EARLY_SECONDS: Final = 0.02  # before a hop's end may come; from then on sound is read as it comes
# A writer that stops for so long has stopped: an alert may not outlast it. A shorter pause, such as that of a program
# which waits for its own input, changes nothing, since no sound is lost in it.
STALL_SECONDS: Final = 10.0


class StdinSource:
    """Interleaved samples without a header: ``-``.

    Options: ``rate`` (16000), ``channels`` (1), ``format`` (``s16le``, ``s16be``, ``f32le``), ``channel`` (counted from
    0; the mean of all where absent), ``name``. Who writes waits while nobody reads, so nothing is lost here.
    """

    live = False
    uri = "-"

    def __init__(
        self,
        *,
        rate: int = 16000,
        channels: int = 1,
        pcm_format: PcmFormat = "s16le",
        channel: int | None = None,
        name: str | None = None,
        descriptor: int | None = None,
    ) -> None:
        if channel is not None and channel >= channels:
            raise SourceError(f"-: there is no channel {channel}, only {channels} (they count from 0)")
        self.name = stream_name(name or "stdin")
        self._rate = check_rate(rate)
        self._channels = channels
        self._format = pcm_format
        self._channel = channel
        self._descriptor = descriptor
        self._hearing = _Hearing(self.name, channel)
        self._wanted = 0.0  # seconds of sound until a hop is complete

    @classmethod
    def from_address(cls, address: Address) -> Self:
        """Make the source from a URI taken apart."""
        options = address.options
        chosen = options.choice("format", PCM_FORMATS, "s16le")
        return cls(
            rate=options.integer("rate", low=4000, high=768_000) or 16000,
            channels=options.integer("channels", low=1, high=1024) or 1,
            pcm_format=next(known for known in PCM_FORMATS if known == chosen),
            channel=options.integer("channel", low=0, high=1023),
            name=options.text("name"),
        )

    def counters(self) -> Mapping[str, Mapping[str, float]]:
        """Counters of the stream; see :class:`streamdet.sources.base.Counted`."""
        return {self.name: self._hearing.counters()}

    def expect(self, seconds: float) -> None:
        """Leave sound in the pipe until so much has come; see :class:`streamdet.sources.base.Unhurried`."""
        self._wanted = seconds

    def items(self, stop: threading.Event) -> Iterator[Item]:
        """Yield what is written until the writer closes; see :class:`streamdet.sources.base.Source`."""
        if self._descriptor is None and sys.stdin is None:
            raise SourceError("standard input is closed; pipe raw PCM into it, such as: arecord -t raw ... | ...")
        descriptor = sys.stdin.fileno() if self._descriptor is None else self._descriptor
        if os.isatty(descriptor):
            raise SourceError("standard input is a terminal; pipe raw PCM into it, such as: arecord -t raw ... | ...")
        heard = self._hearing = _Hearing(self.name, self._channel)
        yield heard.life.move("connecting", f"waiting for {self._format} at {self._rate} Hz", {"rate": self._rate})
        left = yield from self._blocks(descriptor, heard, stop)
        if not stop.is_set():
            yield from heard.end(f"cut off within a frame ({left} bytes left over)" if left else "end of input")

    def _blocks(self, descriptor: int, heard: _Hearing, stop: threading.Event) -> Generator[Item, None, int]:
        """Yield blocks of whole frames; return how many bytes of a broken one are left."""
        frame = sample_bytes(self._format) * self._channels
        grid = max(1, int(SHORTEST_BLOCK * self._rate)) * frame
        second = frame * self._rate  # of sound, in bytes
        held, taken, pace = bytearray(), 0, Pace()
        for data in _reads(descriptor, int(LONGEST_BLOCK * self._rate) * frame, stop):
            held += data
            if data:
                pace.add((taken + len(held)) / second, time.monotonic())
            whole = (taken + len(held)) // grid * grid - taken if data else len(held) - len(held) % frame
            if whole <= 0:
                yield from heard.nothing(time.monotonic())
                continue
            taken += whole
            samples = decode_pcm(bytes(held[:whole]), pcm_format=self._format, channels=self._channels)
            del held[:whole]
            yield from heard.take(samples, self._rate)
            due = pace.due(taken / second + self._wanted) - EARLY_SECONDS
            _nap(descriptor, min(due - time.monotonic(), pipe.room(descriptor) / 2 / second))
            self._wanted = 0.0
        return len(held)


class _Hearing:
    """What was written so far."""

    def __init__(self, name: str, channel: int | None) -> None:
        self.life = LifeCycle(name)
        self._channel = channel
        self._cleaner = Cleaner()
        self._samples = 0
        self._last = time.monotonic()

    def counters(self) -> dict[str, float]:
        """Count what happened."""
        return {"received_samples": self._samples, "bad_samples": self._cleaner.bad_samples, **self.life.counters()}

    def take(self, samples: FloatArray, rate: int) -> Iterator[Item]:
        """Yield samples ``[n, channels]`` as a block."""
        if self.life.phase in ("connecting", "recovering"):
            yield self.life.move("live", "hearing standard input", {"rate": rate})
        mono = to_mono(self._cleaner.take(samples), channel=self._channel)
        self._samples, self._last = self._samples + len(mono), time.monotonic()
        yield from self._cleaner.report(self.life)
        yield Block(self.life.stream, mono, rate)

    def nothing(self, now: float) -> Iterator[Item]:
        """Yield a status where nothing has come for long."""
        if self.life.phase in ("live", "degraded") and now - self._last > STALL_SECONDS:
            yield self.life.move("recovering", f"nothing was written for {STALL_SECONDS:g} s")

    def end(self, reason: str) -> Iterator[Item]:
        """Yield what was wrong, and the end."""
        if self._cleaner.bad_samples:
            yield self._cleaner.summary(self.life)
        yield self.life.end(reason)


def _nap(descriptor: int, seconds: float) -> None:
    """Leave a pipe alone until its writer closes or ``seconds`` have passed; not where something is in it already."""
    if seconds > 0 and not pipe.waiting(descriptor):
        closed = select.poll()
        closed.register(descriptor, 0)  # what is written wakes nobody
        closed.poll(1e3 * min(seconds, POLL_SECONDS))


def _reads(descriptor: int, size: int, stop: threading.Event) -> Iterator[bytes]:
    """Yield what can be read as it comes; nothing comes for a while, or the end: empty bytes."""
    while not stop.is_set():
        if not select.select([descriptor], [], [], POLL_SECONDS)[0]:
            yield b""
            continue
        data = os.read(descriptor, size)
        yield data
        if not data:
            return
