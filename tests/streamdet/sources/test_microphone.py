"""Microphones: a real PortAudio device without hardware, and what can be told without one."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
import soxr

from streamdet.audio.block import Block
from streamdet.errors import DependencyError, SourceError
from streamdet.sources.cards import read_cards
from streamdet.sources.microphone import Device, MicrophoneSource, find_by_name, find_by_token, list_devices
from streamdet.sources.sample_clock import SampleClock
from streamdet.sources.uri import from_uri
from streamdet.voice import Voice
from tests.streamdet.pulse import FakeMicrophone

from .conftest import Reader, correlation

Read = Callable[..., Reader]
RATE = 44_100  # what PortAudio says of PulseAudio


@pytest.fixture
def microphone(fake_microphone: FakeMicrophone) -> FakeMicrophone:
    """The fake microphone."""
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
    assert reader.finish() < 30


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
    assert time.monotonic() - killed < 30
    reader.wait(lambda r: any("there is no microphone 'pulse'" in status.reason for status in r.statuses()))
    before = len(reader.blocks())
    microphone.start()
    reader.wait(lambda r: r.phase() == "live" and len(r.blocks()) > before, 15)
    away = time.monotonic() - killed
    lost = reader.blocks()[before].lost / RATE
    assert 0.3 < lost < away + 1
    total = (reader.heard() + sum(block.lost for block in reader.blocks())) / RATE
    first = reader.blocks()[0]
    span = reader.blocks()[-1].arrived - first.arrived + len(first.samples) / RATE
    assert total == pytest.approx(span, abs=0.3)  # the stream's clock is that of the wall
    assert reader.statuses()[-1].detail["opened"] == 2


def test_a_microphone_that_falls_silent_is_noticed(
    microphone: FakeMicrophone, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamdet.sources.microphone.STALL_SECONDS", 1.0)
    reader = read(MicrophoneSource("pulse"))
    reader.wait(lambda r: r.heard() > RATE // 10)
    microphone.suspend(suspended=True)  # callbacks stop; PortAudio says nothing
    reader.wait(lambda r: r.phase() == "recovering")
    microphone.suspend(suspended=False)
    reader.wait(lambda r: max(block.lost for block in r.blocks()) > 0.5 * RATE, 20)
    assert phases(reader) == ["connecting", "live", "recovering", "live"]


def test_it_waits_for_a_device_that_does_not_exist_yet(fake_microphone: FakeMicrophone, read: Read) -> None:
    fake_microphone.kill()
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


def test_no_sound_library_is_loaded_in_this_process() -> None:
    code = (
        "import sys, streamdet.sources.uri as uri; [uri.from_uri(u) for u in ('mic:', 'rtp://h:1', 'file:a.wav')];"
        "sys.exit('sounddevice' in sys.modules or 'av' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_a_missing_portaudio_names_the_package(tmp_path: Path) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")  # as the real one does
    code = (
        "from streamdet.sources.microphone import list_devices\n"
        "try: list_devices()\n"
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


def test_a_killed_process_and_a_hanging_one_are_replaced_while_another_microphone_goes_on(
    microphone: FakeMicrophone, read: Read
) -> None:
    first = read(MicrophoneSource("pulse", name="first"))
    first.wait(lambda r: r.heard() > 0, 30)
    other = {child.pid for child in psutil.Process().children()}
    second = read(MicrophoneSource("pulse", name="second"))
    second.wait(lambda r: r.heard() > 0, 30)
    descriptors = psutil.Process().num_fds()
    for kill in (signal.SIGKILL, signal.SIGSTOP):
        (pid,) = {child.pid for child in psutil.Process().children()} - other
        heard = second.heard()
        os.kill(pid, kill)
        second.wait(lambda r: r.phase() == "recovering", 20)
        second.wait(lambda r, heard=heard: r.heard() > heard + RATE // 10, 30)
    assert phases(first) == ["connecting", "live"]
    assert sum(block.lost for block in first.blocks()) == 0
    assert phases(second) == ["connecting", "live", "recovering", "live", "recovering", "live"]
    assert psutil.Process().num_fds() <= descriptors
    first.finish()
    second.finish()
    assert psutil.Process().children() == [] or all(
        child.name() == "pulseaudio" for child in psutil.Process().children()
    )


def pieces(source: MicrophoneSource, seconds: float, *, tell: bool) -> tuple[float, list[float]]:
    """Blocks a second of sound, and seconds heard beyond each hop's end when it was complete."""
    stop, voice = threading.Event(), Voice("test", rate=16_000, hop_samples=5_120, ring_seconds=20.0)
    blocks, beyond, begun = 0, list[float](), 0.0
    for item in source.items(stop):
        if not isinstance(item, Block):
            continue
        voice.accept(item)
        left = voice.wanting
        now = voice.ring.written / 16_000
        begun = begun or now  # the first block is what came while the device settled
        if voice.take() is not None:
            beyond.append(0.32 - left)
        if tell:
            source.expect(left)
        blocks += 1
        if now - begun > seconds:
            stop.set()
    return blocks / seconds, beyond


