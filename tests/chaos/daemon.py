"""A real ``streamdet listen`` with a store, killed and started again, and one who listens to it all the time."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from streamdet.follow import Follower
from streamdet.store.reader import Reader

DEMO = Path(__file__).parents[2] / "streamdet" / "demo" / "demo.flac"
COMMAND = [sys.executable, "-c", "from streamdet.cli import main; main()", "listen", "--json"]
ITSELF = "*"


class Daemon:
    """Runs ``listen`` in ``folder``; ``printed`` has every event it wrote, over all its lives."""

    def __init__(self, folder: Path, *, store: Path | None = None) -> None:
        self.folder = folder
        self.store = store or folder / "events.db"
        self.publish = f"ipc://{folder}/events"
        self.replay = f"ipc://{folder}/replay"
        self.printed: list[dict[str, Any]] = []
        self.log = folder / "stderr"
        self.process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    def start(self, *arguments: str) -> None:
        where = ("--store", str(self.store), "--publish", self.publish, "--replay", self.replay)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*COMMAND, *where, *arguments], stdout=subprocess.PIPE, stderr=log)
        self._reader = threading.Thread(target=self._read, args=(self.process,))
        self._reader.start()

    def wait_for(self, what: Any, seconds: float = 120.0) -> dict[str, Any]:
        """Wait for an event, printed from now on, for which ``what`` holds."""
        until, seen = time.monotonic() + seconds, len(self.printed)
        while time.monotonic() < until:
            for event in self.printed[seen:]:
                if what(event):
                    return event
            time.sleep(0.005)
        raise AssertionError(f"not seen within {seconds} s: {self.printed[-3:]}\n{self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self._end()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        self._end()
        return self.process.returncode

    def _end(self) -> None:
        assert self.process is not None
        assert self._reader is not None
        self.process.wait(30)
        self._reader.join()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.endswith(b"}\n"):  # the last line may be cut off by the kill
                self.printed.append(json.loads(line))
        process.stdout.close()


class Listener(threading.Thread):
    """Follows a daemon through all its lives and keeps what it was handed."""

    def __init__(self, daemon: Daemon, **options: Any) -> None:
        super().__init__()
        self.got: dict[str, list[tuple[int, bytes]]] = defaultdict(list)
        self.follower = Follower(daemon.publish, daemon.replay, **options)
        self.delay = 0.0  # seconds it takes to deal with one event
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.is_set():
            message = self.follower.receive(0.1)
            if message is not None:
                self.got[message.event.stream].append((message.event.seq, message.payload))
                if self.delay:
                    time.sleep(self.delay)

    def wait_until_complete(self, positions: dict[str, int], seconds: float) -> None:
        """Wait until it has all events of all streams up to ``positions``."""
        until = time.monotonic() + seconds
        while any(not self.got[name] or self.got[name][-1][0] < last for name, last in positions.items()):
            assert time.monotonic() < until, ({n: g[-1][0] for n, g in self.got.items() if g}, positions)
            time.sleep(0.05)

    def close(self) -> None:
        self._stopped.set()
        self.join()
        self.follower.close()


def check_store(path: Path) -> None:
    """The file is sound and every stream is there from 1 on without a gap."""
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    rows = db.execute("SELECT stream_id, min(seq), max(seq), count(*) FROM event GROUP BY stream_id").fetchall()
    db.close()
    assert rows
    for stream, first, last, count in rows:
        assert (first, count) == (1, last), f"stream {stream}: {first} to {last}, {count} events"


def stored(path: Path) -> dict[str, dict[int, bytes]]:
    with Reader(path) as reader:
        found: dict[str, dict[int, bytes]] = {}
        for name, last in reader.positions().items():
            payloads = reader.after(name, 0, last, last)
            found[name] = {json.loads(payload)["seq"]: payload for payload in payloads}
        return found


def check_complete(daemon: Daemon, listener: Listener) -> int:
    """Who listened has every event once, in order, as stored; all that was printed is stored. Returns how many."""
    kept = stored(daemon.store)
    for name, events in kept.items():
        assert [seq for seq, _ in listener.got[name]] == sorted(events), name
        assert dict(listener.got[name]) == events, name
    for event in daemon.printed:
        assert json.loads(kept[event["stream"]][event["seq"]]) == event
    return sum(map(len, kept.values()))


def check_alerts(daemon: Daemon) -> int:
    """Every alert that was raised was cleared, even if its process was killed before; returns how many there were."""
    phases: dict[str, list[str]] = defaultdict(list)
    for events in stored(daemon.store).values():
        for payload in events.values():
            event = json.loads(payload)
            if event["type"] == "alert":
                phases[event["id"]].append(event["phase"])
    for alert, life in phases.items():
        assert life[0] == "raised", (alert, life)
        assert life[-1] == "cleared", (alert, life)
        assert set(life[1:-1]) <= {"updated"}, (alert, life)
    return len(phases)
