"""Every event goes through here: first into the store, then to the sinks, so that what was published is kept.

The caller never waits. One thread writes whatever has come meanwhile in one commit, then passes it on. A store that
fails, or takes longer than :data:`STALL_SECONDS`, is bypassed: events go to the sinks at once and wait for the store in
a bounded backlog, and the writer tries again, after ever longer pauses, until it has caught up and has written for some
seconds without an error. A disk that is full or read-only at the start is no reason not to start.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from streamdet.disk import STEADY_SECONDS, may_pass, refusal
from streamdet.errors import StoreError
from streamdet.events import Alert, Event, StatePhase, from_json
from streamdet.store.checkpoint import Checkpointer
from streamdet.store.schema import open_reader
from streamdet.store.upkeep import Limits, Upkeep
from streamdet.store.writer import Seen, Writer, last_alerts, positions

log = structlog.get_logger(__name__)

STALL_SECONDS: Final = 2.0  # how long publishing may wait for the store
CAPACITY: Final = 20_000  # events that may wait to be stored before they are published
BACKLOG: Final = 50_000  # published events that may wait to be stored after all
BATCH: Final = 1000  # events in one commit
PATIENT: Final = 1000  # events at which a caller with patience begins to wait
WATCH_SECONDS: Final = 0.25  # also between two writes while the disk has yet to prove itself
IDLE_SECONDS: Final = 1.0  # between two looks at what upkeep there is to do
UPKEEP_SECONDS: Final = 0.02  # rest between two steps of upkeep
FIRST_RETRY: Final = 0.5
LONGEST_RETRY: Final = 15.0
LINGER: Final = 2.0

Deliver = Callable[[Event, bytes], None]
Tell = Callable[[StatePhase, str], None]  # phase and reason of a state event

# What a person has to put right before anything can be stored, unless the disk is why; all else may pass by itself.
HOPELESS: Final = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)


@dataclass(slots=True)
class _Item:
    event: Event | Seen
    payload: bytes
    delivered: bool


@dataclass(frozen=True, slots=True)
class Past:
    """What the store knows from before: the highest ``seq`` by stream, and alerts that were never cleared."""

    positions: dict[str, int]
    unfinished: tuple[Alert, ...]


class Gate:
    """Stores events and passes them on.

    Args:
        path: the store's file.
        limits: how much is kept.
        patient: callers wait while the store is behind; for sources without a clock of their own.
        stop: ends a patient caller's waiting.
    """

    name = "store"

    def __init__(
        self, path: Path, limits: Limits, *, patient: bool = False, stop: threading.Event | None = None
    ) -> None:
        self.path = path
        self.dropped = 0  # published, never stored
        self.stored = 0
        self.trips = 0
        self._limits = limits
        self._patient = patient
        self._stop = stop or threading.Event()
        self._deliver: Deliver = lambda _event, _payload: None
        self._tell: Tell = lambda _phase, _reason: None
        self._writer: Writer | None = None
        self._upkeep: Upkeep | None = None
        self._checkpointer = Checkpointer(path)
        self._waiting: deque[_Item] = deque()
        self._held: list[_Item] = []  # what the writer writes now
        self._changed = threading.Condition()
        self._bypassing = False
        self._why = ""
        self._closing = False
        self._given_up = False
        self._idle = False
        self._writing_since = float("inf")
        self._retry_at = 0.0
        self._good_since: float | None = None  # while bypassed: since when writing has gone well
        self._pause = FIRST_RETRY
        self._upkeep_at = 0.0
        self._upkeep_failed = 0
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._watcher = threading.Thread(target=self._watch, name="store-watch", daemon=True)

    # ---- before it runs ----

    def open(self) -> Past:
        """Open or make the file and read where the counts stand.

        Raises:
            StoreError: a person has to put something right; what may pass by itself is retried later instead.
        """
        try:
            self._writer = self._make_writer()
            return Past(positions(self._writer.db), _unfinished(last_alerts(self._writer.db)))
        except sqlite3.Error as error:
            refused = _refused(self.path) if _code(error) in HOPELESS and not _read_only(self.path) else ""
            if refused is None:
                raise StoreError(f"cannot open the event store {self.path}: {error}") from error
            reason = refused or str(error)
        except OSError as error:
            if not may_pass(error):
                raise StoreError(f"cannot make {self.path.parent}: {error.strerror}; give another --store") from error
            reason = error.strerror or str(error)
        with self._changed:
            self._trip(reason)
        return _read_past(self.path) if self.path.exists() else Past({}, ())

    def start(self, deliver: Deliver, tell: Tell) -> None:
        """Begin to store; ``deliver`` gets every event in order, ``tell`` what should be said of the store itself."""
        self._deliver, self._tell = deliver, tell
        if self._bypassing:
            self._tell("degraded", self._why)
        self._thread.start()
        self._watcher.start()
        self._checkpointer.start()

    # ---- any thread ----

    def emit(self, event: Event, payload: bytes) -> None:
        """Take one event; returns at once unless the gate is patient."""
        with self._changed:
            while self._patient and not self._bypassing and len(self._waiting) > PATIENT and not self._stop.is_set():
                self._changed.wait(0.2)
            if self._bypassing:
                self._deliver(event, payload)
                self._keep_for_later(_Item(event, payload, delivered=True))
                return
            self._waiting.append(_Item(event, payload, delivered=False))
            if len(self._waiting) > CAPACITY:
                self._trip("events come faster than they can be stored")
            elif self._idle:
                self._changed.notify_all()

    def acknowledge(self, seen: Seen) -> None:
        """Have it stored that somebody has seen to an alert; returns at once."""
        with self._changed:
            self._waiting.append(_Item(seen, b"", delivered=True))
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """Events that wait to be stored."""
        return len(self._waiting) + len(self._held)

    @property
    def bypassed(self) -> bool:
        """Whether events are published without being stored first."""
        return self._bypassing

    def close(self) -> None:
        """Store what waits, for two seconds at most, and pass on the rest all the same."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(LINGER)
            self._watcher.join(LINGER)
        with self._changed:
            unsaved = self.waiting
            self._pass_on([*self._held, *self._waiting])
        self._checkpointer.close()
        if self._writer is not None and not self._thread.is_alive():
            self._writer.close()
        if unsaved:
            self.dropped += unsaved
            log.warning("store_incomplete", path=str(self.path), unsaved=unsaved)

    # ---- the writer ----

    def _make_writer(self) -> Writer:
        self.path.parent.mkdir(parents=True, exist_ok=True)  # later too: at the start there may have been no room
        return Writer(self.path)

    def _run(self) -> None:
        while (batch := self._take()) is not None:
            if batch:
                self._write(batch)
            elif self._bypassing:
                with self._changed:
                    self._end_bypass()
            else:
                self._tidy()

    def _take(self) -> list[_Item] | None:
        """Wait for something to write; returns nothing where there is time for upkeep, None at the end."""
        with self._changed:
            if not self._may_write:
                self._idle = not self._bypassing
                self._changed.wait(max(0.0, self._rest()))
                self._idle = False
            if self._closing and (self._given_up or not self._waiting):
                return None
            if not self._may_write:
                return []
            self._held = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            self._writing_since = time.monotonic()
            return self._held

    @property
    def _may_write(self) -> bool:
        return bool(self._waiting) and (not self._bypassing or self._closing or time.monotonic() >= self._retry_at)

    def _rest(self) -> float:
        if self._closing:
            return 0.0
        if self._bypassing:
            return max(self._retry_at - time.monotonic(), WATCH_SECONDS)
        return min(self._upkeep_at - time.monotonic(), IDLE_SECONDS)

    def _write(self, batch: list[_Item]) -> None:
        try:
            if self._writer is None:
                self._writer = self._make_writer()
            self._writer.append((item.event, item.payload) for item in batch)
        except (sqlite3.Error, StoreError, OSError) as error:
            self._failed(str(error))
        except Exception as error:  # a fault here must neither hold events up nor go unseen
            log.exception("store_crashed", path=str(self.path))
            self._failed(f"{type(error).__name__}: {error}")
        else:
            self._succeeded(batch)
            if time.monotonic() >= self._upkeep_at + IDLE_SECONDS:
                self._tidy()  # also where there is never a moment's rest

    def _succeeded(self, batch: list[_Item]) -> None:
        with self._changed:
            self._writing_since = float("inf")
            self._held = []
            self.stored += len(batch)
            self._pass_on(batch)
            if self._bypassing and self._good_since is None:
                self._good_since = time.monotonic()
            self._end_bypass()
            if self._patient:
                self._changed.notify_all()

    def _failed(self, reason: str) -> None:
        if self._writer is not None:
            self._writer.close()  # after an I/O error a connection may never work again
        self._writer = self._upkeep = None
        with self._changed:
            self._writing_since = float("inf")
            self._waiting.extendleft(reversed(self._held))
            self._held = []
            self._good_since = None
            self._retry_at = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_RETRY)
            self._given_up = self._closing
            if not self._bypassing:
                self._trip(reason)

    def _tidy(self) -> None:
        now = time.monotonic()
        if self._bypassing or self._writer is None or now < self._upkeep_at:
            return
        self._upkeep = self._upkeep or Upkeep(self._writer.db, self._limits)
        self._writing_since = now
        try:
            more = self._upkeep.step()
        except sqlite3.Error as error:  # such as a disk too full for deleting; storing finds out on its own
            more = False
            self._upkeep_failed += 1
            if self._upkeep_failed & (self._upkeep_failed - 1) == 0:
                log.warning("store_upkeep_failed", path=str(self.path), reason=str(error), failed=self._upkeep_failed)
        self._writing_since = float("inf")
        self._upkeep_at = time.monotonic() + (UPKEEP_SECONDS if more else IDLE_SECONDS)

    # ---- the breaker; the lock is held ----

    def _trip(self, reason: str) -> None:
        """Publish everything that waits, and from now on do not wait for the store."""
        self._bypassing = True
        self.trips += 1
        self._why = f"event store: {reason}; events are published without being stored"
        self._say("degraded", self._why)
        self._good_since = None
        self._retry_at = max(self._retry_at, time.monotonic() + FIRST_RETRY)
        self._pass_on([*self._held, *self._waiting])
        while len(self._waiting) > BACKLOG:
            self._drop_one()
        self._changed.notify_all()

    def _end_bypass(self) -> None:
        """Wait for the store again, where it has caught up and has proved itself."""
        if not self._bypassing or self._waiting or self._good_since is None:
            return
        if time.monotonic() - self._good_since >= STEADY_SECONDS:
            self._bypassing = False
            self._pause = FIRST_RETRY
            self._say("live", f"event store: writing again; {self.dropped} events were never stored")

    def _pass_on(self, items: list[_Item]) -> None:
        for item in items:
            if not item.delivered and not isinstance(item.event, Seen):
                item.delivered = True
                self._deliver(item.event, item.payload)

    def _keep_for_later(self, item: _Item) -> None:
        self._waiting.append(item)
        if len(self._waiting) > BACKLOG:
            self._drop_one()

    def _drop_one(self) -> None:
        """Drop the oldest score; alerts and states are worth more."""
        oldest = next((at for at, item in enumerate(self._waiting) if item.event.type == "score"), 0)
        del self._waiting[oldest]
        self.dropped += 1

    def _say(self, phase: StatePhase, reason: str) -> None:
        log.warning("store_state", path=str(self.path), phase=phase, reason=reason)
        self._tell(phase, reason)

    # ---- the watcher ----

    def _watch(self) -> None:
        """See a writer that hangs, and publish in its stead."""
        while self._thread.is_alive():
            time.sleep(WATCH_SECONDS)
            with self._changed:
                if not self._bypassing and time.monotonic() - self._writing_since > STALL_SECONDS:
                    self._trip(f"took no event for {STALL_SECONDS:g} s")


def _code(error: sqlite3.Error) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _read_only(path: Path) -> bool:
    """Whether the file is there and can be read, though not written or not beside itself."""
    try:
        open_reader(path).close()
    except StoreError:
        return False
    return True


def _refused(path: Path) -> str | None:
    """Say why the disk lets nobody make or write the file, which SQLite does not tell; None where it does let one."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o644))
    except OSError as error:
        return error.strerror if may_pass(error) else None
    return refusal(path.parent)  # as SQLite has files beside its own


def _read_past(path: Path) -> Past:
    try:
        db = open_reader(path)
    except StoreError as error:
        log.warning("store_unread", path=str(path), reason=str(error))
        return Past({}, ())
    try:
        return Past(positions(db), _unfinished(last_alerts(db)))
    except sqlite3.Error as error:
        log.warning("store_unread", path=str(path), reason=str(error))
        return Past({}, ())
    finally:
        db.close()


def _unfinished(payloads: list[bytes]) -> tuple[Alert, ...]:
    events = [from_json(payload) for payload in payloads]
    return tuple(event for event in events if event.type == "alert" and event.phase != "cleared")
