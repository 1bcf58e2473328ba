"""Real ZeroMQ sockets, the subscriber in another process."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import zmq

from streamdet import events
from streamdet.errors import SinkError
from streamdet.sinks.zeromq import ZeroMQSink

READER = textwrap.dedent("""
    import sys, zmq
    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.subscribe(sys.argv[2])
    socket.connect(sys.argv[1])
    while True:
        topic, payload = socket.recv_multipart()
        print(topic.decode(), payload.decode(), flush=True)
""")


@pytest.fixture
def sink() -> Iterator[ZeroMQSink]:
    sink = ZeroMQSink("tcp://127.0.0.1:*")
    yield sink
    sink.close()


def subscribe(sink: ZeroMQSink, prefix: str, probe: events.Event) -> subprocess.Popen[str]:
    """Start a subscriber process; sends ``probe`` until the subscriber has it, since PUB drops what comes too early."""
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, sink.endpoint, prefix], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    poller = zmq.Poller()
    assert reader.stdout is not None
    poller.register(reader.stdout, zmq.POLLIN)
    deadline = time.monotonic() + 30.0
    while not poller.poll(20):
        assert time.monotonic() < deadline, "the subscriber never connected"
        sink.emit(probe, events.to_json(probe))
    return reader


def lines_until(reader: subprocess.Popen[str], last_seq: int) -> list[tuple[str, dict[str, Any]]]:
    """Messages after the probes (seq 1) up to ``last_seq``."""
    assert reader.stdout is not None
    got = []
    for line in reader.stdout:
        topic, payload = line.rstrip("\n").split(" ", 1)
        event = json.loads(payload)
        if event["seq"] > 1:
            got.append((topic, event))
        if event["seq"] == last_seq:
            break
    reader.kill()
    reader.communicate()
    return got


def test_another_process_gets_topics_and_valid_events_in_order(
    sink: ZeroMQSink, score: Any, alert: Any, state: Any
) -> None:
    reader = subscribe(sink, "", score(1))
    sent = [score(2), alert(3), state(4), *(score(seq) for seq in range(5, 301))]
    for event in sent:
        sink.emit(event, events.to_json(event))
    got = lines_until(reader, 300)
    assert [topic for topic, _ in got] == [events.topic(event) for event in sent]
    assert [fields["seq"] for _, fields in got] == list(range(2, 301))
    validator = jsonschema.Draft202012Validator(events.schema())
    for _, fields in got:
        validator.validate(fields)


def test_a_subscriber_may_want_the_alerts_of_one_stream_only(sink: ZeroMQSink, score: Any, alert: Any) -> None:
    reader = subscribe(sink, "alert.hall", alert(1))
    for event in (score(2), alert(3, stream="door"), alert(4, "updated"), score(5), alert(6, "cleared")):
        sink.emit(event, events.to_json(event))
    assert [(topic, fields["seq"]) for topic, fields in lines_until(reader, 6)] == [
        ("alert.hall", 4),
        ("alert.hall", 6),
    ]


def test_nobody_listening_costs_nothing(sink: ZeroMQSink, score: Any) -> None:
    event = score()
    begun = time.perf_counter()
    for _ in range(20_000):
        sink.emit(event, b"{}")
    assert time.perf_counter() - begun < 10.0


def test_a_subscriber_that_reads_nothing_does_not_block_the_publisher(score: Any) -> None:
    sink = ZeroMQSink("tcp://127.0.0.1:*", high_water=10, linger_seconds=0.0)
    context = zmq.Context()
    deaf = context.socket(zmq.SUB)
    deaf.set(zmq.RCVHWM, 1)
    deaf.set(zmq.LINGER, 0)
    deaf.subscribe("")
    deaf.connect(sink.endpoint)
    event, payload = score(), b"x" * 20_000
    deadline = time.monotonic() + 20.0
    while not deaf.poll(10):
        assert time.monotonic() < deadline
        sink.emit(event, payload)
    begun = time.perf_counter()
    for _ in range(5000):  # 100 MB, far more than all socket buffers hold
        sink.emit(event, payload)
    assert time.perf_counter() - begun < 10.0
    deaf.close()
    context.term()
    sink.close()


def test_an_endpoint_in_use_is_one_clear_error(sink: ZeroMQSink) -> None:
    with pytest.raises(SinkError, match=r"tcp://127\.0\.0\.1:\d+ is in use.*--publish"):
        ZeroMQSink(sink.endpoint)


@pytest.mark.parametrize("endpoint", ["nonsense", "tcp://", "tcp://127.0.0.1:99999", "http://127.0.0.1:1"])
def test_an_endpoint_that_is_none_is_one_clear_error(endpoint: str) -> None:
    with pytest.raises(SinkError, match="cannot publish on") as caught:
        ZeroMQSink(endpoint)
    assert endpoint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_endpoint_is_free_again_after_close() -> None:
    first = ZeroMQSink("tcp://127.0.0.1:*")
    first.close()
    second = ZeroMQSink(first.endpoint)
    assert second.endpoint == first.endpoint
    second.close()


def test_what_was_sent_right_before_close_still_arrives(score: Any) -> None:
    sink = ZeroMQSink("tcp://127.0.0.1:*")
    reader = subscribe(sink, "", score(1))
    sink.emit(score(2), events.to_json(score(2)))
    sink.close()
    assert [fields["seq"] for _, fields in lines_until(reader, 2)] == [2]
