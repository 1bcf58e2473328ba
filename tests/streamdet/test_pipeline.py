"""Streams through the real model: independent of each other, of batching, and of how sound is cut into blocks."""

import itertools
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamdet.assembly import judge_maker
from streamdet.audio.block import Block, End, Status
from streamdet.bundled import bundled_model
from streamdet.config import Config
from streamdet.decide.calibrate import log_odds
from streamdet.engine.onnx import OnnxEngine
from streamdet.events import Alert, Event, Score, State
from streamdet.pipeline import Pipeline

DEMO = Path(__file__).parents[2] / "streamdet" / "demo" / "demo.flac"


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    samples, rate = soundfile.read(DEMO, dtype="float32")
    assert rate == 16_000
    return samples


def make_pipeline(events: list[Event], **options: float) -> Pipeline:
    engine = OnnxEngine(bundled_model("edge"))
    return Pipeline(engine, judge_maker(Config(), engine.info), events.append, **options)


def cut(name: str, samples: np.ndarray, size: int) -> Iterable[Block]:
    return (Block(name, samples[at : at + size], 16_000) for at in range(0, len(samples), size))


def scores(events: list[Event], stream: str) -> list[Score]:
    return [event for event in events if isinstance(event, Score) and event.stream == stream]


def run(pipeline: Pipeline, streams: dict[str, Iterable[Block]]) -> None:
    for blocks in itertools.zip_longest(*streams.values()):
        for block in filter(None, blocks):
            pipeline.push(block)
        pipeline.drain()
    for name in streams:
        pipeline.push(End(name))
    pipeline.drain()


def test_a_state_is_of_the_time_when_it_came_about_however_late_it_is_told(speech: np.ndarray) -> None:
    events: list[Event] = []
    pipeline = make_pipeline(events)
    pipeline.push(Status("a", "live", "hearing it"))
    pipeline.push(Block("a", speech[:16_000], 16_000))
    pipeline.push(Status("a", "degraded", "some of it was lost"))
    pipeline.push(Block("a", speech[16_000:32_000], 16_000))
    pipeline.drain()
    assert [event.media_time for event in events if isinstance(event, State)] == [0.0, 1.0]


def test_streams_do_not_touch_each_other(speech: np.ndarray) -> None:
    together: list[Event] = []
    parts = {f"s{i}": speech[i * 40_000 : i * 40_000 + 80_000] for i in range(4)}
    run(make_pipeline(together), {name: cut(name, part, 5_120) for name, part in parts.items()})
    for name, part in parts.items():
        alone: list[Event] = []
        run(make_pipeline(alone), {name: cut(name, part, 5_120)})
        both = zip(scores(together, name), scores(alone, name), strict=True)
        for in_company, single in both:
            assert in_company.p_fake == pytest.approx(single.p_fake, abs=1e-6)
            assert in_company.verdict == single.verdict


@pytest.mark.parametrize("size", [160, 4_999, 80_000])
def test_the_cut_into_blocks_does_not_matter(speech: np.ndarray, size: int) -> None:
    first, second = [], []
    run(make_pipeline(first), {"a": cut("a", speech[:80_000], 5_120)})
    run(make_pipeline(second), {"a": cut("a", speech[:80_000], size)})
    assert [s.p_fake for s in scores(first, "a")] == pytest.approx([s.p_fake for s in scores(second, "a")], abs=1e-6)


def test_seq_is_gapless_and_media_time_is_the_sample_clock(speech: np.ndarray) -> None:
    events: list[Event] = []
    pipeline = make_pipeline(events)
    pipeline.push(Status("a", "connecting", "dialling"))
    run(pipeline, {"a": cut("a", speech[:60_000], 1_000)})
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    times = [score.media_time for score in scores(events, "a")]
    assert times == pytest.approx([0.32 * (i + 1) for i in range(11)] + [3.75])
    last = events[-1]
    assert isinstance(last, State)
    assert last.phase == "ended"
    assert pipeline.open_streams == 0
    assert pipeline.idle


