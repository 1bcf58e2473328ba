"""Who takes part: the streaming engine at several numbers of streams, its parts, its peers, and the whole way."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from streamdet.audio.vad import VoiceActivity
from streamdet.bench.publisher import Publisher
from streamdet.bench.rounds import Contestant
from streamdet.bench.sound import hop
from streamdet.bench.windows import window_network
from streamdet.bench.work import WARM_HOPS, Chain, Decision, Intake, OrtWindow
from streamdet.engine.modelfile import ModelInfo, read_model
from streamdet.engine.onnx import MAX_BATCH, OnnxEngine
from streamdet.errors import DependencyError
from streamdet.features import FrontEnd

WINDOW_SECONDS = (4, 10)


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured: ``streams`` at which, ``block_ms`` of sound in one piece as a source delivers it."""

    models: Sequence[Path]
    streams: Sequence[int] = (1, 8, 32, 128)
    block_ms: int = 20
    peers: bool = True

    @property
    def together(self) -> int:
        """Streams at which the parts are measured and the ways compared: a full micro-batch if possible."""
        return MAX_BATCH if MAX_BATCH in self.streams else max(self.streams)


@dataclass(slots=True)
class Field:
    """The contestants, and why some are missing."""

    contestants: list[Contestant] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, kind: str, label: str, hops: int, run: Callable[[], object], **details: Any) -> None:
        """Let one more take part."""
        self.contestants.append(Contestant(kind, label, hops, run, details))


def assemble(settings: Settings, publisher: Publisher) -> Field:
    """Load everything that takes part; what cannot, for want of a package, is listed in ``left_out``.

    Raises:
        ModelError: a model file cannot be used.
    """
    taking_part = Field()
    for path in settings.models:
        _add_engine(taking_part, path, settings.streams)
    _add_parts(taking_part, settings)
    for streams in settings.streams:
        _add_whole_way(taking_part, settings, streams, publisher, settings.block_ms)
    hop_ms = round(1e3 * read_model(settings.models[0])[1].front_end.hop_seconds)
    if settings.block_ms != hop_ms:
        _add_whole_way(taking_part, settings, settings.together, publisher, hop_ms)
    if settings.peers:
        _add_peers(taking_part, settings)
    return taking_part


def _add_engine(taking_part: Field, path: Path, numbers: Sequence[int]) -> None:
    for streams in numbers:
        engine = OnnxEngine(path)
        info = engine.info
        features = _features(info, streams)
        slots = np.array([engine.allocate() for _ in range(streams)], np.intp)
        steps = _endless(features)

        def run(engine: OnnxEngine = engine, slots: Any = slots, steps: Any = steps) -> None:
            engine.step(slots, next(steps))

        label = f"streaming {info.precision}, {_counted(streams)}"
        taking_part.add("stream", f"{label} ({info.name})", streams, run, **describe_model(info), streams=streams)


def _add_parts(taking_part: Field, settings: Settings) -> None:
    """Front end, voice activity, decode and ring, decision and events: each by itself."""
    streams = settings.together
    samples = [np.stack([hop(stream, number) for stream in range(streams)]) for number in range(WARM_HOPS)]
    front_end, vad = FrontEnd(read_model(settings.models[0])[1].front_end), VoiceActivity()
    frames, speech = front_end.start(streams), vad.start(streams)
    sound, heard = _endless(samples), _endless(samples)
    taking_part.add("part", "front end", streams, lambda: front_end(next(sound), frames), part="front_end")
    taking_part.add("part", "voice activity", streams, lambda: vad(next(heard), speech), part="vad")
    taking_part.add("part", "decode and ring", streams, Intake(streams, settings.block_ms).run, part="decode_ring")
    info = read_model(settings.models[0])[1]
    taking_part.add("part", "decision and JSON", streams, Decision(streams, info).run, part="decision_json")


def _add_whole_way(taking_part: Field, settings: Settings, streams: int, publisher: Publisher, block_ms: int) -> None:
    chain = Chain(settings.models[0], streams, publisher, block_ms)
    label = f"PCM to JSON, {_counted(streams)}, blocks of {block_ms} ms"
    details = {"streams": streams, "block_ms": block_ms}
    taking_part.contestants.append(Contestant("end_to_end", label, streams, chain.run, details, publisher.flush))


def _add_peers(taking_part: Field, settings: Settings) -> None:
    for path in settings.models:
        content, info = read_model(path)
        if info.front_end.fine:
            taking_part.left_out.append(f"windows of {info.name} anew: not for a model that hears more than bands")
            continue
        for seconds in WINDOW_SECONDS:
            frames = _whole_hops(info, seconds)
            try:
                window = OrtWindow(window_network(content, frames), frames, info.front_end.mels)
            except DependencyError as error:
                taking_part.left_out.append(str(error))
                break
            label = f"ONNX Runtime {info.precision}, {seconds} s window ({info.name})"
            taking_part.add("window", label, 1, window.run, **describe_model(info), seconds=seconds, frames=frames)
    first = read_model(settings.models[0])[1]
    if first.front_end.values == first.front_end.mels:  # its peer would be a ResNet alone
        _add_eager(taking_part, first)


def _add_eager(taking_part: Field, info: ModelInfo) -> None:
    if importlib.util.find_spec("torch") is None:
        taking_part.left_out.append("torch windows need torch, which streamdet itself does not: pip install torch")
        return
    from streamdet.bench.eager import EagerWindow  # noqa: PLC0415  torch takes seconds to import and may be missing

    for seconds in WINDOW_SECONDS:
        frames = seconds * info.front_end.rate // info.front_end.hop
        window = EagerWindow(info.width, frames, info.front_end.mels)
        details = {"model": "resnet18", "width": info.width, "precision": "fp32", "seconds": seconds, "frames": frames}
        taking_part.add(
            "eager", f"torch eager fp32, {seconds} s window (width {info.width:g})", 1, window.run, **details
        )


def _counted(streams: int) -> str:
    return "1 stream" if streams == 1 else f"{streams} streams"


def describe_model(info: ModelInfo) -> dict[str, Any]:
    """Say which model it is, for a contestant's details."""
    return {"model": info.name, "width": info.width, "precision": info.precision}


def _whole_hops(info: ModelInfo, seconds: float) -> int:
    """Frames of the longest window of whole hops that is not longer than ``seconds``."""
    return int(seconds / info.front_end.hop_seconds) * info.front_end.hop_frames


def _features(info: ModelInfo, streams: int) -> list[Any]:
    """Features of consecutive hops, ``[streams, 32, mels]`` each."""
    front_end = FrontEnd(info.front_end)
    state = front_end.start(streams)
    hops = []
    for number in range(WARM_HOPS):
        features, state = front_end(np.stack([hop(stream, number) for stream in range(streams)]), state)
        hops.append(features)
    return hops


def _endless(items: Sequence[Any]) -> Iterator[Any]:
    while True:
        yield from items
