"""More sound than can be scored: lag or even thinning, never a stall, a starved stream or a lost word."""

import threading
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from streamdet.assembly import judge_maker
from streamdet.audio.block import Block, End
from streamdet.bundled import bundled_model
from streamdet.config import Config
from streamdet.decide.window import Column
from streamdet.engine.base import Slots
from streamdet.engine.onnx import OnnxEngine
from streamdet.events import Event, Score, Sequencer, State
from streamdet.features.logmel import FloatArray
from streamdet.pipeline import Pipeline
from streamdet.tap import Heard

HOP = 5_120


class SlowEngine(OnnxEngine):
    """The real engine on a machine that needs ``seconds`` more for every call."""

    def __init__(self, seconds: float) -> None:
        super().__init__(bundled_model("edge"))
        self.seconds = seconds
        self.batches: list[int] = []

    def step(self, slots: Slots, features: FloatArray) -> FloatArray:
        time.sleep(self.seconds)
        self.batches.append(len(slots))
        return super().step(slots, features)


def make_pipeline(engine: OnnxEngine, events: list[Event], **options: object) -> Pipeline:
    return Pipeline(engine, judge_maker(Config(), engine.info), events.append, ring_seconds=20.0, **options)


def behind(name: str, samples: np.ndarray, seconds: float) -> list[Block]:
    """Blocks of one hop each, as if the last of them had come just now and the first ``seconds`` before."""
    count = len(samples) // HOP
    times = time.monotonic() - np.linspace(seconds, 0.0, count)
    return [Block(name, samples[i * HOP : (i + 1) * HOP], 16_000, arrived=float(times[i])) for i in range(count)]


def test_late_hops_are_skipped_like_lost_sound_and_the_state_stays(speech: np.ndarray) -> None:
    heard: list[Heard] = []
    events: list[Event] = []
    pipeline = make_pipeline(OnnxEngine(bundled_model("edge")), events, policy="skip", late=1.0, taps=[heard.append])
    for block in behind("a", speech[: 5 * HOP], 0.0):
        pipeline.push(block)
    pipeline.drain()
    gap = behind("a", speech[5 * HOP : 15 * HOP], 3.0)  # hops a third of a second apart, the last three not yet late
    for block in gap:
        pipeline.push(block)
    pipeline.push(End("a"))
    pipeline.drain()
    columns = [entry.column for entry in heard]
    skipped = [index for index, column in enumerate(columns) if column == Column(0.0, 0.0, 0.0, 1.0)]
    assert skipped == list(range(5, 5 + len(skipped)))
    assert len(skipped) in {6, 7}
    assert [entry.features is None for entry in heard] == [index in skipped for index in range(15)]
    np.testing.assert_array_equal(heard[skipped[0]].hop.samples, speech[5 * HOP : 6 * HOP])  # evidence has the sound
    assert pipeline.skipped == pipeline.totals["a"].skipped == len(skipped)
    scores = [event for event in events if isinstance(event, Score)]
    assert [event.media_time for event in scores] == pytest.approx([0.32 * (i + 1) for i in range(15)])
    last = events[-1]
    assert isinstance(last, State)
    assert last.detail["skipped_hops"] == len(skipped)


def test_a_skip_longer_than_a_gap_may_be_starts_the_stream_anew(speech: np.ndarray) -> None:
    """What comes after is scored as a fresh stream is, to the bit."""
    after, fresh = [], []
    pipeline = make_pipeline(OnnxEngine(bundled_model("edge")), [], policy="skip", late=1.0, taps=[after.append])
    for block in [*behind("a", speech[: 9 * HOP], 0.0), *behind("a", speech[9 * HOP : 29 * HOP], 60.0)]:
        pipeline.push(block)
    pipeline.drain()
    other = make_pipeline(OnnxEngine(bundled_model("edge")), [], taps=[fresh.append])
    (rest,) = [entry for entry in after if entry.hop.end == 29 * HOP]
    other.push(Block("a", speech[28 * HOP : 29 * HOP], 16_000))
    other.drain()
    assert pipeline.skipped == 19
    assert rest.column == fresh[0].column


def test_scoring_everything_skips_nothing_however_late(speech: np.ndarray) -> None:
    events: list[Event] = []
    pipeline = make_pipeline(OnnxEngine(bundled_model("edge")), events)
    for block in behind("a", speech[: 20 * HOP], 60.0):
        pipeline.push(block)
    assert pipeline.lag == pytest.approx(60.0, abs=1.0)
    pipeline.drain()
    assert pipeline.skipped == 0
    assert [event.lost for event in events if isinstance(event, Score)] == [0.0] * 20


def test_sources_that_wait_for_room_are_never_late(speech: np.ndarray) -> None:
    pipeline = make_pipeline(OnnxEngine(bundled_model("edge")), [], policy="skip", late=1.0)
    for block in behind("a", speech[: 20 * HOP], 60.0):
        pipeline.push(block, wait=threading.Event())
    assert pipeline.lag == 0.0
    pipeline.drain()
    assert (pipeline.skipped, pipeline.hops) == (0, 20)


