"""Sound files, whole and damaged."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamdet.audio.block import Block, End, Status
from streamdet.errors import FormatError, SourceError
from streamdet.sources.base import Source
from streamdet.sources.file import FileSource
from streamdet.sources.uri import from_uri

from .conftest import Reader, correlation

RATE = 16_000


def play(source: Source) -> Reader:
    """Read a source to its end in this thread."""
    reader = Reader(source)
    reader.run()
    if reader.error:
        raise reader.error
    return reader


def noise(seconds: float, channels: int = 1, rate: int = RATE) -> np.ndarray:
    return (0.1 * np.random.default_rng(5).standard_normal((round(seconds * rate), channels))).astype(np.float32)


@pytest.mark.parametrize(("suffix", "subtype", "least"), [
    ("wav", "PCM_16", 0.99999), ("wav", "FLOAT", 1.0), ("flac", "PCM_24", 0.99999), ("mp3", "MPEG_LAYER_III", 0.95),
    ("ogg", "VORBIS", 0.95), ("ogg", "OPUS", 0.95),
])  # fmt: skip
def test_formats(tmp_path: Path, speech: np.ndarray, suffix: str, subtype: str, least: float) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, speech[: 4 * RATE], RATE, subtype=subtype)
    reader = play(FileSource(path, speed="max"))
    assert {block.rate for block in reader.blocks()} == {RATE}
    assert len(reader.sound()) == pytest.approx(4 * RATE, abs=RATE / 10)
    assert correlation(reader.sound(), speech[: 4 * RATE]) >= least - 1e-6
    assert reader.items[-1] == End("a", "end of file")
    assert [status.phase for status in reader.statuses()] == ["connecting", "live"]


def test_samples_pass_untouched_at_any_rate(tmp_path: Path) -> None:
    samples = noise(1.3, rate=44_100)[:, 0]
    soundfile.write(tmp_path / "a.wav", samples, 44_100, subtype="FLOAT")
    reader = play(FileSource(tmp_path / "a.wav", speed="max"))
    assert np.array_equal(reader.sound(), samples)
    assert reader.blocks()[0].rate == 44_100
    assert reader.blocks()[0].samples.dtype == np.float32


def test_channels_are_mixed_or_chosen(tmp_path: Path) -> None:
    samples = noise(0.5, channels=3)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    mixed = play(from_uri(f"file:{tmp_path}/a.wav?speed=max"))
    assert np.allclose(mixed.sound(), samples.mean(axis=1), atol=1e-7)
    chosen = play(from_uri(f"file:{tmp_path}/a.wav?speed=max&channel=2"))
    assert np.array_equal(chosen.sound(), samples[:, 2])
    with pytest.raises(FormatError, match="no channel 3, only 3"):
        play(from_uri(f"file:{tmp_path}/a.wav?channel=3"))


def test_real_time_pace_and_a_quick_stop(tmp_path: Path, read: Callable[..., Reader]) -> None:
    soundfile.write(tmp_path / "a.wav", noise(60), RATE)
    begun = time.monotonic()
    reader = read(FileSource(tmp_path / "a.wav"))
    reader.wait(lambda r: r.heard() >= RATE)
    assert 0.9 < time.monotonic() - begun < 30
    assert max(len(block.samples) for block in reader.blocks()) <= RATE / 10
    assert all(-0.2 < block.arrived - begun - (i + 1) / 10 < 10 for i, block in enumerate(reader.blocks()))
    assert reader.finish() < 20  # it does not play what is left
    assert not reader.ends()


def test_a_loop_begins_anew(tmp_path: Path) -> None:
    samples = noise(0.5)[:, 0]
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    heard: list[np.ndarray] = []
    stop = threading.Event()
    for item in FileSource(tmp_path / "a.wav", speed="max", loop=True).items(stop):
        if isinstance(item, Block):
            heard.append(item.samples)
        if len(heard) == 3:
            stop.set()
    assert np.array_equal(np.concatenate(heard), np.tile(samples, 3))


def test_what_is_no_number_becomes_silence_and_is_counted(tmp_path: Path) -> None:
    samples = noise(3)[:, 0]
    samples[[5, 20_000, 40_000]] = np.nan, np.inf, 1e30
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    reader = play(FileSource(tmp_path / "a.wav", speed="max"))
    samples[[5, 20_000, 40_000]] = 0
    assert np.array_equal(reader.sound(), samples)
    assert [(status.phase, status.detail.get("bad_samples")) for status in reader.statuses()] == [
        ("connecting", None),
        ("live", None),
        ("degraded", 1),
        ("degraded", 3),
    ]


@pytest.mark.parametrize(("name", "subtype"), [("a.wav", "PCM_16"), ("a.flac", "PCM_16"), ("a.mp3", "MPEG_LAYER_III")])
def test_a_file_cut_off_gives_what_there_is(tmp_path: Path, name: str, subtype: str) -> None:
    path = tmp_path / name
    soundfile.write(path, noise(10), RATE, subtype=subtype)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    reader = play(FileSource(path, speed="max"))
    assert 3 * RATE < reader.heard() < 6 * RATE
    assert reader.statuses()[-1].phase == "degraded"
    assert "after" in reader.ends()[0].reason


def test_a_wav_of_unknown_length_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(1), RATE)
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"  # as a program writes that streams
    path.write_bytes(data)
    source = FileSource(path, speed="max")
    reader = play(source)
    assert reader.heard() == RATE
    assert reader.ends() == [End("a", "end of file")]
    assert source.counters()["a"] == {
        "received_samples": RATE,
        "bad_samples": 0,
        "entered_live": 1,
        "entered_ended": 1,
    }


def test_what_is_no_sound_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("hello " * 100)
    soundfile.write(tmp_path / "none.wav", np.empty(0), RATE)
    soundfile.write(tmp_path / "slow.wav", np.zeros(100), 50)
    for name, message in {
        "empty.wav": r"is empty \(0 bytes\)",
        "text.wav": "no sound file that can be read",
        "none.wav": "holds no samples",
        "slow.wav": "a sample rate of 50 Hz",
    }.items():
        with pytest.raises(FormatError, match=message) as caught:
            play(FileSource(tmp_path / name))
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(SourceError, match="there is no file"):
        play(FileSource(tmp_path / "missing.wav"))
    with pytest.raises(SourceError, match="is not a file"):
        play(FileSource(tmp_path))


def test_paths_with_odd_characters(tmp_path: Path) -> None:
    path = tmp_path / "why? 100% & more#1.wav"
    soundfile.write(path, noise(0.2), RATE)
    assert play(from_uri(f"file:{path}", speed="max")).heard() == RATE // 5
    assert play(from_uri(f"file:{path}?speed=max&name=x")).items[-1] == End("x", "end of file")
    escaped = str(path).replace("%", "%25").replace("?", "%3F").replace(" ", "%20")
    assert play(from_uri(f"file://{escaped}?speed=max")).items[-1] == End("why-100-more-1", "end of file")
    assert isinstance(play(from_uri(f"file:{path}?speed=max")).items[0], Status)
