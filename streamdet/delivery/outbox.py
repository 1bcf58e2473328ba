"""A queue on disk: what is put in is there after a kill, in order, until it is delivered or set aside.

A disk that fails or is full ends nothing: what comes meanwhile waits in a bounded backlog in memory, behind what the
file holds, and is written once the disk can be. That is said when it begins, and when writing has gone well for some
seconds.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from streamdet.disk import STEADY_SECONDS, may_pass, refusal
from streamdet.errors import SinkError
from streamdet.events import StatePhase

log = structlog.get_logger(__name__)

BACKLOG: Final = 1000  # parcels that may wait in memory for the disk
FIRST_RETRY: Final = 0.5  # seconds; also between two writes while the disk has yet to prove itself
LONGEST_RETRY: Final = 15.0
INSERT: Final = "INSERT INTO parcel (id, key, put, tries, payload) VALUES (?, ?, ?, ?, ?)"
LAST: Final = """
    SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'parcel'), 0),
        coalesce((SELECT max(id) FROM parcel), 0))
"""
Tell = Callable[[StatePhase, str], None]  # phase and reason of a state event

SCHEMA = """
CREATE TABLE IF NOT EXISTS parcel (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, put REAL NOT NULL, tries INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '', payload BLOB NOT NULL
)
"""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One payload on its way; ``key`` is the same for each try, ``put`` in seconds since the epoch."""

    id: int
    key: str
    put: float
    tries: int
    payload: bytes


