"""The queue before a sink: never blocks, never grows, says what it lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from streamdet.errors import SinkEndedError, SinkError
from streamdet.events import Event, to_json
from streamdet.sinks.fanout import Fanout
from streamdet.sinks.queue import QueueSink


class Gate:
    """A sink that takes nothing until it is opened."""

    def __init__(self, name: str = "gate") -> None:
        self.name = name
        self.open = threading.Event()
        self.entered = threading.Event()
        self.got: list[Event] = []
        self.payloads: list[bytes] = []
        self.closed = threading.Event()
        self.threads: set[str] = set()

    def emit(self, event: Event, payload: bytes) -> None:
        self.threads.add(threading.current_thread().name)
        self.entered.set()
        self.open.wait()
        self.got.append(event)
        self.payloads.append(payload)

    def close(self) -> None:
        self.closed.set()


class Broken:
    """A sink that answers every event with the same error."""

    name = "broken"

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.calls = 0

    def emit(self, event: Event, payload: bytes) -> None:
        self.calls += 1
        raise self.error

    def close(self) -> None:
        pass


def stuffed(gate: Gate, score: Callable[..., Event], capacity: int) -> QueueSink:
    """A queue whose sink holds one event and that is full of scores 2, 3, ..."""
    queue = QueueSink(gate, capacity=capacity, linger=10.0)
    queue.emit(score(1), b"")
    assert gate.entered.wait(5)
    for seq in range(2, capacity + 2):
        queue.emit(score(seq), b"")
    return queue


def fill(queue: QueueSink, score: Callable[..., Event], end: int) -> None:
    for seq in range(1, end):
        queue.emit(score(seq), b"")


def test_events_arrive_in_order_in_another_thread(score: Any) -> None:
    gate = Gate()
    gate.open.set()
    queue = QueueSink(gate)
    for seq in range(1, 501):
        queue.emit(score(seq), b"%d" % seq)
    queue.close()
    assert [event.seq for event in gate.got] == list(range(1, 501))
    assert gate.payloads == [b"%d" % seq for seq in range(1, 501)]
    assert gate.threads == {"sink-gate"}
    assert gate.closed.is_set()
    assert (queue.dropped, queue.failed) == (0, 0)


def test_a_stuck_sink_never_blocks_and_every_lost_event_is_counted(score: Any) -> None:
    gate = Gate()
    queue = stuffed(gate, score, 10)
    slowest = 0.0
    for seq in range(12, 5012):
        begun = time.perf_counter()
        queue.emit(score(seq), b"")
        slowest = max(slowest, time.perf_counter() - begun)
    assert slowest < 10
    assert queue.waiting == 10
    assert queue.dropped == 5000
    gate.open.set()
    queue.close()
    assert [event.seq for event in gate.got] == list(range(1, 12))


def test_an_alert_takes_the_place_of_the_oldest_score(score: Any, alert: Any, state: Any) -> None:
    gate = Gate()
    queue = stuffed(gate, score, 4)
    queue.emit(alert(6), b"")
    queue.emit(state(7), b"")
    queue.emit(score(8), b"")
    assert queue.dropped == 3
    gate.open.set()
    queue.close()
    assert [(event.type, event.seq) for event in gate.got] == [
        ("score", 1),
        ("score", 4),
        ("score", 5),
        ("alert", 6),
        ("state", 7),
    ]


def test_where_only_alerts_wait_the_oldest_gives_way(score: Any, alert: Any) -> None:
    gate = Gate()
    queue = stuffed(gate, score, 2)
    for seq in (4, 5, 6):
        queue.emit(alert(seq), b"")
    gate.open.set()
    queue.close()
    assert [event.seq for event in gate.got] == [1, 5, 6]
    assert queue.dropped == 3


def test_a_patient_queue_waits_and_loses_nothing(score: Any) -> None:
    gate = Gate()
    queue = QueueSink(gate, capacity=3, patient=True)
    writer = threading.Thread(target=fill, args=(queue, score, 101))
    writer.start()
    writer.join(0.2)
    assert writer.is_alive()
    assert queue.waiting == 3
    gate.open.set()
    writer.join(10)
    queue.close()
    assert [event.seq for event in gate.got] == list(range(1, 101))
    assert queue.dropped == 0


def test_a_patient_queue_gives_up_when_it_is_told_to_stop(score: Any) -> None:
    gate, stop = Gate(), threading.Event()
    queue = QueueSink(gate, capacity=1, patient=True, stop=stop, linger=10.0)
    writer = threading.Thread(target=fill, args=(queue, score, 10))
    writer.start()
    assert gate.entered.wait(5)
    writer.join(0.1)
    assert writer.is_alive()
    stop.set()
    writer.join(5)
    assert not writer.is_alive()
    assert queue.dropped == 7
    gate.open.set()
    queue.close()
    assert [event.seq for event in gate.got] == [1, 2]


def test_closing_frees_whoever_waits_for_room(score: Any, until: Any) -> None:
    gate = Gate()
    queue = QueueSink(gate, capacity=1, patient=True, linger=0.1)
    writer = threading.Thread(target=fill, args=(queue, score, 10))
    writer.start()
    assert gate.entered.wait(5)
    until(lambda: queue.waiting == 1)
    with capture_logs() as logs:
        queue.close()
    writer.join(5)
    assert not writer.is_alive()
    assert logs == [{"event": "sink_stuck", "sink": "gate", "unsent": 1, "log_level": "warning"}]
    gate.open.set()
    assert gate.closed.wait(5)


@pytest.mark.parametrize("error", [SinkError("disk full"), ZeroDivisionError("a fault")], ids=["error", "fault"])
def test_a_failing_sink_is_counted_logged_rarely_and_tried_again(error: Exception, score: Any) -> None:
    broken = Broken(error)
    with capture_logs() as logs:
        queue = QueueSink(broken)
        for seq in range(1, 101):
            queue.emit(score(seq), b"")
        queue.close()
    assert (broken.calls, queue.failed, queue.dropped) == (100, 100, 0)
    assert [entry["failed"] for entry in logs] == [1, 2, 4, 8, 16, 32, 64]
    assert str(error) in logs[0]["reason"]


def test_a_reader_that_has_gone_is_told_once_and_asked_no_more(score: Any, until: Any) -> None:
    told: list[bool] = []
    broken = Broken(SinkEndedError("gone"))
    queue = QueueSink(broken, on_ended=lambda: told.append(True))
    queue.emit(score(1), b"")
    until(lambda: bool(told))
    for seq in range(2, 50):
        queue.emit(score(seq), b"")
    queue.close()
    assert told == [True]
    assert broken.calls == 1
    assert (queue.failed, queue.dropped, queue.waiting) == (0, 0, 0)


def test_one_sink_never_touches_the_others(score: Any) -> None:
    stuck, fine, broken = Gate("stuck"), Gate("fine"), Broken(SinkError("no"))
    fine.open.set()
    with capture_logs():
        fanout = Fanout([QueueSink(stuck, capacity=5, linger=0.1), QueueSink(fine), QueueSink(broken)])
        sent = [score(seq) for seq in range(1, 201)]
        for event in sent:
            fanout.emit(event)
        fanout.close()
    assert fine.got == sent
    assert fine.payloads == [to_json(event) for event in sent]
    lost = fanout.dropped()
    assert lost["fine"] == 0
    assert lost["broken"] == 200
    assert 194 <= lost["stuck"] <= 195  # five wait, and one is in the hands of the sink or not yet
    stuck.open.set()
