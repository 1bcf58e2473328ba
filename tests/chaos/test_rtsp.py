"""The short version of :mod:`tests.chaos.rtsp`, and what it leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from streamdet.sources.uri import from_uri
from tests.streamdet import gstreamer
from tests.streamdet.conftest import DEMO
from tests.streamdet.sources.conftest import Reader, correlation

from . import rtsp

RATE = 16_000


@pytest.fixture(autouse=True)
def _there() -> None:
    pytest.importorskip("av", reason="not installed: PyAV (extra rtp)")
    if reason := gstreamer.missing():
        pytest.skip(reason)


@pytest.fixture
def speech() -> np.ndarray:
    """The beginning of the demo conversation, float32 at 16 kHz."""
    samples, _ = soundfile.read(DEMO, dtype="float32", stop=4 * RATE)
    return samples


@pytest.fixture
def server(tmp_path: Path, speech: np.ndarray) -> Iterator[gstreamer.RtspServer]:
    path = tmp_path / "talk.wav"
    soundfile.write(path, speech, RATE)
    server = gstreamer.RtspServer(rtsp.free_port(), path)
    server.start()
    yield server
    server.kill()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_server_that_is_killed_and_comes_back(transport: str) -> None:
    outcome = rtsp.run(3, transport=transport)
    assert max(outcome.returns) < 3 * rtsp.RETURN_SECONDS  # this machine may be busy
    assert (outcome.threads, outcome.descriptors, outcome.processes) == (0, 0, 0)


def test_a_recording_that_a_server_plays_to_its_end_has_ended(server: gstreamer.RtspServer, speech: np.ndarray) -> None:
    reader = Reader(from_uri(f"{server.url}?name=talk"))
    reader.start()
    reader.wait(lambda r: r.ends(), 60)
    assert reader.ends()[0].reason == "end of the recording"
    assert [status.phase for status in reader.statuses()] == ["connecting", "live"]
    assert correlation(reader.sound(), soxr.resample(speech, RATE, 8000)) > 0.97
    assert not any(block.lost for block in reader.blocks())
