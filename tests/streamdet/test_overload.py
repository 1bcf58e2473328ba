"""Overload as a subscriber sees it: said once when it begins, with what it costs, and once when it is over."""

import json
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from streamdet import daemon
from streamdet.audio.block import Block, End, Status
from streamdet.bundled import bundled_model
from streamdet.config import Config
from streamdet.daemon import Listener
from streamdet.engine import overload
from streamdet.engine.base import Slots
from streamdet.engine.onnx import OnnxEngine
from streamdet.features.logmel import FloatArray
from tests.waiting import until

HOP = 5_120


class SlowEngine(OnnxEngine):
    """The real engine on a machine that needs 40 ms more for every call."""

    def step(self, slots: Slots, features: FloatArray) -> FloatArray:
        time.sleep(0.04)
        return super().step(slots, features)


class Flood:
    """Streams that bring a hop every 20 ms for a while, then fall silent until overload came and went, then end."""

    live = True
    uri = name = "flood"

    def __init__(self, speech: np.ndarray, streams: int) -> None:
        self.overloaded: Callable[[], bool] = bool
        self._speech = speech
        self._streams = [f"s{number}" for number in range(streams)]

    def items(self, stop: threading.Event) -> Iterator[Block | Status | End]:
        begin = time.monotonic()
        for hop in range(60):
            stop.wait(max(0.0, begin + 0.02 * hop - time.monotonic()))
            for name in self._streams:
                yield Block(name, self._speech[hop * HOP : (hop + 1) * HOP], 16_000)
        until(self.overloaded, "overload")
        until(lambda: not self.overloaded(), "the end of overload", 120.0)
        for name in self._streams:
            yield End(name)


@pytest.mark.parametrize("policy", ["skip", "score_all"])
def test_overload_is_said_once_and_once_that_it_is_over(
    policy: str, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(overload, "CALM_SECONDS", 0.3)
    monkeypatch.setattr(daemon, "load_engine", lambda config: SlowEngine(bundled_model("edge"), max_batch=config.batch))
    config = Config.model_validate(
        {"publish": None, "batch": 1, "workers": 1, "overload": {"policy": policy, "late": 0.32}}
    )
    flood = Flood(speech, 2 if policy == "skip" else 1)
    listener = Listener(config, [flood], json=True)
    flood.overloaded = lambda: listener.health().overloaded
    assert listener.run() == 0
    out = capfdbinary.readouterr().out
    events = [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]  # the log may be there too
    said = [event for event in events if event["type"] == "state" and event["stream"] == "*"]
    assert [event["phase"] for event in said] == ["degraded", "live"]
    assert said[0]["reason"].startswith("overload: scoring is")
    assert all(event["detail"]["cause"] == "overload" for event in said)
    scores = [event for event in events if event["type"] == "score"]
    skipped = [event["detail"]["skipped_hops"] for event in events if event.get("phase") == "ended"]
    health = [event for event in events if event["type"] == "health"][-1]
    assert health["skipped"] == said[1]["detail"]["skipped_hops"] == sum(skipped)
    assert health["overloaded"] is False
    if policy == "skip":
        assert len(scores) == 120
        assert min(skipped) > 10
        assert max(skipped) - min(skipped) <= 5
        assert "hops skipped" in listener.summary()
    else:
        assert len(scores) == 60
        assert skipped == [0]
        assert said[1]["detail"]["lag_seconds"] > 0.32


class Heap:
    """A stream whose sound comes all at once, and that lasts until it is stopped."""

    live = True
    uri = name = "heap"

    def __init__(self, sound: np.ndarray) -> None:
        self._sound = sound

    def items(self, stop: threading.Event) -> Iterator[Block | Status | End]:
        yield Block("s", self._sound, 16_000)
        stop.wait()
        yield End("s")


def test_what_was_not_scored_when_it_was_stopped_is_said(
    speech: np.ndarray, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(daemon, "FAREWELL_SECONDS", 0.2)
    monkeypatch.setattr(daemon, "load_engine", lambda config: SlowEngine(bundled_model("edge"), max_batch=config.batch))
    config = Config.model_validate({"publish": None, "batch": 1, "workers": 1})
    listener = Listener(config, [Heap(speech[: 60 * HOP])], json=True, seconds=0.5)
    assert listener.run() == 0
    out = capfdbinary.readouterr().out
    events = [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]
    scores = [event for event in events if event["type"] == "score"]
    (ended,) = [event["detail"] for event in events if event.get("phase") == "ended"]
    assert 0 < len(scores) < 60
    assert ended["unscored_hops"] == 60 - len(scores)
    assert f"{60 - len(scores)} hops not scored" in listener.summary()
