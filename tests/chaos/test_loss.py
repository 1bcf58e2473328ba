"""Loss on the way to the pipeline: windows know their share of it, and a long gap begins anew."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import soundfile

from streamdet.assembly import judge_maker
from streamdet.audio.block import Block
from streamdet.bundled import bundled_model
from streamdet.config import Config
from streamdet.decide.window import Column
from streamdet.engine.modelfile import read_model
from streamdet.engine.onnx import OnnxEngine
from streamdet.events import Alert, Event
from streamdet.pipeline import Pipeline
from streamdet.sources.payload import STATIC
from streamdet.sources.rtp_stream import RtpStream
from streamdet.tap import Heard
from tests.chaos.loss import Network, listen
from tests.chaos.senders import packets
from tests.streamdet.conftest import DEMO


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """The beginning of the demo conversation, float32 at 16 kHz."""
    samples, _ = soundfile.read(DEMO, dtype="float32", stop=16_000 * 16)
    return samples


@pytest.mark.parametrize("codec", ["pcmu", "opus"])
def test_random_loss_is_known_to_the_windows_and_raises_nothing(speech: np.ndarray, codec: str) -> None:
    human = {"human": speech[: 16_000 * 12]}
    clean = listen(bundled_model("edge"), codec, human, Network())
    lossy = listen(bundled_model("edge"), codec, human, Network(0.2))
    assert clean.lost == 0
    assert lossy.lost / lossy.hops == pytest.approx(0.2, abs=0.08)
    assert clean.alerts is not None
    assert lossy.alerts is not None
    assert all(lossy.alerts[point] <= clean.alerts[point] for point in clean.alerts)


def test_a_channel_of_bursts_loses_what_it_says() -> None:
    for network in (Network(0.2), Network(0.2, 3.0), Network(0.3, 2.0)):
        kept = list(network.keeps(50_000, 1))
        assert 1 - sum(kept) / len(kept) == pytest.approx(network.loss, abs=0.02)
        ends = sum(1 for a, b in pairwise(kept) if not a and b)
        if network.burst > 1:
            assert (len(kept) - sum(kept)) / ends == pytest.approx(network.burst, rel=0.1)


def test_a_long_gap_begins_anew_and_clears_what_was_raised(speech: np.ndarray) -> None:
    """An alert before a gap of three seconds does not outlive it, and the network forgets what it heard."""
    events: list[Event] = []
    columns: list[Column] = []
    resets: list[int] = []

    class Engine(OnnxEngine):
        def reset(self, slot: int) -> None:
            resets.append(slot)
            super().reset(slot)

    def observe(heard: Heard) -> None:
        columns.append(heard.column)

    config = Config.model_validate({"alarm": {"raise": 0.02, "clear": 0.01, "min_seconds": 0.3}})
    pipeline = Pipeline(
        Engine(bundled_model("edge"), max_batch=4),
        judge_maker(config, read_model(bundled_model("edge"))[1]),
        events.append,
        batch=4,
        taps=(observe,),
    )
    sent = list(packets("pcmu", speech[: 16_000 * 16], 16_000))
    stream = RtpStream("s", origin="o", payload_types=STATIC, first=sent[0], now=0.0)
    begun = len(resets)
    for n, packet in enumerate(sent):
        if 400 <= n < 550:  # seconds 8 to 11
            continue
        stream.put(packet, 0.02 * n)
        for item in stream.take(0.02 * n):
            if isinstance(item, Block):
                pipeline.push(item)
        pipeline.drain()
    pipeline.finish("over")
    alerts = [event for event in events if isinstance(event, Alert)]
    assert [alert.phase for alert in alerts if alert.phase != "updated"][:2] == ["raised", "cleared"]
    first_cleared = next(alert for alert in alerts if alert.phase == "cleared")
    assert first_cleared.reason in ("gap", "silence", "evidence")
    assert first_cleared.media_time <= 11.5
    assert sum(column.lost for column in columns) * 0.32 == pytest.approx(3.0, abs=0.02)
    assert len(resets) > begun
