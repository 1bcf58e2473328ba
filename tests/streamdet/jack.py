"""A second backend of PortAudio without hardware: a JACK server of its own name with the dummy driver."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

RATE = 48_000


class FakeJack:
    """A JACK server that can be killed and started again; who is in :attr:`environment` sees it and no other."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "jackd.log"
        self._name = f"streamdet{os.getpid()}"
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def says(self) -> str:
        """Whether it runs, and the end of its log."""
        code = "not started" if self._server is None else self._server.poll()
        return f"exit code {code}: {self._log.read_text()[-1500:]}"

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs in its environment to hear it."""
        return {"JACK_DEFAULT_SERVER": self._name, "JACK_NO_START_SERVER": "1", "JACK_NO_AUDIO_RESERVATION": "1"}

    def start(self) -> None:
        """Start the server; it answers a moment later."""
        command = ["jackd", "--no-realtime", "--name", self._name, "-d", "dummy", "-r", str(RATE), "-p", "1024"]
        with self._log.open("ab") as log:
            self._server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **self.environment})

    def close(self) -> None:
        """End the server so that it leaves nothing; this machine's list of servers has eight places (JACK 1.9.21)."""
        if self._server is None:
            self.start()  # what was killed is still in that list, until one of its name ends in order
            time.sleep(0.5)
        assert self._server is not None
        self._server.send_signal(signal.SIGCONT)
        self._server.terminate()
        try:
            self._server.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
        self._server = None

    def hang(self) -> None:
        """Let the server be there and answer nobody."""
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """End the server without a word, as a crash does."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None


def missing() -> str | None:
    """Say what is not installed that this needs; None where all is there."""
    return None if shutil.which("jackd") else "not installed: jackd (Debian: jackd2)"