def test_silence_has_no_verdict_and_too_little_speech_no_number(speech: np.ndarray) -> None:
    events: list[Event] = []
    sound = np.concatenate((np.zeros(48_000, np.float32), speech[:64_000]))
    run(make_pipeline(events), {"a": cut("a", sound, 5_120)})
    verdicts = [score.verdict for score in scores(events, "a")]
    assert verdicts[:9] == ["no_speech"] * 9
    first_number = next(score for score in scores(events, "a") if score.p_fake is not None)
    assert first_number.media_time > 3.0 + 1.5
    assert all(s.p_fake is None for s in scores(events, "a") if s.verdict == "no_speech")


def test_a_long_gap_starts_the_stream_anew(speech: np.ndarray) -> None:
    gapped: list[Event] = []
    pipeline = make_pipeline(gapped)
    before, after = speech[: 25 * 5_120], speech[30 * 5_120 : 55 * 5_120]
    blocks = [Block("a", before, 16_000), Block("a", after, 16_000, lost=10 * 5_120)]
    run(pipeline, {"a": blocks})
    fresh: list[Event] = []
    run(make_pipeline(fresh), {"a": cut("a", after, 5_120)})
    resumed = scores(gapped, "a")[35:]
    assert [s.p_fake for s in resumed] == pytest.approx([s.p_fake for s in scores(fresh, "a")], abs=1e-6)
    assert resumed[0].media_time == pytest.approx(36 * 0.32, abs=1e-3)
    assert all(s.p_fake is None for s in scores(gapped, "a")[28:35])


def test_a_lossy_stretch_abstains(speech: np.ndarray) -> None:
    events: list[Event] = []
    blocks = [Block("a", speech[i : i + 800], 16_000, lost=800) for i in range(0, 160_000, 1_600)]
    run(make_pipeline(events), {"a": blocks})
    assert {score.verdict for score in scores(events, "a")} <= {"undecided", "no_speech"}
    assert scores(events, "a")[-2].lost == pytest.approx(0.5, abs=0.02)


def test_a_name_can_come_again_and_its_seq_goes_on(speech: np.ndarray) -> None:
    events: list[Event] = []
    pipeline = make_pipeline(events)
    for _ in range(2):
        run(pipeline, {"a": cut("a", speech[:20_480], 5_120)})
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [score.media_time for score in scores(events, "a")] == pytest.approx([0.32, 0.64, 0.96, 1.28] * 2)


@pytest.mark.parametrize(("patience", "scored"), [(0.0, 2), (60.0, 20)])
def test_what_is_not_scored_at_the_end_is_said(patience: float, scored: int, speech: np.ndarray) -> None:
    events: list[Event] = []
    pipeline = make_pipeline(events)
    for name in ("a", "b"):
        pipeline.push(Block(name, speech[: 10 * 5_120], 16_000))
    pipeline.finish("stopped", patience)
    ended = [event for event in events if isinstance(event, State)]
    assert [(event.phase, event.media_time) for event in ended] == [("ended", pytest.approx(3.2))] * 2
    assert len([event for event in events if isinstance(event, Score)]) == scored
    assert sum(event.detail["unscored_hops"] for event in ended) == 20 - scored
    assert sum(totals.unscored for _, totals in pipeline.totals.items()) == 20 - scored


def test_memory_of_ended_streams_is_given_back(speech: np.ndarray) -> None:
    engine = OnnxEngine(bundled_model("edge"))
    pipeline = Pipeline(engine, judge_maker(Config(), engine.info), lambda _: None)
    slots = set()
    for number in range(20):
        name = f"call-{number}"
        pipeline.push(Block(name, speech[:5_120], 16_000))
        pipeline.drain()
        slots.add(engine.allocate())
        engine.release(max(slots))
        pipeline.push(End(name))
        pipeline.drain()
    assert max(slots) <= 1


