"""The end of an alert waits for its recording: in order, without a gap, and not for ever."""

from __future__ import annotations

import time
from concurrent.futures import Future

import numpy as np
import pytest

from streamdet.assembly import judge_maker
from streamdet.audio.block import Block, End
from streamdet.bundled import bundled_model
from streamdet.config import AlarmSection, Config
from streamdet.decide.alarm import Transition
from streamdet.engine.onnx import OnnxEngine
from streamdet.events import Alert, Event, Evidence
from streamdet.pipeline import HOLD_SECONDS, Pipeline

FILE = Evidence(path="x.flac", sha256="ab" * 32)
EAGER = Config(alarm=AlarmSection(raise_at=0.02, clear_at=0.01, min_seconds=0.3))


class Slow:
    """Keeps what it is asked for, and is done when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Future[Evidence | None]] = []
        self.left: list[str] = []

    def follow(self, alert: Alert) -> None:
        pass

    def complete(self, stream: str, step: Transition, time: str) -> Future[Evidence | None]:
        self.asked.append(Future())
        return self.asked[-1]

    def leave(self, stream: str) -> None:
        self.left.append(stream)


def alerting(speech: np.ndarray) -> tuple[Pipeline, Slow, list[Event]]:
    """A stream that has ended while its alert was active."""
    events: list[Event] = []
    keeper, engine = Slow(), OnnxEngine(bundled_model("edge"))
    pipeline = Pipeline(engine, judge_maker(EAGER, engine.info), events.append, keeper=keeper)
    for at in range(0, 30 * 16_000, 16_000):
        pipeline.push(Block("a", speech[at : at + 16_000], 16_000))
        pipeline.drain()
        if pipeline.active_alerts:
            break
    pipeline.push(End("a"))
    pipeline.drain()
    assert len(keeper.asked) == 1
    return pipeline, keeper, events


def check(events: list[Event], evidence: Evidence | None) -> None:
    cleared, ended = events[-2:]
    assert isinstance(cleared, Alert)
    assert (cleared.phase, cleared.reason, cleared.evidence) == ("cleared", "ended", evidence)
    assert (ended.type, ended.phase) == ("state", "ended")  # type: ignore[union-attr]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


def test_it_is_told_with_the_recording_as_soon_as_that_is_done(speech: np.ndarray) -> None:
    pipeline, keeper, events = alerting(speech)
    before = len(events)
    pipeline.tick()
    assert (len(events), pipeline.idle, keeper.left) == (before, False, [])
    keeper.asked[0].set_result(FILE)
    pipeline.tick()
    check(events, FILE)
    assert (pipeline.idle, keeper.left) == (True, ["a"])


def test_it_is_told_without_where_that_takes_too_long(speech: np.ndarray) -> None:
    pipeline, _, events = alerting(speech)
    until = time.monotonic() + HOLD_SECONDS + 20
    while not pipeline.idle:
        assert time.monotonic() < until
        pipeline.wait(0.5)
        pipeline.tick()
    check(events, None)


@pytest.mark.parametrize("done", [True, False])
def test_at_the_end_of_all_nothing_is_left_untold(speech: np.ndarray, done: bool) -> None:
    pipeline, keeper, events = alerting(speech)
    if done:
        keeper.asked[0].set_result(FILE)
    pipeline.finish("stopped")
    check(events, FILE if done else None)
    assert pipeline.idle
