"""The scoring threads: one or more workers, each with an engine and streams of its own, seen from outside as one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import structlog

from streamdet.audio.block import Block, Item
from streamdet.audio.ring import Span
from streamdet.decide.judge import JudgeMaker, Manner
from streamdet.engine.overload import Load
from streamdet.pipeline import Pipeline
from streamdet.placement import Placement
from streamdet.tap import Heard, Tap
from streamdet.totals import Totals

log = structlog.get_logger(__name__)
IDLE_SECONDS = 0.5  # longest sleep of a scoring thread; news wakes it earlier
GRACE_SECONDS = 5.0  # beyond its patience, for a call of the engine that is under way


def usable_cores() -> list[int]:
    """Cores this process may run on."""
    return sorted(os.sched_getaffinity(0))


def one_at_a_time(tap: Tap) -> Tap:
    """Let several scoring threads show hops to a tap that knows of one only."""
    lock = threading.Lock()

    def guarded(heard: Heard) -> None:
        with lock:
            tap(heard)

    return guarded


class Worker(threading.Thread):
    """Scores the streams of one pipeline until it is told to finish; ``core`` is where it stays, None anywhere."""

    def __init__(self, number: int, pipeline: Pipeline, core: int | None, on_failure: Callable[[str], None]) -> None:
        super().__init__(name=f"worker-{number}", daemon=True)
        self.pipeline = pipeline
        self.core = core
        self.failure: BaseException | None = None
        self.beat = time.monotonic()  # when it was last seen to go on
        self._on_failure = on_failure
        self._farewell: tuple[str, float] | None = None

    @property
    def trouble(self) -> str:
        """One line that says what it failed of."""
        return f"scoring failed: {type(self.failure).__name__}: {self.failure}"

    def run(self) -> None:
        """Score; a fault ends the whole crew, as half of the streams must not fall silent unseen."""
        try:
            if self.core is not None:
                os.sched_setaffinity(0, {self.core})  # 0 is the calling thread
            self._score()
        except BaseException as error:  # raised again by the thread that started the crew
            self.failure = error
            log.exception("worker_failed", worker=self.name)
            self._on_failure(self.trouble)

    def finish(self, reason: str, patience: float) -> None:
        """Ask it to score what waits for ``patience`` seconds at most, end all streams, and stop."""
        self._farewell = reason, patience
        self.pipeline.wake()

    def _score(self) -> None:
        while self._farewell is None:
            self.beat = time.monotonic()
            if not self.pipeline.tick():
                self.pipeline.wait(IDLE_SECONDS)
        self.pipeline.finish(*self._farewell)


def _abandon(worker: Worker) -> None:
    """End the streams of a worker that failed; what it failed of may be in the way of that as well."""
    try:
        worker.pipeline.abandon(worker.trouble)
    except Exception:
        log.exception("streams_not_ended", worker=worker.name)


class Crew:
    """All workers together: takes what sources yield and says how scoring fares.

    Args:
        make: makes the pipeline of a worker; it hands ``Placement.leave`` and ``Placement.forget`` on to it.
        workers: how many; more than one are pinned, each to a core of its own as far as there are enough.
        on_failure: called in a worker's thread once it has failed, with one line that says of what.
    """

    def __init__(
        self, make: Callable[[Placement], Pipeline], *, workers: int = 1, on_failure: Callable[[str], None]
    ) -> None:
        self._placement = Placement(workers)
        cores = usable_cores()
        pinned = [cores[number % len(cores)] if workers > 1 else None for number in range(workers)]
        self._workers = [Worker(n, make(self._placement), core, on_failure) for n, core in enumerate(pinned)]
        self._pipelines = [worker.pipeline for worker in self._workers]

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def pipelines(self) -> Sequence[Pipeline]:
        """The pipeline of each worker."""
        return self._pipelines

    def start(self) -> None:
        """Begin scoring."""
        for worker in self._workers:
            worker.start()

    def finish(self, reason: str, patience: float) -> None:
        """Score what waits, for ``patience`` seconds at most, end all streams and stop.

        Raises:
            BaseException: what a worker failed of, if one did.
        """
        for worker in self._workers:
            worker.finish(reason, patience)
        for worker in self._workers:
            if worker.ident is None:
                worker.pipeline.finish(reason, patience)
                continue
            worker.join(patience + GRACE_SECONDS)
            if worker.is_alive():
                log.error("worker_stuck", number=worker.name)
            elif worker.failure is not None:
                _abandon(worker)
        for worker in self._workers:
            if worker.failure is not None:
                raise worker.failure

    def push(self, item: Item, *, wait: threading.Event | None = None) -> None:
        """Take what a source yields; see :meth:`Pipeline.push`."""
        place = self._placement.home if isinstance(item, Block) else self._placement.reserve
        self._pipelines[place(item.stream)].push(item, wait=wait)

    def wanting(self, stream: str) -> float:
        """Seconds of sound until the next hop of a stream is complete; see :meth:`Pipeline.wanting`."""
        pipeline = self._find(stream)
        return 0.0 if pipeline is None else pipeline.wanting(stream)

    def end(self, stream: str, reason: str) -> None:
        """End a stream whose source failed, if it has sound."""
        pipeline = self._find(stream)
        if pipeline is not None:
            pipeline.end(stream, reason)

    def retune(self, manner: Callable[[str], Manner], judge: JudgeMaker) -> None:
        """Judge differently from the next hop on; see :meth:`Pipeline.retune`."""
        for pipeline in self._pipelines:
            pipeline.retune(manner, judge)

    def sound(self, stream: str, start: int, stop: int) -> Span | None:
        """Copy samples of a stream's clock; see :meth:`Pipeline.sound`."""
        pipeline = self._find(stream)
        return None if pipeline is None else pipeline.sound(stream, start, stop)

    @property
    def idle(self) -> bool:
        """True where nothing is open and nothing waits to be told."""
        return all(pipeline.idle for pipeline in self._pipelines)

    @property
    def open_streams(self) -> int:
        """Streams that have sound and have not ended."""
        return sum(pipeline.open_streams for pipeline in self._pipelines)

    @property
    def active_alerts(self) -> int:
        """Alerts raised and not cleared."""
        return sum(pipeline.active_alerts for pipeline in self._pipelines)

    @property
    def hops(self) -> int:
        """Hops judged since the start."""
        return sum(pipeline.hops for pipeline in self._pipelines)

    @property
    def seconds(self) -> float:
        """Seconds of audio judged over all streams."""
        return sum(pipeline.totals.seconds for pipeline in self._pipelines)

    @property
    def load(self) -> Load:
        """How far scoring is behind the sound."""
        return sum((pipeline.load for pipeline in self._pipelines), Load())

    @property
    def quiet_since(self) -> float:
        """Monotonic time since when the least lively worker has not been seen to go on."""
        return min(worker.beat for worker in self._workers)

    def totals(self) -> Iterator[tuple[str, Totals]]:
        """All streams that are still known by name, sorted."""
        return iter(sorted((entry for p in self._pipelines for entry in p.totals.items()), key=lambda entry: entry[0]))

    def rest(self) -> tuple[int, Totals]:
        """How many streams are no longer known by name, and what they come to."""
        together = Totals()
        for pipeline in self._pipelines:
            together.add(pipeline.totals.rest)
        return sum(pipeline.totals.forgotten for pipeline in self._pipelines), together

    def _find(self, stream: str) -> Pipeline | None:
        place = self._placement.find(stream)
        return None if place is None else self._pipelines[place]
