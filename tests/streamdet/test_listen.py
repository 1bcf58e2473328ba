"""``streamdet listen`` as a user runs it: real processes, real sockets, real signals."""

import json
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import soundfile
import zmq

from streamdet.events import DAEMON, StatePhase, schema
from streamdet.sources.lifecycle import ALLOWED

from .conftest import DEMO, Run, hops, lines_until

Start = Callable[..., subprocess.Popen[bytes]]


def check_stream(events: list[dict]) -> None:
    """Every event follows the schema, each stream's seq is gapless from 1, and its states follow the one table."""
    validator = jsonschema.Draft202012Validator(schema())
    last: dict[str, int] = defaultdict(int)
    phases: dict[str, StatePhase] = defaultdict(lambda: "connecting")
    for event in events:
        validator.validate(event)
        last[event["stream"]] += 1
        assert event["seq"] == last[event["stream"]]
        if event["type"] == "state" and event["stream"] != DAEMON:
            before, phases[event["stream"]] = phases[event["stream"]], event["phase"]
            assert event["phase"] == before or event["phase"] in ALLOWED[before], event


def test_the_demo_raises_alerts_in_synthetic_turns_only(run: Run, endpoint: str) -> None:
    done = run("listen", "--demo", "--speed", "max", "--json", "--publish", endpoint)
    assert done.returncode == 0
    events = [json.loads(line) for line in done.stdout.splitlines()]
    check_stream(events)
    turns = json.loads(DEMO.with_suffix(".json").read_text())["turns"]
    raised = [event for event in events if event["type"] == "alert" and event["phase"] == "raised"]
    cleared = {event["id"] for event in events if event["type"] == "alert" and event["phase"] == "cleared"}
    assert raised
    assert {event["id"] for event in raised} == cleared
    for event in raised:
        (turn,) = [turn for turn in turns if turn["start"] <= event["media_time"] < turn["end"]]
        assert turn["label"] == "synthetic"
    assert "demo: " in done.stderr


def test_a_subscriber_gets_every_event_by_topic(start: Start, endpoint: str) -> None:
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVTIMEO, 20_000)
    socket.connect(endpoint)
    socket.subscribe(b"")
    process = start("listen", "-s", f"file:{DEMO}?name=line1", "--publish", endpoint, "--json", "--seconds", "8")
    seen, topics = [], set()
    while not seen or seen[-1]["type"] != "state" or seen[-1]["phase"] != "ended":
        topic, payload = socket.recv_multipart()
        seen.append(json.loads(payload))
        topics.add(topic.decode())
        assert topic.decode() == ("health" if seen[-1]["type"] == "health" else f"{seen[-1]['type']}.line1")
    context.destroy(linger=0)
    assert process.wait(20) == 0
    scores = [event for event in seen if event["type"] == "score"]
    assert {"score.line1", "state.line1", "health"} <= topics
    assert len(scores) >= 15
    assert np.median([score["latency_ms"] for score in scores]) < 320
    numbers = [score["seq"] for score in scores]
    assert numbers == sorted(numbers)


def test_a_failing_source_harms_no_other(run: Run, endpoint: str, tmp_path: Path) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    done = run(
        "listen", "-s", f"file:{DEMO}?name=good", "-s", f"file:{tmp_path}/empty.wav?name=bad", "--speed", "max",
        "--json", "--publish", endpoint,
    )  # fmt: skip
    assert done.returncode == 3
    events = [json.loads(line) for line in done.stdout.splitlines()]
    check_stream(events)
    good = [event for event in events if event["stream"] == "good" and event["type"] == "score"]
    assert len(good) == hops(soundfile.info(DEMO).duration)
    assert [e["phase"] for e in events if e["stream"] == "bad"] == ["connecting", "failed"]
    assert [e["phase"] for e in events if e["stream"] == "good" and e["type"] == "state"] == [
        "connecting",
        "live",
        "ended",
    ]
    assert done.stderr.count("is empty (0 bytes)") == 2  # once when it happened, once in the summary


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_summary(start: Start, endpoint: str, number: signal.Signals, tmp_path: Path) -> None:
    process = start("listen", "--demo", "--json", "--publish", endpoint)
    lines_until(process, lambda event: event["type"] == "score", 20)
    process.send_signal(number)
    rest, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    last = [json.loads(line) for line in rest.splitlines()]
    assert "ended" in [event.get("phase") for event in last]
    assert "demo: " in (tmp_path / "stderr-0").read_text()


def test_raw_sound_on_standard_input(run: Run, endpoint: str, speech: np.ndarray) -> None:
    raw = (speech[:64_000] * 32_767).astype("<i2").tobytes()
    done = run("listen", "-s", "-", "--json", "--publish", endpoint, stdin=raw)
    assert done.returncode == 0
    events = [json.loads(line) for line in done.stdout.splitlines()]
    check_stream(events)
    assert [event["phase"] for event in events if event["type"] == "state"] == ["connecting", "live", "ended"]
    assert "phase=live" in done.stderr
    scores = [event for event in events if event["type"] == "score"]
    assert len(scores) == 13
    assert scores[-1]["media_time"] == 4.0


def test_several_sources_from_a_configuration(run: Run, endpoint: str, tmp_path: Path) -> None:
    config = tmp_path / "streams.toml"
    config.write_text(
        f'publish = "{endpoint}"\n[windows]\nshort = 4.0\nlong = 8.0\n'
        f'[[source]]\nuri = "file:{DEMO}?speed=max"\nname = "one"\n'
        f'[[source]]\nuri = "file:{DEMO}?speed=max"\nname = "two"\n'
    )
    done = run("listen", "--config", config, "--json")
    assert done.returncode == 0
    events = [json.loads(line) for line in done.stdout.splitlines()]
    check_stream(events)
    tracks = defaultdict(list)
    for event in events:
        if event["type"] == "score":
            assert set(event["windows"]) == {"4", "8"}
            tracks[event["stream"]].append(event["p_fake"])
    assert tracks["one"] == pytest.approx(tracks["two"], abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["listen"], 2, "nothing to listen to"),
        (["listen", "--demo", "--window", "2"], 2, "greater than or equal to 3"),
        (["listen", "--demo", "--raise", "0.2", "--clear", "0.6"], 2, "raise"),
        (["listen", "-s", "gopher://x"], 3, "gopher"),
        (["listen", "-s", "file:a.wav", "-s", "file:b/a.wav"], 2, "two sources are called a"),
        (["listen", "-s", "-", "-s", "-?name=b"], 2, "standard input can be one source only"),
        (["engine", "build", "--model", "edge"], 5, "the model is int8"),
        (["listen", "--config", "/nonexistent.toml"], 2, "cannot read configuration"),
        (["listen", "--demo", "--model", "/nonexistent.onnx"], 4, "cannot read the model"),
    ],
)
def test_a_wrong_option_gets_one_clear_line(run: Run, arguments: list[str], code: int, says: str) -> None:
    done = run(*arguments)
    assert done.returncode == code
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_endpoint_in_use_is_one_clear_error(run: Run) -> None:
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        done = run("listen", "--demo", "--publish", f"tcp://127.0.0.1:{port}")
    assert done.returncode == 6
    assert "in use" in done.stderr


def test_closing_the_pipe_ends_it(start: Start, endpoint: str) -> None:
    process = start("listen", "--demo", "--json", "--publish", endpoint)
    lines_until(process, lambda event: event["type"] == "score", 20)
    assert process.stdout is not None
    process.stdout.close()
    until = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    assert process.returncode == 0
    process.stdout = None
