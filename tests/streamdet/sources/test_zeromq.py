"""Audio over real ZeroMQ sockets, from this process and from another."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from streamdet.client import AudioSender, send_audio
from streamdet.errors import FormatError, SourceError
from streamdet.sources import zeromq
from streamdet.sources.uri import from_uri
from streamdet.sources.wire import AudioHeader, decode_header, decode_message, encode_message
from streamdet.sources.zeromq import ZmqSource

from .conftest import Reader

Read = Callable[..., Reader]

HEADER = {"v": 1, "stream": "door", "seq": 0, "format": "s16le", "rate": 8000, "channels": 1}


def sine(count: int, rate: int = 16_000) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 300 * np.arange(count) / rate)).astype(np.float32)


def started(read: Read, port: int, query: str = "") -> Reader:
    reader = read(from_uri(f"zmq://127.0.0.1:{port}{query}"))
    reader.wait(lambda r: r.statuses())
    return reader


@pytest.fixture
def push(port: int) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.linger = 1000
        socket.connect(f"tcp://127.0.0.1:{port}")
        yield socket


def message(payload: bytes = bytes(320), **fields: object) -> list[bytes]:
    return [json.dumps({**HEADER, **fields}).encode(), payload]


@pytest.mark.parametrize("sample_format", ["s16le", "f32le"])
def test_another_process_sends_a_recording(read: Read, port: int, sample_format: str) -> None:
    reader = started(read, port)
    code = (
        "import numpy as np; from streamdet.client import send_audio;"
        "x = np.sin(2 * np.pi * 300 * np.arange(16000) / 16000).astype(np.float32) / 2;"
        f"send_audio('tcp://127.0.0.1:{port}', 'lobby', x, rate=16000, sample_format='{sample_format}')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    reader.wait(lambda r: r.ends())
    assert [(end.stream, end.reason) for end in reader.ends()] == [("lobby", "the sender ended it")]
    assert np.allclose(reader.sound("lobby"), sine(16_000), atol=1e-4 if sample_format == "s16le" else 1e-7)
    assert reader.blocks()[0].rate == 16_000
    assert [status.phase for status in reader.statuses("lobby")] == ["live", "live"]
    assert reader.statuses("lobby")[-1].detail["received"] == 11


def test_a_subscriber_hears_only_its_topic(read: Read, port: int) -> None:
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        socket.linger = 0
        socket.bind(f"tcp://127.0.0.1:{port}")
        reader = started(read, port, "?mode=sub&topic=east")
        for seq in range(200):
            for stream in ("east1", "west1"):
                header = AudioHeader(stream=stream, seq=seq, rate=8000)
                socket.send_multipart(encode_message(header, sine(80), topic=stream.encode()))
            if reader.heard("east1") > 800:
                break
            time.sleep(0.02)
    assert {block.stream for block in reader.blocks()} == {"east1"}
    assert sum(block.lost for block in reader.blocks()) == 0  # who comes late has lost nothing of his own


def test_many_streams_and_a_name_before_theirs(read: Read, port: int) -> None:
    reader = started(read, port, "?name=hall")
    senders = [AudioSender(f"tcp://127.0.0.1:{port}", f"s {i}", rate=8000, channels=2) for i in range(5)]
    for _ in range(10):
        for i, sender in enumerate(senders):
            sender.send(np.full((80, 2), [i / 10, 0], np.float32))
    reader.wait(lambda r: r.heard() == 5 * 800)
    for i, sender in enumerate(senders):
        assert np.allclose(reader.sound(f"hall-s-{i}"), i / 20, atol=1e-4)
        sender.close()


def test_gaps_of_the_sequence_are_lost_and_counted(read: Read, port: int, push: zmq.Socket[bytes]) -> None:
    reader = started(read, port, "?idle=1")
    for seq in [0, 1, 2, 5, 6, 10]:
        push.send_multipart(message(seq=seq))
    reader.wait(lambda r: r.ends())
    assert [block.lost for block in reader.blocks()] == [0, 0, 0, 320, 0, 480]
    detail = reader.statuses("door")[-1].detail
    assert (detail["received"], detail["lost"], detail["lost_samples"], detail["restarts"]) == (6, 5, 800, 0)
    assert reader.ends()[0].reason == "no message for 1 s"


def test_a_sender_that_begins_anew(read: Read, port: int, push: zmq.Socket[bytes]) -> None:
    reader = started(read, port)
    push.send_multipart(message(seq=70))
    push.send_multipart(message(seq=71))
    reader.wait(lambda r: r.heard() == 320)
    time.sleep(0.5)
    push.send_multipart(message(seq=0))
    reader.wait(lambda r: r.heard() == 480)
    assert 0.3 * 8000 < reader.blocks()[-1].lost < 5 * 8000


def test_wrong_messages_harm_no_stream_and_are_said_once(read: Read, port: int, push: zmq.Socket[bytes]) -> None:
    wrong = [
        [b"one part"],
        [b"", b"", b"", b""],
        [b"no json", bytes(320)],
        [b"[1]", bytes(320)],
        message(v=2),
        message(format="mp3"),
        message(rate=0),
        message(channels=1.0),
        message(stream=""),
        message(seq=-1),
        message(seq=True),
        message(time="now"),
        message(end=1),
        message(payload=bytes(321)),
        [b"[" * 4000, bytes(320)],
        [b" " * 5000, bytes(320)],
        [b"\xff\xfe", bytes(320)],
    ]
    reader = started(read, port)
    for seq in range(5):
        push.send_multipart(message(seq=seq, stream="good"))
        for parts in wrong:
            push.send_multipart(parts)
    reader.wait(lambda r: r.heard("good") == 5 * 160)
    assert sum(block.lost for block in reader.blocks()) == 0
    reader.wait(lambda r: any(status.detail.get("malformed") for status in r.statuses()))
    time.sleep(0.7)
    told = [status for status in reader.statuses() if "malformed messages" in status.reason]
    assert len(told) == 1
    assert "; the last: " in told[0].reason
    assert {block.stream for block in reader.blocks()} == {"good"}


def test_samples_that_are_no_numbers(read: Read, port: int, push: zmq.Socket[bytes]) -> None:
    reader = started(read, port)
    samples = np.array([0.25, np.nan, np.inf, -0.5], "<f4")
    push.send_multipart(message(payload=samples.tobytes(), format="f32le"))
    reader.wait(lambda r: r.heard() == 4)
    assert np.array_equal(reader.sound(), np.float32([0.25, 0, 0, -0.5]))
    reader.wait(lambda r: any(status.detail.get("bad_samples") == 2 for status in r.statuses("door")))


def test_a_pause_is_recovering(read: Read, port: int, push: zmq.Socket[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zeromq, "STALL_SECONDS", 0.5)
    reader = started(read, port)
    push.send_multipart(message(seq=0))
    reader.wait(lambda r: [status.phase for status in r.statuses("door")] == ["live", "recovering"])
    push.send_multipart(message(seq=1))
    reader.wait(lambda r: [status.phase for status in r.statuses("door")] == ["live", "recovering", "live"])
    assert [block.lost for block in reader.blocks()] == [0, 0]


def test_an_oversized_message_is_refused_without_harm(read: Read, port: int, push: zmq.Socket[bytes]) -> None:
    reader = started(read, port)
    with zmq.Context() as context, context.socket(zmq.PUSH) as rude:
        rude.linger = 0
        rude.connect(f"tcp://127.0.0.1:{port}")
        rude.send_multipart(message(payload=bytes(5 << 20)))
        push.send_multipart(message())
        reader.wait(lambda r: r.heard() == 160)


def test_an_endpoint_in_use_is_one_clear_error(read: Read, port: int) -> None:
    started(read, port)
    second = Reader(ZmqSource("127.0.0.1", port))
    second.run()
    assert isinstance(second.error, SourceError)
    assert f"cannot bind tcp://127.0.0.1:{port}: Address already in use" in str(second.error)


def test_stopping_is_quick(read: Read, port: int) -> None:
    assert started(read, port).finish() < 30


def send_often(sender: AudioSender) -> None:
    for _ in range(3000):  # more than the socket queues
        sender.send(sine(8))


def test_the_client_says_when_nobody_listens(port: int) -> None:
    sender = AudioSender(f"tcp://127.0.0.1:{port}", "a", rate=8000, timeout=0.2)
    with pytest.raises(SourceError, match="nobody takes the sound"):
        send_often(sender)
    sender._socket.linger = 0
    sender.close()
    with pytest.raises(SourceError, match="cannot use nonsense"):
        send_audio("nonsense", "a", sine(8), rate=8000)


@given(
    header=st.builds(
        AudioHeader,
        stream=st.text(min_size=1, max_size=64),
        seq=st.integers(0, 2**53),
        rate=st.integers(4000, 768_000),
        format=st.sampled_from(["s16le", "f32le"]),
        channels=st.integers(1, 8),
        time=st.none() | st.floats(0, 1e11),
        end=st.booleans(),
    ),
    frames=st.integers(0, 20),
)
def test_what_is_written_is_read_again(header: AudioHeader, frames: int) -> None:
    samples = np.linspace(-1, 0.9, frames * header.channels, dtype=np.float32).reshape(frames, header.channels)
    read_back = decode_message(encode_message(header, samples, topic=b"t"))
    assert read_back.header == header
    assert np.allclose(read_back.samples, samples, atol=2e-5)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5), st.lists, max_leaves=3
)


@given(st.dictionaries(st.sampled_from([*HEADER, "time", "end"]), JSON), st.binary(max_size=30))
def test_any_header_is_read_or_refused(fields: dict[str, object], junk: bytes) -> None:
    for data in (json.dumps({**HEADER, **fields}).encode(), junk):
        try:
            header = decode_header(data)
        except FormatError:
            continue
        assert 4000 <= header.rate <= 768_000
        assert 1 <= header.channels <= 255
