"""Microphones whose sound servers are killed, frozen, and lose their source: ``python -m tests.chaos.microphone``.

Two microphones of PulseAudio and one of JACK are heard all the time, so that what brings one back may not cost the
others anything: a round that harms one server is none of the other's. After every round all are live again within five
seconds of the return, and at the end there are no more threads, descriptors, processes or memory than after the first
rounds, and what was heard and what was lost make up the time that passed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path

from streamdet.audio.block import Block, Status
from streamdet.sources.microphone import MicrophoneSource
from tests.chaos.held import Held
from tests.streamdet import jack, pulse
from tests.streamdet.jack import FakeJack
from tests.streamdet.pulse import FakeMicrophone

DEVICES = {"first": "pulse", "second": "pulse", "mixer": "jack:system"}
JACK = "mixer"
RETURN_SECONDS = 5.0
PATIENCE = 60.0
SETTLE_SECONDS = 2.5  # until what the last suspension cost is sure to be lost
CLOCK_SECONDS = 0.1  # by how much each opening may be off: a device begins with a burst of what it held
WARM_UP = 0.2  # of the rounds, after which nothing may grow
GROWTH_MB = 8.0  # of memory, that is noise


@dataclass(slots=True)
class Outcome:
    """What was seen over all rounds."""

    rounds: int
    causes: list[str] = field(default_factory=list)  # of each round
    returns: list[float] = field(default_factory=list)  # seconds from the return of the cause to sound, of each round
    late: list[list[str]] = field(default_factory=list)  # what the sources said in rounds that took too long
    disturbed: int = 0  # how often a round that was none of its server's cost a microphone its device
    threads: int = 0
    descriptors: int = 0
    processes: int = 0
    megabytes: float = 0.0
    clock_error: dict[str, float] = field(default_factory=dict)  # heard + lost - the time that passed, in seconds
    opened: dict[str, int] = field(default_factory=dict)
    lost_seconds: dict[str, float] = field(default_factory=dict)


class Hearer(threading.Thread):
    """Listens to one microphone and counts, without keeping what it heard."""

    def __init__(self, name: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.source = MicrophoneSource(DEVICES[name], name=name, wait=True)
        self.heard = self.lost = 0.0
        self.first = self.last = 0.0
        self.said: deque[tuple[float, str]] = deque(maxlen=20)
        self.error: Exception | None = None
        self._stop_event = stop

    def run(self) -> None:
        try:
            for item in self.source.items(self._stop_event):
                if isinstance(item, Block):
                    self._count(item)
                elif isinstance(item, Status):
                    self.said.append((time.monotonic(), f"{item.stream} {item.phase}: {item.reason}"))
        except Exception as error:  # noqa: BLE001  shown at the end
            self.error = error

    def _count(self, block: Block) -> None:
        if self.first == 0.0:
            self.first = block.arrived - len(block.samples) / block.rate
        self.heard += len(block.samples) / block.rate
        self.lost += block.lost / block.rate
        self.last = block.arrived

    @property
    def opened(self) -> int:
        """How often its device was opened."""
        return int(self.source.counters()[self.source.name]["opened"])

    def wait(self, since: float) -> float:
        """Wait for sound that came after monotonic time ``since``; return how long after."""
        until = time.monotonic() + PATIENCE
        while self.last < since:
            assert self.error is None, self.error
            assert time.monotonic() < until, (
                f"no sound for {PATIENCE} s: {self.source.counters()} {list(self.said)[-4:]}"
            )
            time.sleep(0.02)
        return time.monotonic() - since


class Servers:
    """The sound servers, and what can happen to them: each returns when the cause is over, as a monotonic time."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self._pulse, self.jack, self._chance = FakeMicrophone(folder), FakeJack(folder), chance

    def start(self) -> None:
        """Start both, and let this process hear them."""
        self._pulse.enter()
        os.environ.update(self.jack.environment)
        self._pulse.start()
        self.jack.start()

    def close(self) -> None:
        """End both."""
        self._pulse.close()
        self.jack.close()

    def kill(self) -> float:
        """PulseAudio is killed."""
        self._pulse.kill()
        time.sleep(self._chance.uniform(0.2, 1.5))
        self._pulse.start()
        return time.monotonic()

    def suspend(self) -> float:
        """Its source is suspended."""
        self._pulse.suspend(suspended=True)
        time.sleep(self._chance.uniform(0.2, 3.0))
        self._pulse.suspend(suspended=False)
        return time.monotonic()

    def remove(self) -> float:
        """Its source is taken away."""
        self._pulse.remove()
        time.sleep(self._chance.uniform(0.2, 1.5))
        self._pulse.give()
        return time.monotonic()

    def kill_jack(self) -> float:
        """JACK is killed; a client of it may hang for good then."""
        self.jack.kill()
        time.sleep(self._chance.uniform(0.2, 1.5))
        self.jack.start()
        return time.monotonic()


