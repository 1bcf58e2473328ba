"""Packets as ffmpeg 5.1 and GStreamer 1.22 sent them, captured off the loopback interface, and damaged copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamdet.audio.block import Block, Item
from streamdet.audio.codecs import Encoding
from streamdet.errors import FormatError
from streamdet.sources.payload import STATIC
from streamdet.sources.rtcp import Goodbye, SenderReport, parse_rtcp
from streamdet.sources.rtp_packet import is_rtcp, parse_rtp
from streamdet.sources.rtp_stream import RtpStream
from streamdet.sources.srtp import SrtpError, SrtpKey, SrtpReceiver

CAPTURES = Path(__file__).parent / "captures"
TYPES = {
    "ffmpeg-pcmu": (0, Encoding("pcmu", 8000), 160),
    "ffmpeg-pcma": (8, Encoding("pcma", 8000), 160),
    "ffmpeg-g722": (9, Encoding("g722", 8000), 320),
    "ffmpeg-l16": (96, Encoding("l16", 16_000), 160),
    "ffmpeg-opus": (97, Encoding("opus", 48_000, 2), 960),
    "gstreamer-pcmu": (0, Encoding("pcmu", 8000), 160),
    "gstreamer-l16-stereo": (96, Encoding("l16", 48_000, 2), 240),
    "gstreamer-opus": (97, Encoding("opus", 48_000, 2), 960),
}
SRTP_KEY = SrtpKey("AES_CM_128_HMAC_SHA1_80", bytes(range(30)))


def capture(name: str) -> list[bytes]:
    lines = (CAPTURES / f"{name}.hex").read_text().splitlines()
    return [bytes.fromhex(line) for line in lines if not line.startswith("#")]


def heard(name: str, datagrams: list[bytes]) -> tuple[list[Item], RtpStream]:
    number, encoding, _ = TYPES[name]
    packets = [parse_rtp(data) for data in datagrams]
    stream = RtpStream("s", origin="o", payload_types={**STATIC, number: encoding}, first=packets[0], now=0.0)
    items: list[Item] = []
    for i, packet in enumerate(packets):
        stream.put(packet, 0.02 * i)
        items += stream.take(0.02 * i)
    return [*items, *stream.finish("over")], stream


@pytest.mark.parametrize("name", TYPES)
def test_captured_packets_are_sound(name: str) -> None:
    datagrams = [data for data in capture(name) if not is_rtcp(data)]
    assert len(datagrams) == 6
    number, _, samples = TYPES[name]
    assert {parse_rtp(data).payload_type for data in datagrams} == {number}
    items, stream = heard(name, datagrams)
    blocks = [item for item in items if isinstance(item, Block)]
    assert sum(len(block.samples) for block in blocks) == 6 * samples
    assert not any(block.lost for block in blocks)
    sound = np.concatenate([block.samples for block in blocks])
    assert 0.001 < np.abs(sound).max() <= 1.0
    counters = stream.counters()
    assert (counters["received"], counters["lost"], counters["malformed"]) == (6, 0, 0)


@pytest.mark.parametrize("name", [name for name in TYPES if name.startswith("ffmpeg")])
def test_captured_reports_belong_to_their_stream(name: str) -> None:
    report, *rest = capture(name)
    (message,) = parse_rtcp(report)
    assert isinstance(message, SenderReport)
    first = parse_rtp(rest[0])
    assert message.ssrc == first.ssrc
    assert abs(message.timestamp - first.timestamp) <= TYPES[name][2]  # of one moment, to within a packet


@pytest.mark.parametrize("name", TYPES)
def test_a_packet_that_is_missing_is_concealed_and_marked(name: str) -> None:
    datagrams = [data for data in capture(name) if not is_rtcp(data)]
    items, _ = heard(name, datagrams[:3] + datagrams[4:])
    blocks = [item for item in items if isinstance(item, Block)]
    missing = sum(block.lost for block in blocks) + sum(len(block.samples) for block in blocks if block.concealed)
    # GStreamer's Opus begins 312 samples before its first time stamp; that much is counted as lost too little, once.
    assert missing == TYPES[name][2] - (312 if name == "gstreamer-opus" else 0)


@pytest.mark.parametrize("name", TYPES)
def test_cut_off_anywhere_it_is_a_packet_or_a_format_error(name: str) -> None:
    data = capture(name)[-1]
    for length in range(len(data)):
        try:
            packet = parse_rtp(data[:length])
        except FormatError:
            assert length < 12
            continue
        assert packet.payload == data[12:length]


@pytest.mark.parametrize("name", TYPES)
def test_damaged_payloads_harm_nothing(name: str) -> None:
    rng = np.random.default_rng(1)
    datagrams = [data for data in capture(name) if not is_rtcp(data)]
    for _ in range(50):
        damaged = [bytearray(data) for data in datagrams]
        for data in damaged:
            for at in rng.integers(12, len(data), 5):
                data[at] = rng.integers(256)
            del data[rng.integers(12, len(data)) :]
        items, stream = heard(name, [bytes(data) for data in damaged])
        assert all(len(item.samples) for item in items if isinstance(item, Block))
        assert stream.counters()["received"] == 6


def test_a_captured_digit_is_silence_and_no_loss() -> None:
    """GStreamer stops the sound while it sends a digit; one packet of sound came after the end of the digit."""
    datagrams = capture("gstreamer-dtmf")
    types = {**STATIC, 101: Encoding("telephone-event", 8000)}
    packets = [parse_rtp(data) for data in datagrams]
    events = [packet for packet in packets if packet.payload_type == 101]
    assert (len(events), events[0].marker) == (8, True)
    assert {packet.payload[0] for packet in events} == {5}
    assert {packet.timestamp for packet in events} == {events[0].timestamp}
    assert [bool(packet.payload[1] & 0x80) for packet in events] == [False] * 7 + [True]
    stream = RtpStream("s", origin="o", payload_types=types, first=packets[0], now=0.0)
    items: list[Item] = []
    for i, packet in enumerate(packets):
        stream.put(packet, 0.03 * i)
        items += stream.take(0.03 * i)
    items += stream.finish("over")
    counters = stream.counters()
    assert (counters["received"], counters["events"], counters["reordered"]) == (17, 8, 1)
    assert [counters[name] for name in ("lost", "lost_samples", "malformed", "unknown", "resets")] == [0] * 5
    blocks = [item for item in items if isinstance(item, Block)]
    assert not any(block.lost or block.concealed for block in blocks)
    whole = (packets[-1].timestamp - packets[0].timestamp) + 160
    assert sum(len(block.samples) for block in blocks) == whole
    sound = np.concatenate([block.samples for block in blocks])
    assert np.abs(sound[640 : 640 + 2000]).max() == 0  # the digit is not heard as a voice


def test_captured_rtcp_beside_rtp_is_told_apart() -> None:
    datagrams = capture("gstreamer-rtcp-mux")
    assert [is_rtcp(data) for data in datagrams] == [False] * 3 + [True] + [False] * 3 + [False] * 2 + [True]
    media = [parse_rtp(data) for data in datagrams if not is_rtcp(data)]
    reports = [message for data in datagrams if is_rtcp(data) for message in parse_rtcp(data)]
    assert [type(message) for message in reports] == [SenderReport, SenderReport, Goodbye]
    assert {packet.ssrc for packet in media} == {reports[0].ssrc} == set(reports[2].ssrcs)
    assert (reports[0].packets, reports[1].packets) == (68, 400)


def test_captured_srtp_opens_with_its_key_alone() -> None:
    report, *media = capture("ffmpeg-srtp")
    receiver = SrtpReceiver([SRTP_KEY])
    opened = [receiver.rtp(data, 0.02 * i) for i, data in enumerate(media)]
    assert [len(data) for data in opened] == [len(data) - 10 for data in media]
    (message,) = parse_rtcp(receiver.rtcp(report))
    assert isinstance(message, SenderReport)
    assert message.ssrc == parse_rtp(opened[0]).ssrc
    with pytest.raises(SrtpError, match="replayed"):
        receiver.rtp(media[0], 1.0)
    stranger = SrtpReceiver([SrtpKey(SRTP_KEY.suite, bytes(30))])
    for data in media:
        with pytest.raises(SrtpError, match="unauthentic"):
            stranger.rtp(data, 0.0)
    for at in range(0, len(media[5]), 7):
        tampered = bytearray(media[5])
        tampered[at] ^= 1
        with pytest.raises(SrtpError):
            SrtpReceiver([SRTP_KEY]).rtp(bytes(tampered), 0.0)
