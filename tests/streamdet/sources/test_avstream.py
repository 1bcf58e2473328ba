"""RTSP from a real ffmpeg, HTTP from a real server; the process between is stopped, killed and starved."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
import soxr

from streamdet.audio.block import Block
from streamdet.errors import ConfigError
from streamdet.sources.avstream import AvSource, _Hearing
from streamdet.sources.child import Child, Sound
from streamdet.sources.uri import from_uri

from .conftest import Reader, correlation

pytest.importorskip("av", reason="not installed: PyAV (extra rtp)")
Read = Callable[..., Reader]
RATE = 16_000
TELEPHONE = ["-c:a", "pcm_mulaw", "-ar", "8000", "-ac", "1", "-f", "rtsp", "-rtsp_transport", "tcp"]
NEEDS_FFMPEG = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="not installed: ffmpeg")


class Radio(ThreadingHTTPServer):
    """Sends a sound file over and over as a radio station does, at about the pace of real time or all at once."""

    daemon_threads = True

    def __init__(self, sound: bytes, *, kind: str, forever: bool) -> None:
        self.sound, self.kind, self.forever = sound, kind, forever
        self.dead = threading.Event()
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Listener)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def url(self, user: str = "", path: str = "/live") -> str:
        return f"http://{user}127.0.0.1:{self.server_address[1]}{path}"


class Listener(BaseHTTPRequestHandler):
    server: Radio

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.path} {self.headers.get('Authorization', '')}")
        if self.path.startswith("/talk") and "Authorization" not in self.headers:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="talk"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", self.server.kind)
        if not self.server.forever:
            self.send_header("Content-Length", str(len(self.server.sound)))
        self.end_headers()
        with suppress(OSError):  # who listened has gone
            self._send()

    def _send(self) -> None:
        if not self.server.forever:
            self.wfile.write(self.server.sound)
            return
        while not self.server.dead.is_set():
            for begin in range(0, len(self.server.sound), 2000):
                self.wfile.write(self.server.sound[begin : begin + 2000])
                if self.server.dead.wait(0.05):
                    return

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def station(tmp_path: Path, speech: np.ndarray) -> Iterator[Callable[..., Radio]]:
    made: list[Radio] = []

    def make(suffix: str, *, forever: bool) -> Radio:
        path = tmp_path / f"talk.{suffix}"
        soundfile.write(path, speech[RATE : 4 * RATE], RATE)
        kind = {"mp3": "audio/mpeg", "ogg": "audio/ogg", "wav": "audio/wav"}[suffix]
        made.append(Radio(path.read_bytes(), kind=kind, forever=forever))
        return made[-1]

    yield make
    for radio in made:
        radio.dead.set()
        radio.shutdown()
        radio.server_close()


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def child_of(reader: Reader, already: set[int]) -> int:
    reader.wait(lambda _: any(child.pid not in already for child in children()), 20)
    return next(child.pid for child in children() if child.pid not in already)


@pytest.mark.parametrize("suffix", ["wav", "ogg"])
def test_a_recording_is_heard_to_its_end(
    read: Read, station: Callable[..., Radio], suffix: str, speech: np.ndarray
) -> None:
    radio = station(suffix, forever=False)
    reader = read(from_uri(radio.url("me:s3cret@", "/talk?token=abc") + "&name=talk"))
    reader.wait(lambda r: r.ends(), 60)
    assert correlation(reader.sound("talk"), speech[RATE : 4 * RATE]) > (0.99 if suffix == "wav" else 0.9)
    assert sum(block.lost for block in reader.blocks()) == 0
    wanted = base64.b64encode(b"me:s3cret").decode()
    assert radio.asked[-1] == f"/talk?token=abc Basic {wanted}"
    assert "s3cret" not in str(reader.items)
    assert "abc" not in str(reader.statuses())
    assert children() == []


def test_a_station_that_goes_and_comes_back(read: Read, station: Callable[..., Radio]) -> None:
    radio = station("mp3", forever=True)
    source = from_uri(radio.url() + "?name=radio&read_timeout=2")
    reader = read(source)
    reader.wait(lambda r: r.heard() > RATE, 60)
    pid = children()[0].pid
    descriptors = psutil.Process().num_fds()
    for kill in (signal.SIGKILL, signal.SIGSTOP):  # a crash, and a hang
        os.kill(pid, kill)
        reader.wait(lambda r: r.phase() == "recovering", 30)
        heard = reader.heard()
        reader.wait(lambda r, heard=heard: r.heard() > heard + RATE // 2, 60)
        assert [child.pid for child in children()] != [pid]
        pid = children()[0].pid
    reasons = [status.reason for status in reader.statuses()]
    assert "its process was ended by SIGKILL" in reasons
    assert any(reason.startswith("nothing came for") for reason in reasons)
    assert isinstance(source, AvSource)
    counters = source.counters()["radio"]
    assert (counters["opened"], counters["kills"], counters["entered_recovering"]) == (3, 1, 2)
    assert len([block for block in reader.blocks() if block.lost > 0.3 * block.rate]) == 2  # the gaps are told
    assert psutil.Process().num_fds() <= descriptors + 2
    reader.finish()
    assert children() == []


@NEEDS_FFMPEG
def test_rtsp_from_ffmpeg_which_is_killed_and_started_again(
    read: Read, port: int, tmp_path: Path, speech: np.ndarray
) -> None:
    path = tmp_path / "talk.wav"
    soundfile.write(path, speech[RATE : 7 * RATE], RATE)
    url = f"rtsp://127.0.0.1:{port}/live"
    reader = read(from_uri(f"{url}?listen=1&name=camera&open_timeout=20&read_timeout=2"))
    command = ["ffmpeg", "-v", "error", "-re", "-stream_loop", "-1", "-i", str(path)]
    for _ in range(2):
        heard, until = reader.heard(), time.monotonic() + 60
        sender = None
        while reader.heard() < heard + 8000:
            assert time.monotonic() < until, reader.statuses()
            if sender is None or sender.poll() is not None:  # nobody listened yet
                sender = subprocess.Popen(
                    [
                        *command,
                        *["-c:a", "pcm_mulaw", "-ar", "8000", "-ac", "1", "-f", "rtsp", "-rtsp_transport", "tcp"],
                        url,
                    ],
                    stderr=subprocess.DEVNULL,
                )
            time.sleep(0.2)
        assert sender is not None
        sender.kill()
        sender.wait()
        reader.wait(lambda r: r.phase() == "recovering", 30)
    assert {block.rate for block in reader.blocks()} == {8000}
    assert any("pcm_mulaw at 8000 Hz" in status.reason for status in reader.statuses())
    assert correlation(reader.sound()[:8000], soxr.resample(speech[RATE : 3 * RATE], RATE, 8000)) > 0.95


def test_nobody_there_is_said_once_without_the_password(read: Read, port: int) -> None:
    reader = read(from_uri(f"rtsp://me:s3cret@127.0.0.1:{port}/live?open_timeout=2"))
    reader.wait(lambda r: len(r.statuses()) == 2, 60)
    assert [status.phase for status in reader.statuses()] == ["connecting", "connecting"]
    assert reader.statuses()[0].reason == f"opening rtsp://me:***@127.0.0.1:{port}/live"
    assert "refused" in reader.statuses()[1].reason
    assert reader.finish() < 30


def test_time_stamps_tell_what_is_lost_and_what_began_anew() -> None:
    heard = _Hearing("a", None, resumes=True)
    heard.connect()
    heard._rate, heard._channels = 8000, 1
    data = np.zeros(160, np.float32).tobytes()
    lost = []
    position, at = 0, 100.0
    for step, wait in [(0, 0.02), (0, 0.02), (800, 0.12), (5, 0.02), (10**9, 0.3), (-(10**9), 0.02), (0, 0.02)]:
        position, at = position + step, at + wait
        lost += [item.lost for item in heard.take(Sound(data, at, position)) if isinstance(item, Block)]
        position += 160
    assert lost == [0, 0, 800, 0, round(0.28 * 8000), 0, 0]
    assert heard.counters()["jumps"] == 2
    assert heard.counters()["lost_samples"] == sum(lost)


def test_a_child_ends_with_its_parent_and_leaves_nothing() -> None:
    before = psutil.Process().num_fds()
    child = Child("streamdet.sources.av_child", {"url": "http://192.0.2.1/", "options": {}, "open_timeout": 60.0})
    process = psutil.Process(child.pid)
    child._input.close()  # as when the parent dies
    process.wait(30)
    child.close()
    until = time.monotonic() + 20
    while psutil.Process().num_fds() > before and time.monotonic() < until:
        time.sleep(0.05)  # threads of a busy machine may still be closing
    assert psutil.Process().num_fds() <= before


@pytest.mark.parametrize("uri", ["rtsp:", "http:///path", "rtsp://h/x?transport=pigeon"])
def test_addresses_that_make_no_sense(uri: str) -> None:
    with pytest.raises(ConfigError):
        from_uri(uri)
