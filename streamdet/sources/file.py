"""Sound files, through libsndfile: at the pace of real time, or as fast as they can be read."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal, Self

import soundfile

from streamdet.audio.block import Block, Item, Status
from streamdet.audio.pcm import check_rate, to_mono
from streamdet.errors import FormatError, SourceError
from streamdet.sources.address import Address, stream_name
from streamdet.sources.cleaner import Cleaner
from streamdet.sources.lifecycle import Budget, LifeCycle

Speed = Literal["real", "max"]
BLOCK_SECONDS: Final[dict[Speed, float]] = {"real": 0.1, "max": 1.0}

# libsndfile repairs the length of a wav that is cut off without a word, except in its log.
_WAV_LENGTH: Final = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
_LENGTH_UNKNOWN: Final = 0x7FFFFF00  # what programs write that stream a wav and cannot come back to its header


class FileSource:
    """One wav, flac, mp3, ogg or whatever else libsndfile reads: ``file:PATH``.

    Options: ``speed`` (``real``, ``max``), ``loop`` (begin anew at the end), ``channel`` (counted from 0; the mean
    of all where absent), ``name``. A file that is cut off or damaged yields what can be read, then a ``degraded``
    status. NaN, infinite and absurd samples become 0 and are counted as ``bad_samples``.
    """

    live = False

    def __init__(
        self,
        path: str | Path,
        *,
        speed: Speed = "real",
        loop: bool = False,
        channel: int | None = None,
        name: str | None = None,
        log_budget: Budget | None = None,
    ) -> None:
        self.path = Path(path)
        self.uri = f"file:{path}"
        self.name = stream_name(name or self.path.stem)
        self._speed: Speed = speed
        self._loop = loop
        self._channel = channel
        self._log_budget = log_budget
        self._reader = _Reader(LifeCycle(self.name, budget=log_budget), speed=speed, channel=channel)

    @classmethod
    def from_address(cls, address: Address) -> Self:
        """Make the source from a URI taken apart."""
        if not address.rest:
            raise SourceError("file: needs a path, such as file:talk.wav")
        options = address.options
        return cls(
            address.rest,
            speed="max" if options.choice("speed", ("real", "max"), "real") == "max" else "real",
            loop=options.flag("loop"),
            channel=options.integer("channel", low=0, high=1023),
            name=options.text("name"),
        )

    def counters(self) -> Mapping[str, Mapping[str, float]]:
        """Counters of the file; see :class:`streamdet.sources.base.Counted`."""
        return {self.name: self._reader.counters()}

    def items(self, stop: threading.Event) -> Iterator[Item]:
        """Yield the file once, or over and over; see :class:`streamdet.sources.base.Source`."""
        life = LifeCycle(self.name, budget=self._log_budget)
        reader = self._reader = _Reader(life, speed=self._speed, channel=self._channel)
        yield life.move("connecting", f"opening {self.path.name}")
        with open_sound(self.path, channel=self._channel) as file:
            yield life.move("live", f"reading {self.path.name}", {"rate": file.samplerate})
            trouble = yield from reader.play(file, stop)
            while self._loop and not trouble and not stop.is_set():
                file.seek(0)
                trouble = yield from reader.play(file, stop)
        if stop.is_set():
            return
        yield from reader.summary(trouble)
        yield life.end(trouble or "end of file")


def open_sound(path: Path, *, channel: int | None = None) -> soundfile.SoundFile:
    """Open a sound file for reading.

    Raises:
        SourceError: there is no such file, or it may not be read.
        FormatError: it is empty, in no known format, or lacks the channel.
    """
    try:
        if not path.is_file():
            raise SourceError(f"{path} is not a file" if path.exists() else f"there is no file {path}")
        if path.stat().st_size == 0:
            raise FormatError(f"{path} is empty (0 bytes)")
        with path.open("rb"):
            pass  # libsndfile says only "System error" where the file may not be read
        file = soundfile.SoundFile(os.fsencode(path))  # a name may hold bytes that are no characters
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
    except soundfile.LibsndfileError as error:
        raise FormatError(f"{path} is no sound file that can be read: {error.error_string}") from error
    try:
        _check(path, file, channel)
    except FormatError:
        file.close()
        raise
    return file


def _check(path: Path, file: soundfile.SoundFile, channel: int | None) -> None:
    if file.frames == 0:
        raise FormatError(f"{path} holds no samples")
    if channel is not None and channel >= file.channels:
        raise FormatError(f"{path} has no channel {channel}, only {file.channels} (they count from 0)")
    try:
        check_rate(file.samplerate)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error


class _Reader:
    """Reads an open file block by block and remembers what was wrong with it."""

    def __init__(self, life: LifeCycle, *, speed: Speed, channel: int | None) -> None:
        self._life = life
        self._channel = channel
        self._seconds = BLOCK_SECONDS[speed]
        self._pace = _Pace(speed)
        self._cleaner = Cleaner()
        self._read = self._all = 0  # samples, of this time through the file and of all
        self._reached = 0.0  # in the file, in seconds

    def counters(self) -> dict[str, float]:
        """Count what happened."""
        return {"received_samples": self._all, "bad_samples": self._cleaner.bad_samples, **self._life.counters()}

    def summary(self, trouble: str | None) -> Iterator[Status]:
        """Yield a status where something was wrong."""
        bad = self._cleaner.bad_samples
        if trouble:
            detail = {"seconds": round(self._reached, 3), "bad_samples": bad}
            yield self._life.move("degraded", trouble, detail)
        elif bad:
            yield self._cleaner.summary(self._life)

    def play(self, file: soundfile.SoundFile, stop: threading.Event) -> Generator[Item, None, str | None]:
        """Yield blocks up to the end of the file; return what was wrong with it, or None."""
        self._read, rate = 0, file.samplerate
        while not stop.is_set():
            try:
                samples = file.read(round(rate * self._seconds), dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                return f"damaged after {self._reached:.1f} s: {error.error_string}"
            if len(samples) == 0:
                return self._missing(file)
            self._read += len(samples)
            self._all += len(samples)
            self._reached = self._read / rate
            mono = to_mono(self._cleaner.take(samples), channel=self._channel)
            yield from self._cleaner.report(self._life)
            arrived = self._pace.wait(len(samples) / rate, stop)
            yield Block(self._life.stream, mono, rate, arrived=arrived)
        return None

    def _missing(self, file: soundfile.SoundFile) -> str | None:
        match = _WAV_LENGTH.search(file.extra_info)
        cut_off = match is not None and int(match[2]) < int(match[1]) < _LENGTH_UNKNOWN
        if cut_off or self._read < file.frames:
            return f"cut off after {self._reached:.1f} s: the file promises more"
        return None


class _Pace:
    """Waits until sound would have arrived, had it come from a microphone."""

    def __init__(self, speed: Speed) -> None:
        self._real = speed == "real"
        self._due = time.monotonic()

    def wait(self, seconds: float, stop: threading.Event) -> float:
        """Let ``seconds`` of sound arrive; return the monotonic time of its last sample."""
        if not self._real:
            return time.monotonic()
        self._due += seconds
        if self._due > time.monotonic():
            stop.wait(self._due - time.monotonic())
        return self._due
