"""One live stream, seen from outside: a real ``streamdet listen``, fed at the pace of speech, its events received."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from streamdet.audio.pcm import encode_pcm
from streamdet.bench.machine import cpu_seconds, peak_resident_mb, resident_mb
from streamdet.bench.sound import conversation
from streamdet.errors import StreamdetError
from streamdet.features import FrontEndConfig
from streamdet.subscribe import Subscriber

START_SECONDS = 60.0
WARM_SECONDS = 3.0  # left out: imports are over, caches are warm, the short window is full


@dataclass(frozen=True, slots=True)
class Live:
    """What one stream costs and how fast its events come."""

    seconds: float  # measured, after the start
    hops: int
    cpu_percent: float  # of one core, the whole process
    rss_mb: float
    peak_rss_mb: float
    latency_ms_p50: float  # from the last sample of the hop, written to the process, to the event, received from it
    latency_ms_p99: float
    latency_ms_max: float
    own_latency_ms_p50: float  # the ``latency_ms`` that the events themselves carry

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class Feeder(threading.Thread):
    """Writes sound at its own pace and notes when the last sample of each hop was written (monotonic seconds)."""

    def __init__(self, pipe: IO[bytes], block_ms: int) -> None:
        super().__init__(name="feeder", daemon=True)
        self.written: dict[int, float] = {}
        self._pipe = pipe
        self._config = FrontEndConfig()
        self._block = block_ms * self._config.rate // 1000
        self._stopped = threading.Event()

    def run(self) -> None:
        """Write until :meth:`stop`."""
        with suppress(BrokenPipeError):  # the process has gone; who waits for its events will say so
            self._write()

    def stop(self) -> None:
        """Write no more."""
        self._stopped.set()
        self.join()

    def _write(self) -> None:
        rate, hop = self._config.rate, self._config.hop_samples
        sound, begin, position = encode_pcm(conversation(), pcm_format="s16le"), time.monotonic(), 0
        while not self._stopped.is_set():
            position += self._block
            self._stopped.wait(max(0.0, begin + position / rate - time.monotonic()))
            at = 2 * (position - self._block) % len(sound)
            # Noted first: on a busy machine the event may be there before this thread has its next turn.
            self.written.setdefault(position // hop, time.monotonic())
            self._pipe.write((sound[at:] + sound[: 2 * self._block])[: 2 * self._block])
            self._pipe.flush()


def measure_live(model: Path, seconds: float, block_ms: int) -> Live:
    """Run ``streamdet listen`` on one stream for ``seconds`` after it has warmed up.

    Raises:
        StreamdetError: the process did not start, or sent no event.
    """
    with tempfile.TemporaryDirectory() as folder:
        endpoint = f"ipc://{folder}/events"
        subscriber = Subscriber(endpoint)
        try:
            with _listening(model, endpoint) as process:
                assert process.stdin is not None
                feeder = Feeder(process.stdin, block_ms)
                feeder.start()
                try:
                    return _observe(process.pid, subscriber, feeder, seconds)
                finally:
                    feeder.stop()
        finally:
            subscriber.close()


@contextmanager
def _listening(model: Path, endpoint: str) -> Iterator[subprocess.Popen[bytes]]:
    command = "from streamdet.cli import main; main()"
    arguments = ("listen", "--source", "-", "--json", "--publish", endpoint, "--model", str(model))
    process = subprocess.Popen(
        [sys.executable, "-c", command, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _observe(process: int, subscriber: Subscriber, feeder: Feeder, seconds: float) -> Live:
    _await_first_score(subscriber)
    warm = time.monotonic() + WARM_SECONDS
    while time.monotonic() < warm:
        subscriber.receive(0.1)
    begin, spent = time.monotonic(), cpu_seconds(process)
    latencies: list[float] = []
    own: list[float] = []
    hop_seconds = FrontEndConfig().hop_seconds
    while time.monotonic() < begin + seconds:
        message = subscriber.receive(0.1)
        if message is not None and message.event.type == "score":
            received = time.monotonic()
            latencies.append(1e3 * (received - feeder.written[round(message.event.media_time / hop_seconds)]))
            own.append(message.event.latency_ms)
    took = time.monotonic() - begin
    if not latencies:
        raise StreamdetError("the live stream sent no events")
    return Live(
        seconds=round(took, 1),
        hops=len(latencies),
        cpu_percent=round(100 * (cpu_seconds(process) - spent) / took, 2),
        rss_mb=round(resident_mb(process), 1),
        peak_rss_mb=round(peak_resident_mb(process), 1),
        latency_ms_p50=round(statistics.median(latencies), 2),
        latency_ms_p99=round(float(np.percentile(latencies, 99)), 2),
        latency_ms_max=round(max(latencies), 2),
        own_latency_ms_p50=round(statistics.median(own), 2),
    )


def _await_first_score(subscriber: Subscriber) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        message = subscriber.receive(0.1)
        if message is not None and message.event.type == "score":
            return
    raise StreamdetError(f"streamdet listen sent no score within {START_SECONDS:g} s")
