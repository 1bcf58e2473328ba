"""Several workers look like one from outside: every stream whole, in order, and on one of them."""

import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pytest
from structlog.testing import capture_logs

from streamdet import daemon
from streamdet.assembly import judge_maker
from streamdet.audio.block import Block, End, Item, Status
from streamdet.bundled import bundled_model
from streamdet.config import Config
from streamdet.crew import Crew, one_at_a_time, usable_cores
from streamdet.daemon import Listener, SourceThread
from streamdet.engine.base import Slots
from streamdet.engine.onnx import OnnxEngine
from streamdet.events import Event, Score, Sequencer, State
from streamdet.features.logmel import FloatArray
from streamdet.pipeline import Pipeline
from streamdet.placement import Placement
from streamdet.sinks.fanout import Fanout
from streamdet.sinks.queue import QueueSink
from streamdet.tap import Heard
from streamdet.voice import Hop
from tests.waiting import until

from .conftest import Run

HOP = 5_120


class Collector:
    """A sink that keeps what it gets."""

    name = "collector"

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event, payload: bytes) -> None:
        assert json.loads(payload)["seq"] == event.seq
        self.events.append(event)

    def close(self) -> None:
        """Nothing to close."""


class Team:
    """A crew as the daemon makes it, with a sink behind a queue."""

    def __init__(self, workers: int, engine: type[OnnxEngine] = OnnxEngine) -> None:
        self.collector = Collector()
        self.failed = threading.Event()
        self.trouble: str | None = None
        self._fanout = Fanout([QueueSink(self.collector, capacity=100_000)])
        sequencer = Sequencer()

        def make(placement: Placement) -> Pipeline:
            made = engine(bundled_model("edge"))
            return Pipeline(
                made, judge_maker(Config(), made.info), self._fanout.emit, ring_seconds=20.0, sequencer=sequencer,
                on_close=placement.leave, on_forget=placement.forget,
            )  # fmt: skip

        self.crew = Crew(make, workers=workers, on_failure=self._note_failure)

    def _note_failure(self, trouble: str) -> None:
        self.trouble = trouble
        self.failed.set()

    def finish(self) -> list[Event]:
        try:
            self.crew.finish("stopped", 20.0)
        finally:
            self._fanout.close()
        return self.collector.events


def track(events: list[Event], stream: str) -> list[float | None]:
    return [event.p_fake for event in events if isinstance(event, Score) and event.stream == stream]


def push_all(crew: Crew, speech: np.ndarray, streams: int, hops: int) -> None:
    for name in (f"s{number}" for number in range(streams)):
        crew.push(Status(name, "live", "on"))
    for hop in range(hops):
        for number in range(streams):
            at = (number * 20 + hop) * HOP
            crew.push(Block(f"s{number}", speech[at : at + HOP], 16_000))
    for number in range(streams):
        crew.push(End(f"s{number}"))


def test_two_workers_say_what_one_says_and_seq_is_gapless(speech: np.ndarray) -> None:
    alone, both = Team(1), Team(2)
    for team in (alone, both):
        team.crew.start()
        push_all(team.crew, speech, streams=5, hops=20)
    expected, events = alone.finish(), both.finish()
    assert {pipeline.hops for pipeline in both.crew.pipelines} == {40, 60}
    assert both.crew.hops == 100
    assert both.crew.seconds == pytest.approx(32.0)
    assert [name for name, _ in both.crew.totals()] == [f"s{number}" for number in range(5)]
    for number in range(5):
        name = f"s{number}"
        assert track(events, name) == track(expected, name)
        numbers = [event.seq for event in events if event.stream == name]
        assert numbers == list(range(1, len(numbers) + 1))
    assert both.crew.idle


def test_sound_comes_from_the_worker_that_has_the_stream(speech: np.ndarray) -> None:
    team = Team(2)
    for number in range(4):
        team.crew.push(Block(f"s{number}", speech[number * 1_000 : number * 1_000 + 500], 16_000))
    for number in range(4):
        span = team.crew.sound(f"s{number}", 100, 300)
        assert span is not None
        np.testing.assert_array_equal(span.samples, speech[number * 1_000 + 100 : number * 1_000 + 300])
    assert team.crew.sound("nobody", 0, 10) is None
    assert team.crew.open_streams == 4
    team.finish()


