"""A second backend of PortAudio: JACK with its dummy driver, killed while it is recorded from (closing then hangs)."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from streamdet.sources.microphone import MicrophoneSource
from tests.streamdet.pulse import missing

from .conftest import Reader

Read = Callable[..., Reader]
RATE = 48_000


class Jack:
    """A JACK server of a name of its own."""

    def __init__(self, name: str, log: Path) -> None:
        self._name, self._log = name, log
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            command = ["jackd", "--no-realtime", "--name", self._name, "-d", "dummy", "-r", str(RATE), "-p", "1024"]
            self._server = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None


@pytest.fixture
def jack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jack]:
    if shutil.which("jackd") is None:
        pytest.skip("not installed: jackd (Debian: jackd2)")
    if reason := missing():
        pytest.skip(reason)
    name = f"streamdet{os.getpid()}"
    for key, value in {"DEFAULT_SERVER": name, "NO_START_SERVER": "1", "NO_AUDIO_RESERVATION": "1"}.items():
        monkeypatch.setenv(f"JACK_{key}", value)
    monkeypatch.setenv("PULSE_SERVER", f"unix:{tmp_path}/none")
    server = Jack(name, tmp_path / "jackd.log")
    server.start()
    yield server
    server.kill()


def test_a_killed_jackd_is_left_and_found_again(jack: Jack, read: Read) -> None:
    reader = read(MicrophoneSource("jack:system", name="mixer", wait=True))
    reader.wait(lambda r: r.heard() > RATE // 5, 40)
    assert "JACK Audio Connection Kit" in reader.statuses()[-1].reason
    descriptors = psutil.Process().num_fds()
    jack.kill()
    reader.wait(lambda r: r.statuses()[-1].phase == "recovering", 20)
    time.sleep(1)
    heard = reader.heard()
    jack.start()
    reader.wait(lambda r: r.heard() > heard + RATE // 5, 40)
    assert reader.statuses()[-1].phase in ("live", "degraded")
    assert max(block.lost for block in reader.blocks()) > RATE
    assert psutil.Process().num_fds() <= descriptors
    assert reader.finish() < 30
