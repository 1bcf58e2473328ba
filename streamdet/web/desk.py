"""What the page wants of whoever keeps alerts and their recordings, and the plain desk that keeps them in memory.

A part that writes evidence to the disk offers a :class:`Desk` of its own; the page then shows what it keeps.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import soundfile
import structlog

from streamdet.audio.ring import Span
from streamdet.errors import StoreError
from streamdet.events import Alert
from streamdet.features.logmel import FloatArray
from streamdet.parts import Inside
from streamdet.store.reader import Reader
from streamdet.store.writer import Seen

log = structlog.get_logger(__name__)
ALERTS = 200  # alerts kept in memory; the oldest that is over goes first
PREROLL = 5.0  # seconds before the onset
TAIL = 2.0  # seconds after the end
LONGEST = 120.0  # seconds of one recording
ALL_BYTES = 48_000_000  # of all recordings together


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Somebody has seen to an alert: who, and when (UTC, RFC 3339)."""

    by: str
    at: str


@dataclass(frozen=True, slots=True)
class Kept:
    """An alert as it stands, when it was raised (UTC), and whether there is a recording to play."""

    alert: Alert
    raised: str
    playable: bool
    acknowledged: Acknowledgement | None = None
    pictured: bool = False


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording to play: a file on the disk, or bytes in memory."""

    media_type: str
    name: str
    path: Path | None = None
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Proof:
    """What came of checking a recording: ``unsealed`` is one that nothing vouches for, because it is only in memory."""

    state: Literal["intact", "changed", "missing", "unsealed"]
    text: str
    sha256: str | None = None


class Desk(Protocol):
    """Keeps alerts, their recordings and who has seen to them; called from several threads, never the scoring one."""

    def take(self, alert: Alert) -> Kept:
        """Hear of an alert's next step, in order; returns it as it now stands."""
        ...

    def alerts(self, limit: int) -> Sequence[Kept]:
        """Return the latest alerts, the newest first, those from before this start included where they are stored."""
        ...

    def get(self, alert_id: str) -> Kept | None:
        """Return one alert; None where it is unknown."""
        ...

    def recording(self, alert_id: str) -> Recording | None:
        """Return what can be played of an alert; None where nothing is kept. May read a file."""
        ...

    def picture(self, alert_id: str) -> Recording | None:
        """Return a picture of an alert's recording; None where there is none."""
        ...

    def verify(self, alert_id: str) -> Proof:
        """Check that the recording is what was recorded. May take long."""
        ...

    def acknowledge(self, alert_id: str, acknowledgement: Acknowledgement) -> Kept | None:
        """Note who has seen to an alert; the first one stands. None where the alert is unknown."""
        ...

    def tick(self) -> Sequence[Kept]:
        """Do what has to be done a few times a second, quickly; returns alerts that stand otherwise than before."""
        ...


@dataclass(slots=True)
class _Clip:
    """Sound of one alert, int16, taken out of the ring piece by piece before it is overwritten."""

    stream: str
    start: int
    stop: int
    until: int | None = None  # where it ends, once that is known
    pieces: list[np.ndarray[tuple[int], np.dtype[np.int16]]] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return self.until is not None and self.stop >= self.until

    @property
    def size(self) -> int:
        return sum(piece.nbytes for piece in self.pieces)

    def append(self, span: Span) -> None:
        if not self.pieces:
            self.start = self.stop = span.start
        fresh = span.samples[self.stop - span.start :]
        if span.start <= self.stop and len(fresh):
            self.pieces.append(as_int16(fresh))
            self.stop = span.stop


