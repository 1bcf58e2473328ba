"""Real GStreamer beside the tests: pipelines, and a server of RTSP that can be killed and started again."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCRIPTS = Path(__file__).parent
SYSTEM_PYTHON = "/usr/bin/python3"  # Debian's bindings belong to it
PACKAGES = (
    "gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
)
CHECK = "import gi; gi.require_version('GstRtspServer', '1.0')"


def missing() -> str | None:
    """Say what is not installed that this needs; None where all is there."""
    there = shutil.which("gst-launch-1.0") and Path(SYSTEM_PYTHON).exists()
    if there and subprocess.run([SYSTEM_PYTHON, "-c", CHECK], capture_output=True, check=False).returncode == 0:
        return None
    return f"not installed: GStreamer with its RTSP server (Debian: {PACKAGES})"


@contextmanager
def pipeline(text: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a pipeline as ``gst-launch-1.0`` has it; with ``-e`` an interrupt ends it in order."""
    with subprocess.Popen(["gst-launch-1.0", "-q", "-e", *text.split()], stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


class RtspServer:
    """Plays a sound file at :attr:`url`; ``kill`` and ``start`` again as often as need be."""

    def __init__(self, port: int, sound: Path, *, encoder: str = "mulawenc", payloader: str = "rtppcmupay") -> None:
        self.url = f"rtsp://127.0.0.1:{port}/live"
        self._command = [
            *(SYSTEM_PYTHON, str(SCRIPTS / "gst_rtsp_server.py")),
            *(str(port), str(sound), encoder, payloader),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it; returns the monotonic time at which it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        return time.monotonic()

    def kill(self) -> None:
        """End it without a word, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
