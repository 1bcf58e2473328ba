"""A second backend of PortAudio: JACK with its dummy driver, killed while it is recorded from (closing then hangs)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from streamdet.sources.microphone import Device, MicrophoneSource
from streamdet.sources.portaudio import Session, list_devices
from tests.streamdet import jack as fake
from tests.streamdet import pulse

from .conftest import Reader

Read = Callable[..., Reader]
RATE = fake.RATE


@pytest.fixture
def jack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fake.FakeJack]:
    if reason := fake.missing() or pulse.missing():
        pytest.skip(reason)
    server = fake.FakeJack(tmp_path)
    for key, value in server.environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("PULSE_SERVER", f"unix:{tmp_path}/none")
    server.start()
    yield server
    server.close()


def test_a_killed_jackd_is_left_and_found_again(jack: fake.FakeJack, read: Read) -> None:
    reader = read(MicrophoneSource("jack:system", name="mixer", wait=True))
    reader.wait(lambda r: r.heard() > RATE // 5, 40)
    assert "JACK Audio Connection Kit" in reader.statuses()[-1].reason
    descriptors = psutil.Process().num_fds()
    jack.kill()
    reader.wait(lambda r: r.phase() == "recovering", 20)
    time.sleep(1)
    heard = reader.heard()
    jack.start()
    reader.wait(lambda r: r.heard() > heard + RATE // 5, 40)
    assert reader.statuses()[-1].phase in ("live", "degraded")
    assert max(block.lost for block in reader.blocks()) > RATE
    assert psutil.Process().num_fds() <= descriptors
    assert reader.finish() < 30


def test_a_process_left_by_a_killed_jackd_takes_no_sound_from_the_next(jack: fake.FakeJack, read: Read) -> None:
    source = MicrophoneSource("jack:system", name="mixer", wait=True)
    until = time.monotonic() + 20
    while not list_devices() and time.monotonic() < until:
        time.sleep(0.1)
    with closing(Session(jack=False)) as session:
        assert not session.listing.devices  # it asks no server that may hang
    with closing(Session()):  # as that of a microphone which is heard through another sound server
        reader = read(source)
        reader.wait(lambda r: r.heard() > RATE // 5, 40)
        jack.kill()
        reader.wait(lambda r: r.phase() == "recovering", 20)
        heard = reader.heard()
        jack.start()
        reader.wait(lambda r: r.heard() > heard, 40)
        begin, lost = reader.blocks()[-1].arrived, sum(block.lost for block in reader.blocks())
        reader.wait(lambda r: r.blocks()[-1].arrived > begin + 2.5, 20)
    assert sum(block.lost for block in reader.blocks()) == lost
    assert source.counters()["mixer"]["xruns"] < 20  # of about 120 callbacks


def test_a_jack_server_that_hangs_keeps_no_other_microphone_from_being_heard(
    jack: fake.FakeJack, fake_microphone: pulse.FakeMicrophone, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    until = time.monotonic() + 20
    while not any("JACK" in device.host_api for device in list_devices()) and time.monotonic() < until:
        time.sleep(0.1)
    jack.hang()
    monkeypatch.setattr("streamdet.sources.portaudio.LIST_SECONDS", 5.0)
    reader = read(MicrophoneSource("pulse", wait=True))
    reader.wait(lambda r: r.heard() > 4_000, 60)
    reasons = [status.reason for status in reader.statuses()]
    assert any("looking without JACK" in reason for reason in reasons), reasons


@pytest.mark.parametrize(
    ("device", "jack"),
    [(None, True), (0, True), ("system", True), ("jack:system", True), ("alsa:USB", False), ("usb:1-1.2", False)],
)
def test_who_asks_for_no_device_of_jack_does_not_look_there(device: int | str | None, jack: bool) -> None:
    source = MicrophoneSource(device)
    assert source._looks_at_jack() == jack
    for host, wanted in (("ALSA", False), ("JACK Audio Connection Kit", True)):  # once it was heard, its place is known
        source._known = Device(3, "system", host, 2, RATE)
        assert source._looks_at_jack() == wanted
