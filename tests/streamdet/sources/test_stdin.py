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


def test_a_closed_standard_input_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # as Python has it where descriptor 0 is closed
    reader = Reader(StdinSource())
    reader.run()
    assert isinstance(reader.error, SourceError)
    assert "standard input is closed" in str(reader.error)


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
    """Writes silence as it would be spoken, in pieces of so many bytes, and notes when each hop was written."""

    def __init__(self, descriptor: int, seconds: float, piece: int) -> None:
        super().__init__(daemon=True)
        self.written = dict[int, float]()
        self.closed = 0.0
        self._descriptor, self._seconds, self._piece = descriptor, seconds, piece

    def run(self) -> None:
        begin, told = time.monotonic(), 0
        for end in range(self._piece, round(self._seconds * 32_000) + 1, self._piece):
            time.sleep(max(0.0, begin + end / 32_000 - time.monotonic()))
            for hop in range(told + 1, end // 10_240 + 1):
                self.written[hop] = time.monotonic()
            told = end // 10_240
            os.write(self._descriptor, bytes(self._piece))
        self.closed = time.monotonic()
        os.close(self._descriptor)


def spoken(seconds: float, piece: int, *, tell: bool) -> tuple[float, float]:
    """Blocks a second of live sound, and within how many seconds of being written nine of ten hops were complete."""
    reading, writing = os.pipe()
    source, speaker = StdinSource(descriptor=reading), Speaker(writing, seconds, piece)
    voice = Voice("test", rate=16_000, hop_samples=5_120, ring_seconds=20.0)
    late, blocks = list[float](), 0
    speaker.start()
    for item in source.items(threading.Event()):
        if isinstance(item, Block):
            blocks += 1
            voice.accept(item)
            while (hop := voice.take()) is not None:
                late.append(time.monotonic() - speaker.written[hop.end // 5_120])
            if tell:
                source.expect(voice.wanting)
    os.close(reading)
    assert len(late) == len(speaker.written)
    return blocks / seconds, float(np.quantile(late, 0.9))


def test_told_what_a_hop_wants_it_takes_larger_pieces() -> None:
    often, before = spoken(3.2, 640, tell=False)
    seldom, after = spoken(3.2, 640, tell=True)
    assert seldom < 0.6 * often
    assert after < before + 0.05


@pytest.mark.parametrize("piece", [4096, 5760, 48_000])
def test_however_a_writer_cuts_its_sound_no_hop_comes_later(piece: int) -> None:
    """Pieces that do not end where hops do are older, when they are read, than the time that passed since."""
    _, before = spoken(4.5, piece, tell=False)
    _, after = spoken(4.5, piece, tell=True)
    assert after < before + 0.03


@pytest.mark.parametrize(("rate", "channels", "pcm_format"), [(16_000, 1, "s16le"), (192_000, 2, "f32le")])
def test_who_writes_faster_than_the_clock_is_not_held_up(
    pipe: Pipe, rate: int, channels: int, pcm_format: PcmFormat
) -> None:
    reading, writing = pipe
    source = StdinSource(descriptor=reading, rate=rate, channels=channels, pcm_format=pcm_format)
    seconds, second = 30, rate * channels * (2 if pcm_format == "s16le" else 4)

    def write() -> None:
        for _ in range(seconds):
            left = memoryview(bytes(second))
            while left:
                left = left[os.write(writing, left) :]
        os.close(writing)

    begun, heard = time.monotonic(), 0
    threading.Thread(target=write, daemon=True).start()
    for item in source.items(threading.Event()):
        if isinstance(item, Block):
            heard += len(item.samples)
            source.expect(0.3)
    assert heard == seconds * rate
    assert time.monotonic() - begun < seconds / 5  # with a nap before each piece it would be half of that at least


def test_a_pipe_that_holds_little_is_emptied_in_time() -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)  # 0.13 s
    source, speaker = StdinSource(descriptor=reading), Speaker(writing, 3.2, 640)
    speaker.start()
    for item in source.items(threading.Event()):
        if isinstance(item, Block):
            source.expect(0.3)
    os.close(reading)
    times = list(speaker.written.values())
    assert times[-1] - times[0] < 0.32 * (len(times) - 1) + 0.3  # it never waited for long


def test_the_end_is_noticed_while_sound_is_left_alone() -> None:
    late = list[float]()
    for _ in range(3):
        reading, writing = os.pipe()
        source, speaker = StdinSource(descriptor=reading), Speaker(writing, 0.36, 640)
        speaker.start()
        for item in source.items(threading.Event()):
            if isinstance(item, Block):
                source.expect(0.32)
        late.append(time.monotonic() - speaker.closed)
        os.close(reading)
    assert np.median(late) < 0.1  # a nap lasts until 0.3 s after the last piece
