"""The pieces of work that are measured: windows in ONNX Runtime, the ends of the way by themselves, the whole way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from streamdet.assembly import judge_maker
from streamdet.audio.block import Block
from streamdet.audio.pcm import decode_pcm, to_mono
from streamdet.bench.publisher import Publisher
from streamdet.bench.sound import pcm
from streamdet.config import Config
from streamdet.decide.window import Column
from streamdet.engine.modelfile import ModelInfo
from streamdet.engine.onnx import OnnxEngine
from streamdet.engine.runtime import session_options
from streamdet.events import Score, Sequencer, to_json, utc
from streamdet.pipeline import Pipeline
from streamdet.voice import Voice

WARM_HOPS = 12  # until the states are filled with sound and the windows have numbers to show
RING_SECONDS = 20.0  # the least that may be configured: the length of the ring costs memory and no time


class OrtWindow:
    """Scores one window of ``frames`` frames a call in ONNX Runtime, on one thread."""

    def __init__(self, network: bytes, frames: int, mels: int) -> None:
        self._session = onnxruntime.InferenceSession(network, session_options(), providers=["CPUExecutionProvider"])
        self._features = np.random.default_rng(0).random((1, frames, mels), np.float32)

    def run(self) -> None:
        """Score the window."""
        self._session.run(("column",), {"features": self._features})


def blocks_of(sound: bytes, block_ms: int, rate: int = 16_000) -> list[bytes]:
    """Cut 16-bit PCM into what a source delivers at once."""
    size = 2 * block_ms * rate // 1000
    return [sound[at : at + size] for at in range(0, len(sound), size)]


def as_block(name: str, data: bytes, arrived: float | None = None) -> Block:
    """Decode 16-bit PCM at 16 kHz, as a source does; ``arrived`` is the monotonic time, now where absent."""
    samples = to_mono(decode_pcm(data, pcm_format="s16le"))
    return Block(name, samples, 16_000) if arrived is None else Block(name, samples, 16_000, arrived=arrived)


class Intake:
    """PCM to hops: decoding, resampler, ring."""

    def __init__(self, streams: int, block_ms: int) -> None:
        self._voices = [
            Voice(f"s{s}", rate=16_000, hop_samples=5_120, ring_seconds=RING_SECONDS) for s in range(streams)
        ]
        self._sound = [blocks_of(pcm(stream, 0), block_ms) for stream in range(streams)]

    def run(self) -> None:
        """Take one hop of each stream in and out again."""
        for voice, blocks in zip(self._voices, self._sound, strict=True):
            for data in blocks:
                voice.accept(as_block(voice.name, data))
            voice.take()


class Decision:
    """Columns to JSON: windows, calibration, smoothing, alarm, event, encoding; as the pipeline does it."""

    def __init__(self, streams: int, info: ModelInfo) -> None:
        make = judge_maker(Config(), info)
        self._judges = [make() for _ in range(streams)]
        self._sequencer = Sequencer()
        self._model = info.digest
        self._hop_seconds = info.front_end.hop_seconds
        self._column = Column(0.3, 0.1, 0.9)
        self._at = 0.0

    def run(self) -> None:
        """Judge one hop of each stream."""
        self._at += self._hop_seconds
        for number, judge in enumerate(self._judges):
            judgement = judge.update(self._column, self._at)
            to_json(
                Score(
                    stream=f"s{number}",
                    seq=self._sequencer.next(f"s{number}"),
                    time=utc(self._at),
                    media_time=round(self._at, 3),
                    model=self._model,
                    p_fake=judgement.p_fake,
                    windows=judgement.windows,
                    speech=judgement.speech,
                    lost=judgement.lost,
                    verdict=judgement.verdict,
                    latency_ms=1.0,
                )
            )


class Chain:
    """The whole way: 16-bit PCM, ring, features, voice activity, engine, judge, JSON, ZeroMQ to another process."""

    def __init__(self, model: Path, streams: int, publisher: Publisher, block_ms: int) -> None:
        engine = OnnxEngine(model)
        judge = judge_maker(Config(), engine.info)
        self._pipeline = Pipeline(engine, judge, publisher.emit, ring_seconds=RING_SECONDS)
        self._sound = [
            [(f"s{stream}", blocks_of(pcm(stream, number), block_ms)) for stream in range(streams)]
            for number in range(WARM_HOPS)
        ]
        self._next = 0
        for _ in range(WARM_HOPS):
            self.run()

    def run(self) -> None:
        """Score one hop of each stream and give its events to the publisher."""
        for name, blocks in self._sound[self._next % WARM_HOPS]:
            for data in blocks:
                self._pipeline.push(as_block(name, data))
        self._next += 1
        self._pipeline.drain()
