"""Microphones: a real PortAudio device without hardware, and what can be told without one."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from streamdet.errors import DependencyError, SourceError
from streamdet.sources import portaudio
from streamdet.sources.capture_queue import MOST_CHUNKS, CaptureQueue, SampleClock
from streamdet.sources.microphone import Device, MicrophoneSource, find_by_name, list_devices
from streamdet.sources.uri import from_uri
from tests.streamdet.pulse import FakeMicrophone

from .conftest import Reader, correlation

Read = Callable[..., Reader]
RATE = 44_100  # what PortAudio says of PulseAudio


@pytest.fixture
def microphone(fake_microphone: FakeMicrophone) -> FakeMicrophone:
    """The fake microphone, and PortAudio knowing of it."""
    assert portaudio.refresh()
    return fake_microphone


@pytest.fixture
def talk(tmp_path: Path, speech: np.ndarray) -> Path:
    path = tmp_path / "talk.wav"
    soundfile.write(path, speech[16_000:48_000], 16_000)
    return path


def phases(reader: Reader) -> list[str]:
    return [status.phase for status in reader.statuses()]


def test_speech_played_into_the_device_arrives(microphone: FakeMicrophone, read: Read, talk: Path) -> None:
    names = [device.name for device in list_devices()]
    assert "pulse" in names
    reader = read(from_uri("mic:PULSE?name=desk"))
    reader.wait(lambda r: r.heard() > 0)
    assert phases(reader) == ["connecting", "live"]
    assert "'pulse' (ALSA) at 44100 Hz, 2 channel(s)" in reader.statuses()[-1].reason
    assert microphone.play(talk).wait(20) == 0
    seen = reader.heard()
    reader.wait(lambda r: r.heard() > seen + RATE // 4)
    speech, rate = soundfile.read(talk, dtype="float32")
    wanted = soxr.resample(speech, rate, RATE)
    heard = reader.sound("desk")
    begin = int(np.argmax(np.abs(heard) > 0.01))
    assert correlation(heard[max(0, begin - RATE) :], wanted) > 0.99
    assert {block.rate for block in reader.blocks()} == {RATE}
    assert sum(block.lost for block in reader.blocks()) == 0
    assert reader.finish() < 2


def test_rate_and_channels_by_option(microphone: FakeMicrophone, read: Read) -> None:
    reader = read(from_uri("mic:?rate=16000&channels=1"))
    reader.wait(lambda r: r.heard() > 8000)
    assert {block.rate for block in reader.blocks()} == {16_000}
    assert "at 16000 Hz, 1 channel(s)" in reader.statuses()[-1].reason


def test_it_comes_back_after_the_sound_server(microphone: FakeMicrophone, read: Read) -> None:
    reader = read(MicrophoneSource("pulse"))
    reader.wait(lambda r: r.heard() > RATE // 10)
    microphone.kill()
    killed = time.monotonic()
    reader.wait(lambda r: "recovering" in phases(r))
    assert time.monotonic() - killed < 3
    reader.wait(lambda r: "there is no microphone 'pulse'" in r.statuses()[-1].reason)
    before = len(reader.blocks())
    microphone.start()
    reader.wait(lambda r: phases(r)[-1] == "live" and len(r.blocks()) > before, 15)
    away = time.monotonic() - killed
    lost = reader.blocks()[before].lost / RATE
    assert 0.3 < lost < away + 1
    total = (reader.heard() + sum(block.lost for block in reader.blocks())) / RATE
    span = reader.blocks()[-1].arrived - reader.blocks()[0].arrived
    assert total == pytest.approx(span, abs=0.3)  # the stream's clock is that of the wall
    assert reader.statuses()[-1].detail["opened"] == 2


def test_a_microphone_that_falls_silent_is_noticed(
    microphone: FakeMicrophone, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamdet.sources.microphone.STALL_SECONDS", 1.0)
    reader = read(MicrophoneSource("pulse"))
    reader.wait(lambda r: r.heard() > RATE // 10)
    microphone.suspend(suspended=True)  # callbacks stop; PortAudio says nothing
    reader.wait(lambda r: phases(r)[-1] == "recovering")
    microphone.suspend(suspended=False)
    reader.wait(lambda r: max(block.lost for block in r.blocks()) > 0.5 * RATE, 20)
    assert phases(reader) == ["connecting", "live", "recovering", "live"]


def test_it_waits_for_a_device_that_does_not_exist_yet(fake_microphone: FakeMicrophone, read: Read) -> None:
    fake_microphone.kill()
    portaudio.refresh()
    assert list_devices() == []
    reader = read(MicrophoneSource("pulse"))
    reader.wait(lambda r: len(r.statuses()) == 2)
    assert phases(reader) == ["connecting", "connecting"]
    fake_microphone.start()
    reader.wait(lambda r: r.heard() > 0, 15)
    assert phases(reader) == ["connecting", "connecting", "live"]


@pytest.mark.parametrize("device", ["nonesuch", 99])
def test_an_unknown_microphone_is_one_clear_error(microphone: FakeMicrophone, read: Read, device: str | int) -> None:
    reader = Reader(MicrophoneSource(device))
    reader.run()
    assert isinstance(reader.error, SourceError)
    assert f"there is no microphone {device!r}; there are 0 'pulse'" in str(reader.error)
    waiting = read(MicrophoneSource(device, wait=True))
    waiting.wait(lambda r: len(r.statuses()) == 2)


def test_a_channel_that_is_not_there_is_opened_for(microphone: FakeMicrophone, read: Read) -> None:
    reader = read(from_uri("mic:pulse?channel=3"))
    reader.wait(lambda r: r.heard() > 0)
    assert "4 channel(s)" in reader.statuses()[-1].reason


def test_portaudio_is_loaded_only_for_microphones() -> None:
    code = (
        "import sys, streamdet.sources.uri as uri; uri.from_uri('rtp://h:1'); uri.from_uri('file:a.wav');"
        "sys.exit('sounddevice' in sys.modules or 'av' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_a_missing_portaudio_names_the_package(tmp_path: Path) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")  # as the real one does
    code = (
        "from streamdet.sources.uri import from_uri\n"
        "try: from_uri('mic:')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"},
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.decode().startswith(
        f"{DependencyError.__name__} microphones need PortAudio: apt install libportaudio2"
    )


def device(index: int, name: str) -> Device:
    return Device(index, name, "ALSA", 1, 48_000)


def test_names_match_whole_first_and_then_in_part() -> None:
    devices = [device(0, "USB Audio 2"), device(1, "USB Audio"), device(2, "HDA Intel")]
    assert find_by_name(devices, "usb audio") == devices[1]
    assert find_by_name(devices, "intel") == devices[2]
    assert find_by_name(devices, "webcam") is None
    with pytest.raises(SourceError, match="several microphones match 'usb': 0 'USB Audio 2', 1 'USB Audio'; give more"):
        find_by_name(devices, "usb")


def test_a_hanging_call_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portaudio, "CALL_SECONDS", 0.2)
    undone: list[str] = []
    with pytest.raises(SourceError, match=r"PortAudio did not sleep within 0\.2 s"):
        portaudio._exclusively(lambda: time.sleep(0.6) or "late", what="sleep", undo=undone.append)
    with pytest.raises(SourceError, match="PortAudio hangs, so it cannot list"):
        portaudio._exclusively(list, what="list")
    time.sleep(0.6)
    assert portaudio._exclusively(lambda: 5, what="count") == 5
    assert undone == ["late"]
    with pytest.raises(ZeroDivisionError):
        portaudio._exclusively(lambda: 1 // 0, what="divide")


def test_lost_samples_are_known_from_the_clock() -> None:
    clock = SampleClock(16_000)
    rng = np.random.default_rng(1)
    lost = 0
    for i in range(3000):  # a minute with uneven callbacks and a card that is 100 ppm slow
        lost += clock.add(320, i * 0.02 * 1.0001 + 0.05 * rng.random())
    assert lost == 0
    for i in range(3000, 6000):
        lost += clock.add(320, i * 0.02 * 1.0001 + 0.05 * rng.random() + 0.5)  # half a second never came
    assert lost == pytest.approx(8000, abs=0.06 * 16_000)


def test_a_late_burst_is_not_lost() -> None:
    clock = SampleClock(16_000)
    times = [i * 0.02 for i in range(100)] + [3.0] * 50 + [3.0 + i * 0.02 for i in range(200)]
    assert sum(clock.add(320, at) for at in times) == 0


def test_a_full_queue_drops_and_marks() -> None:
    queue = CaptureQueue(16_000)
    chunk = np.zeros((320, 1), np.float32)
    for i in range(MOST_CHUNKS + 5):
        queue.put(chunk, i * 0.02)
    taken = []
    while chunks := queue.take(0.01):
        taken += chunks
    assert len(taken) == MOST_CHUNKS
    queue.put(chunk, (MOST_CHUNKS + 5) * 0.02)
    (after,) = queue.take(0.01)
    assert after.lost == 5 * 320
    assert (queue.take_dropped(), queue.take_dropped()) == (5 * 320, 0)
