"""Microphones and ZeroMQ senders that die and come back; ``python -m tests.chaos.microphone`` is the long version."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import psutil
import pytest

from streamdet.sources.zeromq import ZmqSource
from tests.streamdet.sources.conftest import Reader, free_port

from . import microphone

# No part of this project: a sender starts in a tenth of the time.
SENDER = """
import json, sys, time, zmq
socket = zmq.Context().socket(zmq.PUSH)
socket.connect(sys.argv[1])
for seq in range(10**6):
    header = {"v": 1, "stream": "door", "seq": seq, "format": "s16le", "rate": 8000, "time": time.time()}
    socket.send_multipart([json.dumps(header).encode(), bytes(320)])
    time.sleep(0.02)
"""


@pytest.mark.timeout(400)
def test_microphones_come_back_whatever_happens_to_their_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := microphone.missing():
        pytest.skip(reason)
    for name in ("RUNTIME_PATH", "STATE_PATH", "COOKIE", "SERVER"):
        monkeypatch.setenv(f"PULSE_{name}", "")  # what the run sets is taken back after the test
    for name in ("DEFAULT_SERVER", "NO_START_SERVER", "NO_AUDIO_RESERVATION"):
        monkeypatch.setenv(f"JACK_{name}", "")
    monkeypatch.setenv("HOME", "/")
    outcome = microphone.run(4, seed=6)
    assert set(outcome.causes) == {"kill", "suspend", "remove", "kill_jack"}
    assert outcome.disturbed == 0
    assert max(outcome.returns) < 3 * microphone.RETURN_SECONDS  # this machine may be busy
    assert (outcome.threads, outcome.descriptors, outcome.processes) == (0, 0, 0)
    for name, opened in outcome.opened.items():
        assert opened <= 1 + 2 * 4  # at the start, and twice a round where it comes back in vain
        assert abs(outcome.clock_error[name]) < microphone.CLOCK_SECONDS * opened


@pytest.mark.timeout(200)
def test_a_zeromq_sender_that_is_killed_and_started_again_and_again() -> None:
    port = free_port()
    source = ZmqSource("127.0.0.1", port)
    reader = Reader(source)
    reader.start()
    held: list[tuple[int, int]] = []
    for _ in range(4):
        heard = reader.heard()
        sender = subprocess.Popen([sys.executable, "-c", SENDER, f"tcp://127.0.0.1:{port}"])
        reader.wait(lambda r, heard=heard: r.heard() > heard + 1600, 30)
        sender.kill()
        sender.wait()
        reader.wait(lambda _: source.counters()[source.name]["connected"] == 0, 10)
        held.append((psutil.Process().num_fds(), threading.active_count()))
        time.sleep(0.1)
    own, stream = (source.counters()[name] for name in (source.name, "door"))
    assert own["messages"] == own["received"] == stream["received"]
    assert (own["connections"], own["disconnections"]) == (4, 4)
    assert (stream["restarts"], stream["lost"], own["malformed"]) == (3, 0, 0)
    assert held[-1] <= held[0]
    reader.finish()
