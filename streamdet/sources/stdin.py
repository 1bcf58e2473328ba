"""Raw PCM on standard input, as ``arecord``, ``sox`` or ``ffmpeg`` write it."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Generator, Iterator
from typing import Final, Self

from streamdet.audio.block import Block, End, Item, Status
from streamdet.audio.pcm import PCM_FORMATS, PcmFormat, check_rate, decode_pcm, sample_bytes, to_mono
from streamdet.errors import SourceError
from streamdet.sources.address import Address, stream_name
from streamdet.sources.cleaner import Cleaner

# s; a writer of single samples shall not make a block of each. A hop is eight blocks of 40 ms, which end where it ends:
# none waits for them, and they cost half of what blocks of 20 ms do.
SHORTEST_BLOCK: Final = 0.04
LONGEST_BLOCK: Final = 1.0
POLL_SECONDS: Final = 0.25


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

    def items(self, stop: threading.Event) -> Iterator[Item]:
        """Yield what is written until the writer closes; see :class:`streamdet.sources.base.Source`."""
        descriptor = sys.stdin.fileno() if self._descriptor is None else self._descriptor
        if os.isatty(descriptor):
            raise SourceError("standard input is a terminal; pipe raw PCM into it, such as: arecord -t raw ... | ...")
        yield Status(self.name, "live", f"reading {self._format} at {self._rate} Hz", {"rate": self._rate})
        cleaner = Cleaner(self.name)
        left = yield from self._blocks(descriptor, cleaner, stop)
        if stop.is_set():
            return
        if cleaner.bad_samples:
            yield cleaner.summary()
        yield End(self.name, f"cut off within a frame ({left} bytes left over)" if left else "end of input")

    def _blocks(self, descriptor: int, cleaner: Cleaner, stop: threading.Event) -> Generator[Item, None, int]:
        """Yield blocks of whole frames; return how many bytes of a broken one are left."""
        frame = sample_bytes(self._format) * self._channels
        grid = max(1, int(SHORTEST_BLOCK * self._rate)) * frame
        held, taken = bytearray(), 0
        for data in _reads(descriptor, int(LONGEST_BLOCK * self._rate) * frame, stop):
            held += data
            whole = (taken + len(held)) // grid * grid - taken if data else len(held) - len(held) % frame
            if whole <= 0:
                continue
            taken += whole
            samples = decode_pcm(bytes(held[:whole]), pcm_format=self._format, channels=self._channels)
            del held[:whole]
            mono = to_mono(cleaner.take(samples), channel=self._channel)
            yield from cleaner.report()
            yield Block(self.name, mono, self._rate)
        return len(held)


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
