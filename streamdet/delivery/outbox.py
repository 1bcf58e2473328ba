"""A queue on disk: what is put in is there after a kill, in order, until it is delivered or set aside."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from streamdet.errors import SinkError

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
        clock: seconds since the epoch.

    Raises:
        SinkError: the file cannot be opened.
    """

    def __init__(
        self,
        path: Path | None,
        dead_letters: Path | None = None,
        *,
        most: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.delivered = 0
        self.dead = 0
        self._dead_letters = dead_letters
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = NORMAL")
            self._base.execute(SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise SinkError(f"cannot keep what is to be delivered in {path}: {error}") from error
        self._waiting = int(self._base.execute("SELECT count(*) FROM parcel").fetchone()[0])

    @property
    def waiting(self) -> int:
        """Parcels not yet delivered."""
        return self._waiting

    def put(self, key: str, payload: bytes) -> None:
        """Add one parcel; it survives a kill from here on.

        Raises:
            SinkError: the disk did not take it.
        """
        with self._changed:
            try:
                self._base.execute(
                    "INSERT INTO parcel (key, put, payload) VALUES (?, ?, ?)", (key, self._clock(), payload)
                )
            except sqlite3.Error as error:
                raise SinkError(f"cannot keep what is to be delivered: {error}") from error
            self._waiting += 1
            if self._waiting > self._most and (oldest := self._first()) is not None:
                self._set_aside(oldest, f"more than {self._most} wait")
            self._changed.notify_all()

    def first(self, timeout: float) -> Parcel | None:
        """Look at the oldest parcel; waits up to ``timeout`` seconds for one."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(timeout)
            return self._first()

    def wake(self) -> None:
        """End a wait in :meth:`first`."""
        with self._changed:
            self._changed.notify_all()

    def took(self, parcel: Parcel) -> None:
        """Forget a parcel that was delivered."""
        with self._lock:
            self.delivered += self._remove(parcel)

    def refused(self, parcel: Parcel, reason: str) -> None:
        """Remember that a try failed."""
        with self._lock:
            self._base.execute("UPDATE parcel SET tries = tries + 1, reason = ? WHERE id = ?", (reason, parcel.id))

    def give_up(self, parcel: Parcel, reason: str) -> None:
        """Set a parcel aside in the dead letters."""
        with self._lock:
            self._set_aside(parcel, reason)

    def close(self) -> None:
        """Close the file; what waits is there at the next start."""
        with self._lock:
            self._base.close()

    def _first(self) -> Parcel | None:
        row = self._base.execute("SELECT id, key, put, tries, payload FROM parcel ORDER BY id LIMIT 1").fetchone()
        return None if row is None else Parcel(*row)

    def _remove(self, parcel: Parcel) -> int:
        count = self._base.execute("DELETE FROM parcel WHERE id = ?", (parcel.id,)).rowcount
        self._waiting -= count
        return count

    def _set_aside(self, parcel: Parcel, reason: str) -> None:
        """Write the dead letter first: a kill in between leaves it in both places and loses nothing."""
        if self._dead_letters is not None:
            self._dead_letters.parent.mkdir(parents=True, exist_ok=True)
            payload = parcel.payload.decode(errors="replace")
            line = {"key": parcel.key, "put": parcel.put, "tries": parcel.tries, "reason": reason, "payload": payload}
            with self._dead_letters.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        self.dead += self._remove(parcel)
