"""FLAC and Opus, keys, and back-pressure of audio over real ZeroMQ sockets; and payloads that mean no good."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdet.client import AudioSender, send_audio
from streamdet.errors import ConfigError, FormatError, SourceError
from streamdet.keys import make_keys
from streamdet.sources.address import parse_address
from streamdet.sources.uri import from_uri
from streamdet.sources.wire_payload import WIRE_FORMATS, OpusEncoder, PayloadDecoder, encode_flac
from streamdet.sources.zeromq import ZmqSource, _Delay

from .conftest import Reader, correlation, delay_of

Read = Callable[..., Reader]
SOUND = (0.5 * np.sin(2 * np.pi * (200 + 100 * np.arange(16_000) / 16_000) * np.arange(16_000) / 16_000)).astype("f4")


def started(read: Read, port: int, query: str = "") -> tuple[ZmqSource, Reader]:
    source = from_uri(f"zmq://127.0.0.1:{port}{query}")
    assert isinstance(source, ZmqSource)
    reader = read(source)
    reader.wait(lambda r: r.statuses())
    return source, reader


def test_flac_is_lossless_to_sixteen_bits(read: Read, port: int) -> None:
    _, reader = started(read, port)
    send_audio(f"tcp://127.0.0.1:{port}", "lobby", SOUND, rate=16_000, sample_format="flac")
    reader.wait(lambda r: r.ends(), 30)
    assert np.abs(reader.sound("lobby") - SOUND).max() <= 0.51 / 32768
    assert sum(block.lost for block in reader.blocks()) == 0


@pytest.mark.parametrize("channels", [1, 2])
def test_opus_in_pieces_that_fit_no_packet(read: Read, port: int, channels: int) -> None:
    _, reader = started(read, port)
    sound = np.repeat(SOUND[:, np.newaxis], channels, axis=1)
    with AudioSender(
        f"tcp://127.0.0.1:{port}", "lobby", rate=16_000, channels=channels, sample_format="opus"
    ) as sender:
        for begin in range(0, len(sound), 700):
            sender.send(sound[begin : begin + 700])
    reader.wait(lambda r: r.ends(), 30)
    heard = reader.sound("lobby")
    assert {block.rate for block in reader.blocks()} == {48_000}
    assert len(heard) == 48_000
    assert 0 <= delay_of(heard[::3], SOUND) <= 160  # the encoder looks 6.5 ms ahead
    assert correlation(heard[::3], SOUND) > 0.98


def test_a_loss_of_opus_is_as_long_as_its_packets(read: Read, port: int) -> None:
    _, reader = started(read, port)
    packets = OpusEncoder(16_000, 1).encode(SOUND)
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.linger = 1000
        push.connect(f"tcp://127.0.0.1:{port}")
        for seq, packet in enumerate(packets):
            header = {"v": 1, "stream": "a", "seq": seq, "format": "opus", "rate": 48_000, "end": seq == 49}
            if not 10 <= seq < 15:
                # Octets that no Opus packet begins with: 63 frames of 60 ms.
                push.send_multipart([json.dumps(header).encode(), b"\xff\x3f" if seq == 20 else packet])
    reader.wait(lambda r: r.ends(), 30)
    assert [block.lost for block in reader.blocks() if block.lost] == [5 * 960, 960]
    assert len(reader.sound()) == 48_000
    detail = reader.statuses("a")[-1].detail
    assert (detail["received"], detail["lost"], detail["undecodable"], detail["lost_samples"]) == (44, 5, 1, 5760)


def test_only_known_keys_may_send(read: Read, port: int, tmp_path: Path) -> None:
    make_keys(tmp_path / "keys", "desk")
    make_keys(tmp_path / "others", "desk")
    endpoint = f"tcp://127.0.0.1:{port}"
    source, reader = started(read, port, f"?curve=server&keys={tmp_path / 'keys'}")
    assert "with CURVE" in reader.statuses()[0].reason
    server = tmp_path / "keys" / "server.key"
    with AudioSender(endpoint, "plain", rate=8000, queue=1, timeout=0.3) as sender:
        sender._socket.linger = 0
        with pytest.raises(SourceError, match="nobody takes"):
            [sender.send(SOUND[:80]) for _ in range(5)]
        sender._ended = True
    stranger = AudioSender(endpoint, "x", rate=8000, key=tmp_path / "others" / "desk.key_secret", server_key=server)
    stranger.send(SOUND[:80])
    key = tmp_path / "keys" / "desk.key_secret"
    send_audio(endpoint, "desk", SOUND, rate=16_000, key=key, server_key=server)
    reader.wait(lambda r: r.ends(), 30)
    assert {block.stream for block in reader.blocks()} == {"desk"}
    reader.wait(lambda _: source.counters()[source.name]["unauthorised"] >= 1)
    reader.wait(lambda r: any("connections without a known key" in s.reason for s in r.statuses()), 20)
    stranger._socket.linger = 0
    stranger.close()


def test_the_configured_keys_guard_what_binds_and_says_nothing_else(tmp_path: Path) -> None:
    make_keys(tmp_path / "keys", "desk")
    guarded, opened, connecting = (
        ZmqSource.from_address(address)
        for address in (parse_address(f"zmq://h:1{query}", {}) for query in ("", "?curve=off", "?mode=sub"))
    )
    for source in (guarded, opened, connecting):
        source.guard_by_default(tmp_path / "keys")
    assert [source._keys for source in (guarded, opened, connecting)] == [tmp_path / "keys", None, None]


@pytest.mark.parametrize(
    "query", ["?curve=server", "?curve=client", "?mode=sub&keys=d", "?key=a", "?curve=off&keys=d", "?curve=perhaps"]
)
def test_keys_that_make_no_sense_are_one_clear_error(query: str) -> None:
    with pytest.raises(ConfigError):
        from_uri(f"zmq://127.0.0.1:5570{query}")


def test_what_was_sent_is_what_was_counted_over_restarts(read: Read, port: int) -> None:
    source, reader = started(read, port)
    for begin in range(3):
        sender = AudioSender(f"tcp://127.0.0.1:{port}", "a", rate=8000)
        for _ in range(20):
            sender.send(SOUND[:80])
        sender.close()  # without a word of its end
        reader.wait(lambda r, begin=begin: r.heard() == 1600 * (begin + 1))
    reader.wait(lambda _: source.counters()[source.name]["disconnections"] == 3)
    counters = source.counters()
    own = counters[source.name]
    assert (own["messages"], own["received"], own["connections"], own["connected"]) == (60, 60, 3, 0)
    assert (counters["a"]["received"], counters["a"]["restarts"], counters["a"]["lost"]) == (60, 2, 0)
    assert counters["a"]["entered_live"] >= 1


def test_a_sender_that_has_to_wait_says_so(read: Read, port: int) -> None:
    sender = AudioSender(f"tcp://127.0.0.1:{port}", "a", rate=8000, queue=2, timeout=30)
    sender.send(SOUND[:80])
    sender.send(SOUND[:80])
    with zmq.Context() as context, context.socket(zmq.PULL) as slow:
        slow.rcvhwm = 1
        slow.bind(f"tcp://127.0.0.1:{port}")
        begun = time.monotonic()
        sender._timeout = 1.5
        with pytest.raises(SourceError, match="nobody takes"):  # nobody reads what the slow one queues
            [sender.send(np.tile(SOUND, 8)) for _ in range(100)]
        assert 1.4 < sender.blocked_seconds <= time.monotonic() - begun
    sender._timeout = 30.0
    source, reader = started(read, port)
    reader.wait(lambda _: source.counters().get("a", {}).get("blocked_ms", 0) >= 400 or sender.send(SOUND[:80]), 30)
    reader.wait(lambda r: any("had to wait" in status.reason for status in r.statuses("a")) or sender.send(SOUND[:80]))
    sender.close()


def test_a_queue_is_seen_whatever_the_clocks_say() -> None:
    delay = _Delay()
    for n in range(3000):  # the sender's clock is an hour off; one message in ten comes late
        delay.add(3600 + 0.002 * (n % 10 == 0), n * 0.02)
    assert delay.queue < 0.01
    delay.add(3602.5, 60.5)
    assert delay.queue == pytest.approx(2.5, abs=0.01)
    for n in range(9000):  # a way that is longer from now on is the way, not a queue
        delay.add(3601, 61 + n * 0.02)
    assert delay.queue == 0


FLAC = encode_flac(SOUND[:500, np.newaxis], 16_000)
OPUS = OpusEncoder(16_000, 1).encode(SOUND[:1600])
CHANGES = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6)


@settings(max_examples=150, deadline=None)
@given(
    wire_format=st.sampled_from(WIRE_FORMATS),
    junk=st.binary(max_size=200),
    base=st.sampled_from([b"", FLAC, *OPUS]),
    changes=CHANGES,
    cut=st.integers(0, 2000),
    channels=st.integers(1, 2),
)
def test_any_payload_is_decoded_or_refused(
    wire_format: str, junk: bytes, base: bytes, changes: list[tuple[int, int]], cut: int, channels: int
) -> None:
    data = bytearray(base[:cut] + junk)
    for place, value in changes:
        if data:
            data[place % len(data)] = value
    decoder = PayloadDecoder()
    for payload in (bytes(data), base):
        try:
            samples = decoder.decode(payload, wire_format=wire_format, rate=16_000, channels=channels)  # type: ignore[arg-type]
        except FormatError:
            continue
        assert samples.ndim == 1
        assert samples.dtype == np.float32


def test_a_small_payload_that_claims_much_is_refused() -> None:
    claimed = bytearray(FLAC)
    claimed[21:26] = bytes([claimed[21] | 0x0F, 0xFF, 0xFF, 0xFF, 0xFF])  # total samples: 2 ** 36 - 1 (RFC 9639 8.2)
    with pytest.raises(FormatError, match="holds more than"):
        PayloadDecoder().decode(bytes(claimed), wire_format="flac", rate=16_000, channels=1)
