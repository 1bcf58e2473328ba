"""The track of a stream that came by RTP against the track of the file it came from, through the whole pipeline."""

from __future__ import annotations

import av
import numpy as np
import pytest
import soxr

from streamdet.assembly import judge_maker
from streamdet.audio.block import Block
from streamdet.audio.codecs import Encoding, alaw_table
from streamdet.bundled import bundled_model
from streamdet.config import Config
from streamdet.engine.modelfile import read_model
from streamdet.engine.onnx import OnnxEngine
from streamdet.pipeline import Pipeline
from streamdet.sources.rtp_packet import RtpPacket
from streamdet.sources.rtp_stream import RtpStream
from streamdet.tap import Heard
from tests.chaos.senders import payloads

SECONDS = 12
# Codec: what its payload type means, and how far p_fake may lie from that of the file, on the mean of all hops. The
# reference has the codec's own bandwidth, so what is left is quantisation.
CODECS = {
    "l16": (Encoding("l16", 16_000), 0.01),
    "g722": (Encoding("g722", 8000), 0.1),
    "pcmu": (Encoding("pcmu", 8000), 0.1),
    "pcma": (Encoding("pcma", 8000), 0.1),
    "opus": (Encoding("opus", 48_000), 0.15),
}


def track(blocks: list[Block]) -> np.ndarray:
    """What the judge says of each hop; NaN where it says nothing."""
    said: list[float] = []

    def observe(heard: Heard) -> None:
        said.append(np.nan if heard.judgement.p_fake is None else heard.judgement.p_fake)

    model = bundled_model("edge")
    make = judge_maker(Config(), read_model(model)[1])
    pipeline = Pipeline(OnnxEngine(model, max_batch=1), make, lambda _: None, batch=1, taps=(observe,))
    for block in blocks:
        pipeline.push(block)
        pipeline.drain()
    pipeline.finish("end")
    return np.array(said)


def coded(codec: str, samples: np.ndarray) -> list[bytes]:
    """Payloads of 20 ms of sound at 16 kHz."""
    if codec == "g722":
        encoder = av.CodecContext.create("g722", "w")
        encoder.sample_rate, encoder.layout, encoder.format = 16_000, "mono", "s16"
        frames = []
        for at in range(0, len(samples) - 319, 320):
            pcm = np.clip(samples[np.newaxis, at : at + 320] * 32768, -32768, 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16_000, at
            frames += [bytes(packet) for packet in encoder.encode(frame)]
        return frames
    if codec != "pcma":
        return list(payloads(codec, samples, 16_000))
    table, narrow = alaw_table(), soxr.resample(samples, 16_000, 8000)
    nearest = np.abs(table[np.newaxis] - narrow[:, np.newaxis]).argmin(axis=1).astype(np.uint8)
    return [bytes(nearest[at : at + 160]) for at in range(0, len(nearest) - 159, 160)]


@pytest.mark.parametrize("codec", CODECS)
def test_the_track_by_rtp_is_the_track_of_the_file(speech: np.ndarray, codec: str) -> None:
    encoding, tolerance = CODECS[codec]
    sound = speech[: 16_000 * SECONDS]
    size = encoding.clock // 50
    sent = [RtpPacket(96, n, n * size, 1, payload) for n, payload in enumerate(coded(codec, sound))]
    stream = RtpStream("s", origin="o", payload_types={96: encoding}, first=sent[0], now=0.0)
    blocks: list[Block] = []
    for n, packet in enumerate(sent):
        stream.put(packet, 0.02 * n)
        blocks += [item for item in stream.take(0.02 * n) if isinstance(item, Block)]
    blocks += [item for item in stream.finish("end") if isinstance(item, Block)]
    narrow = codec in ("pcmu", "pcma")
    file = soxr.resample(sound, 16_000, 8000).astype(np.float32) if narrow else sound
    by_rtp, by_file = track(blocks), track([Block("s", file, 8000 if narrow else 16_000)])
    hops = min(len(by_rtp), len(by_file))
    assert abs(len(by_rtp) - len(by_file)) <= 1
    both = np.isfinite(by_rtp[:hops]) & np.isfinite(by_file[:hops])
    assert both.sum() > 0.5 * hops
    difference = np.abs(by_rtp[:hops] - by_file[:hops])[both].mean()
    assert difference < tolerance
