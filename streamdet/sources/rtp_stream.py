"""One RTP stream, from packets in any order to blocks on a gapless clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

import numpy as np

from streamdet.audio.block import Block, End, Phase, Status
from streamdet.audio.codecs import ConcealingDecoder, Decoder, Encoding, make_decoder
from streamdet.audio.conceal import Concealer
from streamdet.errors import DependencyError, FormatError
from streamdet.features.logmel import FloatArray
from streamdet.sources.jitter import JitterBuffer, Released
from streamdet.sources.lifecycle import LifeCycle
from streamdet.sources.payload import SOUNDLESS, PayloadTypes
from streamdet.sources.rtcp import ReportBlock, SenderReport
from streamdet.sources.rtp_guard import RateLimit
from streamdet.sources.rtp_options import RtpOptions
from streamdet.sources.rtp_packet import RtpPacket
from streamdet.sources.timeline import Timeline

BLOCK_SECONDS: Final = 0.06
FLUSH_SECONDS: Final = 0.1
STALL_SECONDS: Final = 2.0
QUIET_STALL_SECONDS: Final = 10.0  # after comfort noise or an event: silence is meant to be seldom described
REPORT_SECONDS: Final = 10.0
LONGEST_PACKET_SECONDS: Final = 1.0
FAREWELL_SECONDS: Final = 0.5  # how long packets may still come after a goodbye that overtook them


class RtpStream:
    """Reorders, decodes and places the packets of one sender; all times are monotonic seconds.

    Args:
        name: name of the stream.
        origin: where it comes from, for people.
        payload_types: what the payload types mean.
        first: the packet that made it known; not yet taken in.
        now: when that arrived.
        options: bounds, thresholds and what to do about loss.
    """

    def __init__(
        self,
        name: str,
        *,
        origin: str,
        payload_types: PayloadTypes,
        first: RtpPacket,
        now: float,
        options: RtpOptions | None = None,
    ) -> None:
        self.name = name
        self.life = LifeCycle(name)
        self.last_arrival = self.began = now
        self.limit = RateLimit((options or RtpOptions()).max_rate)
        self.flooded = 0  # packets above that limit
        self._options = options or RtpOptions()
        self._payload_types = payload_types
        self._origin = origin
        self._ssrc = first.ssrc
        self._buffer = self._new_buffer(first)
        self._choice = _Decoders(payload_types, self._options.channel)
        self._line = Timeline()
        self._blocks = _BlockBuilder(name)
        self._concealer = Concealer()
        self._malformed = 0
        self._noise = self._events = self._empty = 0
        self._report_at = now + REPORT_SECONDS
        self._before = (0, 0)
        self._quiet = False  # the last packet said that there is nothing to hear
        self._leaving: tuple[float, str] | None = None
        self._sender: tuple[SenderReport, float] | None = None
        self._replied = (0, 0)

    @property
    def phase(self) -> Phase:
        """Where the stream stands in its life cycle."""
        phase = self.life.phase
        return "live" if phase == "ended" else phase

    @property
    def ssrc(self) -> int:
        """The SSRC it has now."""
        return self._ssrc

    @property
    def trusted(self) -> bool:
        """True once this is surely a stream and no stray datagram."""
        return self._buffer.trusted

    def stalled(self, now: float) -> bool:
        """Tell whether packets are overdue."""
        return now - self.last_arrival > (QUIET_STALL_SECONDS if self._quiet else STALL_SECONDS)

    def deadline(self, now: float) -> float | None:
        """When to call :meth:`take` even if no packet comes."""
        return self._buffer.deadline(now)

    def put(self, packet: RtpPacket, now: float) -> None:
        """Take in a packet that arrived at ``now``."""
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
        if self.stalled(now):
            if self.phase in ("live", "degraded"):
                yield self._move("recovering", f"no packet for {now - self.last_arrival:.0f} s")
        elif self.phase == "recovering":
            complaint = self._choice.complaint
            yield self._move("degraded" if complaint else "live", complaint or "packets come again")
        if now >= self._report_at:
            yield from self._report()
            self._report_at = now + REPORT_SECONDS

    def go_on_as(self, first: RtpPacket, now: float, origin: str) -> Iterator[Block | Status]:
        """Go on with a sender that begins anew under another SSRC; yields what is left of the one before."""
        yield from self.take(float("inf"))
        counters = self._buffer.counters
        self._ssrc, self._origin = first.ssrc, origin
        self._buffer = self._new_buffer(first)
        self._buffer.counters = counters
        self._choice.restart()
        self._concealer.forget()
        self._line.restart()
        self._leaving = self._sender = None
        self.last_arrival = now

    def sender_report(self, report: SenderReport, now: float) -> None:
        """Take what the sender says of itself."""
        self._sender = report, now

    def leave(self, now: float, reason: str) -> None:
        """Take the sender's goodbye; packets it overtook may still come."""
        if self._leaving is None:
            self._leaving = now + self._buffer.hold(now) + FAREWELL_SECONDS, reason

    def over(self, now: float) -> str | None:
        """Why the stream is over, or None while it is not."""
        if self._leaving is not None and now >= self._leaving[0]:
            return f"its sender said goodbye{self._leaving[1] and ': ' + self._leaving[1]}"
        if now - self.last_arrival >= self._options.idle:
            return f"no packet for {self._options.idle:g} s"
        return None

    def finish(self, reason: str) -> Iterator[Block | Status | End]:
        """Yield what is left, the final counters, and the end."""
        yield from self.take(float("inf"))
        yield self.life.update("final counters", self.detail())
        yield self.life.end(reason)

    def reception(self) -> dict[str, float]:
        """Receiver statistics as RFC 3550 defines them; ``cumulative_lost`` is negative where packets came twice."""
        counters, buffer = self._buffer.counters, self._buffer
        arrived = counters.received + counters.late + counters.duplicate
        return {
            "expected": buffer.expected,
            "cumulative_lost": buffer.expected - arrived,
            "extended_highest": buffer.extended_highest,
            "jitter_ms": round(1e3 * buffer.jitter.seconds, 2),
        }

    def report_block(self, now: float) -> ReportBlock:
        """Write what a receiver report says of this stream; the fraction lost is that since the last call."""
        statistics = self.reception()
        expected, lost = int(statistics["expected"]), int(statistics["cumulative_lost"])
        expected_since, lost_since = expected - self._replied[0], lost - self._replied[1]
        self._replied = expected, lost
        sender, at = self._sender or (None, now)
        return ReportBlock(
            ssrc=self._ssrc,
            fraction_lost=max(0, lost_since) / max(1, expected_since),
            cumulative_lost=lost,
            extended_highest=int(statistics["extended_highest"]),
            jitter=round(self._buffer.jitter.seconds * self._buffer.clock),
            last_report=0 if sender is None else sender.ntp >> 16,
            delay=0 if sender is None else round((now - at) * 65536),
        )

    def counters(self) -> dict[str, float]:
        """Count what became of the packets: those that came are ``received + late + duplicate + stray + flooded``.

        ``lost`` never came. Packets that came and could not be used (``malformed``, ``unknown``) or hold no sound
        (``noise``, ``events``, ``empty``) are among those received.
        """
        sender = {} if self._sender is None else {"sender_packets": self._sender[0].packets}
        return {
            **asdict(self._buffer.counters),
            "flooded": self.flooded,
            "malformed": self._malformed,
            "unknown": self._choice.unknown,
            "noise": self._noise,
            "events": self._events,
            "empty": self._empty,
            "resets": self._line.resets,
            "lost_samples": self._blocks.lost_samples,
            "concealed_samples": self._blocks.concealed_samples,
            **self.reception(),
            **sender,
        }

    def detail(self) -> dict[str, float | int | str]:
        """Say the counters and where the stream comes from, for events."""
        return {**self.counters(), "ssrc": f"{self._ssrc:08x}", "origin": self._origin}

    def _new_buffer(self, first: RtpPacket) -> JitterBuffer:
        encoding = self._payload_types.get(first.payload_type)
        return JitterBuffer(
            clock=encoding.clock if encoding else 8000,
            shortest=self._options.shortest,
            longest=self._options.longest,
        )

    def _decode(self, released: Released) -> Iterator[Block | Status]:
        decoder = self._choice.get(released.packet.payload_type)
        if decoder is None:
            yield from self._pass_over(released)
            return
        self._quiet = False
        ticks = self._duration(decoder, released.packet.payload)
        if not ticks:
            self._line.carry(released, broken=ticks is None)
            return
        yield from self._welcome()
        yield from self._sound(released, decoder, ticks)

    def _duration(self, decoder: Decoder, payload: bytes) -> int | None:
        """Ticks of a payload; 0 for one that only keeps a path open (RFC 6263), None for one that cannot be."""
        if not payload:
            self._empty += 1
            return 0
        try:
            ticks = decoder.ticks(payload)
        except FormatError:
            ticks = 0
        if 0 < ticks <= LONGEST_PACKET_SECONDS * self._choice.encoding.clock:
            return ticks
        self._malformed += 1
        return None

    def _pass_over(self, released: Released) -> Iterator[Block | Status]:
        """Account for a packet without sound: comfort noise, an event, or what is not known."""
        codec = self._choice.soundless(released.packet.payload_type)
        if codec is None:
            self._line.carry(released)
            if self._choice.complaint and self.phase == "connecting":
                yield self._move("degraded", self._choice.complaint)
            return
        self._quiet = True
        if codec != "cn":
            self._events += 1
            self._line.skip(released)
            return
        self._noise += 1
        if self._blocks.rate:
            clock = self._choice.encoding.clock
            lost, silent = self._scaled(self._line.cover(released, clock), clock)
            yield from self._gap(lost, None, released.arrived)
            self._blocks.add_silence(silent, released.arrived)

    def _welcome(self) -> Iterator[Status]:
        if self.phase in ("connecting", "recovering") or self._choice.complaint:
            self._choice.complaint = ""
            yield self._move("live", f"receiving {self._choice.encoding} from {self._origin}")

    def _sound(self, released: Released, decoder: Decoder, ticks: int) -> Iterator[Block]:
        clock = self._choice.encoding.clock
        resets = self._line.resets
        placed = self._line.place(released, ticks, clock)
        anew = decoder.rate != self._blocks.rate or self._line.resets != resets
        if anew:
            self._concealer.forget()
        if decoder.rate != self._blocks.rate:
            if self._blocks.pending:
                yield self._blocks.flush()
            self._blocks.rate = decoder.rate
        lost, silent = self._scaled(placed, clock)
        own = None if anew else self._ask(decoder, lost)
        try:
            samples = decoder.decode(released.packet.payload)
        except FormatError:
            self._malformed += 1
            yield from self._gap(lost + ticks * decoder.rate // clock, own, released.arrived)
            return
        yield from self._gap(lost, own, released.arrived, samples)
        self._blocks.add_silence(silent, released.arrived)
        self._blocks.add(samples, released.arrived)
        if self._options.conceal:
            self._concealer.hear(samples, decoder.rate)

    def _scaled(self, placed: tuple[int, int], clock: int) -> tuple[int, int]:
        lost, silent = placed
        return lost * self._blocks.rate // clock, silent * self._blocks.rate // clock

    def _ask(self, decoder: Decoder, lost: int) -> FloatArray | None:
        """Let the codec itself conceal what was lost, where it can; before the next packet goes through it."""
        if lost and self._options.conceal and isinstance(decoder, ConcealingDecoder):
            return decoder.conceal(lost)
        return None

    def _gap(
        self, lost: int, own: FloatArray | None, arrived: float, following: FloatArray | None = None
    ) -> Iterator[Block]:
        """Cover ``lost`` samples: with what stands in for the first of them, marked as such, and then nothing."""
        if not lost:
            return
        if self._blocks.pending:
            yield self._blocks.flush()
        if own is None and self._options.conceal:
            own = self._concealer.fill(lost, self._blocks.rate, following)
        yield from self._blocks.lose(lost, own, arrived)

    def _report(self) -> Iterator[Status]:
        counters = self._buffer.counters
        lost, received = counters.lost - self._before[0], counters.received - self._before[1]
        self._before = (counters.lost, counters.received)
        share = max(0, lost) / max(1, lost + received)
        if self.phase not in ("live", "degraded") or not received or self._choice.complaint:
            return
        bound = self._options.max_loss * (0.5 if self.phase == "degraded" else 1)  # no flapping around the bound
        if share > bound:
            yield self._move("degraded", f"{share:.0%} of the packets were lost", fraction_lost=share)
        elif self.phase == "degraded" or lost:
            yield self._move("live", f"{share:.0%} of the packets were lost", fraction_lost=share)

    def _move(self, phase: Phase, reason: str, **more: float) -> Status:
        return self.life.move(phase, reason, {**self.detail(), **{key: round(n, 4) for key, n in more.items()}})


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

    def restart(self) -> None:
        """Forget what the decoders remember."""
        self._made.clear()
        self._current = -1

    def get(self, payload_type: int) -> Decoder | None:
        """Return the decoder, or None for what makes no sound or is unknown."""
        if payload_type not in self._made:
            self._made[payload_type] = self._make(payload_type)
        decoder = self._made[payload_type]
        if decoder is not None and payload_type != self._current:
            self._current = payload_type
            self.encoding = self._payload_types[payload_type]
        self.unknown += decoder is None and self.soundless(payload_type) is None
        return decoder

    def soundless(self, payload_type: int) -> str | None:
        """Name what a payload type stands for if it makes no sound."""
        encoding = self._payload_types.get(payload_type)
        return encoding.codec if encoding is not None and encoding.codec in SOUNDLESS else None

    def _make(self, payload_type: int) -> Decoder | None:
        encoding = self._payload_types.get(payload_type)
        if encoding is None:
            self.complaint = f"unknown payload type {payload_type}: say pt={payload_type}&codec=..., or sdp=FILE"
            return None
        if encoding.codec in SOUNDLESS:
            return None
        try:
            return make_decoder(encoding, channel=self._channel)
        except (FormatError, DependencyError) as error:
            self.complaint = f"payload type {payload_type}: {error}"
            return None


class _BlockBuilder:
    """Joins the sound of a few packets into one block."""

    def __init__(self, name: str) -> None:
        self.rate = 0
        self.lost_samples = 0  # with those that something stands in for
        self.concealed_samples = 0
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

    def lose(self, lost: int, instead: FloatArray | None, arrived: float) -> Iterator[Block]:
        """Count samples as lost; ``instead``, where there is some, stands in for the first of them."""
        self.lost_samples += lost
        if instead is not None and len(instead):
            instead = instead[:lost]
            lost -= len(instead)
            self.concealed_samples += len(instead)
            before, self._lost = self._lost, 0
            yield Block(self._name, instead, self.rate, lost=before, concealed=True, arrived=arrived)
        self._lost += lost

    def add(self, samples: FloatArray, arrived: float) -> None:
        """Append samples."""
        self._parts.append(samples)
        self._count += len(samples)
        self._arrived = arrived

    def add_silence(self, count: int, arrived: float) -> None:
        """Append silence."""
        if count:
            self.add(np.zeros(count, np.float32), arrived)

    def flush(self) -> Block:
        """Hand out the block and begin another."""
        block = Block(self._name, np.concatenate(self._parts), self.rate, lost=self._lost, arrived=self._arrived)
        self._parts, self._count, self._lost = [], 0, 0
        return block
