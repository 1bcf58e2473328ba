"""Fuzzes what ZeroMQ brings from strangers: ``python -m tests.fuzz.zeromq --inputs 1000000``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from streamdet.errors import FormatError
from streamdet.sources.wire import AudioHeader, encode_header, split_message
from streamdet.sources.wire_payload import MOST_SAMPLES, OpusEncoder, PayloadDecoder, WireFormat, encode_flac
from tests.fuzz.harness import Target, main

SOUND = np.sin(np.arange(960, dtype=np.float32) / 20)[:, np.newaxis]
HEADERS = [
    encode_header(AudioHeader(stream="door", seq=3, rate=8000, time=1.5e9, blocked=0.5, end=True)),
    encode_header(AudioHeader(stream="door", seq=3, rate=48_000, format="opus", channels=2)),
    encode_header(AudioHeader(stream="door", seq=3, rate=44_100, format="flac", channels=8)),
]


def _message(data: bytes) -> None:
    """Take the input apart where it has line ends, as the parts of a message."""
    with suppress(FormatError):
        header, payload = split_message(data.split(b"\n"))
        assert 4000 <= header.rate <= 768_000
        assert 1 <= header.channels <= 255
        samples = PayloadDecoder().decode(
            payload, wire_format=header.format, rate=header.rate, channels=header.channels
        )
        assert len(samples) * header.channels <= MOST_SAMPLES


def _payload(wire_format: WireFormat, rate: int) -> Callable[[bytes], None]:
    decoder = PayloadDecoder()

    def run(data: bytes) -> None:
        with suppress(FormatError):
            samples = decoder.decode(data, wire_format=wire_format, rate=rate, channels=1)
            assert samples.dtype == np.float32
            assert samples.ndim == 1

    return run


TARGETS: dict[str, Callable[[], Target]] = {
    "message": lambda: Target(
        "message",
        _message,
        [header + b"\n" + bytes(64) for header in HEADERS],
        ["streamdet.sources.wire", "streamdet.sources.wire_payload"],
    ),
    "flac": lambda: Target(
        "flac", _payload("flac", 16_000), [encode_flac(SOUND, 16_000)], ["streamdet.sources.wire_payload"]
    ),
    "opus": lambda: Target(
        "opus",
        _payload("opus", 48_000),
        OpusEncoder(48_000, 1).encode(SOUND),
        ["streamdet.sources.wire_payload", "streamdet.audio.codecs"],
    ),
}

if __name__ == "__main__":
    sys.exit(main("tests.fuzz.zeromq", TARGETS))
