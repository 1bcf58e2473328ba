"""The file of the event store: its tables, how older files get them, and how it is opened.

SQLite in WAL mode: one connection writes, any number read meanwhile. A commit survives the process being killed at any
moment; ``synchronous=NORMAL`` leaves the last moments before a power cut to chance, which is the price of not waiting
for the disk at every event (https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from streamdet.errors import StoreError

BUSY_SECONDS: Final = 1.0  # how long a writer waits for another process that writes
LARGEST_WAL: Final = 64 << 20  # bytes; what a burst made longer is cut off again

SCORE, ALERT, STATE, HEALTH, KEPT_HEALTH = range(5)  # KEPT_HEALTH stands for the minute whose others are gone
KIND: Final = {"score": SCORE, "alert": ALERT, "state": STATE, "health": HEALTH}

# Each entry moves a file from the version of its index to the next one; entries are never changed, only added.
MIGRATIONS: Final = (
    """
    CREATE TABLE stream (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        pruned_to INTEGER NOT NULL DEFAULT 0,   -- highest seq that was deleted
        thinned_to INTEGER NOT NULL DEFAULT 0   -- up to this seq, scores are kept as summaries only
    );
    CREATE TABLE event (
        stream_id INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        at INTEGER NOT NULL,                    -- ms since the epoch, from the event's time
        payload BLOB NOT NULL,                  -- the JSON as published
        PRIMARY KEY (stream_id, seq)
    ) WITHOUT ROWID;
    CREATE INDEX event_time ON event (kind, at);
    CREATE INDEX event_alert ON event (stream_id, seq) WHERE kind = 1;
    CREATE INDEX event_state ON event (stream_id, seq) WHERE kind = 2;
    CREATE TABLE summary (
        stream_id INTEGER NOT NULL,
        at INTEGER NOT NULL,                    -- begin of its ten seconds, ms since the epoch
        scores INTEGER NOT NULL,
        judged INTEGER NOT NULL,                -- scores that have a p_fake
        lowest REAL, total REAL NOT NULL, highest REAL,  -- of p_fake
        speech REAL NOT NULL, lost REAL NOT NULL,        -- sums over all scores
        spoof INTEGER NOT NULL,
        PRIMARY KEY (stream_id, at)
    ) WITHOUT ROWID;
    CREATE INDEX summary_time ON summary (at);
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    INSERT INTO meta VALUES ('id', lower(hex(randomblob(16))));
    """,
    """
    CREATE TABLE seen (                         -- who has seen to an alert; the first one stands
        alert TEXT PRIMARY KEY,
        who TEXT NOT NULL,
        at TEXT NOT NULL                        -- UTC, RFC 3339
    ) WITHOUT ROWID;
    """,
)


def open_writer(path: Path) -> sqlite3.Connection:
    """Open the store for writing, make it where there is none, and bring an older one up to date.

    Raises:
        StoreError: it was made by a newer version.
        sqlite3.Error: it cannot be opened or written.
    """
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA auto_vacuum=INCREMENTAL")  # takes effect in a new file only
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("PRAGMA wal_autocheckpoint=0")  # a thread of its own does that: it waits for the disk
        db.execute(f"PRAGMA journal_size_limit={LARGEST_WAL}")
        _migrate(db, path)
    except BaseException:
        db.close()
        raise
    return db


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the store for reading, while another process writes or not.

    Raises:
        StoreError: there is none, it is none, or it was made by a newer version.
    """
    if not path.exists():
        raise StoreError(f"there is no event store at {path}: `streamdet listen --store {path}` makes one")
    try:
        db = _open_for_reading(path)
        version = _version(db)
    except sqlite3.Error as error:
        raise StoreError(f"cannot read the event store {path}: {error}") from error
    if version == 0:
        db.close()
        raise StoreError(f"{path} is no event store")
    _check_version(version, path)
    return db


def _open_for_reading(path: Path) -> sqlite3.Connection:
    where = path.resolve().as_uri()
    db = sqlite3.connect(f"{where}?mode=ro", uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        db.close()
        if path.with_name(path.name + "-wal").exists():
            raise
        # Nobody writes, and where the folder is read-only the files that readers share cannot be made.
        db = sqlite3.connect(f"{where}?immutable=1", uri=True, isolation_level=None)
    return db


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    version = _version(db)
    _check_version(version, path)
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        db.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version={number}; COMMIT;")


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _check_version(version: int, path: Path) -> None:
    if version > len(MIGRATIONS):
        raise StoreError(f"the event store {path} was made by a newer streamdet: update, or give another --store")