class MemoryDesk:
    """Keeps the latest alerts and their sound in memory, as long as streamdet runs: no sound touches the disk.

    ``past`` are alerts of before this start, the newest first; who sees to one is stored where there is a store.
    """

    def __init__(self, inside: Inside, past: Sequence[Kept] = ()) -> None:
        self._inside = inside
        self._rate = inside.model.front_end.rate
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Kept] = OrderedDict((kept.alert.id, kept) for kept in reversed(past))
        self._clips: OrderedDict[str, _Clip] = OrderedDict()

    def take(self, alert: Alert) -> Kept:
        """Hear of an alert's next step, and take what there is of its sound."""
        with self._lock:
            before = self._kept.get(alert.id)
            clip = self._clips.get(alert.id)
            if before is None:
                clip = self._begin(alert)
            elif clip is not None and alert.phase == "cleared":
                # a stream that ended has no more sound, and one of the same name that follows is another
                tail = 0.0 if alert.reason == "ended" else TAIL
                clip.until = min(clip.start + self._at(LONGEST), self._at(alert.media_time + tail))
            if clip is not None:
                self._grow(clip)
            playable = clip is not None and bool(clip.pieces)
            kept = Kept(
                alert, before.raised if before else alert.time, playable, before.acknowledged if before else None
            )
            self._kept[alert.id] = kept
            self._trim()
            return kept

    def alerts(self, limit: int) -> Sequence[Kept]:
        """Return the latest alerts, the newest first."""
        with self._lock:
            return list(reversed(self._kept.values()))[:limit]

    def get(self, alert_id: str) -> Kept | None:
        """Return one alert."""
        with self._lock:
            return self._kept.get(alert_id)

    def recording(self, alert_id: str) -> Recording | None:
        """Return the sound kept so far, as WAV."""
        with self._lock:
            clip, kept = self._clips.get(alert_id), self._kept.get(alert_id)
            pieces = [] if clip is None else list(clip.pieces)
        if kept is None or not pieces:
            return None
        name = f"{kept.alert.stream}-{alert_id[:8]}.wav"
        return Recording("audio/wav", name, data=wav(np.concatenate(pieces), self._rate))

    def picture(self, alert_id: str) -> Recording | None:  # noqa: ARG002  as the protocol has it
        """Return no picture: none is drawn of what is only in memory."""
        return None

    def verify(self, alert_id: str) -> Proof:
        """Say that nothing vouches for a recording that is only in memory."""
        recording = self.recording(alert_id)
        if recording is None:
            return Proof("missing", "There is no recording of this alert.")
        digest = hashlib.sha256(recording.data).hexdigest()
        return Proof("unsealed", "Kept in memory only: it can be played, but nothing vouches for it.", digest)

    def acknowledge(self, alert_id: str, acknowledgement: Acknowledgement) -> Kept | None:
        """Note who has seen to an alert; the first one stands."""
        with self._lock:
            kept = self._kept.get(alert_id)
            if kept is not None and kept.acknowledged is None:
                kept = self._kept[alert_id] = replace(kept, acknowledged=acknowledgement)
                store_acknowledgement(self._inside, alert_id, acknowledgement)
            return kept

    def tick(self) -> Sequence[Kept]:
        """Go on recording the alerts that last."""
        with self._lock:
            for clip in self._clips.values():
                if not clip.complete:
                    self._grow(clip)
        return ()

    def _begin(self, alert: Alert) -> _Clip:
        start = self._at(max(0.0, alert.onset - PREROLL))
        clip = self._clips[alert.id] = _Clip(alert.stream, start, start)
        return clip

    def _grow(self, clip: _Clip) -> None:
        stop = clip.until or clip.start + self._at(LONGEST)
        span = self._inside.sound(clip.stream, clip.stop, stop) if stop > clip.stop else None
        if span is not None and (span.stop > clip.stop):
            clip.append(span)
        elif span is None and clip.until is not None:
            clip.until = clip.stop  # the stream is over: no more will come

    def _trim(self) -> None:
        while len(self._kept) > ALERTS:
            oldest = next(
                (key for key, kept in self._kept.items() if kept.alert.phase == "cleared"), next(iter(self._kept))
            )
            del self._kept[oldest]
            self._clips.pop(oldest, None)
        while len(self._clips) > 1 and sum(clip.size for clip in self._clips.values()) > ALL_BYTES:
            oldest, _ = self._clips.popitem(last=False)
            if oldest in self._kept:
                self._kept[oldest] = replace(self._kept[oldest], playable=False)

    def _at(self, seconds: float) -> int:
        return round(seconds * self._rate)


def stored_alerts(inside: Inside) -> list[Kept]:
    """Return the latest alerts of the event store, the newest first; none where there is no store.

    Nor where a full or read-only disk has let nobody make the file yet: nothing is lacking, and the store says so.
    """
    if inside.store is None or not _begun(inside.store.path):
        return []
    try:
        with Reader(inside.store.path) as reader:
            known = reader.alerts(ALERTS)
    except StoreError as error:
        log.warning("page_past_unread", reason=str(error))
        inside.tell("degraded", f"the page lacks the alerts from before this start: {error}")
        return []
    return [
        Kept(
            one.alert, one.raised, playable=False, acknowledged=None if one.seen is None else Acknowledgement(*one.seen)
        )
        for one in known
    ]


def _begun(store: Path) -> bool:
    return store.exists() and store.stat().st_size > 0


def store_acknowledgement(inside: Inside, alert_id: str, acknowledgement: Acknowledgement) -> None:
    """Note in the event store, where there is one, who has seen to an alert."""
    if inside.store is not None:
        inside.store.acknowledge(Seen(alert_id, acknowledgement.by, acknowledgement.at))


def as_int16(samples: FloatArray) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """Turn float32 samples in [-1, 1] into int16; what lies outside is clipped."""
    whole: np.ndarray[tuple[int], np.dtype[np.int16]] = (np.clip(samples, -1.0, 1.0) * 32_767).astype(np.int16)
    return whole


def wav(samples: np.ndarray[tuple[int], np.dtype[np.int16]], rate: int) -> bytes:
    """Write mono int16 samples as a WAV file."""
    target = io.BytesIO()
    soundfile.write(target, samples, rate, format="WAV", subtype="PCM_16")
    return target.getvalue()
