"""Finds how many streams this machine can hold, by letting the real thing hold more and more of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from streamdet.assembly import judge_maker, load_engine, ring_seconds
from streamdet.bench.machine import describe_machine
from streamdet.bench.publisher import Publisher
from streamdet.bench.sound import pcm
from streamdet.bench.work import as_block, blocks_of
from streamdet.config import Config
from streamdet.crew import Crew
from streamdet.engine.memory import keep_working_memory
from streamdet.events import Event
from streamdet.features import FrontEndConfig
from streamdet.pipeline import Pipeline
from streamdet.placement import Placement

HEAD_ROOM = 0.3  # share of what was held that is kept free, for whatever else the machine has to do
FIRST, MOST = 16, 16_384  # streams of the first trial, and where it stops looking
PRECISION = 1.1  # ratio of the two numbers between which the limit lies at the end
WARM_SECONDS = 2.0
HOPS = 16  # different hops of each stream; they go round
BLOCK_MS = 20
RULE = "99 of 100 hops told within one hop (0.32 s) of their last sample, less 30 % head room"


@dataclass(frozen=True, slots=True)
class Trial:
    """How so many streams fared; latencies in milliseconds from a hop's last sample to its event."""

    streams: int
    held: bool
    latency_ms_p50: float
    latency_ms_p99: float
    cores_busy: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was found: ``held`` streams were no trouble, ``max_streams`` is what to plan with."""

    held: int
    max_streams: int
    trials: tuple[Trial, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"rule": RULE, "machine": describe_machine(), **asdict(self)}


class _Latencies:
    """Collects latencies while ``open`` and passes events on."""

    def __init__(self, publisher: Publisher) -> None:
        self.open = False
        self.values: list[float] = []
        self._publisher = publisher

    def emit(self, event: Event) -> None:
        if self.open and event.type == "score":
            self.values.append(event.latency_ms)
        self._publisher.emit(event)


class _Feeder(threading.Thread):
    """Brings the sound of many streams in real time, their hops spread evenly over time."""

    def __init__(self, crew: Crew, streams: int) -> None:
        super().__init__(name="feeder", daemon=True)
        self._crew = crew
        self._over = threading.Event()
        self._steps = FrontEndConfig().hop_samples * 1000 // FrontEndConfig().rate // BLOCK_MS
        # Sound of a few streams is enough, as their number does not matter to the network.
        sound = [
            [data for n in range(HOPS) for data in blocks_of(pcm(s, n), BLOCK_MS)] for s in range(min(streams, 32))
        ]
        self._streams = [(f"s{s}", sound[s % len(sound)], s % self._steps) for s in range(streams)]

    def run(self) -> None:
        """Go on until :meth:`stop`; what comes late counts as having come in time."""
        begin, step = time.monotonic(), 0
        while not self._over.is_set():
            due = begin + step * BLOCK_MS / 1000
            self._over.wait(max(0.0, due - time.monotonic()))
            for name, sound, offset in self._streams:
                if step >= offset:
                    self._crew.push(as_block(name, sound[(step - offset) % len(sound)], due))
            step += 1

    def stop(self) -> None:
        """Bring no more."""
        self._over.set()
        self.join()


@contextmanager
def _crew(config: Config, emit: Callable[[Event], None]) -> Iterator[Crew]:
    engines = [load_engine(config) for _ in range(config.workers)]
    judge, waiting = judge_maker(config, engines[0].info), iter(engines)

    def make(placement: Placement) -> Pipeline:
        return Pipeline(
            next(waiting),
            judge,
            emit,
            batch=config.batch,
            ring_seconds=ring_seconds(config),
            gather=config.batch_wait,
            on_close=placement.leave,
            on_forget=placement.forget,
        )

    crew = Crew(make, workers=config.workers, on_failure=lambda _: None)
    crew.start()
    try:
        yield crew
    finally:
        crew.finish("enough", 0.0)
        for engine in engines:
            engine.close()


def rehearse(config: Config, streams: int, seconds: float, publisher: Publisher) -> Trial:
    """Hold ``streams`` streams for ``seconds`` after they have warmed up."""
    hop_ms = 1e3 * FrontEndConfig().hop_seconds
    latencies = _Latencies(publisher)
    with _crew(config, latencies.emit) as crew:
        feeder = _Feeder(crew, streams)
        feeder.start()
        try:
            time.sleep(WARM_SECONDS)
            latencies.open, begin, spent = True, time.monotonic(), time.process_time()
            time.sleep(seconds)
            took, spent = time.monotonic() - begin, time.process_time() - spent
            latencies.open = False
            expected = streams * took / FrontEndConfig().hop_seconds
        finally:
            feeder.stop()
    values = latencies.values or [float("inf")]
    p99 = float(np.percentile(values, 99))
    held = p99 < hop_ms and len(values) > 0.9 * expected
    return Trial(streams, held, round(float(np.median(values)), 2), round(p99, 2), round(spent / took, 2))


def search(trial: Callable[[int], Trial], first: int = FIRST, most: int = MOST) -> Calibration:
    """Double the streams until they are too many, then close in on the limit.

    Args:
        trial: lets so many streams run.
        first: streams of the first trial.
        most: streams of the largest.
    """
    trials = [trial(first)]
    held = first if trials[0].held else 0
    failed = 0 if trials[0].held else first
    while not failed and held < most:
        trials.append(trial(min(2 * held, most)))
        held, failed = _narrowed(trials[-1], held, failed)
    while failed > max(PRECISION * held, held + 1):
        trials.append(trial(round((held * failed) ** 0.5) if held > 1 else (held + failed + 1) // 2))
        held, failed = _narrowed(trials[-1], held, failed)
    return Calibration(held, int(held * (1 - HEAD_ROOM)), tuple(trials))


def calibrate(config: Config, *, seconds: float = 5.0, tell: Callable[[Trial], None] = lambda _: None) -> Calibration:
    """Find this machine's limit with the model, workers and batches of ``config``; hears of each trial by ``tell``.

    Raises:
        ModelError, ConfigError: as :func:`streamdet.assembly.load_engine`.
        SinkError: the process that reads the events cannot be started.
    """
    keep_working_memory()
    publisher = Publisher(patient=False)

    def trial(streams: int) -> Trial:
        result = rehearse(config, streams, seconds, publisher)
        tell(result)
        return result

    try:
        return search(trial)
    finally:
        publisher.close()


def _narrowed(trial: Trial, held: int, failed: int) -> tuple[int, int]:
    return (trial.streams, failed) if trial.held else (held, trial.streams)