class Trickle:
    """A live source of 20 ms blocks, which keeps what it is told is wanted."""

    uri, name, live = "trickle", "trickle", True

    def __init__(self, speech: FloatArray) -> None:
        self.expected: list[float] = []
        self._speech = speech

    def items(self, stop: threading.Event) -> Iterator[Item]:
        yield Status(self.name, "live", "on")
        for at in range(0, 2 * HOP, 320):
            yield Block(self.name, self._speech[at : at + 320], 16_000)
        yield End(self.name)

    def expect(self, seconds: float) -> None:
        self.expected.append(seconds)


def test_a_source_that_has_time_hears_after_each_block_what_the_next_hop_wants(speech: np.ndarray) -> None:
    team, source = Team(1), Trickle(speech)
    thread = SourceThread(source, team.crew)
    thread.start()
    thread.join(20)
    assert thread.error is None
    hop = [(HOP - at) / 16_000 for at in range(320, HOP, 320)] + [HOP / 16_000]
    assert source.expected == hop * 2
    assert team.crew.wanting("nobody") == 0.0
    team.finish()


def test_asking_for_streams_that_are_over_is_no_load(speech: np.ndarray) -> None:
    placements: list[Placement] = []

    def make(placement: Placement) -> Pipeline:
        placements.append(placement)
        engine = OnnxEngine(bundled_model("edge"))
        return Pipeline(engine, judge_maker(Config(), engine.info), lambda _: None, on_close=placement.leave)

    crew = Crew(make, workers=2, on_failure=lambda _: None)
    crew.push(Block("a", speech[:HOP], 16_000))
    crew.push(End("a"))
    for pipeline in crew.pipelines:
        pipeline.drain()
    for name in ("a", "never"):
        assert crew.sound(name, 0, 10) is None
        crew.end(name, "its source failed")
    assert placements[0].loads == (0, 0)
    crew.finish("stopped", 1.0)


def test_sources_that_tell_of_a_port_of_their_own_spread_their_streams(speech: np.ndarray) -> None:
    team = Team(2)
    team.crew.start()
    for number in range(4):  # added one by one, each with one sender
        team.crew.push(Status(f"port{number}", "live", "bound"))
        team.crew.push(Status(f"sender{number}", "live", "heard"))
        team.crew.push(Block(f"sender{number}", speech[: 2 * HOP], 16_000))
        team.crew.push(Status(f"port{number}", "live", "one sender"))
    assert [pipeline.open_streams for pipeline in team.crew.pipelines] == [2, 2]
    for number in range(4):
        team.crew.push(End(f"sender{number}"))
        team.crew.push(End(f"port{number}"))  # which had no sound
    told = defaultdict(list)
    for event in team.finish():
        told[event.stream].append(event.seq)
    for number in range(4):
        assert told[f"port{number}"] == [1, 2, 3]
        assert told[f"sender{number}"] == [1, 2, 3, 4]


def worker_cores() -> list[set[int]]:
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("worker-")]
    return [os.sched_getaffinity(thread.native_id or 0) for thread in threads]


def test_each_worker_stays_on_a_core_and_a_single_one_is_free(speech: np.ndarray) -> None:
    for workers in (1, 2):
        team = Team(workers)
        team.crew.start()
        everywhere = usable_cores()
        wanted = [set(everywhere)] if workers == 1 else [{everywhere[n % len(everywhere)]} for n in range(workers)]
        until(lambda wanted=wanted: worker_cores() == wanted, "workers on their cores")
        assert time.monotonic() - team.crew.quiet_since < 30.0
        team.finish()
    assert usable_cores() == everywhere


class BrokenEngine(OnnxEngine):
    """Fails at the third call."""

    calls = 0

    def step(self, slots: Slots, features: FloatArray) -> FloatArray:
        self.calls += 1
        if self.calls == 3:
            raise RuntimeError("the engine broke")
        return super().step(slots, features)


def test_a_worker_that_fails_ends_the_crew(speech: np.ndarray) -> None:
    team = Team(2, BrokenEngine)
    team.crew.start()
    for hop in range(6):
        team.crew.push(Block("a", speech[hop * HOP : (hop + 1) * HOP], 16_000))
    assert team.failed.wait(20.0)
    team.crew.push(Block("b", speech[:HOP], 16_000))  # on the other worker, which goes on
    with pytest.raises(RuntimeError, match="the engine broke"):
        team.finish()
    assert team.trouble == "scoring failed: RuntimeError: the engine broke"
    ended = {event.stream: event for event in team.collector.events if isinstance(event, State)}
    assert {name: (event.phase, event.reason) for name, event in ended.items()} == {
        "a": ("ended", team.trouble),
        "b": ("ended", "stopped"),
    }
    assert (ended["a"].detail["unscored_hops"], ended["b"].detail["unscored_hops"]) == (3, 0)
    assert len(track(team.collector.events, "a")) == 2