@pytest.mark.usefixtures("microphone")
def test_told_what_a_hop_wants_it_takes_larger_pieces_and_no_hop_comes_later() -> None:
    often, _ = pieces(MicrophoneSource("pulse"), 4.0, tell=False)
    seldom, beyond = pieces(MicrophoneSource("pulse"), 4.0, tell=True)
    assert seldom < 0.7 * often
    assert len(beyond) > 8
    assert np.median(beyond) < 0.045  # two of the pieces that PortAudio gives; a hop is 0.32


def narrow_pipes() -> None:
    """Let the pipes of our children hold a page, as those of a user who has very many do."""
    for child in psutil.Process().children():
        for entry in Path(f"/proc/{child.pid}/fd").iterdir():
            if (
                os.readlink(entry).startswith("pipe:")
                and not os.stat(entry, follow_symlinks=False).st_mode & stat.S_IRUSR
            ):
                descriptor = os.open(entry, os.O_WRONLY)
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, 4096)
                os.close(descriptor)


@pytest.mark.usefixtures("microphone")
def test_it_keeps_up_where_the_pipe_holds_less_than_comes_meanwhile() -> None:
    stop, source, ages, heard = threading.Event(), MicrophoneSource("pulse"), list[float](), 0.0
    for item in source.items(stop):
        if isinstance(item, Block):
            if not heard:
                narrow_pipes()
            heard += len(item.samples) / item.rate
            ages.append(time.monotonic() - item.arrived)
            source.expect(0.3)
            if heard > 5.0:
                stop.set()
    assert len(ages) > 30
    assert np.median(ages[-20:]) < 0.3  # it would be seconds behind


def test_names_by_host_api() -> None:
    devices = [Device(0, "USB", "ALSA", 1, 48_000), Device(1, "USB", "JACK Audio Connection Kit", 1, 48_000)]
    assert find_by_name(devices, "jack:usb") == devices[1]
    assert find_by_name(devices, "alsa:US") == devices[0]
    assert find_by_name(devices, "pulse:usb") is None


def usb_card(root: Path, number: int, port: str, **attributes: str) -> None:
    """What Linux shows of a sound card on USB."""
    usb = root / "sys/devices/pci0000:00/usb1" / port
    sound = usb / f"{port}:1.0" / "sound" / f"card{number}"
    sound.mkdir(parents=True)
    (sound / "id").write_text(f"Card{number}\n")
    (sound / "device").symlink_to("../..")
    for name, value in attributes.items():
        (usb / name).write_text(value + "\n")
    link = root / "sys/class/sound" / f"card{number}"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(sound)


def test_cards_are_known_by_port_and_by_what_they_are_without_showing_the_serial_number(tmp_path: Path) -> None:
    usb_card(tmp_path, 1, "1-1.2", idVendor="046D", idProduct="0825", serial="SECRET77")
    usb_card(tmp_path, 2, "1-1.3", idVendor="046d", idProduct="0825", serial="SECRET78")
    usb_card(tmp_path, 3, "1-4", idVendor="0d8c", idProduct="0014")
    cards = read_cards(tmp_path)
    assert "SECRET" not in str(cards)
    assert cards[3].tokens == ("usb:1-4", "usb:0d8c:0014")
    devices = [device(n, f"USB Audio: - (hw:{n},0)") for n in (3, 2, 1)]
    for token, number in {
        "usb:1-1.2": 1,
        "usb:1-1.3": 2,
        "usb:046D:0825:SECRET77": 1,
        cards[2].tokens[1]: 2,
        "usb:0d8c:0014": 3,
        "usb:046d:0825": 2,
    }.items():
        found = find_by_token(devices, token, cards)
        assert found is not None
        assert found.index == number, token
    assert find_by_token(devices, "usb:1-9", cards) is None
    source = from_uri("mic:usb:046d:0825:SECRET77")
    assert "SECRET" not in source.uri + source.name
    assert source.uri == f"mic:{cards[1].tokens[1]}"
