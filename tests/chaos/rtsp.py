"""A real RTSP server that is killed and started again: ``python -m tests.chaos.rtsp --rounds 200``.

After each round sound is heard again within five seconds of the server's return, and at the end there is no thread,
descriptor, process or memory more than after the first rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from streamdet.audio.block import Block
from streamdet.sources.uri import from_uri
from tests.chaos.held import Held
from tests.chaos.rtp import free_port
from tests.streamdet.gstreamer import RtspServer, missing

RETURN_SECONDS = 5.0
PATIENCE = 60.0
GROWTH_MB = 8.0
RATE = 16_000


@dataclass(slots=True)
class Outcome:
    """What was seen over all rounds."""

    rounds: int
    transport: str
    returns: list[float] = field(default_factory=list)  # seconds from the server's return to sound
    threads: int = 0
    descriptors: int = 0
    processes: int = 0
    megabytes: float = 0.0
    kills: int = 0  # processes that had to be ended since nothing came


class Hearer(threading.Thread):
    """Listens and remembers when it last heard something."""

    def __init__(self, uri: str) -> None:
        super().__init__(daemon=True)
        self.source = from_uri(uri)
        self.stop = threading.Event()
        self.last = 0.0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            for item in self.source.items(self.stop):
                if isinstance(item, Block):
                    self.last = item.arrived
        except Exception as error:  # noqa: BLE001  shown by who waits
            self.error = error

    def wait(self, since: float) -> float:
        """Wait for sound that came after monotonic time ``since``; returns how long after."""
        until = time.monotonic() + PATIENCE
        while self.last < since:
            assert self.error is None, self.error
            assert time.monotonic() < until, f"no sound for {PATIENCE:g} s: {self.counters()}"
            time.sleep(0.02)
        return self.last - since

    def counters(self) -> dict[str, float]:
        return dict(self.source.counters()[self.source.name])  # type: ignore[attr-defined]


def run(rounds: int, *, transport: str = "tcp", away: float = 1.0) -> Outcome:
    """Kill the server so many times, for ``away`` seconds each; returns what was seen."""
    outcome, settled = Outcome(rounds, transport), None
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder, "talk.wav")
        soundfile.write(sound, np.random.default_rng(0).normal(0, 0.1, RATE * 120).astype(np.float32), RATE)
        server = RtspServer(free_port(), sound)
        hearer = Hearer(f"{server.url}?transport={transport}&name=camera")
        try:
            server.start()
            hearer.start()
            hearer.wait(0.001)
            for number in range(rounds):
                time.sleep(0.3)
                server.kill()
                time.sleep(away)
                back = server.start()
                outcome.returns.append(round(hearer.wait(back), 2))
                if number == min(rounds - 1, 5) // 2:
                    settled = Held.now()
            time.sleep(0.5)
            now = Held.now()
        finally:
            server.kill()
            hearer.stop.set()
            hearer.join(10)
    outcome.kills = int(hearer.counters()["kills"])
    assert settled is not None
    outcome.threads, outcome.descriptors, outcome.processes, outcome.megabytes = now.since(settled)
    return outcome


def main() -> int:
    """Run the long version and print what was seen; 1 where something grew or came back late."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--transport", choices=("tcp", "udp"), default="tcp")
    parser.add_argument("--away", type=float, default=1.0, help="seconds the server stays away")
    given = parser.parse_args()
    if reason := missing():
        print(reason, file=sys.stderr)
        return 2
    outcome = run(given.rounds, transport=given.transport, away=given.away)
    print(json.dumps(asdict(outcome)))
    print(f"median return {statistics.median(outcome.returns):.2f} s, longest {max(outcome.returns):.2f} s")
    grew = outcome.threads > 0 or outcome.descriptors > 0 or outcome.processes > 0 or outcome.megabytes > GROWTH_MB
    return int(max(outcome.returns) > RETURN_SECONDS or grew)


if __name__ == "__main__":
    sys.exit(main())