class DeadEngine(OnnxEngine):
    """Fails at the first call."""

    def step(self, slots: Slots, features: FloatArray) -> FloatArray:
        raise RuntimeError("the engine broke")


class Talk:
    """A stream that lasts until it is stopped."""

    live = True
    uri = name = "talk"

    def __init__(self, sound: np.ndarray) -> None:
        self._sound = sound

    def items(self, stop: threading.Event) -> Iterator[Block | Status | End]:
        yield Status("s", "live", "on")
        yield Block("s", self._sound, 16_000)
        stop.wait()
        yield End("s", "stopped")


def test_subscribers_learn_that_a_worker_failed(
    speech: np.ndarray, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(daemon, "load_engine", lambda config: DeadEngine(bundled_model("edge"), max_batch=config.batch))
    config = Config.model_validate({"publish": None, "workers": 2})
    listener = Listener(config, [Talk(speech[: 10 * HOP])], json=True)
    with capture_logs() as logs, pytest.raises(RuntimeError, match="the engine broke"):
        listener.run()
    (failed,) = [entry for entry in logs if entry["event"] == "worker_failed"]
    assert failed["exc_info"]
    events = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines() if line.startswith(b"{")]
    states = [event for event in events if event["type"] == "state"]
    trouble = "scoring failed: RuntimeError: the engine broke"
    assert [(e["phase"], e["reason"]) for e in states if e["stream"] == "s"] == [("live", "on"), ("ended", "stopped")]
    (told,) = [event for event in states if event["stream"] == "*"]
    assert (told["phase"], told["reason"], told["detail"]) == ("failed", trouble, {"cause": "worker"})
    assert (events[-1]["type"], events[-1]["streams"]) == ("health", 0)
    assert listener.summary() == "s: 9 hops, none scored"


def test_a_stream_that_comes_again_goes_on_counting_on_any_number_of_workers(speech: np.ndarray) -> None:
    team = Team(3)
    team.crew.start()
    for _ in range(3):
        for name in ("a", "b", "c", "d"):
            team.crew.push(Status(name, "live", "on"))
            team.crew.push(Block(name, speech[: 2 * HOP], 16_000))
            team.crew.push(End(name))
    events = team.finish()
    by_stream = defaultdict(list)
    for event in events:
        by_stream[event.stream].append(event)
    assert by_stream.keys() == {"a", "b", "c", "d"}
    for told in by_stream.values():
        assert [event.seq for event in told] == list(range(1, 13))
        assert [event.phase for event in told if isinstance(event, State)] == ["live", "ended"] * 3


def test_a_tap_sees_one_hop_at_a_time() -> None:
    inside, worst = 0, 0

    def tap(_: Heard) -> None:
        nonlocal inside, worst
        inside += 1
        worst = max(worst, inside)
        time.sleep(0.002)
        inside -= 1

    guarded = one_at_a_time(tap)
    hop = Hop(np.zeros(HOP, np.float32), 0, HOP, 0.0)
    heard = Heard("a", hop, None, None, None, None, None)  # type: ignore[arg-type]  the tap looks at nothing
    threads = [threading.Thread(target=lambda: [guarded(heard) for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worst == 1


def test_listen_with_workers_warns_of_more_streams_than_fit(run: Run, endpoint: str, tmp_path) -> None:
    config = tmp_path / "streamdet.toml"
    config.write_text("workers = 2\nmax_streams = 1\n", encoding="utf-8")
    demo = ("-s", "file:streamdet/demo/demo.flac?name=a", "-s", "file:streamdet/demo/demo.flac?name=b")
    done = run("listen", "--config", config, *demo, "--json", "--publish", endpoint, "--seconds", "3")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    (crowded, *_) = [event for event in events if event["type"] == "state" and event["stream"] == "*"]
    assert (crowded["phase"], crowded["detail"]) == (
        "degraded", {"cause": "streams", "streams": 2, "max_streams": 1}
    )  # fmt: skip
    health = [event for event in events if event["type"] == "health"][-1]
    assert (health["workers"], health["max_streams"]) == (2, 1)
    own = [event["seq"] for event in events if event["stream"] == "*"]
    assert own == list(range(1, len(own) + 1))
