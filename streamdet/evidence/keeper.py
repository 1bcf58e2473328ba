"""Follows the alerts of all streams: scoring threads hand over what they have, one thread writes.

A disk that fails, hangs or fills up costs recordings and never time: what waits to be written is bounded, one state
event says that something is wrong, and what could not be written is noted in the chain once that is possible again. The
same holds for a disk that is full or read-only at the start: the folder is opened when it can be.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog

from streamdet.audio.ring import Span
from streamdet.decide.alarm import Transition
from streamdet.decide.judge import JudgeConfig
from streamdet.disk import STEADY_SECONDS, may_pass
from streamdet.errors import EvidenceError
from streamdet.events import Alert, Evidence, StatePhase
from streamdet.evidence.chain import Chain, read_entries
from streamdet.evidence.recording import Circumstances, Piece, Recording, chained, event_dict, file_name, made_files
from streamdet.evidence.recovery import recover
from streamdet.evidence.retention import Retention
from streamdet.evidence.seal import Entry, file_digest
from streamdet.pipeline import HOLD_SECONDS
from streamdet.tap import Heard, KeeperFigures

log = structlog.get_logger(__name__)
PREROLL: Final = 5.0  # seconds before the onset
PAST: Final = 64  # hops whose scores are kept of each stream: 20 s
WAITING: Final = 3000  # hops that may wait to be written, 60 MB
OWED: Final = 1000  # alerts that may wait to be noted after all
SEALING: Final = 16  # alerts that may wait for an idle moment to be noted
RETRY: Final = (0.5, 15.0)  # seconds between two tries: the first, the longest
TIDY_SECONDS: Final = 60.0
Failure = (OSError, EvidenceError)

Tell = Callable[[StatePhase, str, dict[str, float | int | str] | None], None]
Sound = Callable[[str, int, int], Span | None]


@dataclass(frozen=True, slots=True)
class _Begin:
    alert: Alert
    about: dict[str, Any]
    piece: Piece


@dataclass(frozen=True, slots=True)
class _More:
    alert_id: str
    piece: Piece


@dataclass(frozen=True, slots=True)
class _Complete:
    step: Transition
    when: str
    done: Future[Evidence | None]
    asked: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class _Orphan:
    """The end of an alert that an earlier life of the process raised."""

    alert: Alert


_Item = _Begin | _More | Alert | _Complete | _Orphan


class AlertKeeper:
    """Implements :class:`streamdet.tap.Keeper`."""

    def __init__(self, around: Circumstances, chain: Chain, retention: Retention, sound: Sound, tell: Tell) -> None:
        self.recorded = self.failed = self.late = 0
        self.on_sealed: Callable[[Entry], None] = lambda _entry: None
        self._around, self._chain, self._retention = around, chain, retention
        self._sound, self._tell = sound, tell
        self._rate, self._hop = around.front_end.rate, around.front_end.hop_samples
        # of the scoring threads; each stream has one
        self._past: dict[str, deque[tuple[int, float | None, int]]] = {}
        self._active: dict[str, str] = {}
        self._judged: dict[str, JudgeConfig] = {}
        # shared
        self._items: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._hops = 0
        self._closing = False
        # of the writer
        self._recordings: dict[str, Recording | None] = {}  # None: its files could not be written
        self._alerts: dict[str, Alert] = {}
        self._sealing: deque[tuple[Recording, Transition, str]] = deque()  # told, and not in the chain yet
        self._owed: deque[tuple[str, dict[str, Any]]] = deque(maxlen=OWED)
        self._known: set[str] = set()
        self._claim: Callable[[], None] = lambda: None
        self._opened = False
        self._orphans: deque[Alert] = deque(maxlen=OWED)  # heard of before the chain could be read
        self._broken = ""
        self._good_since: float | None = None  # while broken: since when writing has gone well
        self._pause, self._retry_at = RETRY[0], 0.0
        self._tidy_at = 0.0
        self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)

    # ---- scoring threads ----

    def hear(self, heard: Heard) -> None:
        """Take a hop; a tap."""
        hop, stream = heard.hop, heard.stream
        past = self._past.get(stream)
        if past is None:
            past = self._past[stream] = deque(maxlen=PAST)
        p_fake = heard.judgement.p_fake
        past.append((hop.end, p_fake, hop.lost))
        self._judged[stream] = heard.judged
        alert_id = self._active.get(stream)
        if alert_id is not None:
            start = (hop.end - 1) // self._hop * self._hop
            said = ((hop.end / self._rate, p_fake),)
            self._put(_More(alert_id, Piece(start, hop.samples[: hop.end - start], hop.lost, said, heard.judged)))

    def follow(self, alert: Alert) -> None:
        """Begin a recording, or note that one goes on."""
        if alert.phase != "raised":
            self._put(alert)
            return
        past = list(self._past.get(alert.stream, ()))
        stop = past[-1][0] if past else round(alert.media_time * self._rate)
        begin = max(0, round((alert.onset - PREROLL) * self._rate))
        span = self._sound(alert.stream, begin, stop)
        samples = np.zeros(0, np.float32) if span is None else span.samples
        start = stop if span is None else span.start
        said = tuple((end / self._rate, p_fake) for end, p_fake, _ in past if end > start)
        self._active[alert.stream] = alert.id
        lost = 0 if span is None else span.lost
        piece = Piece(start, samples, lost, said, self._judged.get(alert.stream, JudgeConfig()))
        about = self._around.about() | {"model": alert.model, "source": self._around.source(alert.stream)}
        self._put(_Begin(alert, about, piece))

    def complete(self, stream: str, step: Transition, time: str) -> Future[Evidence | None]:
        """Have a recording completed."""
        self._active.pop(stream, None)
        done: Future[Evidence | None] = Future()
        self._put(_Complete(step, time, done))
        return done

    def leave(self, stream: str) -> None:
        """Forget a stream."""
        self._past.pop(stream, None)
        self._judged.pop(stream, None)
        self._active.pop(stream, None)

    def orphan(self, alert: Alert) -> None:
        """Hear that an alert is over which may never have been recorded; from a sink's thread."""
        self._put(_Orphan(alert))

    def _put(self, item: _Item) -> None:
        with self._changed:
            if isinstance(item, _More):
                if self._hops >= WAITING:
                    return  # the recording has a gap then, and says so
                self._hops += 1
            self._items.append(item)
            self._changed.notify()

    # ---- life ----

    def start(self, claim: Callable[[], None] = lambda: None) -> None:
        """Close what an earlier life left, and begin; where the disk refuses, once it does not.

        Args:
            claim: makes this process the one that records into the folder; called again until it succeeds.

        Raises:
            OSError: the folder cannot be used, and the disk is not why.
            EvidenceError: the chain's end was changed, or another process records into the folder.
        """
        self._claim = claim
        try:
            self._open()
        except OSError as error:
            if not may_pass(error):
                raise
            self._fail(error)
        self._thread.start()

    def close(self, patience: float) -> None:
        """Write what waits, for some seconds at most."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(patience)
            if self._thread.is_alive():
                log.warning("evidence_stuck", waiting=len(self._items))

    def figures(self) -> KeeperFigures:
        """Count what became of the recordings; from any thread."""
        return KeeperFigures(self.recorded, self.failed, self.late, self._hops, bool(self._broken))

    # ---- the writer ----

    def _open(self) -> None:
        """Make the folder this process's own; what an earlier life left there is closed before anything is added."""
        if self._opened:
            return
        self._claim()
        self._chain.prepare()
        for entry in recover(self._around.folder, self._chain):
            log.warning("evidence_closed_incomplete", alert=entry["alert"], stream=entry["stream"])
            self.on_sealed(entry)
        self._known |= {entry["alert"] for entry in read_entries(self._around.folder) if entry["kind"] == "alert"}
        self._opened = True
        while self._orphans:
            self._owe_orphan(self._orphans.popleft())

    def _run(self) -> None:
        while (item := self._next()) is not None or self._sealing or not self._closing:
            try:
                if item is not None:
                    self._handle(item)
                if self._sealing and (item is None or len(self._sealing) > SEALING):
                    self._seal(*self._sealing.popleft())
                elif not self._items:  # also between the hops of an alert that lasts
                    self._settle()
            except Exception:  # a fault in one recording must neither end all others nor go unseen
                log.exception("evidence_crashed")
                if isinstance(item, _Complete) and not item.done.done():
                    item.done.set_result(None)
        self._settle()
        for recording in self._recordings.values():
            if recording is not None:
                recording.abandon()

    def _next(self) -> _Item | None:
        with self._changed:
            if not self._items and not self._sealing and not self._closing:
                self._changed.wait(RETRY[0])
            if not self._items:
                return None
            item = self._items.popleft()
            self._hops -= isinstance(item, _More)
            return item

    def _handle(self, item: _Item) -> None:
        if isinstance(item, _Begin):
            self._begin(item)
        elif isinstance(item, _Complete):
            self._finish(item)
        elif isinstance(item, _Orphan):
            self._note_orphan(item.alert)
        else:
            self._go_on(item)

    def _begin(self, item: _Begin) -> None:
        self._known.add(item.alert.id)
        self._alerts[item.alert.id] = item.alert
        self._recordings[item.alert.id] = None
        try:
            self._open()
            self._retention.make_room(self._chain)
            self._recordings[item.alert.id] = Recording(self._around, item.about, item.alert, item.piece)
        except Failure as error:
            self._fail(error)

    def _go_on(self, item: _More | Alert) -> None:
        key = item.alert_id if isinstance(item, _More) else item.id
        recording = self._recordings.get(key)
        if recording is None:
            return
        try:
            recording.take(item.piece) if isinstance(item, _More) else recording.note(item)
        except Failure as error:
            recording.discard()
            self._recordings[key] = None
            self._fail(error)

    def _finish(self, item: _Complete) -> None:
        """Complete what the end of the alert names, and say so; picture, sidecar and chain come when there is time."""
        recording = self._recordings.pop(item.step.id, None)
        alert = self._alerts.pop(item.step.id, None)
        path = None
        if recording is not None:
            try:
                path = recording.close()
            except Failure as error:
                self._fail(error)
                recording.discard()
                recording = None
        if recording is None:
            if alert is not None:
                self._owed.append((file_name(alert), self._bare(alert, item.step, item.when)))
        elif path is None:
            path = self._seal(recording, item.step, item.when)
        else:
            self._sealing.append((recording, item.step, item.when))
        self.late += path is not None and time.monotonic() - item.asked > HOLD_SECONDS
        item.done.set_result(None if path is None else Evidence(path=str(path.absolute()), sha256=file_digest(path)))

    def _seal(self, recording: Recording, step: Transition, time: str) -> Path | None:
        """Put a recording in the chain; returns its sidecar, None where the disk refused."""
        try:
            entry, sidecar = recording.seal(self._chain, step, time)
        except Failure as error:
            self._fail(error)
            self._owed.append((recording.name, self._bare(recording.alert, step, time)))
            return None
        self._done(entry)
        return sidecar

    def _note_orphan(self, alert: Alert) -> None:
        if self._opened:
            self._owe_orphan(alert)
            self._settle()
        elif alert.id not in self._known:
            self._orphans.append(alert)

    def _owe_orphan(self, alert: Alert) -> None:
        if alert.id in self._known:
            return
        self._known.add(alert.id)
        step = Transition(alert.id, "cleared", alert.reason, alert.media_time, alert.onset, alert.peak)
        why = "streamdet ended before anything could be recorded"
        self._owed.append((file_name(alert), self._bare(alert, step, alert.time, why)))

    def _bare(self, alert: Alert, step: Transition, time: str, why: str = "") -> dict[str, Any]:
        """Describe an alert of which there is no recording."""
        last = {"phase": "cleared", "reason": step.reason, "time": time, "peak": step.peak, "duration": step.duration}
        return self._around.about() | {
            "model": alert.model,
            "source": None if why else self._around.source(alert.stream),  # of an earlier life nobody knows
            "status": "incomplete",
            "why": why or f"it could not be written: {self._broken}",
            "mode": self._around.mode,
            "alert": alert.id,
            "stream": alert.stream,
            "raised": alert.time,
            "events": [event_dict(alert), last],
        }

    def _done(self, entry: Entry) -> None:
        self.recorded += 1
        self.on_sealed(entry)

    def _prove(self, now: float) -> None:
        """Write something small again and again, and say that all is well once that has gone well for a while."""
        self._chain.prepare()
        if self._good_since is None:
            self._good_since = now
        if now - self._good_since < STEADY_SECONDS:
            self._retry_at = now + RETRY[0]
            return
        self._broken, self._pause, self._good_since = "", RETRY[0], None
        said = f"evidence: writing again; {self.failed} writes failed"
        log.warning("evidence_state", phase="live", reason=said)
        self._tell("live", said, {"failed": self.failed})

    def _fail(self, error: Exception) -> None:
        self.failed += 1
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        self._good_since = None
        self._retry_at = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, RETRY[1])
        before, self._broken = self._broken, reason
        if before and before != reason:
            log.warning("evidence_still_degraded", reason=reason)
        if not before:
            said = f"evidence: {reason} ({self._around.folder}); alerts are not recorded"
            log.warning("evidence_state", phase="degraded", reason=said)
            self._tell("degraded", said, {"failed": self.failed})

    def _settle(self) -> None:
        """Note what is owed, and keep within the limits, when there is time."""
        now = time.monotonic()
        if now < self._retry_at and not self._closing:
            return
        try:
            self._open()
            while self._owed:
                name, content = self._owed[0]
                made = made_files(self._around.folder, name)
                self._done(chained(self._chain, self._around.folder, name, content, made))
                self._owed.popleft()
            if now >= self._tidy_at or self._broken:
                self._tidy_at = now + TIDY_SECONDS
                self._retention.make_room(self._chain)
            if self._broken:
                self._prove(now)
        except Failure as error:
            self._fail(error)
