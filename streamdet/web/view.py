"""What the page shows, as it stands now: the last of every stream, the alerts, the daemon's health.

Events come from a sink's thread and hops from the scoring thread; the server's thread asks a few times a second what is
new. So whatever happens between two such questions costs one line of the answer.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from streamdet.decide.judge import JudgeConfig
from streamdet.events import DAEMON, Event, Health, Score, State
from streamdet.features.logmel import FloatArray
from streamdet.tap import Heard
from streamdet.web.desk import Desk, Kept
from streamdet.web.picture import Picture, rounded
from streamdet.web.rules import describe_rules

HOPS = 1024  # hops that wait to be drawn; more than that and the server's thread stands still
SILENCE = -90.0  # dBFS
GONE = 600.0  # seconds after which a stream that has ended leaves the page
STREAMS = 1000  # streams shown; the one that was silent for longest goes first


@dataclass(slots=True)
class Row:
    """The last that was heard of one stream."""

    stream: str
    score: Score | None = None
    state: State | None = None
    rms: float = SILENCE
    peak: float = SILENCE
    judged: JudgeConfig | None = None  # how, as the hop drawn last was
    touched: float = 0.0

    def describe(self, *, state: bool = True) -> dict[str, Any]:
        """Plain values for JSON; short, since the score is sent three times a second and stream."""
        row: dict[str, Any] = {"stream": self.stream}
        if self.state is not None and state:
            row |= {"state": self.state.phase, "reason": self.state.reason, "detail": self.state.detail}
        if self.judged is not None and state:
            row |= {"rules": describe_rules(self.judged)}
        if self.score is not None:
            score = self.score
            row |= {
                "t": score.media_time,
                "p": rounded(score.p_fake),
                "windows": [rounded(p) for p in score.windows.values()],
                "speech": rounded(score.speech),
                "lost": rounded(score.lost),
                "verdict": score.verdict,
                "ms": round(score.latency_ms, 1),
                "rms": round(self.rms, 1),
                "peak": round(self.peak, 1),
            }
        return row


@dataclass(frozen=True, slots=True)
class News:
    """What has changed: rows of streams that were scored, rows whose state changed, alerts, pictures by stream."""

    scored: list[dict[str, Any]]
    scores: int
    moved: list[dict[str, Any]]
    gone: list[str]
    alerts: list[dict[str, Any]]
    pictures: dict[str, dict[str, Any]]
    skipped: int


class View:
    """Gathers what the page shows; :meth:`take` and :meth:`hear` may be called from any thread and return at once."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.health: Health | None = None
        self.notice: State | None = None  # what the daemon said last of itself
        self._lock = threading.Lock()
        self._rows: dict[str, Row] = {}
        self._pictures: dict[str, Picture] = {}
        self._hops: deque[Heard] = deque(maxlen=HOPS)
        self._overwritten = self._told = 0
        self._scores = 0
        self._scored: set[str] = set()
        self._moved: set[str] = set()
        self._alerts: dict[str, Kept] = {}

    def hear(self, heard: Heard) -> None:
        """Note a hop; on the scoring thread, so nothing is made of it here."""
        self._overwritten += len(self._hops) == HOPS
        self._hops.append(heard)

    def take(self, event: Event) -> None:
        """Take one event."""
        if event.type == "alert":
            self.note(self.desk.take(event))
            return
        with self._lock:
            if event.type == "health":
                self.health = event
                return
            if event.stream == DAEMON:
                self.notice = event if event.type == "state" else self.notice
                return
            row = self._rows.setdefault(event.stream, Row(event.stream))
            row.touched = time.monotonic()
            if event.type == "score":
                row.score = event
                self._scores += 1
                self._scored.add(event.stream)
            else:
                row.state = event
                self._moved.add(event.stream)

    def note(self, kept: Kept) -> None:
        """Have an alert shown as it now stands."""
        with self._lock:
            self._alerts[kept.alert.id] = kept

    def news(self) -> News:
        """Tell what has changed since the last call; on the server's thread."""
        for kept in self.desk.tick():
            self.note(kept)
        skipped = self._draw()
        with self._lock:
            gone = self._forget()
            scored = [self._rows[name].describe(state=False) for name in sorted(self._scored) if name in self._rows]
            moved = [self._rows[name].describe() for name in self._moved if name in self._rows]
            alerts, scores = [describe(kept) for kept in self._alerts.values()], self._scores
            self._scored, self._moved, self._alerts, self._scores = set(), set(), {}, 0
        pictures = {name: fresh for name, picture in self._pictures.items() if (fresh := picture.fresh()) is not None}
        return News(scored, scores, moved, gone, alerts, pictures, skipped)

    def snapshot(self) -> dict[str, Any]:
        """Tell everything there is, for a page that has just been opened."""
        with self._lock:
            rows = [row.describe() for row in self._rows.values()]
        return {"rows": rows, "alerts": [describe(kept) for kept in self.desk.alerts(200)]}

    def picture(self, stream: str) -> dict[str, Any] | None:
        """Return all that is held of a stream's picture; on the server's thread."""
        picture = self._pictures.get(stream)
        return None if picture is None else picture.whole()

    def _draw(self) -> int:
        """Draw the hops that wait; returns how many never were, because there was no room for them to wait."""
        while self._hops:
            self._draw_one(self._hops.popleft())
        skipped, self._told = self._overwritten - self._told, self._overwritten
        return skipped

    def _draw_one(self, heard: Heard) -> None:
        picture = self._pictures.get(heard.stream)
        if picture is None:
            picture = self._pictures[heard.stream] = Picture(heard.front_end)
        picture.add(heard)
        row = self._rows.get(heard.stream)
        if row is not None:
            row.rms, row.peak = levels(heard.hop.samples)
            if row.judged is not heard.judged:  # by a reload, or for the first time
                row.judged = heard.judged
                with self._lock:
                    self._moved.add(heard.stream)

    def _forget(self) -> list[str]:
        """Drop streams that ended long ago, and those that are too many."""
        now = time.monotonic()
        gone = [
            name
            for name, row in self._rows.items()
            if row.state is not None and row.state.phase == "ended" and now - row.touched > GONE
        ]
        many = len(self._rows) - len(gone) - STREAMS
        if many > 0:
            rest = sorted((row for row in self._rows.values() if row.stream not in gone), key=lambda row: row.touched)
            gone += [row.stream for row in rest[:many]]
        for name in gone:
            del self._rows[name]
            self._pictures.pop(name, None)
        return gone


def describe(kept: Kept) -> dict[str, Any]:
    """Plain values of an alert for JSON."""
    alert = kept.alert
    return {
        "id": alert.id,
        "stream": alert.stream,
        "phase": alert.phase,
        "reason": alert.reason,
        "onset": alert.onset,
        "peak": alert.peak,
        "duration": alert.duration,
        "raised": kept.raised,
        "time": alert.time,
        "playable": kept.playable,
        "pictured": kept.pictured,
        "sealed": alert.evidence is not None,
        "acknowledged": None if kept.acknowledged is None else asdict(kept.acknowledged),
    }


def levels(samples: FloatArray) -> tuple[float, float]:
    """Root mean square and peak of samples in [-1, 1], both in dB below full scale (0 dB is 1.0)."""
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float32))))
    peak = float(np.abs(samples).max(initial=0.0))
    return _decibels(rms), _decibels(peak)


def _decibels(amplitude: float) -> float:
    return max(SILENCE, 20.0 * float(np.log10(max(amplitude, 1e-9))))
