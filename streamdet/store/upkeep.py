"""Keeps the store small: old scores become summaries, what is too old or too much is deleted, a few rows at a time."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from streamdet.events import utc
from streamdet.store.schema import ALERT, HEALTH, KEPT_HEALTH, SCORE, STATE
from streamdet.store.writer import transaction

STEP: Final = 200  # rows; a few milliseconds, in which an event that comes meanwhile waits
SUMMARY_MS: Final = 10_000
HEALTH_MS: Final = 60_000
DAY_MS: Final = 86_400_000
VACUUM_PAGES: Final = 64  # pages given back to the disk in one step
SLACK: Final = 0.25  # share of free pages at which giving back is worth it

UPSERT: Final = """
    INSERT INTO summary VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
        scores = scores + excluded.scores, judged = judged + excluded.judged,
        lowest = min(coalesce(lowest, excluded.lowest), coalesce(excluded.lowest, lowest)),
        total = total + excluded.total,
        highest = max(coalesce(highest, excluded.highest), coalesce(excluded.highest, highest)),
        speech = speech + excluded.speech, lost = lost + excluded.lost, spoof = spoof + excluded.spoof
"""
OLDEST: Final = "SELECT stream_id, seq, at, payload FROM event WHERE kind = ? AND at < ? ORDER BY at LIMIT ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long events are kept, and how much room they may take."""

    recent_seconds: float = 3600.0
    keep_seconds: float = 30 * 86_400.0
    most_bytes: int = 1 << 30


@dataclass(slots=True)
class _Summary:
    """What becomes of the scores of ten seconds."""

    values: list[float] = field(default_factory=list)
    scores: int = 0
    speech: float = 0.0
    lost: float = 0.0
    spoof: int = 0

    def add(self, payload: bytes) -> None:
        score = json.loads(payload)
        self.scores += 1
        self.speech += score["speech"]
        self.lost += score["lost"]
        self.spoof += score["verdict"] == "spoof"
        if score["p_fake"] is not None:
            self.values.append(score["p_fake"])

    def row(self, stream: int, at: int) -> tuple[object, ...]:
        low, high = (min(self.values), max(self.values)) if self.values else (None, None)
        total = sum(self.values)
        return stream, at, self.scores, len(self.values), low, total, high, self.speech, self.lost, self.spoof


class Upkeep:
    """Does one small step at a time on the writer's connection."""

    def __init__(self, db: sqlite3.Connection, limits: Limits, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._limits = limits
        self._clock = clock

    def step(self) -> bool:
        """Do the most urgent step; returns False where there is nothing to do.

        Raises:
            sqlite3.Error: it could not be done; nothing is half done.
        """
        now = round(1e3 * self._clock())
        recent = now - round(1e3 * self._limits.recent_seconds)
        kept = now - round(1e3 * self._limits.keep_seconds)
        return (
            self._thin_scores(recent)
            or self._thin_health(recent)
            or any(self._delete_events(kind, kept) for kind in (KEPT_HEALTH, STATE, ALERT))
            or self._delete_summaries(kept)
            or self._delete_seen(kept)
            or (self.used() > self._limits.most_bytes and self._make_room(now))
            or self._give_back()
        )

    def used(self) -> int:
        """Bytes of the file that hold something."""
        return (self._pragma("page_count") - self._pragma("freelist_count")) * self._pragma("page_size")

    def _make_room(self, now: int) -> bool:
        """Delete what is missed least: old summaries, then recent detail, then the rest, alerts last."""
        return (
            self._delete_summaries(now - DAY_MS)
            or self._thin_scores(now)
            or self._delete_summaries(now)
            or any(self._delete_events(kind, now) for kind in (HEALTH, KEPT_HEALTH, STATE, ALERT))
        )

    def _thin_scores(self, before: int) -> bool:
        rows = self._oldest(SCORE, before)
        if not rows:
            return False
        summaries: dict[tuple[int, int], _Summary] = {}
        for stream, _, at, payload in rows:
            summaries.setdefault((stream, at - at % SUMMARY_MS), _Summary()).add(payload)
        with transaction(self._db):
            self._db.executemany(UPSERT, [summary.row(*key) for key, summary in summaries.items()])
            self._forget((stream, seq) for stream, seq, _, _ in rows)
            marks = {stream: max(seq for s, seq, _, _ in rows if s == stream) for stream, _, _, _ in rows}
            self._db.executemany(
                "UPDATE stream SET thinned_to = max(thinned_to, ?) WHERE id = ?", [(s, i) for i, s in marks.items()]
            )
        return True

    def _thin_health(self, before: int) -> bool:
        """Keep the first of each minute."""
        rows = self._oldest(HEALTH, before)
        if not rows:
            return False
        last = self._db.execute("SELECT max(at) FROM event WHERE kind = ?", (KEPT_HEALTH,)).fetchone()[0]
        minute = -1 if last is None else last // HEALTH_MS
        with transaction(self._db):
            for stream, seq, at, _ in rows:
                if at // HEALTH_MS == minute:
                    self._forget([(stream, seq)])
                else:
                    minute = at // HEALTH_MS
                    keep = "UPDATE event SET kind = ? WHERE stream_id = ? AND seq = ?"
                    self._db.execute(keep, (KEPT_HEALTH, stream, seq))
            self._db.execute("UPDATE stream SET thinned_to = ? WHERE id = ?", (rows[-1][1], rows[-1][0]))
        return True

    def _delete_events(self, kind: int, before: int) -> bool:
        rows = self._oldest(kind, before)
        if not rows:
            return False
        with transaction(self._db):
            self._forget((stream, seq) for stream, seq, _, _ in rows)
        return True

    def _delete_summaries(self, before: int) -> bool:
        rows = self._db.execute("SELECT stream_id, at FROM summary WHERE at < ? ORDER BY at LIMIT ?", (before, STEP))
        keys = rows.fetchall()
        if not keys:
            return False
        with transaction(self._db):
            self._db.executemany("DELETE FROM summary WHERE stream_id = ? AND at = ?", keys)
        return True

    def _delete_seen(self, before: int) -> bool:
        oldest = utc(max(0.0, before / 1e3))  # "never" lies before the calendar begins
        rows = self._db.execute("SELECT alert FROM seen WHERE at < ? LIMIT ?", (oldest, STEP)).fetchall()
        if not rows:
            return False
        with transaction(self._db):
            self._db.executemany("DELETE FROM seen WHERE alert = ?", rows)
        return True

    def _forget(self, keys: Iterable[tuple[int, int]]) -> None:
        gone = list(keys)
        self._db.executemany("DELETE FROM event WHERE stream_id = ? AND seq = ?", gone)
        self._db.executemany("UPDATE stream SET pruned_to = max(pruned_to, ?) WHERE id = ?", [(s, i) for i, s in gone])

    def _oldest(self, kind: int, before: int) -> list[tuple[int, int, int, bytes]]:
        return self._db.execute(OLDEST, (kind, before, STEP)).fetchall()

    def _give_back(self) -> bool:
        free, pages = self._pragma("freelist_count"), self._pragma("page_count")
        if free <= VACUUM_PAGES or free < SLACK * pages:
            return False
        self._db.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
        return True

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])
