from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from streamdet import events
from streamdet.errors import SinkEndedError, SinkError
from streamdet.sinks.jsonl import JsonLinesSink

WRITER = textwrap.dedent("""
    import signal, structlog, sys, threading
    from streamdet.events import State, to_json, utc
    from streamdet.sinks.jsonl import JsonLinesSink
    from streamdet.sinks.queue import QueueSink

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    ended, stop = threading.Event(), threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    queue = QueueSink(JsonLinesSink(sys.stdout.buffer), patient=True, stop=stop, linger=0.5, on_ended=ended.set)
    for seq in range(1, 1_000_000):
        if ended.is_set() or stop.is_set():
            break
        event = State(stream="hall", seq=seq, time=utc(1e9), media_time=0.0, model="", phase="live", reason="x")
        queue.emit(event, to_json(event))
    queue.close()
    print("ended" if ended.is_set() else "went on", file=sys.stderr)
    if ended.is_set():
        print("what others still write to standard output")
""")


def test_one_valid_event_a_line_at_once(score: Any, alert: Any, state: Any) -> None:
    stream = io.BytesIO()
    buffered = io.BufferedWriter(stream)
    sink = JsonLinesSink(buffered)
    validator = jsonschema.Draft202012Validator(events.schema())
    for number, event in enumerate((score(1), alert(2), state(3, reason="line\nbreak")), 1):
        sink.emit(event, events.to_json(event))
        lines = stream.getvalue().splitlines()
        assert len(lines) == number
        validator.validate(json.loads(lines[-1]))
        assert events.from_json(lines[-1]) == event
    sink.close()
    assert not buffered.closed


def test_a_reader_that_stops_is_a_clean_end() -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stderr is not None
    first = [events.from_json(writer.stdout.readline()).seq for _ in range(3)]
    writer.stdout.close()
    said = writer.stderr.read()
    writer.stderr.close()
    assert first == [1, 2, 3]
    assert writer.wait(30) == 0
    assert said == b"ended\n"


def test_a_reader_that_stalls_does_not_keep_the_process_from_ending() -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline()
    time.sleep(0.5)  # the pipe and the queue are full by now, and the writer waits
    writer.send_signal(signal.SIGINT)
    assert writer.wait(30) == 0
    writer.stdout.close()
    assert writer.stderr is not None
    said = writer.stderr.read().decode()
    writer.stderr.close()
    assert "sink_stuck" in said
    assert said.endswith("went on\n")
    assert "Fatal" not in said


def test_a_broken_pipe_is_told_apart_from_other_trouble(score: Any) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as stream, pytest.raises(SinkEndedError):
        JsonLinesSink(stream).emit(score(), b"{}")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error_that_says_so(score: Any) -> None:
    stream = open("/dev/full", "wb", buffering=0)  # noqa: SIM115  closed below
    with stream, pytest.raises(SinkError, match="No space left on device") as caught:
        JsonLinesSink(stream).emit(score(), b"{}")
    assert not isinstance(caught.value, SinkEndedError)
