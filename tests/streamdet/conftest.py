"""Real processes and real sound for the tests of the run time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

DEMO = Path(__file__).parents[2] / "streamdet" / "demo" / "demo.flac"
Run = Callable[..., subprocess.CompletedProcess[str]]


def hops(seconds: float) -> int:
    """How many hops a sound of this length is scored in; a rest under 0.08 s is none."""
    whole = int(seconds / 0.32)
    return whole + (seconds - 0.32 * whole >= 0.08)


def streamdet(*arguments: str | Path) -> list[str]:
    """The command as a user would type it, with this Python."""
    return [sys.executable, "-m", "streamdet", *map(str, arguments)]


@pytest.fixture(scope="session")
def run() -> Run:
    """Run the command to its end."""

    def run_to_end(*arguments: str | Path, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(streamdet(*arguments), input=stdin, capture_output=True, timeout=120, check=False)
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return run_to_end


@pytest.fixture(scope="session")
def speech() -> np.ndarray:
    """The demo conversation, float32 at 16 kHz."""
    samples, rate = soundfile.read(DEMO, dtype="float32")
    assert rate == 16_000
    return samples


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    """A ZeroMQ endpoint that no other test uses."""
    return f"ipc://{tmp_path}/events"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start the command in the background; what still runs at the end of the test is terminated."""
    running: list[subprocess.Popen[bytes]] = []

    def start_process(*arguments: str | Path, **environment: str) -> subprocess.Popen[bytes]:
        with (tmp_path / f"stderr-{len(running)}").open("wb") as log:
            process = subprocess.Popen(
                streamdet(*arguments), stdout=subprocess.PIPE, stderr=log, env={**os.environ, **environment}
            )
        running.append(process)
        return process

    yield start_process
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate(timeout=10)


def lines_until(
    process: subprocess.Popen[bytes], enough: Callable[[dict[str, Any]], bool], seconds: float
) -> list[dict[str, Any]]:
    """Read JSON lines from a process until one is ``enough``; fails when that takes longer than ``seconds``."""
    assert process.stdout is not None
    until, seen = time.monotonic() + seconds, []
    for line in process.stdout:
        seen.append(json.loads(line))
        if enough(seen[-1]):
            return seen
        if time.monotonic() > until:
            break
    raise AssertionError(f"not seen within {seconds} s; last of {len(seen)}: {seen[-3:]}")
