"""Kills a listening streamdet in mid-alert, again and again: ``python -m tests.chaos.kill --rounds 100``."""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

from streamdet.store.reader import Reader

from .daemon import DEMO, Daemon, Listener, check_alerts, check_complete, check_store

STREAMS = 3
EAGER = ("--raise", "0.1", "--clear", "0.05")  # so that an alert begins within seconds


def sources(speed: str) -> list[str]:
    uris = (f"file:{DEMO}?name=line{number}&loop=1&speed={speed}" for number in range(STREAMS))
    return [argument for uri in uris for argument in ("-s", uri)]


def in_mid_alert(event: dict) -> bool:
    return event["type"] == "alert" and event["phase"] in ("raised", "updated")


def run(folder: Path, rounds: int, *, seed: int = 7, real_time_every: int = 4) -> str:
    """Kill ``rounds`` times, one in ``real_time_every`` at the pace of speech, the others as fast as can be."""
    chance = random.Random(seed)
    daemon = Daemon(folder)
    listener = Listener(daemon, after="oldest")
    listener.start()
    began = time.monotonic()
    try:
        for number in range(rounds):
            daemon.start(*sources("real" if number % real_time_every == 1 else "max"), *EAGER)
            daemon.wait_for(in_mid_alert)
            time.sleep(chance.uniform(0.0, 0.3))
            daemon.kill()
            check_store(daemon.store)
        daemon.start("-s", f"file:{DEMO}?name=line0&speed=max")
        daemon.wait_for(lambda event: event["type"] == "state" and event["phase"] == "ended")
        daemon.process.wait(120)
        # Once more, idle, so that who has to catch up can.
        daemon.start("-s", "zmq://127.0.0.1:9?mode=sub")
        daemon.wait_for(lambda event: event["type"] == "health")
        with Reader(daemon.store) as reader:
            positions = reader.positions()
        listener.wait_until_complete(positions, 120)
        daemon.stop()
        with Reader(daemon.store) as reader:
            farewell = reader.positions()
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()
        listener.close()
    for name, last in farewell.items():  # what came after the last look may never have been heard
        listener.got[name] += [(seq, payload) for seq, payload in _rest(daemon, name, listener.got[name][-1][0], last)]
    check_store(daemon.store)
    events, alerts = check_complete(daemon, listener), check_alerts(daemon)
    took = time.monotonic() - began
    return (
        f"{rounds} kills in {took:.0f} s: {events} events, {alerts} alerts, {listener.follower.replayed} replayed, "
        f"{listener.follower.missed} missed"
    )


def _rest(daemon: Daemon, name: str, since: int, last: int) -> list[tuple[int, bytes]]:
    with Reader(daemon.store) as reader:
        return list(zip(range(since + 1, last + 1), reader.after(name, since, last, last), strict=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        print(run(Path(name), chosen.rounds, seed=chosen.seed))