def run(rounds: int, seed: int = 0) -> Outcome:
    """Break it so many times; returns what was seen."""
    outcome, chance = Outcome(rounds), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        servers, stop = Servers(Path(folder), chance), threading.Event()
        hearers = [Hearer(name, stop) for name in DEVICES]
        try:
            servers.start()
            for hearer in hearers:
                hearer.start()
                hearer.wait(0.001)
            _break_often(outcome, servers, hearers, chance)
        finally:
            stop.set()
            for hearer in hearers:
                if hearer.ident is not None:  # it was started
                    hearer.join(10)
            servers.close()
    for hearer in hearers:
        assert hearer.error is None, hearer.error
        name = hearer.source.name
        outcome.opened[name] = hearer.opened
        outcome.lost_seconds[name] = round(hearer.lost, 3)
        outcome.clock_error[name] = round(hearer.heard + hearer.lost - (hearer.last - hearer.first), 3)
    return outcome


def _break_often(outcome: Outcome, servers: Servers, hearers: list[Hearer], chance: random.Random) -> None:
    settled = None
    for number in range(outcome.rounds):
        cause = chance.choice((servers.kill, servers.suspend, servers.remove, servers.kill_jack))
        jack_suffers = cause == servers.kill_jack
        others = [hearer for hearer in hearers if (hearer.source.name == JACK) != jack_suffers]
        opened = sum(hearer.opened for hearer in others)
        back = cause()
        outcome.causes.append(cause.__name__)
        try:
            outcome.returns.append(round(max(hearer.wait(back + 0.1) for hearer in hearers), 2))
        except AssertionError as error:
            error.add_note(f"after {cause.__name__}; JACK {servers.jack.says}")
            raise
        if outcome.returns[-1] > RETURN_SECONDS:
            said = sorted(line for hearer in hearers for line in hearer.said if line[0] > back - 5)
            outcome.late.append([cause.__name__, *(f"{at - back:+.1f} s {text}" for at, text in said)])
        outcome.disturbed += sum(hearer.opened for hearer in others) - opened
        if number + 1 == max(1, int(WARM_UP * outcome.rounds)):
            settled = Held.now()
    time.sleep(SETTLE_SECONDS)
    assert settled is not None
    now = Held.now()
    outcome.threads, outcome.descriptors, outcome.processes, outcome.megabytes = now.since(settled)


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
    for cause in sorted(set(outcome.causes)):
        took = [seconds for seconds, was in zip(outcome.returns, outcome.causes, strict=True) if was == cause]
        print(f"{cause}: {len(took)} rounds, median {statistics.median(took):.2f} s, longest {max(took):.2f} s")
    late = sum(seconds > RETURN_SECONDS for seconds in outcome.returns)
    print(f"{late} of {given.rounds} returns took more than {RETURN_SECONDS:g} s, the longest {max(outcome.returns)} s")
    drifted = any(abs(outcome.clock_error[name]) > CLOCK_SECONDS * outcome.opened[name] for name in DEVICES)
    grew = outcome.threads > 0 or outcome.descriptors > 0 or outcome.processes > 0 or outcome.megabytes > GROWTH_MB
    return int(late > 0 or grew or drifted or outcome.disturbed > 0)


def missing() -> str | None:
    """Say what is not installed that this needs; None where all is there."""
    return pulse.missing() or jack.missing()


if __name__ == "__main__":
    sys.exit(main())
