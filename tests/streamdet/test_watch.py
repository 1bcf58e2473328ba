"""``streamdet watch`` and its subscriber against a real publisher."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq
from rich.console import Console

from streamdet.errors import ConfigError, FormatError
from streamdet.events import Score, State, to_json, utc
from streamdet.sinks.zeromq import ZeroMQSink
from streamdet.subscribe import Gaps, Subscriber
from streamdet.watch import run_watch


def state(seq: int, stream: str = "hall") -> State:
    return State(stream=stream, seq=seq, time=utc(1e9), media_time=0.0, model="", phase="live", reason="sound")


@pytest.fixture
def publisher() -> Iterator[ZeroMQSink]:
    sink = ZeroMQSink("tcp://127.0.0.1:*", linger_seconds=0.0)
    yield sink
    sink.close()


def send(sink: ZeroMQSink, *sent: State | Score) -> None:
    for event in sent:
        sink.emit(event, to_json(event))


def connected(sink: ZeroMQSink, subscriber: Subscriber, probe: State) -> Subscriber:
    """Send a probe until the subscriber has one, then empty it of the others."""
    deadline = time.monotonic() + 20.0
    while subscriber.receive(0.02) is None:
        assert time.monotonic() < deadline
        send(sink, probe)
    while subscriber.receive(0.2) is not None:
        pass
    return subscriber


class Watching:
    """``run_watch`` in a thread, with its output at hand."""

    def __init__(self, sink: ZeroMQSink, **options: Any) -> None:
        self.output = io.BytesIO()
        self.remarks = io.StringIO()
        self.stop = threading.Event()
        self.code: int | None = None
        console = Console(file=self.remarks, width=120)
        self._thread = threading.Thread(target=self._run, args=(sink.endpoint, console, options))
        self._thread.start()
        self._connect(sink)

    def _run(self, endpoint: str, console: Console, options: dict[str, Any]) -> None:
        self.code = run_watch(endpoint, stop=self.stop, output=self.output, console=console, **options)

    def _connect(self, sink: ZeroMQSink) -> None:
        self.until(lambda: "probe" in self.seen, lambda: send(sink, state(1, "probe")))

    @property
    def seen(self) -> str:
        return self.output.getvalue().decode() + self.remarks.getvalue()

    def until(self, condition: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None) -> None:
        deadline = time.monotonic() + 20.0
        while not condition():
            assert time.monotonic() < deadline, self.seen
            meanwhile()
            time.sleep(0.02)

    def finish(self) -> str:
        self.stop.set()
        self._thread.join(10)
        assert self.code == 0
        return self.seen


@pytest.mark.parametrize(
    ("numbers", "wanted"),
    [
        ([1, 2, 3], [0, 0, 0]),
        ([5, 6], [0, 0]),  # joined late: nothing is missing
        ([1, 2, 5, 6, 10], [0, 0, 2, 0, 3]),
        ([7, 8, 1, 2, 4], [0, 0, 0, 0, 1]),  # the publisher was started anew
    ],
)
def test_gaps(numbers: list[int], wanted: list[int]) -> None:
    gaps = Gaps()
    assert [gaps.missed(state(seq)) for seq in numbers] == wanted


def test_gaps_are_counted_per_stream() -> None:
    gaps = Gaps()
    sent = [state(1, "a"), state(1, "b"), state(2, "a"), state(4, "b"), state(3, "a")]
    assert [gaps.missed(event) for event in sent] == [0, 0, 0, 2, 0]


def test_a_subscriber_of_one_stream_gets_no_other_whose_name_begins_alike(publisher: ZeroMQSink) -> None:
    subscriber = connected(publisher, Subscriber(publisher.endpoint, ["hall"]), state(1))
    send(publisher, state(1, "hall-2"), state(1, "door"), state(2))
    got = [message for _ in range(5) if (message := subscriber.receive(0.3)) is not None]
    assert [(message.event.stream, message.event.seq, message.missed) for message in got] == [("hall", 2, 0)]
    subscriber.close()


def test_a_subscriber_survives_the_publisher_being_started_anew() -> None:
    first = ZeroMQSink("tcp://127.0.0.1:*", linger_seconds=0.0)
    subscriber = connected(first, Subscriber(first.endpoint), state(1))
    first.close()
    second = ZeroMQSink(first.endpoint, linger_seconds=0.0)
    connected(second, subscriber, state(1))
    subscriber.close()
    second.close()


def test_a_foreign_message_is_one_clear_error_and_no_end() -> None:
    context = zmq.Context()
    foreign = context.socket(zmq.PUB)
    foreign.set(zmq.LINGER, 0)
    foreign.bind("tcp://127.0.0.1:*")
    subscriber = Subscriber(foreign.getsockopt_string(zmq.LAST_ENDPOINT))
    for frames, says in (([b"only one"], "two frames"), ([b"score.x", b"{}"], "not an event")):
        with pytest.raises(FormatError, match=says):  # noqa: PT012  PUB drops until the subscriber is there
            for _ in range(1000):
                foreign.send_multipart(frames)
                subscriber.receive(0.02)
        while subscriber_has_more(subscriber):
            pass
    subscriber.close()
    foreign.close()
    context.term()


def subscriber_has_more(subscriber: Subscriber) -> bool:
    try:
        return subscriber.receive(0.2) is not None
    except FormatError:
        return True


@pytest.mark.parametrize("endpoint", ["nonsense", "tcp://127.0.0.1", "tcp://127.0.0.1:65536"])
def test_an_endpoint_that_is_none_is_one_clear_error(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot subscribe to {endpoint}: "):
        run_watch(endpoint)


def test_json_lines_pass_through_unchanged_and_gaps_are_told_beside_them(publisher: ZeroMQSink) -> None:
    watching = Watching(publisher, json=True)
    sent = [state(1), state(2), state(6)]
    send(publisher, *sent)
    watching.until(lambda: b'"seq":6' in watching.output.getvalue())
    said = watching.finish()
    lines = [line for line in watching.output.getvalue().splitlines() if b"hall" in line]
    assert lines == [to_json(event) for event in sent]
    assert "hall: 3 events missed before seq 6" in said
    assert "3 missed, 0 unreadable" in said


def test_people_see_streams_gaps_and_how_it_ended(publisher: ZeroMQSink) -> None:
    watching = Watching(publisher)
    send(publisher, state(1), state(4))
    watching.until(lambda: "2 events missed before seq 4" in watching.seen)
    said = watching.finish()
    assert f"watching {publisher.endpoint}; Ctrl-C ends" in said
    assert said.count("hall  live: sound") == 2
    assert watching.output.getvalue() == b""


@pytest.mark.parametrize("how", ["ctrl-c", "reader gone"])
def test_a_watch_in_a_process_of_its_own_ends_cleanly(publisher: ZeroMQSink, how: str) -> None:
    code = "import sys; from streamdet.watch import run_watch; sys.exit(run_watch(sys.argv[1], json=True))"
    watch = subprocess.Popen(
        [sys.executable, "-c", code, publisher.endpoint], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert watch.stdout is not None
    assert watch.stderr is not None
    os.set_blocking(watch.stdout.fileno(), False)
    line = None
    deadline = time.monotonic() + 30.0
    while not line:
        assert time.monotonic() < deadline
        send(publisher, state(1))
        time.sleep(0.02)
        line = watch.stdout.readline()
    assert json.loads(line)["stream"] == "hall"
    if how == "ctrl-c":
        watch.send_signal(signal.SIGINT)
    watch.stdout.close()
    while watch.poll() is None:
        assert time.monotonic() < deadline
        send(publisher, state(1))
        time.sleep(0.02)
    said = watch.stderr.read().decode()
    watch.stderr.close()
    assert watch.returncode == 0
    assert "Traceback" not in said
    assert "0 missed, 0 unreadable" in said
