"""RTP from ffmpeg in every codec, and from a script over a bad network, into real sockets."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from streamdet.audio.block import Block, Item
from streamdet.audio.codecs import Encoding, mulaw_table
from streamdet.errors import SourceError
from streamdet.sources import rtp_guard, rtp_socket
from streamdet.sources.payload import STATIC
from streamdet.sources.rtp import RtpOptions, RtpSource
from streamdet.sources.rtp_packet import RtpPacket, build_rtp
from streamdet.sources.rtp_stream import RtpStream
from streamdet.sources.uri import from_uri

from .conftest import Reader, correlation, free_port
from .test_rtp_packet import MALFORMED

Read = Callable[..., Reader]
SECONDS = 3

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="not installed: ffmpeg")


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory, speech: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("talk") / "talk.wav"
    soundfile.write(path, speech[16_000 : 16_000 * (1 + SECONDS)], 16_000)
    return path


def ffmpeg(talk: Path, port: int, *codec: str) -> subprocess.Popen[bytes]:
    """Start to send a file by RTP in real time; it prints the SDP."""
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-re", "-i", str(talk), *codec, "-f", "rtp"]
    return subprocess.Popen([*command, f"rtp://127.0.0.1:{port}"], stdout=subprocess.PIPE)


def ended(sender: subprocess.Popen[bytes]) -> str:
    """Wait for ffmpeg to end; returns the SDP it printed."""
    out, _ = sender.communicate(timeout=30)
    assert sender.returncode == 0
    return out.decode().partition("SDP:\n")[2]


CODECS = {
    "pcmu": (["-ar", "8000", "-c:a", "pcm_mulaw"], "", 8000, 0.99),
    "pcma": (["-ar", "8000", "-c:a", "pcm_alaw"], "", 8000, 0.99),
    "g722": (["-c:a", "g722"], "", 16_000, 0.98),
    "l16": (["-c:a", "pcm_s16be", "-payload_type", "96"], "?codec=l16&rate=16000", 16_000, 0.99999),
    "l16-stereo": (
        ["-ac", "2", "-c:a", "pcm_s16be", "-payload_type", "96"],
        "?codec=l16&pt=96&rate=16000&channels=2",
        16_000,
        0.99999,
    ),
    "opus": (["-ar", "48000", "-c:a", "libopus", "-b:a", "32k"], "?codec=opus", 48_000, 0.95),
}  # fmt: skip


@pytest.fixture(scope="module")
def received(talk: Path) -> Iterable[dict[str, Reader]]:
    """What arrived of the file when ffmpeg sent it in every codec at once, each to a port of its own."""
    readers, senders = {}, []
    for codec, (arguments, query, _, _) in CODECS.items():
        port = free_port()
        readers[codec] = Reader(from_uri(f"rtp://127.0.0.1:{port}{query}", name=codec))
        readers[codec].start()
        readers[codec].wait(lambda r: r.statuses())
        senders.append(ffmpeg(talk, port, *arguments))
    for sender in senders:
        ended(sender)
    time.sleep(0.3)
    yield readers
    for reader in readers.values():
        reader.finish()


@needs_ffmpeg
@pytest.mark.parametrize("codec", CODECS)
def test_ffmpeg_sends_what_the_file_holds(talk: Path, received: dict[str, Reader], codec: str) -> None:
    _, _, rate, least = CODECS[codec]
    reader = received[codec]
    (stream,) = {block.stream for block in reader.blocks()}
    assert stream.startswith(f"{codec}-")
    assert {block.rate for block in reader.blocks()} == {rate}
    assert sum(block.lost for block in reader.blocks()) == 0
    original = resampled(talk, rate)
    assert len(reader.sound()) == pytest.approx(len(original), abs=0.1 * rate)
    assert correlation(reader.sound(), original) > least
    (live,) = [status for status in reader.statuses(stream) if status.phase != "recovering"]
    assert live.phase == "live"
    assert codec.partition("-")[0].upper() in live.reason


def resampled(path: Path, rate: int) -> np.ndarray:
    """The file at another rate, by ffmpeg, as the sender had it."""
    command = ["ffmpeg", "-loglevel", "error", "-i", str(path), "-ac", "1", "-ar", str(rate), "-f", "f32le", "-"]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True, timeout=30).stdout, np.float32)


@needs_ffmpeg
def test_the_sdp_that_ffmpeg_prints_is_enough(talk: Path, read: Read, port: int, tmp_path: Path) -> None:
    arguments = ["-ar", "48000", "-c:a", "libopus", "-t", "0.5"]
    (tmp_path / "a.sdp").write_text(ended(ffmpeg(talk, port, *arguments)))
    reader = read(from_uri(f"rtp://127.0.0.1:{port}?sdp={tmp_path}/a.sdp&name=line"))
    reader.wait(lambda r: r.statuses())
    ended(ffmpeg(talk, port, *arguments))
    reader.wait(lambda r: r.heard() > 0.3 * 48_000)
    assert reader.blocks()[0].stream.startswith("line-")


class Sender:
    """Sends numbered packets of PCMU, whose samples tell which packet they came in."""

    def __init__(self, port: int, *, ssrc: int = 0x1234ABCD, payload_type: int = 0) -> None:
        self.ssrc = ssrc
        self._payload_type = payload_type
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._to = ("127.0.0.1", port)

    def packet(self, number: int, *, timestamp: int | None = None) -> bytes:
        timestamp = 160 * number if timestamp is None else timestamp
        payload = bytes([number % 256]) * 160
        return build_rtp(RtpPacket(self._payload_type, number & 0xFFFF, timestamp & 0xFFFFFFFF, self.ssrc, payload))

    def send(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self._socket.sendto(datagram, self._to)

    def numbers(self, numbers: Iterable[int], pause: float = 0.0) -> None:
        for number in numbers:
            self.send(self.packet(number))
            time.sleep(pause)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def sender(port: int) -> Iterable[Sender]:
    sender = Sender(port)
    yield sender
    sender.close()


def started(read: Read, port: int, query: str = "") -> Reader:
    reader = read(from_uri(f"rtp://127.0.0.1:{port}{query}"))
    reader.wait(lambda r: r.statuses())
    return reader


def test_a_bad_network_is_counted_exactly(read: Read, port: int, sender: Sender) -> None:
    """Loss, reordering, duplicates and late packets from a relay: the counters add up to what it did."""
    chance = random.Random(3)
    count = 400
    reader = started(read, port, "?idle=1&conceal=0")
    dropped = {n for n in range(5, count - 5) if chance.random() < 0.1}
    duplicated = {n for n in range(5, count - 5) if n not in dropped and chance.random() < 0.1}
    late = {50, 150, 250} - dropped - duplicated
    order: list[int] = []
    for n in range(count):
        if n not in dropped and n not in late:
            order += [n] * (1 + (n in duplicated))
    for i in range(10, len(order) - 10, 17):  # swap neighbours
        order[i], order[i + 1] = order[i + 1], order[i]
    for i, n in enumerate(order):
        sender.numbers([n])
        if i % 8 == 7:
            time.sleep(0.01)
    time.sleep(0.2)
    sender.numbers(late)  # long after their turn
    reader.wait(lambda r: r.ends(), 15)
    detail = next(status for status in reader.statuses() if status.reason == "final counters").detail
    assert detail["duplicate"] == len(duplicated)
    assert detail["late"] == len(late)
    assert detail["lost"] == len(dropped)
    assert detail["received"] == count - len(dropped) - len(late)
    sent_by_relay = len(order) + len(late)
    assert detail["received"] + detail["late"] + detail["duplicate"] == sent_by_relay
    assert detail["received"] + detail["late"] + detail["duplicate"] + detail["lost"] == count + len(duplicated)
    assert detail["stray"] == detail["malformed"] == detail["resets"] == 0
    gaps = dropped | late
    assert sum(block.lost for block in reader.blocks()) == 160 * len(gaps) == detail["lost_samples"]
    expected = np.concatenate(
        [np.full(160, 0 if n in gaps else mulaw_table()[n % 256], np.float32) for n in range(count)]
    )
    assert np.array_equal(reader.sound(), expected)


def test_many_streams_on_one_port(read: Read, port: int) -> None:
    reader = started(read, port, "?name=trunk")
    senders = [Sender(port, ssrc=i) for i in range(20)]
    for n in range(30):
        for sender in senders:
            sender.numbers([n])
        time.sleep(0.005)
    reader.wait(lambda r: r.heard() == 20 * 30 * 160)
    assert {block.stream for block in reader.blocks()} == {f"trunk-{i:08x}" for i in range(20)}
    for i in range(20):
        assert np.array_equal(reader.sound(f"trunk-{i:08x}"), np.repeat(mulaw_table()[:30], 160))
    for sender in senders:
        sender.close()


def test_the_same_ssrc_from_two_addresses_is_two_streams(read: Read, port: int, sender: Sender) -> None:
    reader = started(read, port)
    other = Sender(port)
    for n in range(10):
        sender.numbers([n])
        other.numbers([n + 100])
    reader.wait(lambda r: r.heard() == 20 * 160)
    other.close()
    name = f"rtp-{port}-1234abcd"
    assert np.array_equal(reader.sound(name), np.repeat(mulaw_table()[:10], 160))
    assert np.array_equal(reader.sound(f"{name}-2"), np.repeat(mulaw_table()[100:110], 160))


def test_a_new_ssrc_is_a_new_stream_and_the_idle_one_ends(read: Read, port: int, sender: Sender) -> None:
    reader = started(read, port, "?idle=1")
    sender.numbers(range(10))
    sender.ssrc = 0xFEED
    for n in range(200):
        sender.numbers([n])
        time.sleep(0.01)
        if reader.ends():
            break
    assert [(end.stream, end.reason) for end in reader.ends()] == [(f"rtp-{port}-1234abcd", "no packet for 1 s")]
    assert reader.heard(f"rtp-{port}-0000feed") > 0


def test_a_pause_is_recovering_and_then_live(
    read: Read, port: int, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamdet.sources.rtp_stream.STALL_SECONDS", 0.5)
    reader = started(read, port)
    sender.numbers(range(20))
    name = f"rtp-{port}-1234abcd"
    reader.wait(lambda r: [s.phase for s in r.statuses(name)] == ["live", "recovering"])
    sender.numbers(range(40, 60))  # the sender went on; the network did not
    reader.wait(lambda r: r.heard() == 40 * 160)
    assert [status.phase for status in reader.statuses(name)] == ["live", "recovering", "live"]
    (stand_in,) = [block for block in reader.blocks() if block.concealed]
    assert len(stand_in.samples) == 0.06 * 8000  # the rest is not made up
    assert sum(block.lost for block in reader.blocks()) + len(stand_in.samples) == 20 * 160


def test_an_unknown_payload_type_is_said_once(read: Read, port: int) -> None:
    reader = started(read, port)
    sender = Sender(port, payload_type=111)
    for n in range(50):
        sender.numbers([n])
        time.sleep(0.004)
    reader.wait(lambda r: len(r.statuses(f"rtp-{port}-1234abcd")) == 1)
    reader.finish()
    sender.close()
    (status,) = reader.statuses(f"rtp-{port}-1234abcd")
    assert status.phase == "degraded"
    assert "unknown payload type 111" in status.reason
    assert not reader.blocks()


def test_a_codec_without_decoder_is_said_once(read: Read, port: int, tmp_path: Path) -> None:
    (tmp_path / "a.sdp").write_text("m=audio 1 RTP/AVP 18 0\na=rtpmap:18 G729/8000\n")
    reader = started(read, port, f"?sdp={tmp_path}/a.sdp")
    sender = Sender(port, payload_type=18)
    sender.numbers(range(10))
    reader.wait(lambda r: r.statuses(f"rtp-{port}-1234abcd"))
    sender.close()
    (status,) = reader.statuses(f"rtp-{port}-1234abcd")
    assert "no decoder for G729/8000" in status.reason


def test_malformed_packets_harm_no_stream(read: Read, port: int, sender: Sender) -> None:
    reader = started(read, port)
    stranger = Sender(port)
    rtcp = bytes.fromhex("80c80006") + bytes(24)
    for n in range(30):
        sender.numbers([n])
        stranger.send(*MALFORMED.values(), rtcp)
        time.sleep(0.002)
    reader.wait(lambda r: r.heard() == 30 * 160)
    assert np.array_equal(reader.sound(), np.repeat(mulaw_table()[:30], 160))
    reader.wait(lambda r: any("were no RTP" in status.reason for status in r.statuses()))
    told = [status for status in reader.statuses() if "were no RTP" in status.reason]
    assert len(told) == 1
    stranger.close()


def test_random_datagrams_open_no_stream(
    read: Read, port: int, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtp_guard, "PATIENCE_SECONDS", 0.3)
    reader = started(read, port)
    sender.send(*(b"\x80\x00" + os.urandom(170) for _ in range(200)))
    time.sleep(0.8)
    sender.numbers(range(20))
    reader.wait(lambda r: r.heard() == 20 * 160)
    assert {item.stream for item in reader.items} == {f"rtp-{port}", f"rtp-{port}-1234abcd"}


def test_streams_are_capped(read: Read, port: int) -> None:
    reader = started(read, port, "?streams=3")
    senders = [Sender(port, ssrc=i) for i in range(5)]
    for n in range(20):
        for sender in senders:
            sender.numbers([n])
    reader.wait(lambda r: r.heard() == 3 * 20 * 160)
    reader.wait(lambda r: any(status.detail.get("refused") for status in r.statuses(f"rtp-{port}")))
    for sender in senders:
        sender.close()


def test_silence_that_was_not_sent_is_silence_not_loss(read: Read, port: int, sender: Sender) -> None:
    reader = started(read, port)
    sender.numbers(range(1, 11))
    noise = build_rtp(RtpPacket(13, 11, 11 * 160, sender.ssrc, b"\x40"))
    sender.send(noise)
    sender.send(*(sender.packet(12 + n, timestamp=(61 + n) * 160) for n in range(10)))
    reader.wait(lambda r: r.heard() == (10 + 50 + 10) * 160)
    assert sum(block.lost for block in reader.blocks()) == 0
    sound = reader.sound()
    assert not sound[10 * 160 : 60 * 160].any()
    assert sound[60 * 160 :].any()


def test_stopping_is_quick_and_frees_the_port(read: Read, port: int) -> None:
    reader = started(read, port)
    assert reader.finish() < 30
    started(read, port)


def test_a_port_in_use_is_one_clear_error(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", port))
        reader = Reader(RtpSource("127.0.0.1", port))
        reader.run()
    assert isinstance(reader.error, SourceError)
    assert f"cannot receive on 127.0.0.1:{port}: Address already in use" in str(reader.error)
    reader = Reader(RtpSource("192.0.2.1", port))
    reader.run()
    assert "Cannot assign requested address" in str(reader.error)


def test_a_multicast_group_is_joined(read: Read, port: int, sender: Sender) -> None:
    reader = read(RtpSource("239.255.12.34", port, options=RtpOptions()))
    reader.wait(lambda r: r.statuses() or r.error)
    if reader.error:
        pytest.skip(f"no multicast here: {reader.error}")
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        for n in range(5):
            out.sendto(sender.packet(n), ("239.255.12.34", port))
    except OSError as error:
        pytest.skip(f"no multicast here: {error}")
    finally:
        out.close()
    reader.wait(lambda r: r.heard() == 5 * 160)


@given(
    st.lists(
        st.builds(
            RtpPacket,
            payload_type=st.sampled_from([0, 8, 9, 10, 11, 13, 96, 127]),
            sequence=st.one_of(st.integers(0, 20), st.integers(0, 0xFFFF)),
            timestamp=st.one_of(st.integers(0, 4000), st.integers(0, 0xFFFFFFFF)),
            ssrc=st.just(1),
            payload=st.binary(max_size=60),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_any_packets_give_blocks_and_no_exception(packets: list[RtpPacket]) -> None:
    types = {**STATIC, 96: Encoding("opus", 48000)}
    stream = RtpStream("s", origin="o", payload_types=types, first=packets[0], now=0.0)
    items: list[Item] = []
    for i, packet in enumerate(packets):
        stream.put(packet, i * 0.02)
        items += stream.take(i * 0.02)
        items += stream.check(i * 0.02)
    items += stream.finish("over")
    blocks = [item for item in items if isinstance(item, Block)]
    assert all(block.lost >= 0 and len(block.samples) > 0 for block in blocks)
    # Whatever the time stamps say, the sound does not outgrow what can have passed on the wall's clock by much.
    assert sum((len(block.samples) + block.lost) / block.rate for block in blocks) < len(packets) * 3
    detail = stream.detail()
    assert detail["received"] + detail["late"] + detail["duplicate"] + detail["stray"] == len(packets)


def test_what_the_kernel_drops_is_known(port: int, sender: Sender) -> None:
    with rtp_socket.bind_udp("127.0.0.1", port) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sender.numbers(range(100))
        kept = 0
        while True:
            try:
                receiver.recv(65536)
            except BlockingIOError:
                break
            kept += 1
        assert 0 < kept < 100
        assert rtp_socket.overflow([receiver]) == 100 - kept
