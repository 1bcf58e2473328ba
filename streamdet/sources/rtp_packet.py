"""The RTP header (RFC 3550 section 5.1), read and written."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from streamdet.errors import FormatError

VERSION: Final = 2
_HEADER: Final = struct.Struct("!BBHII")
_EXTENSION: Final = struct.Struct("!HH")


@dataclass(frozen=True, slots=True)
class RtpPacket:
    """One packet; ``sequence`` has 16 bits, ``timestamp`` and ``ssrc`` have 32, ``payload_type`` has 7."""

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    marker: bool = False


def is_rtcp(data: bytes) -> bool:
    """Tell RTCP from RTP on a shared port by the packet type, 192 to 223 (RFC 5761 section 4)."""
    return len(data) >= 2 and 192 <= data[1] <= 223


def parse_rtp(data: bytes) -> RtpPacket:
    """Read a packet; contributing sources, the header extension and the padding are dropped.

    Raises:
        FormatError: it is too short, of another version, or its lengths contradict each other.
    """
    if len(data) < _HEADER.size:
        raise FormatError(f"{len(data)} bytes are too few for an RTP packet")
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(data)
    if first >> 6 != VERSION:
        raise FormatError(f"RTP version {first >> 6}")
    begin = _HEADER.size + 4 * (first & 0x0F)
    if first & 0x10:
        begin = _skip_extension(data, begin)
    end = len(data) - _padding(data) if first & 0x20 else len(data)
    if begin > end:
        raise FormatError("RTP header is longer than its packet")
    return RtpPacket(second & 0x7F, sequence, timestamp, ssrc, data[begin:end], bool(second & 0x80))


def _skip_extension(data: bytes, begin: int) -> int:
    if begin + _EXTENSION.size > len(data):
        raise FormatError("RTP header extension is cut off")
    _, words = _EXTENSION.unpack_from(data, begin)
    return begin + _EXTENSION.size + 4 * int(words)


def _padding(data: bytes) -> int:
    if data[-1] == 0:
        raise FormatError("RTP padding of zero bytes")
    return data[-1]


def build_rtp(packet: RtpPacket) -> bytes:
    """Write a packet with a plain header."""
    second = packet.payload_type | (0x80 if packet.marker else 0)
    return _HEADER.pack(VERSION << 6, second, packet.sequence, packet.timestamp, packet.ssrc) + packet.payload
