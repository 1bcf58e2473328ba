"""Raw PCM from a real pipe."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from streamdet.audio.block import Block, End
from streamdet.audio.pcm import PCM_FORMATS, PcmFormat, encode_pcm
from streamdet.errors import SourceError
from streamdet.sources.stdin import StdinSource
from streamdet.voice import Voice

from .conftest import Reader

Read = Callable[..., Reader]
Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            continue  # the test closed it


def ramp(count: int) -> np.ndarray:
    return np.linspace(-1, 0.99, count, dtype=np.float32)


@pytest.mark.parametrize("pcm_format", PCM_FORMATS)
def test_formats_and_channels(read: Read, pipe: Pipe, pcm_format: PcmFormat) -> None:
    reading, writing = pipe
    samples = np.stack([ramp(8000), -0.5 * ramp(8000)], axis=1)
    reader = read(StdinSource(rate=48_000, channels=2, pcm_format=pcm_format, channel=1, descriptor=reading))
    os.write(writing, encode_pcm(samples, pcm_format=pcm_format))
    os.close(writing)
    reader.wait(lambda r: r.ends())
    assert np.allclose(reader.sound(), samples[:, 1], atol=2e-5)
    assert {block.rate for block in reader.blocks()} == {48_000}
    assert reader.ends() == [End("stdin", "end of input")]


def test_small_writes_are_joined_and_big_ones_cut(read: Read, pipe: Pipe) -> None:
    reading, writing = pipe
    reader = read(StdinSource(rate=8000, descriptor=reading))
    data = encode_pcm(ramp(1000), pcm_format="s16le")
    for i in range(0, len(data), 7):  # never whole frames
        os.write(writing, data[i : i + 7])
        time.sleep(0.0002)
    os.write(writing, bytes(40_000))
    os.close(writing)
    reader.wait(lambda r: r.ends())
    assert np.allclose(reader.sound()[:1000], ramp(1000), atol=2e-5)
    assert reader.heard() == 21_000
    lengths = [len(block.samples) for block in reader.blocks()]
    assert min(lengths[:-1]) >= 160
    assert max(lengths) <= 8160


def test_what_waits_passes_before_more_comes(read: Read, pipe: Pipe) -> None:
    reading, writing = pipe
    reader = read(StdinSource(descriptor=reading))
    os.write(writing, bytes(20))
    reader.wait(lambda r: r.heard() == 10, 2)
    assert reader.finish() < 30
    assert not reader.ends()


def test_a_broken_last_frame_is_said(read: Read, pipe: Pipe) -> None:
    reading, writing = pipe
    reader = read(StdinSource(channels=2, descriptor=reading))
    os.write(writing, bytes(4 * 100 + 3))
    os.close(writing)
    reader.wait(lambda r: r.ends())
    assert reader.heard() == 100
    assert reader.ends()[0].reason == "cut off within a frame (3 bytes left over)"


def test_samples_that_are_no_numbers(read: Read, pipe: Pipe) -> None:
    reading, writing = pipe
    reader = read(StdinSource(pcm_format="f32le", descriptor=reading))
    os.write(writing, np.array([1, np.nan, -1], "<f4").tobytes())
    os.close(writing)
    reader.wait(lambda r: r.ends())
    assert np.array_equal(reader.sound(), np.float32([1, 0, -1]))
    assert reader.statuses()[-1].detail == {"bad_samples": 1}


def test_a_terminal_is_no_sound() -> None:
    controller, terminal = os.openpty()
    reader = Reader(StdinSource(descriptor=terminal))
    reader.run()
    os.close(controller)
    os.close(terminal)
    assert isinstance(reader.error, SourceError)
    assert "is a terminal" in str(reader.error)


def test_the_real_standard_input() -> None:
    code = (
        "import threading; from streamdet.sources.uri import from_uri\n"
        "for item in from_uri('-?rate=8000').items(threading.Event()):\n"
        "    print(type(item).__name__, len(getattr(item, 'samples', '')))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=bytes(3200), capture_output=True, timeout=30, check=True)
    items = [line for line in done.stdout.decode().splitlines() if line.startswith(("Status", "Block", "End"))]
    assert items == ["Status 0", "Status 0", "Block 1600", "End 0"]


def test_pieces_end_where_hops_end_and_a_pause_holds_nothing_back(read: Read, pipe: Pipe) -> None:
    """However a writer cuts its sound, a block ends where the hop ends; what follows comes once nothing more does."""
    reading, writing = pipe
    reader = read(StdinSource(rate=16_000, descriptor=reading))
    sound = ramp(16_000)
    data = encode_pcm(sound, pcm_format="s16le")
    for begin in range(0, 2 * 5_200, 2 * 100):  # 5,200 samples: a hop and a bit
        os.write(writing, data[begin : begin + 2 * 100])
        time.sleep(0.0005)
    reader.wait(lambda r: len(r.sound()) == 5_200)
    os.write(writing, data[2 * 5_200 :])
    os.close(writing)
    reader.wait(lambda r: r.ends())
    ends = np.cumsum([len(block.samples) for block in reader.blocks()])
    assert 5_120 in ends
    assert 5_200 in [int(end) for end in ends if end % 640]
    np.testing.assert_allclose(reader.sound(), sound, atol=2e-5)


def test_its_life_cycle(read: Read, pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that stops for long is waited for; one that never wrote anything was never live."""
    monkeypatch.setattr("streamdet.sources.stdin.STALL_SECONDS", 0.5)
    reading, writing = pipe
    source = StdinSource(rate=8000, descriptor=reading)
    reader = read(source)
    reader.wait(lambda r: r.statuses())
    time.sleep(0.8)
    assert [status.phase for status in reader.statuses()] == ["connecting"]
    for sound in range(2):
        os.write(writing, bytes(1600))
        reader.wait(lambda r, sound=sound: r.heard() == 800 * (sound + 1))
        reader.wait(lambda r, sound=sound: len(r.statuses()) == 3 + 2 * sound)
    os.close(writing)
    reader.wait(lambda r: r.ends())
    assert [status.phase for status in reader.statuses()] == ["connecting", *["live", "recovering"] * 2]
    counters = source.counters()["stdin"]
    assert (counters["entered_live"], counters["entered_recovering"], counters["entered_ended"]) == (2, 2, 1)
    assert counters["received_samples"] == 1600


