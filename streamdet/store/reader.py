"""Reads the event store while another process writes it, or none."""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from streamdet.errors import StoreError
from streamdet.events import Alert, from_json, utc
from streamdet.store.schema import ALERT, HEALTH, KEPT_HEALTH, SCORE, STATE, open_reader
from streamdet.store.writer import positions

KINDS: Final = {"score": (SCORE,), "alert": (ALERT,), "state": (STATE,), "health": (HEALTH, KEPT_HEALTH)}
ENDS: Final = """
    SELECT (SELECT min(seq) FROM event WHERE stream_id = :id), (SELECT max(seq) FROM event WHERE stream_id = :id)
"""
ALERTS: Final = "SELECT payload FROM event WHERE kind = ? ORDER BY at DESC, seq DESC LIMIT ?"
EVENTS_AN_ALERT: Final = 20  # looked at, on average: one is told again every few seconds while it lasts
BEGINNING, END = -(1 << 62), 1 << 62

LATEST: Final = """
    SELECT payload FROM event WHERE stream_id = :id AND seq IN (
        (SELECT max(seq) FROM event WHERE stream_id = :id AND kind = 1),
        (SELECT max(seq) FROM event WHERE stream_id = :id AND kind = 2),
        (SELECT max(seq) FROM event WHERE stream_id = :id)
    ) ORDER BY seq
"""


@dataclass(frozen=True, slots=True)
class Held:
    """What is there of a stream; 0 where nothing is.

    Events before ``oldest`` are gone. Between ``oldest`` and ``full_from`` scores are gone, replaced by summaries.
    ``last`` is the highest number ever stored.
    """

    oldest: int
    full_from: int
    last: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What is left of the scores of ten seconds; ``p_fake`` values are None where no score had one."""

    stream: str
    time: str
    scores: int
    lowest: float | None
    mean: float | None
    highest: float | None
    speech: float
    lost: float
    spoof: int


@dataclass(frozen=True, slots=True)
class Known:
    """An alert as told last, when it was raised (UTC), and who has seen to it and when; None where nobody has."""

    alert: Alert
    raised: str
    seen: tuple[str, str] | None


class Reader:
    """A connection for one thread.

    Raises:
        StoreError: there is no store, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = open_reader(path)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """See one state of the store for as long as the block lasts."""
        with self._reading():
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("COMMIT")

    def id(self) -> str:
        """Name of this very store; another file has another one."""
        with self._reading():
            return str(self._db.execute("SELECT value FROM meta WHERE key = 'id'").fetchone()[0])

    def positions(self) -> dict[str, int]:
        """Highest ``seq`` ever stored of each stream."""
        with self._reading():
            return positions(self._db)

    def held(self, stream: str) -> Held:
        """Say what is there of a stream."""
        with self._reading():
            row = self._db.execute("SELECT id, pruned_to, thinned_to FROM stream WHERE name = ?", (stream,)).fetchone()
            if row is None:
                return Held(0, 0, 0)
            oldest, last = self._db.execute(ENDS, {"id": row[0]}).fetchone()
        return Held(oldest or 0, row[2] + 1, max(last or 0, row[1]))

    def after(self, stream: str, since: int, upto: int, limit: int) -> list[bytes]:
        """Events of a stream with ``since < seq <= upto``, as published, at most ``limit`` of them, in order."""
        query = "SELECT payload FROM event WHERE stream_id = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
        with self._reading():
            number = self._id(stream)
            rows = [] if number is None else self._db.execute(query, (number, since, upto, limit)).fetchall()
        return [payload for (payload,) in rows]

    def latest(self, stream: str) -> list[bytes]:
        """Last state, last alert and last event of a stream, in order of ``seq``."""
        with self._reading():
            number = self._id(stream)
            return [] if number is None else [payload for (payload,) in self._db.execute(LATEST, {"id": number})]

    def alerts(self, limit: int) -> list[Known]:
        """Return the latest alerts, the newest first."""
        last: dict[str, Alert] = {}
        raised: dict[str, str] = {}
        with self._reading():
            for (payload,) in self._db.execute(ALERTS, (ALERT, limit * EVENTS_AN_ALERT)):
                told = json.loads(payload)
                if told["id"] not in last:
                    if len(last) == limit:
                        continue  # what comes now may still say when others were raised
                    event = from_json(payload)
                    assert isinstance(event, Alert)  # by its kind
                    last[event.id] = event
                raised[told["id"]] = told["time"]
            seen = {alert: (who, at) for alert, who, at in self._db.execute("SELECT alert, who, at FROM seen")}
        return [Known(alert, raised[key], seen.get(key)) for key, alert in last.items()]

    def find(
        self,
        *,
        since: int = BEGINNING,
        until: int = END,
        streams: Collection[str] = (),
        kinds: Collection[str] = tuple(KINDS),
    ) -> Iterator[tuple[int, bytes]]:
        """Yield time (ms since the epoch) and payload of events, oldest first, with ``since <= time < until``."""
        numbers = [number for kind in kinds for number in KINDS[kind]]
        return heapq.merge(
            *(self._of_kind(number, since, until, streams) for number in numbers), key=lambda row: row[0]
        )

    def summaries(
        self, *, since: int = BEGINNING, until: int = END, streams: Collection[str] = ()
    ) -> Iterator[Summary]:
        """Yield what is left of scores that are no longer kept one by one, oldest first."""
        query = (
            "SELECT name, at, scores, judged, lowest, total, highest, speech, lost, spoof FROM summary "
            "JOIN stream ON stream.id = stream_id WHERE at >= ? AND at < ? ORDER BY at"
        )
        with self._reading():
            for name, at, scores, judged, low, total, high, speech, lost, spoof in self._db.execute(
                query, (since, until)
            ):
                if not streams or name in streams:
                    mean = total / judged if judged else None
                    yield Summary(name, utc(at / 1e3), scores, low, mean, high, speech / scores, lost / scores, spoof)

    def _of_kind(self, kind: int, since: int, until: int, streams: Collection[str]) -> Iterator[tuple[int, bytes]]:
        query = "SELECT at, payload FROM event WHERE kind = ? AND at >= ? AND at < ?"
        with self._reading():
            numbers = [self._id(stream) for stream in streams]
            if streams:
                query += f" AND stream_id IN ({','.join('?' * len(numbers))})"
            # Not ``yield from``: it would close the cursor, which fails where the store was closed before.
            for row in self._db.execute(f"{query} ORDER BY at", (kind, since, until, *numbers)):  # noqa: UP028
                yield row

    def _id(self, stream: str) -> int | None:
        row = self._db.execute("SELECT id FROM stream WHERE name = ?", (stream,)).fetchone()
        return None if row is None else int(row[0])

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"cannot read the event store {self.path}: {error}") from error
