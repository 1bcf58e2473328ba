"""Puts the packets of one RTP stream back in order, waiting by time and never longer than needed.

Nobody listens to this sound, so a packet that comes in order passes at once. Only behind a gap do packets wait, and
only for as long as this stream's packets have lately been late: three times the interarrival jitter (RFC 3550
section 6.4.1) and at least the lateness last seen, within bounds. What has not come by then is lost; should it still
come, it is late. Every packet is counted once: ``received + late + duplicate + stray`` is all that came in, and
``lost`` is what never came.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Final

from streamdet.sources.rtp_packet import RtpPacket

# RFC 3550 appendix A.1: a larger jump forward, or farther back, is a sender that began anew - if a second one follows.
MAX_DROPOUT: Final = 3000
MAX_MISORDER: Final = 100
ENOUGH_TO_TRUST: Final = 5
LATENESS_SECONDS: Final = 30.0  # how long a late packet raises the wait
GAPS_REMEMBERED: Final = 256
MOST_BYTES: Final = 2 << 20  # held of one stream; more than 0.4 s of anything that is speech


@dataclass(slots=True)
class Counters:
    """What became of the packets of one stream; ``lost`` shrinks when a lost one comes after all."""

    received: int = 0
    lost: int = 0
    late: int = 0
    duplicate: int = 0
    reordered: int = 0
    stray: int = 0


@dataclass(order=True, frozen=True, slots=True)
class Released:
    """A packet in its place: unwrapped ``sequence``, monotonic ``arrived``, ``missing`` packets right before it."""

    sequence: int
    arrived: float = field(compare=False)
    packet: RtpPacket = field(compare=False)
    missing: int = field(default=0, compare=False)
    restarted: bool = field(default=False, compare=False)


@dataclass(slots=True)
class _Gap:
    """Sequences ``begin`` to ``end - 1``, passed over since the packet behind them came at ``seen``."""

    begin: int
    end: int
    seen: float
    came: set[int] = field(default_factory=set)


class JitterEstimate:
    """Interarrival jitter in seconds, as RFC 3550 appendix A.8 computes it."""

    def __init__(self, clock: int) -> None:
        self.seconds = 0.0
        self._clock = clock
        self._last: tuple[float, int] | None = None

    def add(self, timestamp: int, now: float) -> None:
        """Take one packet that arrived at monotonic time ``now``."""
        if self._last is not None:
            then, before = self._last
            step = ((timestamp - before + 0x80000000) & 0xFFFFFFFF) - 0x80000000
            difference = min(abs(now - then - step / self._clock), 1.0)  # a jump of the clock is no jitter
            self.seconds += (difference - self.seconds) / 16
        self._last = (now, timestamp)


class JitterBuffer:
    """Reorders one stream. All times are monotonic seconds that the caller passes in.

    Sequence numbers are unwrapped: they only grow, over wraps and over a sender that begins anew.
    """

    def __init__(self, *, clock: int, shortest: float = 0.04, longest: float = 0.4, capacity: int = 1024) -> None:
        self.counters = Counters()
        self.clock = clock
        self.jitter = JitterEstimate(clock)
        self.trusted = False  # true once two packets in sequence came: no stray datagram (RFC 3550 appendix A.1)
        self._shortest = shortest
        self._longest = longest
        self._capacity = capacity
        self._held: list[Released] = []
        self._sequences: set[int] = set()
        self._highest: int | None = None
        self._start: int | None = None
        self._next = 0
        self._gaps: deque[_Gap] = deque(maxlen=GAPS_REMEMBERED)
        self._after_stray: int | None = None
        self._restart_at: int | None = None
        self._lateness = 0.0
        self._late_at = float("-inf")
        self._held_bytes = 0
        self._base = 0  # where the sender began, or began anew
        self._expected_before = 0  # packets it must have sent before it began anew

    @property
    def expected(self) -> int:
        """How many packets the sender must have sent from its first to its highest number (RFC 3550 appendix A.3)."""
        return 0 if self._highest is None else self._expected_before + self._highest - self._base + 1

    @property
    def extended_highest(self) -> int:
        """Highest sequence number with the count of its wraps above it, as a receiver report has it."""
        return 0 if self._highest is None else self._highest - 0x10000

    def hold(self, now: float) -> float:
        """How long a gap is waited for, in seconds."""
        late = self._lateness if now - self._late_at < LATENESS_SECONDS else 0.0
        return min(max(self._shortest, 3 * self.jitter.seconds, 1.25 * late), self._longest)

    def deadline(self, now: float) -> float | None:
        """When :meth:`take` has something to give even if no packet comes; None where nothing waits."""
        return self._held[0].arrived + self.hold(now) if self._held and self.trusted else None

    def put(self, packet: RtpPacket, now: float) -> None:
        """Take in a packet that arrived just now."""
        sequence = self._place(packet.sequence)
        if sequence is None:
            self.counters.stray += 1
        elif sequence in self._sequences:
            self.counters.duplicate += 1
        elif self._start is not None and sequence < self._next:
            self._too_late(sequence, packet, now)
        else:
            self._accept(Released(sequence, now, packet))

    def take(self, now: float) -> list[Released]:
        """Release what is in order, or has waited long enough for what is missing."""
        ready: list[Released] = []
        while self._held and self._may_go(self._held[0], now):
            head = heapq.heappop(self._held)
            self._sequences.remove(head.sequence)
            self._held_bytes -= len(head.packet.payload)
            ready.append(self._release(head))
        return ready

    def _place(self, number: int) -> int | None:
        if self._highest is None:
            return number + 0x10000
        sequence = self._highest + ((number - self._highest + 0x8000) & 0xFFFF) - 0x8000
        ahead = sequence - self._highest
        if -MAX_MISORDER <= ahead <= MAX_DROPOUT or self._gap_of(sequence) is not None:
            return sequence
        return self._place_anew(number)

    def _place_anew(self, number: int) -> int | None:
        """Believe in a jump once a second packet follows the first; until then it is a stray."""
        begins = number == self._after_stray
        self._after_stray = (number + 1) & 0xFFFF
        if not begins or self._highest is None:
            return None
        self._expected_before = self.expected
        self._restart_at = self._base = (self._highest | 0xFFFF) + 0x10001 + number
        return self._restart_at

    def _accept(self, item: Released) -> None:
        sequence = item.sequence
        if self._highest is None:
            self._base = sequence
        highest = sequence if self._highest is None else self._highest
        self._base = min(self._base, sequence) if self._restart_at is None else self._base
        self.counters.received += 1
        self.counters.reordered += sequence < highest
        self._highest = max(sequence, highest)
        self.jitter.add(item.packet.timestamp, item.arrived)
        heapq.heappush(self._held, item)
        self._held_bytes += len(item.packet.payload)
        self._sequences.add(sequence)
        neighbours = not self._sequences.isdisjoint((sequence - 1, sequence + 1))
        self.trusted = self.trusted or neighbours or len(self._held) >= ENOUGH_TO_TRUST

    def _too_late(self, sequence: int, packet: RtpPacket, now: float) -> None:
        gap = self._gap_of(sequence)
        if gap is None:
            self.counters.duplicate += 1
            return
        gap.came.add(sequence)
        self.counters.late += 1
        self.counters.lost -= sequence >= (self._start or 0)
        self.jitter.add(packet.timestamp, now)
        self._lateness = max(now - gap.seen, self._lateness if now - self._late_at < LATENESS_SECONDS else 0.0)
        self._late_at = now

    def _gap_of(self, sequence: int) -> _Gap | None:
        """Find the gap in which a sequence is still missing."""
        for gap in reversed(self._gaps):
            if gap.begin <= sequence < gap.end:
                return None if sequence in gap.came else gap
        return None

    def _may_go(self, head: Released, now: float) -> bool:
        if not self.trusted:
            return False
        if self._start is not None and head.sequence in (self._next, self._restart_at):
            return True
        full = len(self._held) > self._capacity or self._held_bytes > MOST_BYTES
        return full or now >= head.arrived + self.hold(now)

    def _release(self, head: Released) -> Released:
        restarted = self._restart_at is not None and head.sequence >= self._restart_at
        begins = self._start is None or restarted
        missing = 0 if begins else head.sequence - self._next
        if begins:
            self._start = head.sequence
            self._restart_at = None
        self.counters.lost += missing
        # Before the first packet lies nothing that was lost, yet what still comes from there is late, once.
        if unseen := MAX_MISORDER if begins else missing:
            self._gaps.append(_Gap(head.sequence - unseen, head.sequence, head.arrived))
        self._next = head.sequence + 1
        return replace(head, missing=missing, restarted=restarted) if missing or restarted else head
