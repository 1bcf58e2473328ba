"""What the store adds to the time from score to subscriber: ``python -m tests.chaos.latency --rounds 7``.

With and without a store take turns; events are emitted at the pace of that many live streams, and timed at the queue
of a sink. Also with a subscriber's replay request after request.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from streamdet.events import Event, Score, utc
from streamdet.follow import ReplayClient
from streamdet.sinks.fanout import Fanout
from streamdet.sinks.queue import QueueSink
from streamdet.store.gate import Gate
from streamdet.store.replay import Replay
from streamdet.store.upkeep import Limits
from streamdet.store.wire import EventsRequest

HOP_SECONDS = 0.32


class Clock:
    """A sink that notes how long each event took since it was emitted."""

    name = "clock"

    def __init__(self) -> None:
        self.emitted: dict[tuple[str, int], float] = {}
        self.took: list[float] = []

    def emit(self, event: Event, payload: bytes) -> None:
        self.took.append(time.perf_counter() - self.emitted[event.stream, event.seq])

    def close(self) -> None:
        """There is nothing to close."""


def score(stream: int, seq: int) -> Score:
    return Score(
        stream=f"line{stream}", seq=seq, time=utc(time.time()), media_time=HOP_SECONDS * seq, model="ab" * 32,
        p_fake=0.25, windows={"3": 0.25, "10": 0.125}, speech=0.5, lost=0.0, verdict="bona_fide", latency_ms=4.0,
    )  # fmt: skip


def measure(path: Path | None, streams: int, seconds: float, recent: float) -> list[float]:
    """Emit live scores through a fan-out; returns ms from each emission to the sink."""
    clock = Clock()
    gate = None if path is None else Gate(path, Limits(recent_seconds=recent))
    first = 1
    if gate is not None:
        first = max(gate.open().positions.values(), default=0) + 1
    fanout = Fanout([QueueSink(clock, capacity=100_000)], gate)
    if gate is not None:
        gate.start(fanout.pass_on, print)
    began = time.monotonic()
    for hop in range(int(seconds / HOP_SECONDS)):
        for stream in range(streams):
            due = began + HOP_SECONDS * (hop + stream / streams)
            time.sleep(max(0.0, due - time.monotonic()))
            event = score(stream, first + hop)
            clock.emitted[event.stream, event.seq] = time.perf_counter()
            fanout.emit(event)
    fanout.close()
    return [1e3 * took for took in clock.took]


def ask_again_and_again(endpoint: str, stop: threading.Event) -> None:
    client = ReplayClient(endpoint)
    while not stop.is_set():
        client.ask(EventsRequest(v=1, op="events", others=True), 1.0)
    client.close()


def describe(name: str, values: list[float]) -> str:
    p50, p99 = np.percentile(values, [50, 99])
    return f"{name:24} p50 {p50:7.2f} ms  p99 {p99:7.2f} ms  max {max(values):7.2f} ms  n {len(values)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--streams", type=int, default=50)
    chosen = parser.parse_args()
    without: list[float] = []
    stored: list[float] = []
    asked: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.db"
        for _ in range(chosen.rounds):
            without += measure(None, chosen.streams, chosen.seconds, 3600.0)
            stored += measure(path, chosen.streams, chosen.seconds, chosen.seconds)  # so that old scores are thinned
            replay, stop = Replay("tcp://127.0.0.1:*", path), threading.Event()
            replay.start(None)  # type: ignore[arg-type]  it looks at nothing inside
            asker = threading.Thread(target=ask_again_and_again, args=(replay.endpoint, stop))
            asker.start()
            asked += measure(path, chosen.streams, chosen.seconds, chosen.seconds)
            stop.set()
            asker.join()
            replay.close()
    for name, values in (("without a store", without), ("stored first", stored), ("and being replayed from", asked)):
        print(describe(name, values))


if __name__ == "__main__":
    main()
