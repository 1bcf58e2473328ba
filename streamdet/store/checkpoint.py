"""Moves what was written from the write-ahead log into the store's file, in a thread that may wait for the disk."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import Final

import structlog

from streamdet.store.schema import BUSY_SECONDS

log = structlog.get_logger(__name__)
LOOK_SECONDS: Final = 2.0
EVERY_SECONDS: Final = 15.0
WORTH_BYTES: Final = 1 << 20  # the log keeps its length when it is used again from its beginning
GROWTH_BYTES: Final = 16 << 20  # which are not left for later


class Checkpointer(threading.Thread):
    """Checkpoints every 15 seconds, sooner where the log grows fast.

    A passive checkpoint waits for nobody and nobody for it, except that writing to a disk that is being synchronised
    may take longer; so it is not done more often than need be.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(name="store-checkpoint", daemon=True)
        self._path = path
        self._wal = path.with_name(path.name + "-wal")
        self._stopped = threading.Event()
        self._failed = 0
        self._length = 0
        self._next = 0.0

    def run(self) -> None:
        """Go on until closed."""
        while not self._stopped.wait(LOOK_SECONDS):
            try:
                length = self._wal.stat().st_size
                if length - self._length >= GROWTH_BYTES or (length >= WORTH_BYTES and time.monotonic() >= self._next):
                    self._checkpoint()
                    self._length, self._next = length, time.monotonic() + EVERY_SECONDS
            except FileNotFoundError:
                continue
            except (OSError, sqlite3.Error) as error:
                self._note(error)

    def close(self) -> None:
        """Stop; a checkpoint that hangs is left to itself."""
        self._stopped.set()
        if self.ident is not None:
            self.join(1.0)

    def _checkpoint(self) -> None:
        db = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        finally:
            db.close()

    def _note(self, error: Exception) -> None:
        self._failed += 1
        if self._failed & (self._failed - 1) == 0:  # the 1st, 2nd, 4th ...
            log.warning("store_checkpoint_failed", path=str(self._path), reason=str(error), failed=self._failed)
