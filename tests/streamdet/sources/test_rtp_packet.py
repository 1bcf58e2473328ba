"""The RTP header: packets as seen on the wire, malformed ones, and anything at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdet.errors import FormatError
from streamdet.sources.rtp_packet import RtpPacket, build_rtp, is_rtcp, parse_rtp

PLAIN = bytes.fromhex("80 80 1a2b 00000140 deadbeef")

PACKETS = {
    "marker, PCMU": (PLAIN + b"abc", RtpPacket(0, 0x1A2B, 320, 0xDEADBEEF, b"abc", marker=True)),
    "no payload": (PLAIN, RtpPacket(0, 0x1A2B, 320, 0xDEADBEEF, b"", marker=True)),
    "two contributing sources": (
        bytes.fromhex("82 61 0001 00000002 00000003 aaaaaaaa bbbbbbbb") + b"xy",
        RtpPacket(97, 1, 2, 3, b"xy"),
    ),
    "extension of one word (RFC 8285)": (
        bytes.fromhex("90 08 ffff ffffffff 00000001 bede 0001 10ff0000 d5d5"),
        RtpPacket(8, 65535, 0xFFFFFFFF, 1, b"\xd5\xd5"),
    ),
    "extension without words": (
        bytes.fromhex("90 08 0000 00000000 00000000 1000 0000 55"),
        RtpPacket(8, 0, 0, 0, b"\x55"),
    ),
    "padding": (bytes.fromhex("a0 00 0000 00000000 00000000 0102 000003"), RtpPacket(0, 0, 0, 0, b"\x01\x02")),
    "nothing but padding": (bytes.fromhex("a0 00 0000 00000000 00000000 0002"), RtpPacket(0, 0, 0, 0, b"")),
    "all of them": (
        bytes.fromhex("b1 e1 0005 00000006 00000007 cccccccc bede 0001 00000000 4f70 0001"),
        RtpPacket(97, 5, 6, 7, b"Op\x00", marker=True),
    ),
}

MALFORMED = {
    "empty": b"",
    "too short": PLAIN[:11],
    "version 1": b"\x40" + PLAIN[1:],
    "STUN": bytes.fromhex("0001 0000 2112a442 000000000000000000000000"),
    "sources cut off": b"\x8f" + PLAIN[1:] + bytes(56),
    "extension cut off": b"\x90" + PLAIN[1:] + b"\xbe\xde\x00",
    "extension longer than the packet": b"\x90" + PLAIN[1:] + b"\xbe\xde\x00\x02" + bytes(4),
    "padding of zero": b"\xa0" + PLAIN[1:] + b"ab\x00",
    "padding longer than the payload": b"\xa0" + PLAIN[1:] + b"ab\x04",
}


@pytest.mark.parametrize("name", PACKETS)
def test_well_formed(name: str) -> None:
    data, expected = PACKETS[name]
    assert parse_rtp(data) == expected


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(name: str) -> None:
    with pytest.raises(FormatError):
        parse_rtp(MALFORMED[name])


@given(st.binary(max_size=120))
def test_anything_is_a_packet_or_a_format_error(data: bytes) -> None:
    try:
        packet = parse_rtp(data)
    except FormatError:
        return
    assert len(packet.payload) <= len(data) - 12
    assert packet.payload in data


@given(
    st.builds(
        RtpPacket,
        payload_type=st.integers(0, 127),
        sequence=st.integers(0, 0xFFFF),
        timestamp=st.integers(0, 0xFFFFFFFF),
        ssrc=st.integers(0, 0xFFFFFFFF),
        payload=st.binary(max_size=50),
        marker=st.booleans(),
    )
)
def test_what_is_built_is_read_again(packet: RtpPacket) -> None:
    assert parse_rtp(build_rtp(packet)) == packet


def test_rtcp_is_told_apart() -> None:
    assert is_rtcp(bytes.fromhex("80c8 0006 00000001"))  # sender report
    assert not is_rtcp(PLAIN)
    assert not is_rtcp(b"\x80")