def test_an_alert_does_not_outlive_its_source(speech: np.ndarray) -> None:
    engine = OnnxEngine(bundled_model("edge"))
    events: list[Event] = []
    eager = Config.model_validate({"alarm": {"raise": 1e-6, "clear": 1e-7, "min_seconds": 0.0}})
    pipeline = Pipeline(engine, judge_maker(eager, engine.info), events.append)
    for block in cut("a", speech[:160_000], 5_120):
        pipeline.push(block)
    pipeline.drain()
    assert next(e.phase for e in events if isinstance(e, Alert)) == "raised"
    assert pipeline.active_alerts == 1
    pipeline.push(Status("a", "recovering", "the cable was pulled"))
    pipeline.tick()
    assert pipeline.active_alerts == 0
    last = [e for e in events if isinstance(e, Alert)][-1]
    assert (last.phase, last.reason) == ("cleared", "gap")


def in_threads(pipeline: Pipeline, *sources: Callable[[], None]) -> None:
    """Run sources in threads, as the daemon does, while this one scores."""
    threads = [threading.Thread(target=source, daemon=True) for source in sources]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or not pipeline.idle:
        if not pipeline.tick():
            pipeline.wait(0.05)


def test_a_name_that_comes_again_at_once_loses_nothing(speech: np.ndarray) -> None:
    events: list[Event] = []
    pipeline = make_pipeline(events)

    def calls() -> None:
        for number in range(3):
            pipeline.push(Status("a", "live", f"call {number}"))
            pipeline.push(Block("a", speech[:20_480], 16_000))
            pipeline.push(End("a"))
            pipeline.push(End("a"))

    in_threads(pipeline, calls)
    assert [e.phase for e in events if isinstance(e, State) and e.phase != "failed"] == ["live", "ended"] * 3
    assert len(scores(events, "a")) == 12
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


def test_sources_that_wait_for_room_lose_nothing(speech: np.ndarray) -> None:
    events: list[Event] = []
    pipeline = make_pipeline(events, ring_seconds=4.0)
    stop = threading.Event()

    def feed(name: str) -> Callable[[], None]:
        def push() -> None:
            for block in cut(name, speech[:320_000], 16_000):
                pipeline.push(block, wait=stop)
            pipeline.push(End(name))

        return push

    in_threads(pipeline, *(feed(f"s{number}") for number in range(3)))
    for number in range(3):
        track = scores(events, f"s{number}")
        assert [score.media_time for score in track] == pytest.approx([0.32 * (i + 1) for i in range(62)] + [20.0])
    assert all(totals.overrun == 0 for _, totals in pipeline.totals.items())


def test_sound_that_was_overwritten_unread_is_said_and_the_stream_starts_anew(speech: np.ndarray) -> None:
    events: list[Event] = []
    pipeline = make_pipeline(events, ring_seconds=10.0)
    for block in cut("a", speech[: 16 * 5_120], 5_120):
        pipeline.push(block)
    pipeline.drain()
    for block in cut("a", speech[16 * 5_120 : 76 * 5_120], 5_120):
        pipeline.push(block)
    pipeline.push(End("a"))
    pipeline.drain()
    times = [score.media_time for score in scores(events, "a")]
    (jump,) = [i for i in range(1, len(times)) if times[i] - times[i - 1] > 0.33]
    assert times[-1] == pytest.approx(76 * 0.32)
    assert all(score.p_fake is None for score in scores(events, "a")[jump : jump + 4])
    totals = pipeline.totals["a"]
    assert totals.overrun == pytest.approx((times[jump] - times[jump - 1] - 0.32) * 16_000, abs=1)
    assert totals.lost_seconds == pytest.approx(totals.overrun / 16_000)


@pytest.mark.parametrize("decibels", [-30, -12])
def test_gain_moves_neither_speech_nor_score(speech: np.ndarray, decibels: float) -> None:
    loud, quiet = [], []
    run(make_pipeline(loud), {"a": cut("a", speech[:320_000], 5_120)})
    softer = (speech[:320_000] * 10 ** (decibels / 20)).astype(np.float32)
    run(make_pipeline(quiet), {"a": cut("a", softer, 5_120)})
    for before, after in zip(scores(loud, "a"), scores(quiet, "a"), strict=True):
        assert after.verdict == before.verdict
        if before.p_fake is not None and after.p_fake is not None:
            assert log_odds(after.p_fake) == pytest.approx(log_odds(before.p_fake), abs=0.3)
