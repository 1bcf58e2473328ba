"""What deploy/ ships: configurations that load, a health check that tells the truth, a complete container."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
import zmq

from streamdet.config import load
from streamdet.sources.uri import from_uri

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "deploy"


@contextmanager
def publisher(lag_ms: float) -> Iterator[str]:
    """A socket that publishes health twice a second."""
    stop = Event()
    health = json.dumps({"type": "health", "streams": 2, "alerts": 1, "lag_ms": lag_ms}).encode()
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")

        def publish() -> None:
            while not stop.wait(0.5):
                socket.send_multipart([b"health", health])

        thread = Thread(target=publish)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{port}"
        finally:
            stop.set()
            thread.join()


def check_health(endpoint: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DEPLOY / "healthcheck.py"), endpoint]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("name", ["streams.toml", "container.toml"])
def test_configuration_loads_and_names_sources_that_exist(name: str) -> None:
    sources = load(DEPLOY / name).source
    assert sources
    for source in sources:
        assert from_uri(source.uri, name=source.name).name == source.name


def test_commented_out_lines_of_the_configuration_load_as_well(tmp_path: Path) -> None:
    lines = (DEPLOY / "streams.toml").read_text().splitlines()
    setting = re.compile(r"^# (?=\[+\w+\]+|\w+ = )")
    path = tmp_path / "all.toml"
    path.write_text("\n".join(setting.sub("", line) if setting.match(line) else line for line in lines))
    config = load(path)
    assert [source.name for source in config.source] == ["feed", "calls", "desk"]
    assert config.alarm.raise_at == 0.9


def test_healthy() -> None:
    with publisher(lag_ms=3.0) as endpoint:
        done = check_health(endpoint)
    assert (done.returncode, done.stdout) == (0, "2 streams, 1 alerts, 3 ms behind\n")


def test_behind_is_not_healthy() -> None:
    with publisher(lag_ms=7500.0) as endpoint:
        done = check_health(endpoint)
    assert (done.returncode, done.stdout) == (1, "2 streams, 1 alerts, 7500 ms behind\n")


def test_silent_is_not_healthy() -> None:
    done = check_health("ipc:///nonexistent/events")
    assert done.returncode == 1
    assert "no health event from ipc:///nonexistent/events" in done.stdout


def test_all_that_the_container_copies_exists_and_is_let_through() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
    paths = [path for line in copied for path in line.split()]
    assert {"streamdet", "pyproject.toml", "deploy/healthcheck.py"} <= set(paths)
    allowed = {line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for path in paths:
        assert (PROJECT / path).exists()
        assert path.split("/")[0] in allowed


def test_container_does_not_run_as_root() -> None:
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER ")][-1] == "USER 10001:10001"


def test_installer_refuses_clearly() -> None:
    done = subprocess.run(["bash", DEPLOY / "install.sh", "--frm", "x"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "install.sh: unknown option --frm; --help lists them\n")


def test_installer_explains_itself() -> None:
    done = subprocess.run(["bash", DEPLOY / "install.sh", "--help"], capture_output=True, text=True, check=True)
    assert "--find-links DIR" in done.stdout
    assert "set -euo" not in done.stdout
