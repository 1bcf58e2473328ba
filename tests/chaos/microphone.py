"""A microphone whose sound server is killed, frozen, and loses its source: ``python -m tests.chaos.microphone``.

Two microphones are heard all the time, so that what brings one back may not cost the other anything. After every round
both are live again within five seconds of the return, and at the end there are no more threads, descriptors, processes
or memory than after the first rounds, and what was heard and what was lost make up the time that passed.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from streamdet.audio.block import Block
from streamdet.sources.microphone import MicrophoneSource
from tests.streamdet.pulse import FakeMicrophone, missing

NAMES = ("first", "second")
RETURN_SECONDS = 5.0
PATIENCE = 60.0
SETTLE_SECONDS = 2.5  # until what the last suspension cost is sure to be lost
CLOCK_SECONDS = 0.1  # by how much each opening may be off
WARM_UP = 0.2  # of the rounds, after which nothing may grow


@dataclass(slots=True)
class Outcome:
    """What was seen over all rounds."""

    rounds: int
    returns: list[float] = field(default_factory=list)  # seconds from the return of the cause to sound, of each round
    threads: int = 0
    descriptors: int = 0
    processes: int = 0
    megabytes: float = 0.0
    clock_error: float = 0.0  # heard + lost against the time that passed, the worst of both, in seconds
    opened: int = 0
    lost_seconds: float = 0.0


class Hearer(threading.Thread):
    """Listens to one microphone and counts, without keeping what it heard."""

    def __init__(self, name: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.source = MicrophoneSource("pulse", name=name)
        self.heard = self.lost = 0.0
        self.first = self.last = 0.0
        self.error: Exception | None = None
        self._stop_event = stop

    def run(self) -> None:
        try:
            for item in self.source.items(self._stop_event):
                if isinstance(item, Block):
                    self._count(item)
        except Exception as error:  # noqa: BLE001  shown at the end
            self.error = error

    def _count(self, block: Block) -> None:
        if self.first == 0.0:
            self.first = block.arrived - len(block.samples) / block.rate
        self.heard += len(block.samples) / block.rate
        self.lost += block.lost / block.rate
        self.last = block.arrived

    def wait(self, since: float) -> float:
        """Wait for sound that came after monotonic time ``since``; return how long after."""
        until = time.monotonic() + PATIENCE
        while self.last < since:
            assert self.error is None, self.error
            assert time.monotonic() < until, f"no sound for {PATIENCE} s: {self.source.counters()}"
            time.sleep(0.02)
        return time.monotonic() - since


def run(rounds: int, seed: int = 0) -> Outcome:
    """Break it so many times; returns what was seen."""
    outcome, chance = Outcome(rounds), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        microphone = FakeMicrophone(Path(folder))
        microphone.enter()
        stop = threading.Event()
        hearers = [Hearer(name, stop) for name in NAMES]
        try:
            microphone.start()
            for hearer in hearers:
                hearer.start()
                hearer.wait(0.001)
            _break_often(outcome, microphone, hearers, chance)
        finally:
            stop.set()
            for hearer in hearers:
                hearer.join(10)
            microphone.close()
    for hearer in hearers:
        assert hearer.error is None, hearer.error
        outcome.opened += int(hearer.source.counters()[hearer.source.name]["opened"])
        outcome.lost_seconds += hearer.lost
        error = hearer.heard + hearer.lost - (hearer.last - hearer.first)
        outcome.clock_error = max(outcome.clock_error, abs(error))
    return outcome


def _break_often(outcome: Outcome, microphone: FakeMicrophone, hearers: list[Hearer], chance: random.Random) -> None:
    settled = None
    for number in range(outcome.rounds):
        back = chance.choice((_kill, _suspend, _remove))(microphone, chance)
        outcome.returns.append(round(max(hearer.wait(back + 0.1) for hearer in hearers), 2))
        if number + 1 == max(1, int(WARM_UP * outcome.rounds)):
            settled = _held()
    time.sleep(SETTLE_SECONDS)
    assert settled is not None
    now = _held()
    outcome.threads, outcome.descriptors, outcome.processes = (int(now[i] - settled[i]) for i in range(3))
    outcome.megabytes = round(now[3] - settled[3], 1)


def _kill(microphone: FakeMicrophone, chance: random.Random) -> float:
    microphone.kill()
    time.sleep(chance.uniform(0.2, 1.5))
    microphone.start()
    return time.monotonic()


def _suspend(microphone: FakeMicrophone, chance: random.Random) -> float:
    microphone.suspend(suspended=True)
    time.sleep(chance.uniform(0.2, 3.0))
    microphone.suspend(suspended=False)
    return time.monotonic()


def _remove(microphone: FakeMicrophone, chance: random.Random) -> float:
    microphone.remove()
    time.sleep(chance.uniform(0.2, 1.5))
    microphone.give()
    return time.monotonic()


def _held() -> tuple[int, int, int, float]:
    gc.collect()
    process = psutil.Process()
    children = len(process.children(recursive=True))
    return threading.active_count(), process.num_fds(), children, process.memory_info().rss / 2**20


def main() -> int:
    """Run the long version and print what was seen as JSON; 1 where something grew or came back late."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if reason := missing():
        print(reason, file=sys.stderr)
        return 2
    outcome = run(given.rounds, given.seed)
    print(json.dumps(asdict(outcome)))
    late = sum(seconds > RETURN_SECONDS for seconds in outcome.returns)
    print(f"{late} of {given.rounds} returns took more than {RETURN_SECONDS:g} s, the longest {max(outcome.returns)} s")
    drifted = outcome.clock_error > CLOCK_SECONDS * outcome.opened  # a device begins with a burst of what it held
    return int(late > 0 or outcome.threads > 0 or outcome.descriptors > 0 or drifted)


if __name__ == "__main__":
    sys.exit(main())