class Outbox:
    """Keeps parcels in order; may be used from several threads.

    Args:
        path: SQLite file, private to this sink; None keeps parcels in memory, for as long as the process lives.
        dead_letters: JSON-lines file for what could not be delivered; None throws it away (counted all the same).
        most: parcels kept; when there are more, the oldest goes to the dead letters.
        backlog: parcels that may wait in memory while the file cannot be written.
        clock: seconds since the epoch.

    Raises:
        SinkError: the file cannot be opened, and not because the disk is full or read-only: then parcels wait in the
            backlog until it can be, and those that it holds from before come next.
    """

    def __init__(
        self,
        path: Path | None,
        dead_letters: Path | None = None,
        *,
        most: int = 10_000,
        backlog: int = BACKLOG,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = "outbox"  # in what is said; its courier puts the sink's here
        self.delivered = 0
        self.dead = 0
        self.lost = 0  # came when the backlog was full, or was still in it at the end
        self.errors = 0  # of the disk
        self._path = path
        self._dead_letters = dead_letters
        self._most, self._most_in_memory = most, backlog
        self._clock = clock
        self._tell: Tell = lambda _phase, _reason: None
        self._changed = threading.Condition()
        self._backlog: deque[Parcel] = deque()  # later than all that the file holds
        self._settled = 0  # parcels up to this one are done with, also those that the file still holds
        self._trouble = ""
        self._news: list[tuple[StatePhase, str]] = []
        self._good_since: float | None = None  # while in trouble: since when writing has gone well
        self._retry_at = 0.0
        self._pause = FIRST_RETRY
        self._reopen = False
        self._unread = False  # the file has not been opened yet, so nobody knows what it holds
        self._owes_letter = False
        self._closed = False
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._base = self._connect()
            self._in_file, self._last = self._found()
        except (OSError, sqlite3.Error) as error:
            if path is None or not _disk_refuses(path, error):
                raise SinkError(f"cannot keep what is to be delivered in {path}: {error}") from error
            self._begin_without_file(error)

    @property
    def waiting(self) -> int:
        """Parcels not yet delivered."""
        return self._in_file + len(self._backlog)

    @property
    def in_memory(self) -> int:
        """Those of them that wait for the disk, and would not survive a kill."""
        return len(self._backlog)

    @property
    def degraded(self) -> bool:
        """Whether the disk fails, or has yet to prove that it no longer does."""
        return bool(self._trouble)

    def report_to(self, tell: Tell) -> None:
        """Have ``tell`` called when the disk begins to fail and when it is well again; at once where it fails now."""
        with self._changed:
            self._tell = tell
            trouble = self._trouble
        if trouble:
            tell("degraded", self._complaint(trouble))

    def put(self, key: str, payload: bytes) -> None:
        """Add one parcel; it survives a kill from here on, or from when the disk can be written again.

        Raises:
            SinkError: neither the disk nor the backlog had room for it.
        """
        with self._at_work():
            self._mend()
            parcel = Parcel(self._last + 1, key, self._clock(), 0, payload)
            if self._backlog or not self._write(parcel):
                self._keep_in_memory(parcel)
            self._last = parcel.id
            self._make_room()
            self._changed.notify_all()

    def first(self, timeout: float) -> Parcel | None:
        """Look at the oldest parcel; waits up to ``timeout`` seconds for one.

        Raises:
            sqlite3.Error: the file cannot be read now.
        """
        with self._at_work():
            if not self.waiting:
                self._changed.wait(timeout)
            self._mend(idle=True)
            if self._closed:
                return None
            try:
                return self._first()
            except sqlite3.Error as error:
                self._fail(error)
                raise

    def wake(self) -> None:
        """End a wait in :meth:`first`."""
        with self._changed:
            self._changed.notify_all()

    def mend(self) -> None:
        """Try again what the disk refused, where it is time to; for those who rest and put nothing in."""
        with self._at_work():
            self._mend()

    def took(self, parcel: Parcel) -> None:
        """Forget a parcel that was delivered."""
        with self._at_work():
            self.delivered += self._remove(parcel)

    def refused(self, parcel: Parcel, reason: str) -> None:
        """Remember that a try failed."""
        with self._at_work():
            if self._heads_backlog(parcel):
                self._backlog[0] = replace(parcel, tries=parcel.tries + 1)
            elif not self._resting:
                try:
                    self._base.execute(
                        "UPDATE parcel SET tries = tries + 1, reason = ? WHERE id = ?", (reason, parcel.id)
                    )
                except sqlite3.Error as error:  # what is lost is one count of tries
                    self._fail(error)

    def give_up(self, parcel: Parcel, reason: str) -> None:
        """Set a parcel aside in the dead letters.

        Raises:
            OSError: the letter could not be written; the parcel stays.
        """
        with self._at_work():
            self._set_aside(parcel, reason)

    def close(self) -> None:
        """Close the file; what waits is there at the next start."""
        with self._at_work():
            self._retry_at = 0.0
            self._mend(idle=True)
            self._closed = True
            self._base.close()
            if self._backlog:
                self.lost += len(self._backlog)
                log.warning("outbox_incomplete", sink=self.name, unsaved=len(self._backlog))

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Hold the lock, and say what there is to say without it: who hears that may want to put something in."""
        try:
            with self._changed:
                yield
        finally:
            with self._changed:
                news, self._news = self._news, []
            for phase, reason in news:
                log.warning("outbox_state", sink=self.name, phase=phase, reason=reason)
                self._tell(phase, reason)

    # ---- the file; the lock is held ----

    def _connect(self) -> sqlite3.Connection:
        base = sqlite3.connect(self._path or ":memory:", check_same_thread=False, isolation_level=None)
        try:
            base.execute("PRAGMA journal_mode = WAL")
            base.execute("PRAGMA synchronous = NORMAL")
            base.execute(SCHEMA)
        except sqlite3.Error:
            base.close()
            raise
        return base

    def _found(self) -> tuple[int, int]:
        """How many parcels the file holds, and the highest number that it ever gave."""
        count = int(self._base.execute("SELECT count(*) FROM parcel").fetchone()[0])
        return count, int(self._base.execute(LAST).fetchone()[0])

    def _begin_without_file(self, error: Exception) -> None:
        """Keep parcels in memory; ``report_to`` says so.

        Nobody knows which numbers the file has given, so the next ones come from the clock: higher than any count, and
        than those of an earlier start like this one.
        """
        self._base = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._base.execute(SCHEMA)
        self._in_file, self._last, self._unread = 0, int(1e3 * self._clock()) << 10, True
        self._fail(error)
        self._reopen = True
        self._news.clear()

    def _first(self) -> Parcel | None:
        if self._in_file:
            wanted = "SELECT id, key, put, tries, payload FROM parcel WHERE id > ? ORDER BY id LIMIT 1"
            row = self._base.execute(wanted, (self._settled,)).fetchone()
            if row is not None:
                return Parcel(*row)
            self._in_file = 0  # somebody else emptied it
        return self._backlog[0] if self._backlog else None

    def _write(self, parcel: Parcel) -> bool:
        if self._resting or self._unread:
            return False
        try:
            self._insert(parcel)
        except sqlite3.Error as error:
            self._fail(error)
            return False
        return True

    def _insert(self, parcel: Parcel) -> None:
        self._base.execute(INSERT, (parcel.id, parcel.key, parcel.put, parcel.tries, parcel.payload))
        self._in_file += 1

    def _remove(self, parcel: Parcel) -> int:
        """Never deliver it again, whether or not the file can be told; in order, so one number remembers them all."""
        if parcel.id <= self._settled:
            return 0
        self._settled = parcel.id
        if self._heads_backlog(parcel):
            self._backlog.popleft()
            return 1
        self._in_file = max(0, self._in_file - 1)
        if not self._resting:
            try:
                self._forget_settled()
            except sqlite3.Error as error:
                self._fail(error)
        return 1

    def _forget_settled(self) -> None:
        self._base.execute("DELETE FROM parcel WHERE id <= ?", (self._settled,))

    def _set_aside(self, parcel: Parcel, reason: str) -> None:
        """Write the dead letter first: a kill in between leaves it in both places and loses nothing."""
        if parcel.id <= self._settled:
            return
        if self._dead_letters is not None:
            payload = parcel.payload.decode(errors="replace")
            line = {"key": parcel.key, "put": parcel.put, "tries": parcel.tries, "reason": reason, "payload": payload}
            try:
                _append(self._dead_letters, json.dumps(line).encode() + b"\n")
            except OSError as error:
                self._owes_letter = True
                self._fail(error)
                raise
            self._owes_letter = False
        self.dead += self._remove(parcel)

    def _make_room(self) -> None:
        while self.waiting > self._most:
            try:
                oldest = self._first()
                if oldest is None:
                    return
                self._set_aside(oldest, f"more than {self._most} wait")
            except sqlite3.Error as error:
                self._fail(error)
                return
            except OSError:  # that has been said; there is room again when the disk has some
                return

    # ---- when the disk fails; the lock is held ----

    @property
    def _resting(self) -> bool:
        """Whether the disk failed so lately that it is left alone."""
        return bool(self._trouble) and self._good_since is None and time.monotonic() < self._retry_at

    def _heads_backlog(self, parcel: Parcel) -> bool:
        return bool(self._backlog) and self._backlog[0].id == parcel.id

    def _keep_in_memory(self, parcel: Parcel) -> None:
        if len(self._backlog) >= self._most_in_memory:
            self.lost += 1
            raise SinkError(f"cannot keep what is to be delivered: {self._trouble}, and {len(self._backlog)} wait")
        self._backlog.append(parcel)

    def _mend(self, *, idle: bool = False) -> None:
        """Try to write what waits in memory; ``idle`` says that no parcel is on its way.

        What a file holds that is read late is older than all that was delivered meanwhile, and ``_settled`` would take
        it for delivered too, so such a file is opened between two deliveries only.
        """
        now = time.monotonic()
        if not self._trouble or self._closed or now < self._retry_at or (self._unread and not idle):
            return
        try:
            if self._reopen and self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                base = self._connect()
                self._base.close()
                self._base, self._reopen = base, False
            if self._unread:
                self._in_file, _ = self._found()
                self._settled, self._unread = 0, False
            self._forget_settled()
            while self._backlog:
                self._insert(self._backlog[0])
                self._backlog.popleft()
            self._base.execute("PRAGMA user_version = 1")  # something is written in any case, and proves that it can be
        except (OSError, sqlite3.Error) as error:
            self._fail(error)
            return
        self._retry_at = now + FIRST_RETRY
        if self._good_since is None:
            self._good_since = now
        if now - self._good_since >= STEADY_SECONDS and not self._owes_letter:
            self._trouble, self._pause = "", FIRST_RETRY
            self._news.append(("live", f"{self.name}: its outbox is written again; {self.lost} events were lost"))

    def _fail(self, error: Exception) -> None:
        if self._closed:
            return
        self.errors += 1
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_FULL:
            self._reopen = True  # after an I/O error a connection may never work again
        self._good_since = None
        self._retry_at = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_RETRY)
        if not self._trouble:
            self._news.append(("degraded", self._complaint(reason)))
        self._trouble = reason

    def _complaint(self, reason: str) -> str:
        waits = f"up to {self._most_in_memory} events wait in memory"
        return f"{self.name}: its outbox cannot be written: {reason}; {waits}"


def _disk_refuses(path: Path, error: Exception) -> bool:
    """Whether the disk is at fault, which may pass, and not what the user asked for."""
    if isinstance(error, OSError):
        return may_pass(error)
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    return code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR} or refusal(path.parent) is not None


def _append(path: Path, line: bytes) -> None:
    """Add the whole line, or nothing of it where the disk fills up on the way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if file.write(line) != len(line):
            file.truncate(end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
