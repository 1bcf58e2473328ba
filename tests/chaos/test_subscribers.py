"""A subscriber that is away or slow, a daemon with a store on a disk that fills up: nothing lost, nothing held up."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamdet.store.reader import Reader
from tests.streamdet.disks import small_disk, stuff

from .daemon import DEMO, Daemon, Listener, check_complete, check_store, stored
from .outage import run as run_outage

pytestmark = pytest.mark.timeout(600)
SOURCES = [argument for number in range(4) for argument in ("-s", f"file:{DEMO}?name=line{number}&loop=1")]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    yield daemon
    if daemon.process is not None and daemon.process.poll() is None:
        daemon.kill()


def scores(daemon: Daemon, since: int = 0) -> list[float]:
    return [event["latency_ms"] for event in daemon.printed[since:] if event["type"] == "score"]


def positions(daemon: Daemon) -> dict[str, int]:
    with Reader(daemon.store) as reader:
        return reader.positions()


def finish(daemon: Daemon, listener: Listener) -> None:
    """Let the listener catch up with a store that grows no more, and compare."""
    daemon.stop()
    daemon.start("-s", "zmq://127.0.0.1:9?mode=sub")  # nothing is heard, but replay is there
    daemon.wait_for(lambda event: event["type"] == "health")
    time.sleep(0.5)
    daemon_positions = positions(daemon)
    listener.wait_until_complete(daemon_positions, 60)
    daemon.kill()  # so that there is no farewell that comes too late to be heard
    final = stored(daemon.store)
    for name, last in daemon_positions.items():
        listener.got[name] = [entry for entry in listener.got[name] if entry[0] <= last]
        for seq in [seq for seq in final[name] if seq > last]:
            listener.got[name].append((seq, final[name][seq]))
    check_complete(daemon, listener)


def test_a_subscriber_that_was_away_goes_on_where_it_was(daemon: Daemon) -> None:
    daemon.start(*SOURCES)
    first = Listener(daemon, after="oldest")
    first.start()
    daemon.wait_for(lambda event: event["type"] == "score" and event["media_time"] > 2)
    first.close()
    kept = first.follower.positions
    before = len(daemon.printed)
    time.sleep(4.0)  # a minute, shortened
    second = Listener(daemon, after=kept)
    second.got = first.got
    for name, last in kept.items():  # what was ready and not taken any more will come again
        second.got[name] = [entry for entry in second.got[name] if entry[0] <= last]
    second.start()
    try:
        away = len(daemon.printed) - before
        second.wait_until_complete(positions(daemon), 60)
        assert away > 20
        assert second.follower.replayed >= away - 10
        finish(daemon, second)
    finally:
        second.close()
    check_store(daemon.store)


def test_a_slow_subscriber_gets_everything_and_slows_nothing(daemon: Daemon) -> None:
    daemon.start(*SOURCES)
    daemon.wait_for(lambda event: event["type"] == "score" and event["media_time"] > 2)
    without: list[float] = []
    beside: list[float] = []
    kept: dict[str, int] = {}
    got: dict[str, list[tuple[int, bytes]]] = {}
    for turn in range(6):  # taking turns, so that what else the machine does falls on both
        began = len(daemon.printed)
        if turn % 2 == 0:
            time.sleep(1.5)
            without += scores(daemon, began)
            continue
        slow = Listener(daemon, after=kept or "oldest")
        slow.got.update(got)
        slow.delay = 0.5  # two events a second, of the thirteen that come
        slow.start()
        time.sleep(1.5)
        beside += scores(daemon, began)
        slow.delay = 0.0
        if turn == 5:
            break
        slow.close()
        kept = slow.follower.positions
        got = {name: [entry for entry in slow.got[name] if entry[0] <= last] for name, last in kept.items()}
    try:
        # A publisher that waited for its slowest reader would take seconds.
        assert statistics.median(beside) < 5 * statistics.median(without) + 100.0
        finish(daemon, slow)
    finally:
        slow.close()
    assert all(not any(event["dropped"].values()) for event in daemon.printed if event["type"] == "health")


def test_a_full_disk_under_a_listening_daemon(daemon: Daemon, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        daemon.store = disk / "events.db"
        daemon.start(*SOURCES)
        daemon.wait_for(lambda event: event["type"] == "score")
        filler = stuff(disk)
        worse = daemon.wait_for(lambda event: event["type"] == "state" and event["stream"] == "*")
        assert (worse["phase"], "full" in worse["reason"]) == ("degraded", True)
        went_on = len(daemon.printed)
        daemon.wait_for(lambda event: event["type"] == "health")
        daemon.wait_for(lambda event: event["type"] == "score")
        assert len(scores(daemon, went_on)) > 0
        filler.unlink()
        better = daemon.wait_for(lambda event: event["type"] == "state" and event["stream"] == "*")
        assert better["phase"] == "live"
        daemon.stop()
        told = [event["phase"] for event in daemon.printed if event["type"] == "state" and event["stream"] == "*"]
        assert told == ["degraded", "live"]
        check_store(daemon.store)  # what was published meanwhile is stored after all
        kept = stored(daemon.store)
        for event in daemon.printed:
            assert json.loads(kept[event["stream"]][event["seq"]]) == event


def test_a_webhook_that_answers_500_and_a_kill_meanwhile_lose_nothing(tmp_path: Path) -> None:
    said = run_outage(tmp_path, 24.0, streams=1, rest=2.0)  # an hour, shortened
    assert "all taken" in said
