"""How many alerts a network that loses packets raises on human speech: ``python -m tests.chaos.loss MANIFEST``.

Human-only streams are spliced as for ``trainer stream-eval``, packed into RTP, thinned out, and go through the stream,
the decoders and the pipeline that listen, on a clock of their own. Every operating point watches the same hops.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamdet.assembly import judge_maker
from streamdet.audio.block import Block
from streamdet.bundled import bundled_model
from streamdet.config import Config
from streamdet.decide.judge import Judge
from streamdet.engine.modelfile import read_model
from streamdet.engine.onnx import OnnxEngine
from streamdet.features.logmel import FloatArray
from streamdet.pipeline import Pipeline
from streamdet.sources.payload import STATIC
from streamdet.sources.rtp_options import RtpOptions
from streamdet.sources.rtp_stream import RtpStream
from streamdet.tap import Heard
from tests.chaos.senders import ENCODINGS, PACKET_SECONDS, packets

RATE = 16_000
TOGETHER = 16  # streams heard side by side


@dataclass(frozen=True, slots=True)
class Network:
    """What happens between sender and receiver: share lost, mean length of a burst, whether loss is concealed."""

    loss: float = 0.0
    burst: float = 1.0
    conceal: bool = True

    def keeps(self, count: int, seed: int) -> Iterator[bool]:
        """Tell of each packet whether it arrives: a Gilbert channel, which for bursts of 1 loses independently."""
        chance = random.Random(seed)
        lost = False
        enter = self.loss if self.burst == 1 else self.loss / (self.burst * (1 - self.loss))
        for _ in range(count):
            stays = self.loss if self.burst == 1 else 1 - 1 / self.burst
            lost = chance.random() < (stays if lost else enter)
            yield not lost


@dataclass(slots=True)
class Tally:
    """What was heard in one condition."""

    seconds: float = 0.0
    hops: int = 0
    lost: float = 0.0
    judged: int = 0
    p_fake: float = 0.0
    alerts: Counter[str] | None = None


def received(codec: str, samples: FloatArray, network: Network, *, seed: int, name: str) -> Iterator[Block]:
    """What a receiver makes of sound, float32 at 16 kHz, that came over a network."""
    sent = list(packets(codec, samples, RATE, first=seed))
    types = {**STATIC, **dict(ENCODINGS.values())}
    options = RtpOptions(conceal=network.conceal)
    stream = RtpStream(name, origin="simulated", payload_types=types, first=sent[0], now=0.0, options=options)
    kept = list(network.keeps(len(sent), seed))
    kept[:2] = kept[-1:] = [True] * 2  # so that it is known to begin, and where it ends
    for n, (packet, arrives) in enumerate(zip(sent, kept, strict=False)):
        now = n * PACKET_SECONDS
        if arrives:
            stream.put(packet, now)
        yield from (item for item in stream.take(now) if isinstance(item, Block))
    yield from (item for item in stream.finish("end") if isinstance(item, Block))


def listen(model: Path, codec: str, streams: dict[str, FloatArray], network: Network) -> Tally:
    """Hear streams over a network; count the alerts at each operating point of the model."""
    info = read_model(model)[1]
    makers = {point: judge_maker(Config(operating_point=point), info) for point in info.operating_points}
    judges: dict[tuple[str, str], Judge] = {}
    alerts = Counter(dict.fromkeys(makers, 0))
    tally = Tally(alerts=alerts)

    def observe(heard: Heard) -> None:
        tally.hops += 1
        tally.lost += heard.column.lost
        if heard.judgement.p_fake is not None:
            tally.judged += 1
            tally.p_fake += heard.judgement.p_fake
        for point, make in makers.items():
            judge = judges.setdefault((point, heard.stream), make())
            steps = judge.update(heard.column, heard.judgement.media_time).alerts
            alerts[point] += sum(step.phase == "raised" for step in steps)

    pipeline = Pipeline(
        OnnxEngine(model, max_batch=TOGETHER), makers["default"], lambda _: None, batch=TOGETHER, taps=(observe,)
    )
    names = list(streams)
    for begin in range(0, len(names), TOGETHER):
        group = names[begin : begin + TOGETHER]
        sources = [received(codec, streams[n], network, seed=begin + i, name=n) for i, n in enumerate(group)]
        while sources:
            for source in tuple(sources):
                block = next(source, None)
                if block is None:
                    sources.remove(source)
                else:
                    pipeline.push(block)
            if pipeline.lag > 0:
                pipeline.drain()
        pipeline.finish("end")
    tally.seconds = sum(map(len, streams.values())) / RATE
    return tally


def row(codec: str, network: Network, tally: Tally) -> dict[str, object]:
    """The figures of one condition."""
    return {
        "codec": codec,
        "loss": network.loss,
        "burst": network.burst,
        "concealed": network.conceal,
        "hours": round(tally.seconds / 3600, 3),
        "lost": round(tally.lost / max(1, tally.hops), 4),
        "judged": round(tally.judged / max(1, tally.hops), 4),
        "mean_p_fake": round(tally.p_fake / max(1, tally.judged), 4),
        "alerts": dict(tally.alerts or {}),
    }


def human_streams(manifest: Path, split: str, hours: float, seed: int) -> dict[str, FloatArray]:
    """Splice human-only streams of a corpus, float32 at 16 kHz."""
    from trainer.data.manifest import read_manifests  # noqa: PLC0415  only this command needs a corpus
    from trainer.streams.script import _human_only, decks  # noqa: PLC0415
    from trainer.streams.splice import Splicer  # noqa: PLC0415

    rng = np.random.default_rng(seed)
    plan = _human_only(decks(read_manifests([manifest], split), 0, rng), hours, rng)
    splicer = Splicer(clean=1.0)
    return {script.name: splicer(script)[0] for script in plan}


def main() -> None:
    """Measure all conditions; one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--model", type=Path, default=bundled_model("edge"))
    parser.add_argument("--split", default="val")
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--codecs", nargs="+", default=["pcmu", "opus"], choices=sorted(ENCODINGS))
    given = parser.parse_args()
    streams = human_streams(given.manifest, given.split, given.hours, 0)
    networks = [
        Network(),
        *(Network(0.2, conceal=conceal) for conceal in (True, False)),
        *(Network(0.2, 3.0, conceal) for conceal in (True, False)),
        *(Network(loss) for loss in (0.1, 0.3)),
    ]
    for codec in given.codecs:
        for network in networks:
            print(json.dumps(row(codec, network, listen(given.model, codec, streams, network))), flush=True)


if __name__ == "__main__":
    main()
