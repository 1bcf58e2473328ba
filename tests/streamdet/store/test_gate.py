"""Stored before published, in order, whatever the disk does: real files, real locks, a real full disk."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamdet.errors import StoreError
from streamdet.events import Event
from streamdet.store import gate as module
from streamdet.store.gate import Gate, Past
from streamdet.store.reader import Reader
from streamdet.store.schema import KIND, MIGRATIONS
from streamdet.store.upkeep import Limits
from streamdet.store.writer import Seen, Writer

from ..disks import remount, small_disk, stuff
from .make import alert, fill, items, score, state, wait_until

KEEP = Limits(recent_seconds=1e10, keep_seconds=1e10)


@pytest.fixture(autouse=True)
def soon_steady(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEADY_SECONDS", 0.5)


class Through:
    """A gate on a file, and what came out of it."""

    def __init__(self, path: Path, **options: object) -> None:
        self.gate = Gate(path, KEEP, **options)
        self.past = self.gate.open()
        self.out: list[Event] = []
        self.told: list[tuple[str, str]] = []
        self.late: list[Event] = []  # published before it was stored
        self._db = sqlite3.connect(path, check_same_thread=False)

    def start(self, deliver: Callable[[Event, bytes], None] | None = None) -> Through:
        self.gate.start(deliver or self._deliver, lambda phase, reason: self.told.append((phase, reason)))
        return self

    def send(self, *events: Event) -> None:
        for event, payload in items(events):
            self.gate.emit(event, payload)

    def close(self) -> None:
        self.gate.close()
        self._db.close()

    def _deliver(self, event: Event, payload: bytes) -> None:
        self.out.append(event)
        query = "SELECT payload FROM event JOIN stream ON stream.id = stream_id WHERE name = ? AND seq = ?"
        if not self.gate.bypassed and self._db.execute(query, (event.stream, event.seq)).fetchone() != (payload,):
            self.late.append(event)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture
def through(path: Path) -> Iterator[Through]:
    made = Through(path).start()
    yield made
    made.close()


def test_a_fault_while_storing_is_told_and_stops_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Writer, events: object) -> None:
        raise RuntimeError("nobody thought of this")

    through = Through(path)
    monkeypatch.setattr(Writer, "append", fail)
    through.start()
    through.send(score(1))
    wait_until(lambda: len(through.out) == 1)
    assert "RuntimeError: nobody thought of this" in through.told[0][1]
    monkeypatch.undo()
    wait_until(lambda: not through.gate.bypassed)
    through.close()
    assert in_file(path) == 1


def in_file(path: Path, stream: str = "hall") -> int:
    with Reader(path) as reader:
        return reader.positions().get(stream, 0)


def test_every_event_is_stored_when_it_is_published_and_the_order_stays(through: Through, path: Path) -> None:
    assert through.past == Past({}, ())
    sent = [event for seq in range(1, 600, 2) for event in (score(seq), score(seq + 1, stream="door"))]
    sent[30:30] = [alert(1, stream="desk")]
    for begin in range(0, len(sent), 7):
        through.send(*sent[begin : begin + 7])
        time.sleep(0.001)
    wait_until(lambda: len(through.out) == len(sent))
    assert through.out == sent
    assert through.late == []
    assert through.gate.stored == len(sent)
    assert through.told == []


def test_what_came_right_before_the_end_is_stored_and_published(path: Path) -> None:
    made = Through(path).start()
    made.send(*map(score, range(1, 1001)))
    made.close()
    assert len(made.out) == 1000
    assert not path.with_name("events.db-wal").exists()
    assert in_file(path) == 1000


def test_the_next_life_knows_where_the_counts_stood_and_which_alerts_were_left(path: Path) -> None:
    fill(path, [score(1), alert(2), score(9), alert(1, stream="door"), alert(2, "cleared", stream="door")])
    made = Through(path)
    assert made.past.positions == {"hall": 9, "door": 2}
    assert made.past.unfinished == (alert(2),)
    made.start().close()


def lock(path: Path) -> sqlite3.Connection:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_a_store_that_another_process_holds_is_bypassed_and_catches_up(through: Through, path: Path) -> None:
    through.send(score(1))
    wait_until(lambda: len(through.out) == 1)
    other = lock(path)
    through.send(alert(2), score(3))
    wait_until(lambda: len(through.out) == 3, module.STALL_SECONDS + 2)
    began = time.monotonic()
    through.send(score(4))
    assert len(through.out) == 4  # at once, while the store is bypassed
    assert time.monotonic() - began < module.STALL_SECONDS / 2
    assert [phase for phase, _ in through.told] == ["degraded"]
    assert "database is locked" in through.told[0][1]
    other.execute("ROLLBACK")
    other.close()
    wait_until(lambda: not through.gate.bypassed)
    wait_until(lambda: len(through.told) > 1)  # said a moment after the store is used again
    assert in_file(path) == 4
    assert [phase for phase, _ in through.told] == ["degraded", "live"]
    through.send(score(5))
    wait_until(lambda: len(through.out) == 5)
    assert through.late == []
    assert [event.seq for event in through.out] == [1, 2, 3, 4, 5]
    assert through.gate.dropped == 0


def test_a_writer_that_hangs_holds_nothing_up_longer_than_two_seconds(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang, release = threading.Event(), threading.Event()
    append = Writer.append

    def append_late(self: Writer, events: object) -> None:
        if hang.is_set():
            release.wait(60.0)  # as a write to a network disk may; no lock or error can stand in for it
        append(self, events)

    monkeypatch.setattr(Writer, "append", append_late)
    through = Through(path).start()
    hang.set()
    through.send(score(1))
    began = time.monotonic()
    wait_until(lambda: len(through.out) == 1)
    assert module.STALL_SECONDS - 0.1 < time.monotonic() - began < 30.0
    hang.clear()
    release.set()
    through.send(score(2))
    wait_until(lambda: len(through.told) == 2)  # it is said a moment after the store is used again
    assert not through.gate.bypassed
    wait_until(lambda: len(through.out) == 2)
    assert [event.seq for event in through.out] == [1, 2]
    assert [phase for phase, _ in through.told] == ["degraded", "live"]
    through.close()
    assert in_file(path) == 2


def test_a_long_outage_costs_old_scores_and_no_alert(
    through: Through, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKLOG", 100)
    through.send(score(1))
    wait_until(lambda: len(through.out) == 1)
    other = lock(path)
    through.send(alert(2))
    wait_until(lambda: through.gate.bypassed)
    through.send(*map(score, range(3, 303)))
    assert through.gate.dropped == 201
    assert through.gate.waiting == 100
    other.execute("ROLLBACK")
    other.close()
    wait_until(lambda: not through.gate.bypassed)
    with Reader(path) as reader:
        kept = [payload for _, payload in reader.find()]
        assert reader.held("hall").last == 302
    assert len(kept) == 101
    assert b'"alert"' in b"".join(kept)
    assert len(through.out) == 302
    assert "201 events were never stored" in through.told[-1][1]


def test_a_caller_with_patience_waits_for_the_store(path: Path) -> None:
    stop = threading.Event()
    through = Through(path, patient=True, stop=stop)
    slow: list[int] = []

    def deliver(event: Event, payload: bytes) -> None:
        time.sleep(0.0005)
        slow.append(event.seq)

    through.start(deliver)
    through.send(*map(score, range(1, 4001)))
    assert len(slow) > 1000  # else more would wait than may
    through.close()
    assert slow == list(range(1, 4001))
    assert through.told == []
    assert in_file(path) == 4000


def test_the_caller_of_a_live_stream_never_waits(path: Path) -> None:
    release = threading.Event()
    through = Through(path).start(lambda event, payload: release.wait(60.0))
    began = time.monotonic()
    through.send(*map(score, range(1, 201)))
    assert time.monotonic() - began < 30.0  # delivering the first of them takes longer
    release.set()
    through.close()


@pytest.mark.parametrize("made", ["folder", "text", "newer"])
def test_what_a_person_must_put_right_is_one_clear_error(path: Path, made: str) -> None:
    if made == "folder":
        path.mkdir()
    elif made == "text":
        path.write_text("this is no database, but something that somebody wants to keep" * 20)
    else:
        fill(path, [score(1)])
        db = sqlite3.connect(path)
        db.execute("PRAGMA user_version=99")
        db.close()
    with pytest.raises(StoreError, match=str(path)) as caught:
        Gate(path, KEEP).open()
    assert "\n" not in str(caught.value)
    if made == "text":
        assert path.read_text().startswith("this is no database")


# ---- a real disk that is full or read-only ----


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    with small_disk(tmp_path / "disk", "2m") as folder:
        yield folder


def test_a_full_disk_stops_nothing_and_is_used_again_when_there_is_room(disk: Path) -> None:
    through = Through(disk / "events.db").start()
    through.send(score(1))
    wait_until(lambda: len(through.out) == 1)
    filler = stuff(disk)
    for seq in range(2, 202):
        through.send(score(seq))
        time.sleep(0.001)
    wait_until(lambda: len(through.out) == 201)
    assert [phase for phase, _ in through.told] == ["degraded"]
    assert "full" in through.told[0][1]
    filler.unlink()
    wait_until(lambda: not through.gate.bypassed)
    wait_until(lambda: len(through.told) > 1)  # said a moment after the store is used again
    assert [phase for phase, _ in through.told] == ["degraded", "live"]
    assert in_file(disk / "events.db") == 201
    assert [event.seq for event in through.out] == list(range(1, 202))
    through.close()


def test_a_disk_that_becomes_read_only_stops_nothing_nor_the_next_start(disk: Path) -> None:
    file = disk / "events.db"
    through = Through(file).start()
    through.send(score(1), alert(2))
    wait_until(lambda: len(through.out) == 2)
    through.close()
    remount(disk, "ro")
    again = Gate(file, KEEP)
    past = again.open()
    assert (past.positions, past.unfinished) == ({"hall": 2}, (alert(2),))
    told: list[str] = []
    out: list[int] = []
    again.start(lambda event, payload: out.append(event.seq), lambda phase, reason: told.append(f"{phase}: {reason}"))
    again.emit(*items([state(3)])[0])
    assert out == [3]
    assert len(told) == 1
    assert "without being stored" in told[0]
    remount(disk, "rw")
    wait_until(lambda: not again.bypassed)
    assert in_file(file) == 3
    again.close()


@pytest.mark.parametrize("trouble", ["full", "read-only"])
@pytest.mark.parametrize("where", ["events.db", "new/folder/events.db"])
def test_a_new_store_on_a_disk_that_refuses_is_made_once_it_does_not(disk: Path, trouble: str, where: str) -> None:
    filler = stuff(disk)
    if trouble == "read-only":
        remount(disk, "ro")
    gate = Gate(disk / where, KEEP)
    assert gate.open() == Past({}, ())
    told: list[tuple[str, str]] = []
    out: list[int] = []
    gate.start(lambda event, payload: out.append(event.seq), lambda phase, reason: told.append((phase, reason)))
    for event, payload in items([score(1), alert(2)]):
        gate.emit(event, payload)
    assert out == [1, 2]
    time.sleep(1.0)  # it tries at least once
    assert [phase for phase, _ in told] == ["degraded"]
    assert ("full" if trouble == "full" else "ead-only file system") in told[0][1]
    if trouble == "read-only":
        remount(disk, "rw")
    filler.unlink()
    wait_until(lambda: not gate.bypassed)
    wait_until(lambda: len(told) > 1)  # said a moment after the store is used again
    assert [phase for phase, _ in told] == ["degraded", "live"]
    assert in_file(disk / where) == 2
    gate.close()


def test_a_store_is_not_well_again_before_it_has_written_for_a_while(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEADY_SECONDS", 2.0)
    through = Through(disk / "events.db").start()
    through.send(score(1))
    wait_until(lambda: len(through.out) == 1)
    for begin in (2, 1002, 2002):  # again and again somebody makes room, and the store itself fills it
        filler = stuff(disk)
        through.send(*map(score, range(begin, begin + 500)))
        wait_until(lambda: through.gate.bypassed)
        filler.unlink()
        wait_until(lambda: through.gate.waiting == 0)
        through.send(*map(score, range(begin + 500, begin + 1000)))
    assert [phase for phase, _ in through.told] == ["degraded"]
    wait_until(lambda: not through.gate.bypassed)
    wait_until(lambda: len(through.told) > 1)  # said a moment after the store is used again
    assert [phase for phase, _ in through.told] == ["degraded", "live"]
    assert [event.seq for event in through.out] == list(range(1, 3002))
    through.close()
    assert in_file(disk / "events.db") == 3001


def test_a_store_of_the_first_version_keeps_what_it_has(path: Path) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript(f"BEGIN; {MIGRATIONS[0]} PRAGMA user_version=1; COMMIT;")
    for number, (event, payload) in enumerate(items([score(1), alert(2), state(3), score(1, stream="door")])):
        db.execute("INSERT OR IGNORE INTO stream (name) VALUES (?)", (event.stream,))
        (stream,) = db.execute("SELECT id FROM stream WHERE name = ?", (event.stream,)).fetchone()
        row = (stream, event.seq, KIND[event.type], 1_700_000_000_000 + number, payload)
        db.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?)", row)
    (store,) = db.execute("SELECT value FROM meta WHERE key = 'id'").fetchone()
    db.execute("INSERT INTO summary VALUES (1, 0, 30, 20, 0.1, 4.0, 0.9, 15.0, 0.0, 2)")
    db.close()
    through = Through(path).start()
    assert through.past == Past({"hall": 3, "door": 1}, (alert(2),))
    through.send(score(4))
    through.gate.acknowledge(Seen("a", "ann", "2026-11-21T09:00:00Z"))
    wait_until(lambda: through.gate.stored == 2)
    through.close()
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert db.execute("SELECT scores, highest FROM summary").fetchall() == [(30, 0.9)]
    assert db.execute("SELECT who FROM seen").fetchall() == [("ann",)]
    db.close()
    with Reader(path) as reader:
        assert reader.id() == store
        assert reader.positions() == {"hall": 4, "door": 1}
        wanted = sorted(
            payload for _, payload in items([score(1), alert(2), state(3), score(1, stream="door"), score(4)])
        )
        assert sorted(payload for _, payload in reader.find()) == wanted