def test_bad_samples_are_degraded_and_then_forgiven(read: Read, pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamdet.sources.cleaner.REPORT_SECONDS", 0.3)
    reading, writing = pipe
    reader = read(StdinSource(rate=8000, pcm_format="f32le", descriptor=reading))
    os.write(writing, np.full(960, np.nan, "<f4").tobytes())
    reader.wait(lambda r: r.phase() == "degraded")
    time.sleep(0.4)
    os.write(writing, np.zeros(960, "<f4").tobytes())
    reader.wait(lambda r: r.heard() == 1920)
    assert [status.phase for status in reader.statuses()] == ["connecting", "live", "degraded", "live"]


class Speaker(threading.Thread):
    """Writes silence as it would be spoken, 20 ms at a time, and notes when each hop's last sample was written."""

    def __init__(self, descriptor: int, seconds: float) -> None:
        super().__init__(daemon=True)
        self.written = dict[int, float]()
        self._descriptor, self._seconds = descriptor, seconds

    def run(self) -> None:
        begin = time.monotonic()
        for block in range(1, round(self._seconds / 0.02) + 1):
            time.sleep(max(0.0, begin + 0.02 * block - time.monotonic()))
            self.written.setdefault(block // 16, time.monotonic())
            os.write(self._descriptor, bytes(640))
        os.close(self._descriptor)


def spoken(pipe: Pipe, seconds: float, *, tell: bool) -> tuple[float, float]:
    """Blocks a second of live sound, and how late hops were complete, in seconds at the median."""
    source, voice, late, blocks = (
        StdinSource(descriptor=pipe[0]),
        Voice("test", rate=16_000, hop_samples=5_120, ring_seconds=20.0),
        list[float](),
        0,
    )
    speaker = Speaker(pipe[1], seconds)
    speaker.start()
    for item in source.items(threading.Event()):
        if isinstance(item, Block):
            blocks += 1
            voice.accept(item)
            if (hop := voice.take()) is not None:
                late.append(time.monotonic() - speaker.written[hop.end // 5_120])
            if tell:
                source.expect(voice.wanting)
    assert len(late) == int(seconds / 0.32)
    return blocks / seconds, float(np.median(late))


def test_told_what_a_hop_wants_it_takes_larger_pieces_and_no_hop_comes_later() -> None:
    often, _ = spoken(os.pipe(), 3.2, tell=False)
    seldom, late = spoken(os.pipe(), 3.2, tell=True)
    assert seldom < 0.6 * often
    assert late < 0.1  # a nap to the end of the next hop would be three times that


def test_who_writes_faster_than_the_clock_is_not_held_up(pipe: Pipe) -> None:
    reading, writing = pipe
    source, seconds = StdinSource(descriptor=reading), 60

    def write() -> None:
        for _ in range(seconds):
            os.write(writing, bytes(32_000))
        os.close(writing)

    begun, heard = time.monotonic(), 0
    threading.Thread(target=write, daemon=True).start()
    for item in source.items(threading.Event()):
        if isinstance(item, Block):
            heard += len(item.samples)
            source.expect(0.3)
    assert heard == seconds * 16_000
    assert time.monotonic() - begun < seconds / 6  # with a nap before each piece it would be a third or more


def test_a_pipe_that_holds_little_is_emptied_in_time(pipe: Pipe) -> None:
    fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, 4096)  # 0.13 s
    source, speaker = StdinSource(descriptor=pipe[0]), Speaker(os.dup(pipe[1]), 3.2)
    os.close(pipe[1])
    speaker.start()
    for item in source.items(threading.Event()):
        if isinstance(item, Block):
            source.expect(0.3)
    begin = min(speaker.written.values())
    assert max(speaker.written.values()) - begin < 3.2 + 0.5  # it never waited for long
