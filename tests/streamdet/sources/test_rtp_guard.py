"""Who may send, who is believed, how much: allow-list, probation, rates, ranges of ports, hosts as streams."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdet.audio.block import Status
from streamdet.errors import ConfigError
from streamdet.sources.rtp_guard import ENOUGH, MOST_CANDIDATES, MOST_OF_A_HOST, AllowList, Probation, RateLimit
from streamdet.sources.rtp_options import _networks, choose_ports
from streamdet.sources.rtp_packet import RtpPacket, build_rtp
from streamdet.sources.uri import from_uri

from .conftest import Reader, free_port
from .test_rtp import Sender, started

Read = Callable[..., Reader]


def packet(number: int, ssrc: int = 1, size: int = 160) -> RtpPacket:
    return RtpPacket(0, number & 0xFFFF, number * 160, ssrc, bytes(size))


def key(ssrc: int, host: str = "10.0.0.1") -> tuple[int, tuple[str, int], int]:
    return 5004, (host, 1), ssrc


def test_two_in_sequence_prove_a_sender_and_nothing_is_lost_of_it() -> None:
    probation = Probation()
    assert probation.put(key(1), packet(65_535), 0.0) == []
    assert probation.put(key(2), packet(7), 0.0) == []
    assert probation.put(key(1), packet(0), 0.02) == [(packet(65_535), 0.0), (packet(0), 0.02)]
    assert (len(probation), probation.waiting, probation.rejected) == (1, 1, 0)


def test_a_lossy_sender_proves_itself_by_many_packets_close_together() -> None:
    probation = Probation()
    out = [probation.put(key(1), packet(number), 0.0) for number in (10, 12, 14, 16, 18)]
    assert [len(arrived) for arrived in out] == [0] * (ENOUGH - 1) + [ENOUGH]
    for number in range(0, 60_000, 5000):
        assert probation.put(key(2), packet(number), 0.0) == []
    assert probation.rejected == 12 - probation.waiting


def test_those_that_stay_silent_are_given_up() -> None:
    probation = Probation()
    probation.put(key(1), packet(1), 0.0)
    probation.expire(1.9)
    assert len(probation) == 1
    probation.expire(2.1)
    assert (len(probation), probation.rejected, probation.waiting) == (0, 1, 0)


def test_a_flood_is_bounded_and_one_host_pushes_out_only_its_own() -> None:
    probation = Probation()
    probation.put(key(1, "good"), packet(1), 0.0)
    for ssrc in range(10_000):
        probation.put(key(ssrc, "bad"), packet(5), 0.0)
    assert len(probation) == MOST_OF_A_HOST + 1
    assert len(probation.put(key(1, "good"), packet(2), 0.02)) == 2
    for ssrc in range(10_000):
        probation.put(key(1, f"bad-{ssrc}"), packet(5, size=60_000), 0.0)
    assert len(probation) <= MOST_CANDIDATES
    assert probation._bytes <= (8 << 20) + 60_000
    assert probation.waiting == len(probation)
    assert probation.rejected + probation.waiting == 20_000
    assert len(probation._hosts) <= MOST_CANDIDATES


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30), st.floats(0, 1)), max_size=100))
def test_every_packet_of_a_candidate_is_given_out_or_counted(steps: list[tuple[int, int, float]]) -> None:
    probation, now, given_out = Probation(), 0.0, 0
    for ssrc, number, wait in steps:
        now += wait
        given_out += len(probation.put(key(ssrc), packet(number, ssrc), now))
        probation.expire(now)
    assert given_out + probation.rejected + probation.waiting == len(steps)


def test_an_allow_list_knows_networks_and_mapped_addresses() -> None:
    allowed = AllowList(_networks("10.0.0.0/8, 192.0.2.7,2001:db8::/32"))
    for host, may in {
        "10.9.9.9": True,
        "192.0.2.7": True,
        "192.0.2.8": False,
        "2001:db8::1": True,
        "::ffff:10.0.0.1": True,
        "fe80::1%eth0": False,
    }.items():
        assert allowed.admits(host) is may
    assert AllowList(()).admits("203.0.113.1")
    for wrong in ("10.0.0.0/99", "", "here", "10.0.0.1/8"):
        with pytest.raises(ConfigError, match="allow"):
            _networks(wrong)


def test_a_rate_is_so_many_in_each_second() -> None:
    limit = RateLimit(3)
    assert [limit.allows(now) for now in (5.0, 5.1, 5.2, 5.3, 5.9)] == [True, True, True, False, False]
    assert [limit.allows(now) for now in (6.1, 6.1, 6.1, 6.1)] == [True, True, True, False]


def test_ports_of_a_range_go_in_pairs_where_rtcp_is_heard() -> None:
    assert choose_ports(5004, 5009, "receive").media == (5004, 5006, 5008)
    assert choose_ports(5004, 5009, "receive").control == (5005, 5007, 5009)
    assert choose_ports(5003, 5006, "reply").media == (5004, 5006)
    assert choose_ports(5003, 5006, "off") == choose_ports(5003, 5006, "off").__class__((5003, 5004, 5005, 5006))
    assert choose_ports(5003, 5006, "reply", mux=True) == choose_ports(5003, 5006, "off")
    assert choose_ports(5003, 5003, "receive").media == (5003,)
    assert choose_ports(5003, 5003, "receive").control == ()
    for first, last in ((5003, 5003 + 9000), (5001, 5000)):
        with pytest.raises(ConfigError, match="must be a range"):
            choose_ports(first, last, "off")
    with pytest.raises(ConfigError, match="begins at 5010 and ends at 5004"):
        from_uri("rtp://0.0.0.0:5010-5004")
    with pytest.raises(ConfigError, match="Port out of range"):
        from_uri("rtp://0.0.0.0:5010-70000")
    source = from_uri("rtp://[::1]:5004-5010?name=gate")
    assert (source.uri, source.name) == ("rtp://[::1]:5004-5010", "gate")


def test_a_range_of_ports_is_one_source(read: Read) -> None:
    first = next(port for port in iter(free_port, None) if port < 65_000)
    reader = started(read, first, f"-{first + 3}?rtcp=off&name=gate") if _free(first, 4) else pytest.skip("ports taken")
    senders = [Sender(first + i, ssrc=7) for i in range(4)]
    for sender in senders:
        sender.numbers(range(10))
    reader.wait(lambda r: r.heard() == 4 * 10 * 160)
    assert {block.stream for block in reader.blocks()} == {f"gate-{first + i}-00000007" for i in range(4)}
    for sender in senders:
        sender.close()


def _free(first: int, count: int) -> bool:
    for port in range(first, first + count):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def test_who_is_not_allowed_is_counted_and_unheard(read: Read, port: int) -> None:
    source = from_uri(f"rtp://127.0.0.1:{port}?allow=192.0.2.0/24")
    reader = read(source)
    reader.wait(lambda r: r.statuses())
    sender = Sender(port)
    sender.numbers(range(50))
    reader.wait(lambda r: any("not allowed" in status.reason for status in r.statuses()))
    assert [item for item in reader.items if not isinstance(item, Status)] == []
    assert source.counters()[source.name]["forbidden"] == 50  # type: ignore[attr-defined]
    sender.close()


def test_what_exceeds_the_rate_is_counted_once_and_the_others_do_not_suffer(read: Read, port: int) -> None:
    source = from_uri(f"rtp://127.0.0.1:{port}?max_rate=100")
    reader = read(source)
    reader.wait(lambda r: r.statuses())
    loud, good = Sender(port, ssrc=1), Sender(port, ssrc=2)
    for n in range(40):
        loud.numbers(range(10 * n, 10 * n + 10))
        good.numbers([n])
        time.sleep(0.002)
    name = f"rtp-{port}-0000000{{}}".format
    reader.wait(lambda r: r.heard(name(2)) == 40 * 160)
    counters = source.counters()  # type: ignore[attr-defined]
    assert counters[name(1)]["flooded"] + counters[name(1)]["received"] == 400
    assert counters[name(1)]["flooded"] > 0
    assert counters[name(2)]["flooded"] == 0
    reader.wait(lambda r: any("max_rate" in status.reason for status in r.statuses()))
    assert len([status for status in reader.statuses() if "max_rate" in status.reason]) == 1
    for sender in (loud, good):
        sender.close()


def test_a_host_is_one_stream_whatever_its_ssrc_and_port(
    read: Read, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamdet.sources.rtp_port.TAKEOVER_SECONDS", 0.2)
    reader = started(read, port, "?by=host&name=box&conceal=0")
    for life in range(3):
        sender = Sender(port, ssrc=life + 1)
        sender.numbers(range(100 * life, 100 * life + 10))
        reader.wait(lambda r, life=life: r.heard() == (life + 1) * 10 * 160)
        sender.close()
        time.sleep(0.4)
    assert {block.stream for block in reader.blocks()} == {"box-127.0.0.1"}
    assert not reader.ends()
    lost = [block.lost for block in reader.blocks() if block.lost]
    assert len(lost) == 2
    assert all(0.2 * 8000 < gap < 3 * 8000 for gap in lost)  # the time in between is lost, not skipped
    two = [Sender(port, ssrc=8), Sender(port, ssrc=9)]
    for n in range(10):
        for sender in two:
            sender.numbers([n])
    reader.wait(lambda r: r.heard("box-127.0.0.1-2") == 10 * 160)
    for sender in two:
        sender.close()


def test_a_sender_that_goes_on_under_another_ssrc_ends_its_old_stream(read: Read, port: int) -> None:
    reader = started(read, port)
    sender = Sender(port)
    sender.numbers(range(10))
    reader.wait(lambda r: r.heard() == 10 * 160)
    time.sleep(1.2)
    sender.ssrc = 0xFEED
    sender.numbers(range(10))
    reader.wait(lambda r: r.ends())
    assert [(end.stream, end.reason) for end in reader.ends()] == [
        (f"rtp-{port}-1234abcd", "its sender went on as 0000feed")
    ]
    sender.close()


def test_a_full_port_makes_room_by_ending_the_one_that_is_silent(
    read: Read, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamdet.sources.rtp_stream.STALL_SECONDS", 0.3)
    reader = started(read, port, "?streams=2")
    silent, talker, late = (Sender(port, ssrc=i) for i in range(3))
    silent.numbers(range(10))
    talker.numbers(range(10))
    reader.wait(lambda r: r.heard() == 20 * 160)
    for n in range(10, 40):
        talker.numbers([n], 0.02)
    late.numbers(range(10))
    reader.wait(lambda r: r.heard(f"rtp-{port}-00000002") == 10 * 160)
    assert [end.stream for end in reader.ends()] == [f"rtp-{port}-00000000"]
    for sender in (silent, talker, late):
        sender.close()


def test_comfort_noise_is_silence_as_it_comes_and_loss_beside_it_is_loss(read: Read, port: int) -> None:
    reader = started(read, port, "?conceal=0")
    sender = Sender(port)
    sender.numbers(range(1, 11))
    reader.wait(lambda r: r.heard() == 10 * 160)
    for n in range(5):  # every 40 ms, time stamps go on
        sender.send(build_rtp(RtpPacket(13, 11 + n, (11 + 2 * n) * 160, sender.ssrc, b"\x40")))
        time.sleep(0.04)
    sender.send(build_rtp(RtpPacket(13, 17, 23 * 160, sender.ssrc, b"\x40")))  # number 16 is missing
    sender.send(*(sender.packet(18 + n, timestamp=(25 + n) * 160) for n in range(10)))
    reader.wait(lambda r: len(r.sound()) == (10 + 14 + 10) * 160)
    assert sum(block.lost for block in reader.blocks()) == 160
    assert reader.sound()[24 * 160 :].any()
    assert not reader.sound()[10 * 160 : 24 * 160].any()
    sender.close()


def test_telephone_events_take_time_and_are_no_loss(read: Read, port: int, tmp_path: object) -> None:
    sdp = os.path.join(str(tmp_path), "a.sdp")
    with open(sdp, "w", encoding="ascii") as file:
        file.write("m=audio 1 RTP/AVP 0 101\na=rtpmap:101 telephone-event/8000\n")
    source = from_uri(f"rtp://127.0.0.1:{port}?sdp={sdp}")
    reader = read(source)
    reader.wait(lambda r: r.statuses())
    sender = Sender(port)
    sender.numbers(range(1, 11))
    # A key of 100 ms: one time stamp, growing durations, and the end said three times (RFC 4733 section 2.5).
    for n, duration in enumerate((160, 320, 480, 640, 800, 800, 800)):
        event = struct.pack("!BBH", 5, 0x80 * (n >= 4) | 10, duration)
        sender.send(build_rtp(RtpPacket(101, 11 + n, 11 * 160, sender.ssrc, event)))
    sender.send(*(sender.packet(18 + n, timestamp=(16 + n) * 160) for n in range(10)))
    reader.wait(lambda r: r.heard() == (10 + 5 + 10) * 160)
    assert sum(block.lost for block in reader.blocks()) == 0
    counters = source.counters()[f"rtp-{port}-1234abcd"]  # type: ignore[attr-defined]
    assert (counters["events"], counters["unknown"], counters["lost"], counters["lost_samples"]) == (7, 0, 0, 0)
    sender.close()
