"""Writes events into the store; belongs to one thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from streamdet.events import Event
from streamdet.store.schema import KIND, open_writer

if TYPE_CHECKING:
    from collections.abc import Iterator

# Should a number come twice, as after a crash while the store could not be written, what was published last counts.
INSERT: Final = "INSERT OR REPLACE INTO event VALUES (?, ?, ?, ?, ?)"
SEEN: Final = "INSERT OR IGNORE INTO seen VALUES (?, ?, ?)"
POSITIONS: Final = """
    SELECT name, max(pruned_to, coalesce((SELECT max(seq) FROM event WHERE stream_id = stream.id), 0)) FROM stream
"""
LAST_ALERT: Final = """
    SELECT payload FROM stream JOIN event ON stream_id = stream.id
    AND seq = (SELECT max(seq) FROM event WHERE stream_id = stream.id AND kind = 1)
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """Somebody has seen to an alert, at a time (UTC, RFC 3339). It is stored like an event and published nowhere."""

    alert: str
    who: str
    at: str
    type: Literal["seen"] = "seen"


def millis(time: str) -> int:
    """Milliseconds since the epoch of an event's ``time``."""
    return round(1e3 * datetime.fromisoformat(time).timestamp())


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done inside at once, or none of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # SQLite itself rolls back after some errors
            db.execute("ROLLBACK")
        raise


class Writer:
    """The store as its one writer has it.

    Raises:
        StoreError, sqlite3.Error: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.db = open_writer(path)
        self._ids: dict[str, int] = dict(self.db.execute("SELECT name, id FROM stream"))

    def append(self, items: Iterable[tuple[Event | Seen, bytes]]) -> None:
        """Write events with their payloads, and who has seen to alerts, and commit.

        Raises:
            sqlite3.Error: nothing of it was written.
        """
        try:
            with transaction(self.db):
                every = list(items)
                self.db.executemany(INSERT, [self._row(e, payload) for e, payload in every if not isinstance(e, Seen)])
                self.db.executemany(SEEN, [(e.alert, e.who, e.at) for e, _ in every if isinstance(e, Seen)])
        except sqlite3.Error:
            self._ids.clear()  # some may have been rolled back
            raise

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    def _row(self, event: Event, payload: bytes) -> tuple[int, int, int, int, bytes]:
        return self._id(event.stream), event.seq, KIND[event.type], millis(event.time), payload

    def _id(self, stream: str) -> int:
        known = self._ids.get(stream)
        if known is None:
            self.db.execute("INSERT OR IGNORE INTO stream (name) VALUES (?)", (stream,))
            known = self._ids[stream] = self.db.execute("SELECT id FROM stream WHERE name = ?", (stream,)).fetchone()[0]
        return known


def positions(db: sqlite3.Connection) -> dict[str, int]:
    """Highest ``seq`` ever stored of each stream."""
    return dict(db.execute(POSITIONS))


def last_alerts(db: sqlite3.Connection) -> list[bytes]:
    """Last alert event of each stream that ever had one, as published."""
    return [payload for (payload,) in db.execute(LAST_ALERT)]
