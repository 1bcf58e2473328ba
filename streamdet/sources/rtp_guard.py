"""Who may send, and when a datagram is believed to belong to a stream: what keeps strangers and floods out."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from streamdet.sources.rtp_options import Network
from streamdet.sources.rtp_packet import RtpPacket

ENOUGH: Final = 5
NEIGHBOURHOOD: Final = 100  # sequence numbers that may lie between the packets of a sender that begins
MOST_CANDIDATES: Final = 8192
MOST_OF_A_HOST: Final = 4096  # a gateway may begin with hundreds of streams at once
MOST_BYTES: Final = 8 << 20
PATIENCE_SECONDS: Final = 2.0

Sender = tuple[str, int]
Key = tuple[int, Sender, int]
"""The port a datagram came to, the address it came from, and its SSRC."""
Arrived = tuple[RtpPacket, float]


class AllowList:
    """Tells whether an address may send; an empty list lets everybody."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = tuple(networks)
        self.admits = lru_cache(maxsize=4096)(self._look_up) if networks else _anybody

    def _look_up(self, host: str) -> bool:
        address = ipaddress.ip_address(host.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)


def _anybody(_host: str) -> bool:
    return True


@dataclass(slots=True)
class _Candidate:
    since: float
    packets: list[Arrived] = field(default_factory=list)
    size: int = 0

    def add(self, packet: RtpPacket, now: float) -> None:
        self.packets.append((packet, now))
        self.size += len(packet.payload)

    def proven(self) -> bool:
        """Tell whether two packets follow each other, or several lie close together."""
        numbers = {packet.sequence for packet, _ in self.packets}
        if any((number + 1) & 0xFFFF in numbers for number in numbers):
            return True
        first = self.packets[0][0].sequence
        return len(numbers) >= ENOUGH and all(
            min((number - first) & 0xFFFF, (first - number) & 0xFFFF) <= NEIGHBOURHOOD for number in numbers
        )


class Probation:
    """Holds the first packets of a sender until a second one in sequence comes (RFC 3550 appendix A.1).

    What it holds is bounded for each host and altogether, oldest first out, so that a flood of made-up senders neither
    grows without end nor, from a host of its own, pushes out those of others. ``rejected`` counts the packets of
    candidates that were given up.
    """

    def __init__(self) -> None:
        self.rejected = 0
        self.waiting = 0  # packets held now
        self._candidates: OrderedDict[Key, _Candidate] = OrderedDict()
        self._hosts: dict[str, OrderedDict[Key, None]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._candidates)

    def put(self, key: Key, packet: RtpPacket, now: float) -> list[Arrived]:
        """Take a packet of an unknown sender; returns all its packets once it is one to be believed."""
        candidate = self._candidates.get(key)
        if candidate is None:
            self._make_room(key[1][0])
            candidate = self._candidates[key] = _Candidate(now)
            self._hosts.setdefault(key[1][0], OrderedDict())[key] = None
        candidate.add(packet, now)
        self._bytes += len(packet.payload)
        self.waiting += 1
        if candidate.proven():
            return self._remove(key).packets
        if len(candidate.packets) > ENOUGH:
            self._reject(key)
        return []

    def expire(self, now: float) -> None:
        """Give up those that sent nothing more in time."""
        while self._candidates:
            key, candidate = next(iter(self._candidates.items()))
            if now - candidate.since < PATIENCE_SECONDS:
                return
            self._reject(key)

    def _make_room(self, host: str) -> None:
        own = self._hosts.get(host)
        if own is not None and len(own) >= MOST_OF_A_HOST:
            self._reject(next(iter(own)))
        while len(self._candidates) >= MOST_CANDIDATES or self._bytes > MOST_BYTES:
            self._reject(next(iter(self._candidates)))

    def _reject(self, key: Key) -> None:
        self.rejected += len(self._remove(key).packets)

    def _remove(self, key: Key) -> _Candidate:
        candidate = self._candidates.pop(key)
        own = self._hosts[key[1][0]]
        del own[key]
        if not own:
            del self._hosts[key[1][0]]
        self._bytes -= candidate.size
        self.waiting -= len(candidate.packets)
        return candidate


class RateLimit:
    """Lets at most ``most`` packets through in each second; for one stream."""

    __slots__ = ("_count", "_end", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._end = 0.0

    def allows(self, now: float) -> bool:
        """Tell whether one more may pass at monotonic time ``now``."""
        if now >= self._end:
            self._end = now + 1.0
            self._count = 0
        self._count += 1
        return self._count <= self._most