def feed(pipeline: Pipeline, speech: np.ndarray, streams: int, seconds: float, pace: float) -> Counter[str]:
    """Bring one hop of each stream every ``pace`` seconds, scoring meanwhile; returns hops brought, by stream."""
    brought: Counter[str] = Counter()
    stop = threading.Event()

    def score() -> None:
        while not stop.is_set():
            if not pipeline.tick():
                pipeline.wait(0.05)

    scoring = threading.Thread(target=score)
    scoring.start()
    begin = time.monotonic()
    for number in range(int(seconds / pace)):
        time.sleep(max(0.0, begin + number * pace - time.monotonic()))
        for stream in range(streams):
            pipeline.push(Block(f"s{stream}", speech[number * HOP : (number + 1) * HOP], 16_000))
            brought[f"s{stream}"] += 1
    stop.set()
    scoring.join()
    return brought


def test_overload_thins_all_streams_alike_and_bounds_the_lag(speech: np.ndarray) -> None:
    events: list[Event] = []
    engine = SlowEngine(0.02)
    pipeline = make_pipeline(engine, events, batch=2, policy="skip", late=0.2)
    brought = feed(pipeline, speech, streams=6, seconds=2.0, pace=0.02)  # 300 hops a second, it can do 100 at most
    pipeline.drain()
    left_out = {name: pipeline.totals[name].skipped for name in brought}
    assert min(left_out.values()) > 20
    assert max(left_out.values()) - min(left_out.values()) <= 0.1 * sum(left_out.values()) / len(left_out) + 5
    assert {name: pipeline.totals[name].hops for name in brought} == brought
    assert pipeline.load.overrun == 0
    assert max(event.latency_ms for event in events if isinstance(event, Score)) < 1_500
    assert max(engine.batches) == 2


def test_overload_without_skipping_lets_lag_grow_and_loses_nothing(speech: np.ndarray) -> None:
    events: list[Event] = []
    pipeline = make_pipeline(SlowEngine(0.02), events, batch=2)
    brought = feed(pipeline, speech, streams=4, seconds=0.6, pace=0.02)
    assert pipeline.lag > 0.1
    pipeline.drain()
    assert {name: pipeline.totals[name].hops for name in brought} == brought
    assert pipeline.skipped == 0


def test_a_stream_far_behind_does_not_starve_the_others(speech: np.ndarray) -> None:
    order: list[str] = []
    pipeline = make_pipeline(
        OnnxEngine(bundled_model("edge")), [], batch=1, taps=[lambda heard: order.append(heard.stream)]
    )
    for block in behind("old", speech[: 30 * HOP], 30.0):
        pipeline.push(block)
    for number in range(4):
        pipeline.push(Block(f"new{number}", speech[:HOP], 16_000))
    pipeline.drain()
    assert order[:5] == ["old", "new0", "new1", "new2", "new3"]
    assert order[5:] == ["old"] * 29


def test_a_hop_waits_for_company_but_not_longer_than_it_may(speech: np.ndarray) -> None:
    engine = SlowEngine(0.0)
    pipeline = make_pipeline(engine, [], gather=2.0)
    for name in ("a", "b", "c"):
        pipeline.push(Block(name, speech[:100], 16_000))  # three streams are open, two have a hop
    begin = time.monotonic()
    pipeline.push(Block("a", speech[:HOP], 16_000))
    later = threading.Timer(0.05, lambda: pipeline.push(Block("b", speech[:HOP], 16_000)))
    later.start()
    pipeline.wait(60.0)
    waited = time.monotonic() - begin
    pipeline.tick()
    later.join()
    assert engine.batches == [2]
    assert 1.9 < waited < 30.0
    for name in ("a", "b", "c"):
        pipeline.push(Block(name, speech[:HOP], 16_000))
    begin = time.monotonic()
    pipeline.wait(60.0)  # all are there, nobody to wait for
    assert time.monotonic() - begin < 1.5


@pytest.mark.parametrize("streams", [1_100])
def test_streams_that_are_over_leave_nothing_behind(streams: int) -> None:
    """Names, counts and voices of short streams do not pile up, and the sums stay right."""
    engine = OnnxEngine(bundled_model("edge"))
    closed: list[str] = []
    forgotten: list[str] = []
    sequencer = Sequencer()
    pipeline = Pipeline(
        engine, judge_maker(Config(), engine.info), lambda _: None, ring_seconds=20.0, sequencer=sequencer,
        on_close=closed.append, on_forget=forgotten.append,
    )  # fmt: skip
    silence = np.zeros(1_300, np.float32)  # a rest that fills up to a hop
    for number in range(streams):
        pipeline.push(Block(f"call-{number}", silence, 16_000))
        pipeline.push(End(f"call-{number}"))
        if number % 32 == 31:
            pipeline.drain()
    pipeline.drain()
    kept = len(pipeline.totals.items())
    assert kept == 1_000
    assert len(closed) == streams
    assert forgotten == closed[: streams - kept]
    assert pipeline.totals.rest.hops + sum(totals.hops for _, totals in pipeline.totals.items()) == streams
    assert pipeline.totals.seconds == pytest.approx(0.32 * streams)
    assert pipeline.idle
    assert sequencer.last("call-0") == 2  # counts are remembered longer than names


def in_background(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_pushing_live_sound_never_waits_for_scoring(speech: np.ndarray) -> None:
    """With nobody scoring at all a live source goes on; the ring overwrites, and that is counted."""
    pipeline = make_pipeline(OnnxEngine(bundled_model("edge")), [])
    block = speech[:16_000]

    def talk() -> None:
        for _ in range(60):
            pipeline.push(Block("a", block, 16_000))

    thread = in_background(talk)
    thread.join(10.0)
    assert not thread.is_alive()
    assert pipeline.load.overrun == pytest.approx(40 * 16_000, abs=HOP)
