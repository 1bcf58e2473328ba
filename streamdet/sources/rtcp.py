"""RTCP (RFC 3550 section 6): sender reports and goodbyes are read, receiver reports are written."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from streamdet.errors import FormatError

SENDER_REPORT: Final = 200
RECEIVER_REPORT: Final = 201
DESCRIPTION: Final = 202
GOODBYE: Final = 203
MOST_BLOCKS: Final = 31

_HEADER: Final = struct.Struct("!BBH")
_SENDER: Final = struct.Struct("!IQIII")
_SSRC: Final = struct.Struct("!I")
_REPORT_BLOCK: Final = struct.Struct("!IIIIII")
_LOST_LIMIT: Final = 0x7FFFFF


@dataclass(frozen=True, slots=True)
class SenderReport:
    """What a sender says of itself: NTP time (64 bits), RTP time stamp of the same moment, packets and octets sent."""

    ssrc: int
    ntp: int
    timestamp: int
    packets: int
    octets: int


@dataclass(frozen=True, slots=True)
class Goodbye:
    """A sender leaves."""

    ssrcs: tuple[int, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """How one stream was received (RFC 3550 section 6.4.1).

    ``jitter`` is in ticks of the RTP clock, ``last_report`` and ``delay`` are in 1/65536 s.
    """

    ssrc: int
    fraction_lost: float
    cumulative_lost: int
    extended_highest: int
    jitter: int
    last_report: int = 0
    delay: int = 0


Message = SenderReport | Goodbye


def parse_rtcp(data: bytes) -> list[Message]:
    """Read a compound packet; reports of receivers, descriptions and what is unknown are skipped.

    Raises:
        FormatError: a length contradicts the data, or a version is wrong.
    """
    messages: list[Message] = []
    for count, kind, body in _packets(data):
        if kind == SENDER_REPORT:
            messages.append(_sender_report(count, body))
        elif kind == GOODBYE:
            messages.append(_goodbye(count, body))
    return messages


def _packets(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield count, type and body of each packet of a compound."""
    if len(data) < _HEADER.size:
        raise FormatError(f"{len(data)} bytes are too few for an RTCP packet")
    begin = 0
    while begin < len(data):
        if begin + _HEADER.size > len(data):
            raise FormatError("RTCP packet is cut off")
        first, kind, words = _HEADER.unpack_from(data, begin)
        end = begin + 4 * (words + 1)
        if first >> 6 != 2:
            raise FormatError(f"RTCP version {first >> 6}")
        if end > len(data):
            raise FormatError("RTCP packet is longer than its datagram")
        padding = _padding(data[begin + _HEADER.size : end]) if first & 0x20 else 0
        yield first & 0x1F, kind, data[begin + _HEADER.size : end - padding]
        begin = end


def _padding(body: bytes) -> int:
    if not body or not 0 < body[-1] <= len(body):
        raise FormatError("RTCP padding is longer than its packet")
    return body[-1]


def _sender_report(count: int, body: bytes) -> SenderReport:
    if len(body) < _SENDER.size + count * _REPORT_BLOCK.size:
        raise FormatError("RTCP sender report is cut off")
    return SenderReport(*_SENDER.unpack_from(body))


def _goodbye(count: int, body: bytes) -> Goodbye:
    if len(body) < 4 * count:
        raise FormatError("RTCP goodbye is cut off")
    ssrcs = struct.unpack_from(f"!{count}I", body)
    text = body[4 * count :]
    if text and text[0] > len(text) - 1:
        raise FormatError("RTCP goodbye's reason is cut off")
    return Goodbye(ssrcs, text[1 : 1 + text[0]].decode(errors="replace") if text else "")


def build_receiver_report(ssrc: int, blocks: Sequence[ReportBlock], cname: str) -> bytes:
    """Write a compound of one receiver report, with at most 31 blocks, and the description every compound must have."""
    blocks = blocks[:MOST_BLOCKS]
    report = _SSRC.pack(ssrc) + b"".join(_block(block) for block in blocks)
    return _packet(RECEIVER_REPORT, len(blocks), report) + _description(ssrc, cname)


def build_sender_report(report: SenderReport, cname: str) -> bytes:
    """Write a compound of one sender report and its description."""
    body = _SENDER.pack(report.ssrc, report.ntp, report.timestamp, report.packets, report.octets)
    return _packet(SENDER_REPORT, 0, body) + _description(report.ssrc, cname)


def build_goodbye(ssrcs: Sequence[int], reason: str = "") -> bytes:
    """Write a goodbye, with an empty receiver report before it as every compound must begin with a report."""
    text = reason.encode()[:255]
    body = struct.pack(f"!{len(ssrcs)}I", *ssrcs) + (bytes([len(text)]) + text if text else b"")
    return _packet(RECEIVER_REPORT, 0, _SSRC.pack(ssrcs[0])) + _packet(GOODBYE, len(ssrcs), body)


def _block(block: ReportBlock) -> bytes:
    lost = max(-_LOST_LIMIT - 1, min(block.cumulative_lost, _LOST_LIMIT)) & 0xFFFFFF
    share = max(0, min(int(256 * block.fraction_lost), 255))
    return _REPORT_BLOCK.pack(
        block.ssrc,
        share << 24 | lost,
        block.extended_highest & 0xFFFFFFFF,
        min(block.jitter, 0xFFFFFFFF),
        block.last_report & 0xFFFFFFFF,
        block.delay & 0xFFFFFFFF,
    )


def _description(ssrc: int, cname: str) -> bytes:
    text = cname.encode()[:255]
    item = bytes([1, len(text)]) + text
    return _packet(DESCRIPTION, 1, _SSRC.pack(ssrc) + item + b"\0")


def _packet(kind: int, count: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return _HEADER.pack(0x80 | count, kind, len(body) // 4) + body
