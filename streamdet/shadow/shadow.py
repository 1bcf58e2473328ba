"""Scores the hops of one pipeline with a second engine, in a thread of its own that never holds scoring up."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import structlog

from streamdet.decide.judge import Judge, JudgeMaker
from streamdet.decide.window import Column
from streamdet.engine.base import Engine
from streamdet.features import SlotFrontEnd
from streamdet.features.logmel import FloatArray
from streamdet.shadow.figures import Comparison
from streamdet.tap import Heard

log = structlog.get_logger(__name__)
MOST_WAITING = 2048  # hops; 60 MB of sound and features, or a little more
BATCH = 32
FORGOTTEN = 4096  # hops of others after which a stream that is not heard gives its slot back


@dataclass(slots=True)
class Twin:
    """What the shadow keeps for one stream."""

    slot: int
    judge: Judge
    media_time: float = 0.0
    hop: int = 0  # number of the hop that was heard last


class Shadow:
    """Hears what the taps show and compares; it never alarms.

    The features are those that the main model saw or, where that was made for another front end, the shadow's own.

    Args:
        engine: runs the shadow's network; the shadow alone uses it from now on.
        judge: makes the judge of a new stream.
    """

    def __init__(self, engine: Engine, judge: JudgeMaker) -> None:
        self.engine = engine
        self.front_end = SlotFrontEnd(engine.info.front_end)
        self.comparison = Comparison()
        self._judge = judge
        self._waiting: deque[Heard] = deque()
        self._twins: dict[str, Twin] = {}
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def hear(self, heard: Heard) -> None:
        """Take a hop on the scoring thread; where too many wait it is dropped, and counted."""
        if len(self._waiting) >= MOST_WAITING:
            self.comparison.dropped += 1
            return
        self._waiting.append(heard)
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """Stop and free the engine."""
        self._stop()
        self.engine.close()

    def hand_over(self) -> dict[str, Twin]:
        """Score what waits and stop; the engine, with the state of every stream, is the caller's from now on."""
        self._stop()
        while self._waiting:
            self._step()
        return self._twins

    def _stop(self) -> None:
        self._over = True
        with self._changed:
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._over:
                with self._changed:
                    if not self._waiting:
                        self._changed.wait(0.5)
                self._step()
        except Exception:  # the shadow must never take down what it only watches
            log.exception("shadow_failed")
            self._over = True

    def _step(self) -> None:
        batch: list[tuple[Heard, Twin]] = []
        names: set[str] = set()
        while self._waiting and len(batch) < BATCH and self._waiting[0].stream not in names:
            heard = self._waiting.popleft()
            names.add(heard.stream)
            batch.append((heard, self._twin(heard)))
        for (heard, twin), column in zip(batch, self._columns(batch), strict=True):
            theirs = twin.judge.update(column, heard.judgement.media_time)
            self.comparison.add(heard.judgement, theirs)
            twin.media_time, twin.hop = heard.judgement.media_time, self.comparison.hops
        if batch and self.comparison.hops % FORGOTTEN < len(batch):
            self._forget()

    def _columns(self, batch: list[tuple[Heard, Twin]]) -> list[Column]:
        """Advance the network by the hops that have features; the others are what they are for the main model."""
        scored = [(heard, twin.slot) for heard, twin in batch if heard.features is not None]
        rows: deque[list[float]] = deque()
        if scored:
            slots = np.array([slot for _, slot in scored], np.intp)
            rows.extend(self.engine.step(slots, self._features(slots, [heard for heard, _ in scored])).tolist())
        columns = []
        for heard, _ in batch:
            column = heard.column
            if heard.features is not None:
                logit, attention = rows.popleft()
                column = Column(logit, attention, column.speech, column.lost)
            columns.append(column)
        return columns

    def _features(self, slots: npt.NDArray[np.intp], heard: list[Heard]) -> FloatArray:
        if heard[0].front_end == self.engine.info.front_end:
            return np.stack([hop.features for hop in heard if hop.features is not None])
        return self.front_end(slots, np.stack([hop.hop.samples for hop in heard]))[0]

    def _twin(self, heard: Heard) -> Twin:
        twin = self._twins.get(heard.stream)
        if twin is not None and heard.judgement.media_time <= twin.media_time:
            self.engine.release(self._twins.pop(heard.stream).slot)  # a stream of the same name that began anew
            twin = None
        if twin is None:
            slot = self.engine.allocate()
            self._reset(slot)
            twin = self._twins[heard.stream] = Twin(slot, self._judge(heard.stream))
        elif heard.restarted:
            twin.judge.restart(twin.media_time)
            self._reset(twin.slot)
        return twin

    def _reset(self, slot: int) -> None:
        self.engine.reset(slot)
        self.front_end.reset(slot)

    def _forget(self) -> None:
        for name, twin in list(self._twins.items()):
            if self.comparison.hops - twin.hop > FORGOTTEN:
                self.engine.release(self._twins.pop(name).slot)
