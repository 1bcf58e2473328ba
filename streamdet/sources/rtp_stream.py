"""One RTP stream, from packets in any order to blocks on a gapless clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

import numpy as np

from streamdet.audio.block import Block, Phase, Status
from streamdet.audio.codecs import Decoder, Encoding, make_decoder
from streamdet.errors import DependencyError, FormatError
from streamdet.features.logmel import FloatArray
from streamdet.sources.jitter import JitterBuffer, Released
from streamdet.sources.payload import SOUNDLESS, PayloadTypes
from streamdet.sources.rtp_packet import RtpPacket
from streamdet.sources.timeline import Timeline

BLOCK_SECONDS: Final = 0.06
FLUSH_SECONDS: Final = 0.1
STALL_SECONDS: Final = 2.0
REPORT_SECONDS: Final = 10.0
DEGRADED_LOSS: Final = 0.05


class RtpStream:
    """Reorders, decodes and places the packets of one sender's SSRC; all times are monotonic seconds."""

    def __init__(
        self,
        name: str,
        *,
        origin: str,
        payload_types: PayloadTypes,
        first: RtpPacket,
        now: float,
        channel: int | None = None,
        shortest: float = 0.04,
        longest: float = 0.4,
    ) -> None:
        self.name = name
        self.last_arrival = now
        self.phase: Phase = "connecting"
        encoding = payload_types.get(first.payload_type)
        self._buffer = JitterBuffer(clock=encoding.clock if encoding else 8000, shortest=shortest, longest=longest)
        self._origin = origin
        self._choice = _Decoders(payload_types, channel)
        self._line = Timeline()
        self._blocks = _BlockBuilder(name)
        self._malformed = 0
        self._report_at = now + REPORT_SECONDS
        self._before = (0, 0)

    @property
    def trusted(self) -> bool:
        """True once this is surely a stream and no stray datagram."""
        return self._buffer.trusted

    def deadline(self, now: float) -> float | None:
        """When to call :meth:`take` even if no packet comes."""
        return self._buffer.deadline(now)

    def put(self, packet: RtpPacket, now: float) -> None:
        """Take in a packet that arrived just now."""
        self.last_arrival = now
        self._buffer.put(packet, now)

    def take(self, now: float) -> Iterator[Block | Status]:
        """Yield the sound that is ready, and what there is to say."""
        for released in self._buffer.take(now):
            yield from self._decode(released)
        if self._blocks.pending and (self._blocks.full or now - self.last_arrival > FLUSH_SECONDS):
            yield self._blocks.flush()

    def check(self, now: float) -> Iterator[Status]:
        """Yield a status where the stream's phase changed, and every ten seconds where packets went astray."""
        if now - self.last_arrival > STALL_SECONDS:
            yield from self._move("recovering", f"no packet for {STALL_SECONDS:g} s")
        elif self.phase == "recovering":
            complaint = self._choice.complaint
            yield from self._move("degraded" if complaint else "live", complaint or "packets come again")
        if now >= self._report_at:
            yield from self._report()
            self._report_at = now + REPORT_SECONDS

    def finish(self) -> Iterator[Block | Status]:
        """Yield what is left, and the final counters."""
        yield from self.take(float("inf"))
        yield Status(self.name, self.phase, "final counters", self.detail())

    def detail(self) -> dict[str, float | int | str]:
        """Count what became of the packets; the first five, without ``lost``, add up to all that came."""
        counters = asdict(self._buffer.counters)
        return {
            **counters,
            "malformed": self._malformed,
            "unknown": self._choice.unknown,
            "resets": self._line.resets,
            "lost_samples": self._blocks.lost_samples,
            "jitter_ms": round(1e3 * self._buffer.jitter.seconds, 2),
            "origin": self._origin,
        }

    def _decode(self, released: Released) -> Iterator[Block | Status]:
        decoder = self._choice.get(released.packet.payload_type)
        if decoder is None:
            self._line.carry(released.missing)
            if self._choice.complaint and self.phase == "connecting":
                yield from self._move("degraded", self._choice.complaint)
            return
        try:
            ticks = decoder.ticks(released.packet.payload)
            samples = decoder.decode(released.packet.payload)
        except FormatError:
            self._malformed += 1
            self._line.carry(released.missing + 1)
            return
        if self.phase in ("connecting", "recovering") or self._choice.complaint:
            self._choice.complaint = ""
            yield from self._move("live", f"receiving {self._choice.encoding} from {self._origin}")
        clock = self._choice.encoding.clock
        lost, silent = (n * decoder.rate // clock for n in self._line.place(released, ticks, clock))
        if lost or decoder.rate != self._blocks.rate:
            if self._blocks.pending:
                yield self._blocks.flush()
            self._blocks.begin(decoder.rate, lost)
        self._blocks.add(samples, silent, released.arrived)

    def _report(self) -> Iterator[Status]:
        counters = self._buffer.counters
        lost, received = counters.lost - self._before[0], counters.received - self._before[1]
        self._before = (counters.lost, counters.received)
        share = max(0, lost) / max(1, lost + received)
        if self.phase not in ("live", "degraded") or not received or self._choice.complaint:
            return
        if share > DEGRADED_LOSS:
            yield Status(self.name, "degraded", f"{share:.0%} of the packets were lost", self.detail())
            self.phase = "degraded"
        elif self.phase == "degraded" or lost:
            self.phase = "live"
            yield Status(self.name, "live", f"{share:.0%} of the packets were lost", self.detail())

    def _move(self, phase: Phase, reason: str) -> Iterator[Status]:
        if phase != self.phase:
            self.phase = phase
            yield Status(self.name, phase, reason, self.detail())


class _Decoders:
    """One decoder a payload type, made when the first packet of it comes."""

    def __init__(self, payload_types: PayloadTypes, channel: int | None) -> None:
        self.unknown = 0
        self.complaint = ""
        self.encoding = Encoding("", 8000)
        self._payload_types = payload_types
        self._channel = channel
        self._made: dict[int, Decoder | None] = {}
        self._current = -1

    def get(self, payload_type: int) -> Decoder | None:
        """Return the decoder, or None for what makes no sound or is unknown."""
        if payload_type not in self._made:
            self._made[payload_type] = self._make(payload_type)
        decoder = self._made[payload_type]
        if decoder is not None and payload_type != self._current:
            self._current = payload_type
            self.encoding = self._payload_types[payload_type]
        self.unknown += decoder is None and not self._soundless(payload_type)
        return decoder

    def _make(self, payload_type: int) -> Decoder | None:
        encoding = self._payload_types.get(payload_type)
        if encoding is None:
            self.complaint = f"unknown payload type {payload_type}: say pt={payload_type}&codec=..., or sdp=FILE"
            return None
        if self._soundless(payload_type):
            return None
        try:
            return make_decoder(encoding, channel=self._channel)
        except (FormatError, DependencyError) as error:
            self.complaint = f"payload type {payload_type}: {error}"
            return None

    def _soundless(self, payload_type: int) -> bool:
        encoding = self._payload_types.get(payload_type)
        return encoding is not None and encoding.codec in SOUNDLESS


class _BlockBuilder:
    """Joins the sound of a few packets into one block."""

    def __init__(self, name: str) -> None:
        self.rate = 0
        self.lost_samples = 0
        self._name = name
        self._lost = 0
        self._parts: list[FloatArray] = []
        self._count = 0
        self._arrived = 0.0

    @property
    def pending(self) -> bool:
        """True where there is sound to flush."""
        return self._count > 0

    @property
    def full(self) -> bool:
        """True where the next block is long enough."""
        return self._count >= BLOCK_SECONDS * self.rate

    def begin(self, rate: int, lost: int) -> None:
        """Start a block at ``rate`` after ``lost`` samples."""
        self.rate = rate
        self._lost += lost
        self.lost_samples += lost

    def add(self, samples: FloatArray, silent: int, arrived: float) -> None:
        """Append silence, then samples."""
        if silent:
            self._parts.append(np.zeros(silent, np.float32))
        self._parts.append(samples)
        self._count += silent + len(samples)
        self._arrived = arrived

    def flush(self) -> Block:
        """Hand out the block and begin another."""
        block = Block(self._name, np.concatenate(self._parts), self.rate, lost=self._lost, arrived=self._arrived)
        self._parts, self._count, self._lost = [], 0, 0
        return block
