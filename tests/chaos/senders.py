"""RTP made of sound, in every codec, for tests that need packets rather than a sender's process."""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np
import soxr

from streamdet.audio.codecs import Encoding, mulaw_table
from streamdet.features.logmel import FloatArray
from streamdet.sources.rtp_packet import RtpPacket

PACKET_SECONDS = 0.02
ENCODINGS = {
    "pcmu": (0, Encoding("pcmu", 8000)),
    "l16": (96, Encoding("l16", 16_000)),
    "opus": (97, Encoding("opus", 48_000, 2)),
}


def mulaw(samples: FloatArray) -> bytes:
    """Encode float samples as PCMU: to the nearest of its 256 values."""
    table = mulaw_table()
    order = np.argsort(table, kind="stable")
    values = table[order]
    place = np.clip(np.searchsorted(values, samples), 1, 255)
    nearer = np.where(samples - values[place - 1] < values[place] - samples, place - 1, place)
    return bytes(order[nearer].astype(np.uint8))


def payloads(codec: str, samples: FloatArray, rate: int) -> Iterator[bytes]:
    """Encode sound, float32 ``[n]``, into payloads of 20 ms; a rest is left out."""
    clock = ENCODINGS[codec][1].clock
    sound = soxr.resample(samples, rate, clock).astype(np.float32) if rate != clock else samples
    size = int(PACKET_SECONDS * clock)
    frames = (sound[at : at + size] for at in range(0, len(sound) - size + 1, size))
    if codec == "opus":
        yield from _opus(frames, clock)
    for frame in frames:
        yield mulaw(frame) if codec == "pcmu" else np.clip(frame * 32768, -32768, 32767).astype(">i2").tobytes()


def _opus(frames: Iterator[FloatArray], rate: int) -> Iterator[bytes]:
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format, encoder.bit_rate = rate, "mono", "flt", 32_000
    at = 0
    for frame in frames:
        made = av.AudioFrame.from_ndarray(frame[np.newaxis], format="flt", layout="mono")
        made.sample_rate, made.pts = rate, at
        at += len(frame)
        yield from (bytes(packet) for packet in encoder.encode(made))


def packets(codec: str, samples: FloatArray, rate: int, *, ssrc: int = 0x5EED, first: int = 0) -> Iterator[RtpPacket]:
    """Sound as RTP packets of 20 ms, numbered from ``first``."""
    payload_type, encoding = ENCODINGS[codec]
    ticks = int(PACKET_SECONDS * encoding.clock)
    for n, payload in enumerate(payloads(codec, samples, rate)):
        yield RtpPacket(payload_type, (first + n) & 0xFFFF, (ticks * n) & 0xFFFFFFFF, ssrc, payload)
