"""Ports, and a reader of sources, for the tests beside it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import settings

from streamdet.audio.block import Block, End, Item, Status
from streamdet.sources.base import Source
from tests.streamdet.pulse import fake_microphone

__all__ = ["fake_microphone"]

settings.register_profile("sources", deadline=None)  # a busy machine is no failure
settings.load_profile("sources")


class Reader(threading.Thread):
    """Reads a source in a thread of its own, as the daemon does, and keeps what it yields."""

    def __init__(self, source: Source) -> None:
        super().__init__(daemon=True)
        self.items: list[Item] = []
        self.error: BaseException | None = None
        self._source = source
        self._stop_event = threading.Event()
        self._news = threading.Condition()

    def run(self) -> None:
        try:
            for item in self._source.items(self._stop_event):
                with self._news:
                    self.items.append(item)
                    self._news.notify_all()
        except Exception as error:  # noqa: BLE001 - shown by the test that waits
            self.error = error
        with self._news:
            self._news.notify_all()

    def wait(self, enough: Callable[[Reader], object], seconds: float = 10.0) -> None:
        """Wait until ``enough``; fails when that takes longer."""
        until = time.monotonic() + seconds
        with self._news:
            while not enough(self):
                left = until - time.monotonic() if self.is_alive() else 0.0
                assert left > 0, f"not seen in {seconds} s; {self.error!r}; statuses {self.statuses()}"
                self._news.wait(min(left, 0.1))

    def finish(self) -> float:
        """Stop the source; return how long that took, in seconds."""
        begun = time.monotonic()
        self._stop_event.set()
        self.join(5)
        assert not self.is_alive()
        return time.monotonic() - begun

    def blocks(self, stream: str | None = None) -> list[Block]:
        return [item for item in list(self.items) if isinstance(item, Block) and stream in (None, item.stream)]

    def statuses(self, stream: str | None = None) -> list[Status]:
        return [item for item in list(self.items) if isinstance(item, Status) and stream in (None, item.stream)]

    def phase(self) -> str:
        """Of the status that came last; empty while none has."""
        statuses = self.statuses()
        return statuses[-1].phase if statuses else ""

    def ends(self) -> list[End]:
        return [item for item in list(self.items) if isinstance(item, End)]

    def heard(self, stream: str | None = None) -> int:
        """Samples that arrived, without those that stand in for lost ones."""
        return sum(len(block.samples) for block in self.blocks(stream) if not block.concealed)

    def sound(self, stream: str | None = None) -> np.ndarray:
        """All samples, with zeros where some were lost."""
        blocks = self.blocks(stream)
        parts = [part for block in blocks for part in (np.zeros(block.lost, np.float32), block.samples)]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)


@pytest.fixture
def read() -> Iterator[Callable[[Source], Reader]]:
    """Start to read a source; it is stopped at the end of the test."""
    readers: list[Reader] = []

    def start(source: Source) -> Reader:
        reader = Reader(source)
        readers.append(reader)
        reader.start()
        return reader

    yield start
    for reader in readers:
        reader.finish()


@pytest.fixture
def port() -> int:
    """A port that is free now."""
    return free_port()


def free_port() -> int:
    """Find a UDP port of the loopback interface that is free now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def delay_of(heard: np.ndarray, original: np.ndarray) -> int:
    """Samples by which ``heard`` comes after ``original``, by the peak of their cross-correlation."""
    size = 1 << (len(heard) + len(original)).bit_length()
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(original, size))
    peak = int(np.argmax(np.fft.irfft(spectrum, size)))
    return peak - size if peak > size // 2 else peak


def correlation(heard: np.ndarray, original: np.ndarray) -> float:
    """Correlation of two sounds after aligning them, over what they share."""
    delay = delay_of(heard, original)
    heard, original = heard[max(0, delay) :], original[max(0, -delay) :]
    shared = min(len(heard), len(original))
    assert shared > 0.8 * min(len(heard) + max(0, delay), len(original) + max(0, -delay))
    return float(np.corrcoef(heard[:shared], original[:shared])[0, 1])
