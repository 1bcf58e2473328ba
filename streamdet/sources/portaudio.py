"""PortAudio, loaded only when a microphone is asked for, and never trusted to answer.

PortAudio reads the list of devices once, is not safe to call from two threads, and may hang in any call when a sound
server dies. So every call here is made by one thread at a time, waited for only so long, and left behind after that.
To see devices that came or went it must be started anew, which stops every stream of the process; that is done only
while no other microphone is heard.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeVar

from streamdet.errors import DependencyError, SourceError
from streamdet.features.logmel import FloatArray
from streamdet.sources.capture_queue import CaptureQueue

CALL_SECONDS: Final = 4.0
HEARD_SECONDS: Final = 2.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Device:
    """A microphone as PortAudio lists it; the index changes when devices come or go, the name does not."""

    index: int
    name: str
    host_api: str
    channels: int
    rate: int


@cache
def load() -> Any:
    """Import sounddevice, which starts PortAudio.

    Raises:
        DependencyError: the library is not installed; the text says how to install it.
    """
    try:
        return importlib.import_module("sounddevice")
    except OSError as error:
        raise DependencyError(
            "microphones need PortAudio: apt install libportaudio2 libasound2-plugins (Debian, Ubuntu), "
            "dnf install portaudio (Fedora), pacman -S portaudio (Arch) or brew install portaudio (macOS)"
        ) from error
    except ImportError as error:
        raise DependencyError("microphones need the package sounddevice: pip install sounddevice") from error


def list_devices() -> list[Device]:
    """List everything that can record, in PortAudio's order.

    Raises:
        DependencyError: PortAudio is not installed.
        SourceError: PortAudio does not answer.
    """
    library = load()
    return _exclusively(lambda: _devices(library), what="list devices")


def default_device() -> int | None:
    """Index of the device that the system records from by default; None where there is none.

    Raises:
        DependencyError: PortAudio is not installed.
    """
    index = load().default.device["input"]
    return None if index is None or index < 0 else int(index)


def _devices(library: Any) -> list[Device]:
    hosts = [host["name"] for host in library.query_hostapis()]
    return [
        Device(
            index=entry["index"],
            name=entry["name"],
            host_api=hosts[entry["hostapi"]],
            channels=entry["max_input_channels"],
            rate=round(entry["default_samplerate"]),
        )
        for entry in library.query_devices()
        if entry["max_input_channels"] > 0
    ]


class Capture:
    """One open microphone, whose sound goes to ``queue``.

    Raises:
        SourceError: the device cannot be opened, with PortAudio's reason.
    """

    def __init__(self, device: Device, *, rate: int, channels: int) -> None:
        self.device = device
        self.rate = rate
        self.channels = channels
        self.queue = CaptureQueue(rate)
        self.stopped = False
        self._xruns = 0
        self._xruns_taken = 0
        self._closed = False
        self._opened = time.monotonic()
        self._generation = _state.generation
        self._stream = _exclusively(lambda: self._open(rate, channels), what=f"open {device.name}", undo=_close)
        _state.captures.add(self)

    def __str__(self) -> str:
        return f"{self.device.name!r} ({self.device.host_api}) at {self.rate} Hz, {self.channels} channel(s)"

    def take_xruns(self) -> int:
        """Count the overflows PortAudio told of since this was last asked."""
        xruns = self._xruns - self._xruns_taken
        self._xruns_taken += xruns
        return xruns

    def silent(self, now: float) -> float:
        """Seconds since sound last came, or since the device was opened."""
        return now - max(self._opened, self.queue.last)

    def close(self) -> None:
        """Close the device; a close that hangs is left behind after a few seconds."""
        if self._closed:
            return
        self._closed = True
        _state.captures.discard(self)
        if self._generation == _state.generation:  # otherwise PortAudio closed it when it was started anew
            with suppress(SourceError):
                _exclusively(lambda: _close(self._stream), what=f"close {self.device.name}")

    def _open(self, rate: int, channels: int) -> Any:
        library = load()
        try:
            stream = library.InputStream(
                device=self.device.index,
                samplerate=rate,
                channels=channels,
                dtype="float32",
                blocksize=rate // 50,
                latency="high",
                callback=self._callback,
                finished_callback=self._finished,
            )
            stream.start()
        except (library.PortAudioError, ValueError) as error:
            raise SourceError(f"cannot open the microphone {self.device.name!r}: {error}") from error
        return stream

    def _callback(self, samples: FloatArray, _frames: int, _times: object, flags: Any) -> None:
        self._xruns += bool(flags.input_overflow)
        self.queue.put(samples.copy(), time.monotonic())

    def _finished(self) -> None:
        self.stopped = True


def refresh() -> bool:
    """Start PortAudio anew so that it sees the devices of now; False where another microphone is being heard.

    Raises:
        SourceError: PortAudio does not answer.
    """
    now = time.monotonic()
    if any(capture.silent(now) < HEARD_SECONDS for capture in tuple(_state.captures)):
        return False
    library = load()
    _state.generation += 1
    _exclusively(lambda: _start_anew(library), what="start anew")
    return True


def _start_anew(library: Any) -> None:
    library._terminate()
    library._initialize()


def _close(stream: Any) -> None:
    stream.close(ignore_errors=True)


class _State:
    """What the whole process shares, since PortAudio does."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.captures: set[Capture] = set()
        self.generation = 0


_state = _State()


def _exclusively(function: Callable[[], _T], *, what: str, undo: Callable[[_T], None] | None = None) -> _T:
    """Make a call in a thread of its own once no other is under way, and give it up when it takes too long.

    ``undo`` takes back the result of a call that ends after it was given up.

    Raises:
        SourceError: the call, or one before it, does not end.
    """
    if not _state.lock.acquire(timeout=CALL_SECONDS):
        raise SourceError(f"PortAudio hangs, so it cannot {what}; restart streamdet if this stays")
    future: Future[_T] = Future()
    threading.Thread(target=_work, args=(function, future), name="portaudio", daemon=True).start()
    try:
        return future.result(CALL_SECONDS)
    except TimeoutError:
        if undo is not None:
            future.add_done_callback(lambda late: None if late.exception() else undo(late.result()))
        raise SourceError(f"PortAudio did not {what} within {CALL_SECONDS:g} s") from None


def _work(function: Callable[[], _T], future: Future[_T]) -> None:
    try:
        future.set_result(function())
    except Exception as error:  # noqa: BLE001 - handed to the thread that waits
        future.set_exception(error)
    finally:
        _state.lock.release()
