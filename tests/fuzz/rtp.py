"""Fuzzes everything of RTP that takes octets from strangers: ``python -m tests.fuzz.rtp --inputs 1000000``."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from streamdet.audio.block import Block
from streamdet.audio.codecs import Encoding, make_decoder
from streamdet.errors import FormatError
from streamdet.sources.payload import STATIC
from streamdet.sources.rtcp import Goodbye, SenderReport, build_goodbye, build_sender_report, parse_rtcp
from streamdet.sources.rtp_guard import Probation
from streamdet.sources.rtp_packet import RtpPacket, build_rtp, parse_rtp
from streamdet.sources.rtp_stream import RtpStream
from streamdet.sources.sdp import parse_sdp
from streamdet.sources.srtp import SUITES, SrtpError, SrtpKey, SrtpReceiver
from tests.chaos.senders import payloads
from tests.fuzz.harness import Target, main

PACKETS = [
    build_rtp(RtpPacket(0, 1, 160, 7, bytes(160))),
    bytes.fromhex("90 08 ffff ffffffff 00000001 bede 0001 10ff0000 d5d5"),
    bytes.fromhex("b1 e1 0005 00000006 00000007 cccccccc bede 0001 00000000 4f70 0001"),
]
SDP = b"""v=0
m=audio 5104 RTP/SAVP 0 97 101
a=rtpmap:97 opus/48000/2
a=rtpmap:101 telephone-event/8000
a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd|2^20
"""


def _packet(data: bytes) -> None:
    with suppress(FormatError):
        packet = parse_rtp(data)
        assert len(packet.payload) <= len(data) - 12


def _rtcp(data: bytes) -> None:
    with suppress(FormatError):
        for message in parse_rtcp(data):
            assert isinstance(message, SenderReport | Goodbye)


def _sdp(data: bytes) -> None:
    with suppress(FormatError):
        assert parse_sdp(data.decode(errors="replace")).payload_types


def _codec(codec: str, encoding: Encoding) -> Callable[[bytes], None]:
    decoder = make_decoder(encoding)

    def run(data: bytes) -> None:
        """Decode two payloads in a row, the second after a loss."""
        for payload in (data[: len(data) // 2], data[len(data) // 2 :]):
            with suppress(FormatError):
                decoder.ticks(payload)
                samples = decoder.decode(payload)
                assert samples.ndim == 1
                assert samples.dtype == np.float32
                assert np.isfinite(samples).all()

    return run


def _stream(data: bytes) -> None:
    """Let the input say what a sender sends: of each 8 octets the type, the steps of number and time, and a length."""
    types = {**STATIC, 96: Encoding("opus", 48_000), 101: Encoding("telephone-event", 8000)}
    stream: RtpStream | None = None
    now, sequence, timestamp = 0.0, 0, 0
    heard = 0.0
    for kind, wait, step, jump, size in struct.iter_unpack("!BBhhB", data[: len(data) // 7 * 7]):
        now += wait / 1000
        sequence, timestamp = (sequence + step) & 0xFFFF, (timestamp + jump * 16) & 0xFFFFFFFF
        packet = RtpPacket(kind & 0x7F, sequence, timestamp, 1, bytes([kind]) * size)
        if stream is None:
            stream = RtpStream("s", origin="o", payload_types=types, first=packet, now=now)
        stream.put(packet, now)
        for item in (*stream.take(now), *stream.check(now)):
            if isinstance(item, Block):
                assert item.lost >= 0
                assert len(item.samples)
                heard += (item.lost + len(item.samples)) / item.rate
    if stream is not None:
        counts = stream.counters()
        sent = len(data) // 7
        assert counts["received"] + counts["late"] + counts["duplicate"] + counts["stray"] == sent
        assert heard < now + 3.0 * sent + 1


def _srtp(data: bytes) -> None:
    with suppress(SrtpError):
        _RECEIVER[0].rtp(data, 0.0)
    with suppress(SrtpError):
        _RECEIVER[0].rtcp(data)


_RECEIVER: list[SrtpReceiver] = []
_PROBATION = Probation()
_CLOCK = [0.0]


def _probation(data: bytes) -> None:
    _CLOCK[0] += 0.001
    with suppress(FormatError):
        packet = parse_rtp(data)
        _PROBATION.put((5004, (str(packet.ssrc & 7), 1), packet.ssrc), packet, _CLOCK[0])
    _PROBATION.expire(_CLOCK[0])


def _of_codec(name: str, encoding: Encoding) -> Callable[[], Target]:
    def make() -> Target:
        sound = np.sin(np.arange(1920, dtype=np.float32) / 20)
        seeds = list(payloads(name if name in ("opus", "l16") else "pcmu", sound, 48_000))
        return Target(name, _codec(name, encoding), seeds, ["streamdet.audio.codecs"])

    return make


def _srtp_target() -> Target:
    _RECEIVER[:] = [SrtpReceiver([SrtpKey("AES_CM_128_HMAC_SHA1_80", bytes(SUITES["AES_CM_128_HMAC_SHA1_80"].octets))])]
    return Target("srtp", _srtp, [one + bytes(10) for one in PACKETS], ["streamdet.sources.srtp"])


RTCP = [
    build_sender_report(SenderReport(7, 1 << 40, 160, 3, 480), "someone"),
    build_goodbye([7, 8], "bye"),
    bytes.fromhex("81c90007 00000001 00000007 00000000 00000000 00000000 00000000 00000000"),
]
STREAM = [struct.pack("!BBhhB", 0, 20, 1, 10, 160) * 8, struct.pack("!BBhhB", 96, 20, 1, 60, 40) * 8]
TARGETS: dict[str, Callable[[], Target]] = {
    "packet": lambda: Target("packet", _packet, PACKETS, ["streamdet.sources.rtp_packet"]),
    "probation": lambda: Target("probation", _probation, PACKETS, ["streamdet.sources.rtp_guard"]),
    "rtcp": lambda: Target("rtcp", _rtcp, RTCP, ["streamdet.sources.rtcp"]),
    "sdp": lambda: Target("sdp", _sdp, [SDP], ["streamdet.sources.sdp", "streamdet.sources.srtp"]),
    "srtp": _srtp_target,
    "stream": lambda: Target(
        "stream",
        _stream,
        STREAM,
        ["streamdet.sources.rtp_stream", "streamdet.sources.jitter", "streamdet.sources.timeline"],
    ),
    "pcmu": _of_codec("pcmu", Encoding("pcmu", 8000)),
    "pcma": _of_codec("pcma", Encoding("pcma", 8000)),
    "l16": _of_codec("l16", Encoding("l16", 16_000, 2)),
    "g722": _of_codec("g722", Encoding("g722", 8000)),
    "opus": _of_codec("opus", Encoding("opus", 48_000, 2)),
}

if __name__ == "__main__":
    sys.exit(main("tests.fuzz.rtp", TARGETS))
