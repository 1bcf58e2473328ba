"""Kills a recording streamdet in mid-alert, again and again: ``python -m tests.chaos.evidence --rounds 100``."""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

from streamdet.evidence.chain import read_entries
from streamdet.evidence.verify import verify

from .daemon import DEMO, Daemon, stored
from .kill import EAGER, in_mid_alert, sources


def check(daemon: Daemon, folder: Path) -> tuple[int, int]:
    """The chain is whole and has every alert that was ever raised, once; returns how many, and how many incomplete."""
    report = verify(folder)
    assert report.problems == []
    chained = [entry["alert"] for entry in read_entries(folder) if entry["kind"] == "alert"]
    assert len(chained) == len(set(chained))
    published = {event["id"] for event in daemon.printed if event["type"] == "alert"}
    kept = b"\n".join(payload for events in stored(daemon.store).values() for payload in events.values())
    assert all(alert.encode() in kept for alert in published)
    assert published <= set(chained), published - set(chained)
    return len(chained), report.incomplete


def run(folder: Path, rounds: int, *, seed: int = 7) -> str:
    """Kill ``rounds`` times; each start after a kill has to put right what the one before left."""
    chance, daemon, kept = random.Random(seed), Daemon(folder), folder / "evidence"
    where = ("--evidence", str(kept))
    config = folder / "streamdet.toml"
    config.write_text("[evidence]\nfree_megabytes = 0\n")
    began = time.monotonic()
    try:
        for number in range(rounds):
            daemon.start("-c", str(config), *sources("real" if number % 4 == 3 else "max"), *EAGER, *where)
            daemon.wait_for(in_mid_alert)
            time.sleep(chance.uniform(0.0, 0.5))
            daemon.kill()
        daemon.start("-c", str(config), "-s", f"file:{DEMO}?name=line0&speed=max", *where)
        daemon.wait_for(lambda event: event["type"] == "state" and event["phase"] == "ended")
        assert daemon.process is not None
        daemon.process.wait(120)
        daemon._end()  # what it printed last
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()
    alerts, incomplete = check(daemon, kept)
    return f"{rounds} kills in {time.monotonic() - began:.0f} s: {alerts} alerts in the chain, {incomplete} incomplete"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        print(run(Path(name), chosen.rounds, seed=chosen.seed))
