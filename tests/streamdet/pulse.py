"""A PortAudio capture device without hardware: a private PulseAudio with a null sink whose monitor is a microphone.

``fake_microphone`` is a fixture; a test module gets it by importing it. What is played into it by :meth:`play` is
heard by every program that runs with :attr:`environment`, as the devices ``pulse`` and ``default``.
"""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

MODULES = (
    "module-null-sink sink_name=fakemic rate=48000 channels=2",
    "module-remap-source master=fakemic.monitor source_name=mic",
)


class FakeMicrophone:
    """A sound server in ``folder`` that can be killed, started again, frozen and played into."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: subprocess.Popen[bytes] | None = None
        self._players: list[subprocess.Popen[bytes]] = []

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs in its environment to hear this microphone."""
        folder = str(self._folder)
        return {
            "PULSE_RUNTIME_PATH": folder,
            "PULSE_STATE_PATH": folder,
            "PULSE_COOKIE": f"{folder}/cookie",
            "PULSE_SERVER": f"unix:{folder}/native",
            "HOME": folder,
        }

    def start(self) -> None:
        """Start the server and wait until it answers."""
        modules = (
            f"module-native-protocol-unix auth-anonymous=1 socket={self._folder}/native",
            *MODULES,
        )
        loads = [word for module in modules for word in ("-L", module)]
        options = ["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes"]
        with (self._folder / "pulseaudio.log").open("ab") as log:
            self._server = subprocess.Popen(
                ["pulseaudio", *options, "--log-level=error", *loads],
                env={**os.environ, **self.environment},
                stderr=log,
            )
        until = time.monotonic() + 10
        while self._pactl("get-default-source").returncode and time.monotonic() < until:
            time.sleep(0.05)

    def kill(self) -> None:
        """End the server without a word, as a crash does."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def suspend(self, *, suspended: bool) -> None:
        """Let the microphone stop giving sound, or give it again."""
        assert self._pactl("suspend-source", "mic", str(int(suspended))).returncode == 0
        assert self._pactl("suspend-sink", "fakemic", str(int(suspended))).returncode == 0

    def remove(self) -> None:
        """Take the microphone away, as when it is pulled out; who records from it is thrown out."""
        for module in ("module-remap-source", "module-null-sink"):
            assert self._pactl("unload-module", module).returncode == 0

    def give(self) -> None:
        """Put the microphone back."""
        for module in MODULES:
            assert self._pactl("load-module", *module.split()).returncode == 0

    def enter(self) -> None:
        """Make this process hear it as well, for good."""
        os.environ.update(self.environment)

    def play(self, path: Path) -> subprocess.Popen[bytes]:
        """Start to play a sound file into the microphone."""
        player = subprocess.Popen(["paplay", "--device=fakemic", str(path)], env={**os.environ, **self.environment})
        self._players.append(player)
        return player

    def close(self) -> None:
        """End everything."""
        for player in self._players:
            player.kill()
            player.wait()
        self.kill()

    def _pactl(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["pactl", *arguments], env={**os.environ, **self.environment}, capture_output=True, timeout=10, check=False
        )


def missing() -> str | None:
    """Say what is not installed that this needs; None where all is there."""
    programs = [name for name in ("pulseaudio", "paplay", "pactl") if shutil.which(name) is None]
    if programs:
        return f"not installed: {', '.join(programs)} (Debian: pulseaudio pulseaudio-utils)"
    if ctypes.util.find_library("portaudio") is None:
        return "not installed: PortAudio (Debian: libportaudio2 libasound2-plugins)"
    return None


@pytest.fixture
def fake_microphone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeMicrophone]:
    """A running fake microphone that this process hears as well; skips where a system package is missing."""
    if reason := missing():
        pytest.skip(reason)
    microphone = FakeMicrophone(tmp_path)
    for key, value in microphone.environment.items():
        monkeypatch.setenv(key, value)
    microphone.start()
    yield microphone
    microphone.close()
