"""RTCP: real and malformed compounds, what is written is read again, and what a port does with it."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdet.errors import FormatError
from streamdet.sources.rtcp import (
    Goodbye,
    ReportBlock,
    SenderReport,
    build_goodbye,
    build_receiver_report,
    build_sender_report,
    parse_rtcp,
)
from streamdet.sources.rtp_packet import is_rtcp
from streamdet.sources.uri import from_uri
from tests.streamdet import gstreamer

from .conftest import Reader
from .test_rtp import Sender

Read = Callable[..., Reader]
REPORT = SenderReport(0x1234ABCD, 0xEE112233_80000000, 1600, 10, 1600)
# A sender report as ffmpeg 5.1 sent it, and an empty description.
FFMPEG = bytes.fromhex("80c80006 8e1ad0f1 eeabce67a20c49ba d2e7d026 00000000 00000000 81ca0002 8e1ad0f1 00000000")

MALFORMED = {
    "too short": b"\x80\xc8",
    "wrong version": b"\x40" + FFMPEG[1:],
    "longer than its datagram": FFMPEG[:20],
    "report cut off": bytes.fromhex("80c80001 58b4b7e7"),
    "report blocks that are not there": bytes([0x85]) + FFMPEG[1:28],
    "goodbye of more senders than it names": bytes.fromhex("83cb0001 00000001"),
    "goodbye whose reason is cut off": bytes.fromhex("81cb0002 00000001 09616263"),
    "padding of nothing": bytes.fromhex("a0c90001 00000000"),
    "padding longer than its packet": bytes.fromhex("a0c90001 00000009"),
    "second packet cut off": FFMPEG[:28] + b"\x81\xca",
}


def test_a_real_report_is_read() -> None:
    assert is_rtcp(FFMPEG)
    assert parse_rtcp(FFMPEG) == [SenderReport(0x8E1AD0F1, 0xEEABCE67A20C49BA, 0xD2E7D026, 0, 0)]


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(name: str) -> None:
    with pytest.raises(FormatError):
        parse_rtcp(MALFORMED[name])


@given(st.binary(max_size=120))
def test_anything_is_messages_or_a_format_error(data: bytes) -> None:
    for body in (data, b"\x81\xc8" + data, b"\x82\xcb" + data):
        try:
            messages = parse_rtcp(body)
        except FormatError:
            continue
        assert all(isinstance(message, SenderReport | Goodbye) for message in messages)


WORD = st.integers(0, 0xFFFFFFFF)


@given(
    st.builds(SenderReport, WORD, st.integers(0, 2**64 - 1), WORD, WORD, WORD), st.lists(WORD, min_size=1, max_size=31)
)
def test_what_is_written_is_read_again(report: SenderReport, ssrcs: list[int]) -> None:
    compound = build_sender_report(report, "a@b") + build_goodbye(ssrcs, "the end")
    assert len(compound) % 4 == 0
    assert parse_rtcp(compound) == [report, Goodbye(tuple(ssrcs), "the end")]
    assert parse_rtcp(build_goodbye(ssrcs)) == [Goodbye(tuple(ssrcs))]


def test_a_receiver_report_has_its_fields_in_place() -> None:
    block = ReportBlock(
        7, fraction_lost=0.25, cumulative_lost=-3, extended_highest=0x10005, jitter=9, last_report=1, delay=2
    )
    data = build_receiver_report(0xAAAA, [block] * 40, "me")
    assert data[:8] == bytes([0x80 | 31, 201]) + struct.pack("!HI", 1 + 31 * 6, 0xAAAA)
    assert struct.unpack_from("!IIIIII", data, 8) == (7, 0x40FFFFFD, 0x10005, 9, 1, 2)
    assert parse_rtcp(data) == []


def opened(read: Read, port: int, query: str) -> Reader:
    reader = read(from_uri(f"rtp://127.0.0.1:{port}{query}"))
    reader.wait(lambda r: r.statuses())
    return reader


def name_of(port: int) -> str:
    return f"rtp-{port}-1234abcd"


@pytest.fixture
def even_port() -> int:
    """An even port that is free with the odd one above it."""
    for port in range(20_000, 60_000, 2):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as low, socket.socket(type=socket.SOCK_DGRAM) as high:
            try:
                low.bind(("127.0.0.1", port))
                high.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise AssertionError("no free ports")


@pytest.mark.parametrize("muxed", [True, False])
def test_a_goodbye_ends_the_stream(read: Read, even_port: int, muxed: bool) -> None:
    source = from_uri(f"rtp://127.0.0.1:{even_port}")
    reader = read(source)
    reader.wait(lambda r: r.statuses())
    sender = Sender(even_port)
    control = Sender(even_port if muxed else even_port + 1)
    for number in range(80):
        sender.numbers([number], 0.02)
        if number % 20 == 19:
            control.send(build_sender_report(REPORT, "x"))
    sender.numbers([80])
    control.send(build_goodbye([sender.ssrc], "teatime"))
    sender.numbers([81])  # the goodbye overtook it
    reader.wait(lambda r: r.ends(), 5)
    assert [(end.stream, end.reason) for end in reader.ends()] == [
        (name_of(even_port), "its sender said goodbye: teatime")
    ]
    final = reader.statuses(name_of(even_port))[-1].detail
    assert (final["received"], final["lost"], final["sender_packets"]) == (82, 0, 10)
    assert source.counters()[source.name]["rtcp"] >= (5 if muxed else 2)  # type: ignore[attr-defined]
    for one in (sender, control):
        one.close()


def test_a_real_peer_with_everything_on_one_port(read: Read, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 5761, both ways: GStreamer's reports and goodbye are heard, and it takes our reports of it from that port."""
    if reason := gstreamer.missing():
        pytest.skip(reason)
    monkeypatch.setattr("streamdet.sources.rtp_port.REPLY_SECONDS", 0.5)
    last = port | 1  # an odd port of a range, where there is no other for RTCP
    source = from_uri(f"rtp://127.0.0.1:{last - 1}-{last}?name=peer&mux=1&rtcp=reply")
    reader = read(source)
    reader.wait(lambda r: r.statuses())
    command = [gstreamer.SYSTEM_PYTHON, str(gstreamer.SCRIPTS / "gst_rtcp_mux.py"), str(last), "3"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    name = f"peer-{last}-5eedcafe"
    reader.wait(lambda r: r.ends())
    assert [(end.stream, end.reason) for end in reader.ends()] == [(name, "its sender said goodbye")]
    final = reader.statuses(name)[-1].detail
    assert (final["received"], final["lost"], final["sender_packets"]) == (150, 0, 150)
    own = source.counters()["peer"]  # type: ignore[attr-defined]
    assert own["datagrams"] == own["rtcp"] + own["received"]
    assert own["rtcp"] >= 2
    heard = [json.loads(line) for line in done.stdout.splitlines()]
    assert heard
    assert all(report["lost"] == 0 and 0 < report["round_trip"] < 2 for report in heard)
    first = int(final["extended_highest"]) - 149
    assert all(first <= report["highest"] <= first + 149 for report in heard)


def test_a_goodbye_of_another_host_or_with_rtcp_off_ends_nothing(read: Read, port: int) -> None:
    reader = opened(read, port, "?rtcp=off")
    sender = Sender(port)
    sender.numbers(range(10))
    sender.send(build_goodbye([sender.ssrc]))
    time.sleep(1.0)
    sender.numbers(range(10, 20))
    reader.wait(lambda r: r.heard() == 20 * 160)
    assert not reader.ends()
    sender.close()


def test_a_malformed_report_is_counted_and_harms_nothing(read: Read, port: int) -> None:
    source = from_uri(f"rtp://127.0.0.1:{port}")
    reader = read(source)
    reader.wait(lambda r: r.statuses())
    sender = Sender(port)
    for number in range(20):
        sender.numbers([number], 0.002)
        sender.send(*(data for data in MALFORMED.values() if is_rtcp(data)))
    reader.wait(lambda r: r.heard() == 20 * 160)
    wrong = 20 * sum(map(is_rtcp, MALFORMED.values()))
    # The last of them may still lie in the socket when the last sound is heard.
    reader.wait(lambda r: source.counters()[source.name]["datagrams"] == 20 + wrong)  # type: ignore[attr-defined]
    counters = source.counters()[source.name]  # type: ignore[attr-defined]
    assert (counters["malformed"], counters["rtcp"]) == (wrong, 0)
    sender.close()


def test_a_reply_tells_what_was_lost(read: Read, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamdet.sources.rtp_port.REPLY_SECONDS", 0.6)
    reader = opened(read, port, "?rtcp=reply")
    sender = Sender(port)
    sender.send(build_sender_report(REPORT, "x"))
    sender.numbers(range(10), 0.01)
    sender.send(build_sender_report(REPORT, "x"))
    sender.numbers(range(20, 40), 0.01)
    reader.wait(lambda r: r.heard() == 30 * 160)
    sender._socket.settimeout(5)
    blocks = []
    while not blocks or blocks[-1][2] != 39:
        data = sender._socket.recv(2000)
        assert is_rtcp(data)
        blocks.append(struct.unpack_from("!IIIIII", data, 8))
    ssrc, lost, highest, _, last_report, delay = blocks[-1]
    assert (ssrc, lost & 0xFFFFFF, highest) == (sender.ssrc, 10, 39)
    assert last_report == (REPORT.ntp >> 16) & 0xFFFFFFFF
    assert 0 < delay < 5 * 65536
    assert max(block[1] >> 24 for block in blocks) > 0
    sender.close()


def test_nothing_is_sent_unless_asked_for(read: Read, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamdet.sources.rtp_port.REPLY_SECONDS", 0.1)
    reader = opened(read, port, "")
    sender = Sender(port)
    sender.send(build_sender_report(REPORT, "x"))
    sender.numbers(range(20), 0.02)
    reader.wait(lambda r: r.heard() == 20 * 160)
    sender._socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        sender._socket.recv(2000)
    sender.close()
