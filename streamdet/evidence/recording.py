"""One alert while it is recorded: sound or features as they come, then picture, sidecar and its place in the chain.

All of it happens on the writer's thread and may raise ``OSError``. ``NAME.open`` says from the first moment that there
is an alert, and goes once it is in the chain; what is found of it after a crash is closed as incomplete.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile

from streamdet.decide.alarm import Transition
from streamdet.decide.calibrate import probability
from streamdet.decide.judge import JudgeConfig
from streamdet.events import Alert
from streamdet.evidence.chain import MODE, OPEN, PART, Chain, sync, write_whole
from streamdet.evidence.mode import Mode
from streamdet.evidence.seal import Entry, canonical, file_digest
from streamdet.features.logmel import FloatArray, FrontEndConfig, LogMel

SIDECAR: Final = ".json"
TOLD: Final = ("onset", "peak", "duration", "reason")  # of an alert, in the chain too
HEADER: Final = 8192  # bytes at the beginning of a FLAC file that are only right once it is complete
UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is the same for all recordings of one run; what ``about`` and ``source`` say may change; from any thread."""

    folder: Path
    mode: Mode
    seconds: float
    front_end: FrontEndConfig
    about: Callable[[], dict[str, Any]]  # model, configuration, engine, version
    source: Callable[[str], dict[str, Any] | None] = lambda _stream: None  # where a stream comes from


@dataclass(frozen=True, slots=True)
class Piece:
    """Sound ``[start, start + len(samples))`` of a stream's clock, and what was said of it."""

    start: int
    samples: FloatArray
    lost: int
    scores: tuple[tuple[float, float | None], ...]  # media time and p_fake
    judged: JudgeConfig


@dataclass(slots=True)
class _Said:
    events: list[dict[str, Any]] = field(default_factory=list)
    scores: list[tuple[float, float | None]] = field(default_factory=list)


class Recording:
    """Takes pieces of one alert and seals them.

    Args:
        around: what is the same for all.
        about: what scored when the alert was raised: model, configuration, engine, version; and the stream's source.
        alert: as it was raised.
        first: sound from before the onset on.

    Raises:
        OSError: the disk refused.
    """

    def __init__(self, around: Circumstances, about: dict[str, Any], alert: Alert, first: Piece) -> None:
        self.alert = alert
        self.name = file_name(alert)
        self.gaps = 0  # samples that never got here
        self._around, self._about = around, about
        self._rate = around.front_end.rate
        self._start = self._stop = first.start
        self._limit = first.start + round(around.seconds * self._rate)
        self._heard_to = first.start
        self._lost = 0
        self._said = _Said([event_dict(alert)], [])
        self._judged: list[tuple[float, JudgeConfig]] = []  # from when on, in seconds, and how
        self._mel = LogMel(around.front_end)
        self._context = self._mel.start()
        self._frames: list[FloatArray] = []
        self._sound: Sound | None = None
        write_whole(self._path(OPEN), canonical({"events": self._said.events, "mode": around.mode} | about))
        if around.mode == "full":
            self._sound = Sound(self._path(".flac" + PART), self._rate)
        self.take(first)

    def note(self, alert: Alert) -> None:
        """Take another event of the alert."""
        self._said.events.append(event_dict(alert))

    def take(self, piece: Piece) -> None:
        """Take the next sound; what lies beyond the longest recording is scored and no more."""
        self._said.scores += piece.scores
        if not self._judged or self._judged[-1][1] != piece.judged:
            self._judged.append((piece.start / self._rate, piece.judged))
        stop = piece.start + len(piece.samples)
        self._heard_to, self._lost = max(self._heard_to, stop), self._lost + piece.lost
        missing = min(piece.start, self._limit) - self._stop
        if missing > 0:
            self.gaps += missing
            self._write(np.zeros(missing, np.float32))
        self._write(piece.samples[max(0, self._stop - piece.start) : max(0, self._limit - piece.start)])

    def close(self) -> Path | None:
        """Complete the file that holds most, sound or features, which the end of the alert names; None in ``scores``.

        What takes longer, the picture and waiting for the disk, is left to :meth:`seal`.
        """
        if self._sound is not None:
            self._sound.close()
            self._path(".flac" + PART).replace(self._path(".flac"))
            return self._path(".flac")
        if self._around.mode == "scores":
            return None
        target = io.BytesIO()
        made = json.dumps(self._around.front_end.to_dict())
        np.savez_compressed(target, log_mel=self._log_mel(), start=self._start, rate=self._rate, front_end=made)
        write_whole(self._path(".npz"), target.getvalue())
        return self._path(".npz")

    def seal(self, chain: Chain, step: Transition, time: str) -> tuple[Entry, Path]:
        """Draw the picture and put everything in the chain; :meth:`close` comes first.

        Args:
            chain: where it is noted.
            step: how the alert ended.
            time: when that was, UTC.

        Returns:
            the chain's entry, and the sidecar.
        """
        self._said.events.append(_last_event(step, time, self.alert.stream))
        if self._around.mode != "scores":
            self._draw(step)
        made = made_files(self._around.folder, self.name)
        entry = chained(chain, self._around.folder, self.name, self._content(step), made)
        return entry, self._path(SIDECAR)

    def abandon(self) -> None:
        """Let go of what is open; the files stay for the next start."""
        if self._sound is not None:
            self._sound.abandon()

    def discard(self) -> None:
        """Give up what is half written, so that it takes no room; that there was an alert is still known."""
        self.abandon()
        self._path(".flac" + PART).unlink(missing_ok=True)

    def _write(self, samples: FloatArray) -> None:
        if not len(samples):
            return
        self._stop += len(samples)
        if self._sound is not None:
            self._sound.write(samples)
        elif self._around.mode == "features":
            frames, self._context = self._mel(samples[None], self._context)
            self._frames.append(frames[0])

    def _log_mel(self) -> FloatArray:
        """Log-mel frames ``[frames, mels]`` of all that was recorded; of sound, made now from the file."""
        if self._sound is None:
            return np.concatenate([np.zeros((0, self._around.front_end.mels), np.float32), *self._frames])
        samples, _ = soundfile.read(self._path(".flac"), dtype="float32")
        frames: FloatArray = self._mel(samples[None], self._mel.start())[0][0]
        return frames

    def _draw(self, step: Transition) -> None:
        from streamdet.evidence.picture import Drawing, draw  # noqa: PLC0415  its library is an extra

        picture = Drawing(
            title=f"{self.alert.stream}   raised {self.alert.time}",
            frames=self._log_mel(),
            frame_seconds=self._around.front_end.hop / self._rate,
            start=self._start / self._rate,
            scores=tuple(self._said.scores),
            raise_at=tuple((at, probability(judged.alarm.raise_at)) for at, judged in self._judged),
            onset=self.alert.onset,
            raised=self.alert.media_time,
            cleared=step.at,
            front_end=self._around.front_end,
        )
        write_whole(self._path(".png"), draw(picture))

    def _content(self, step: Transition) -> dict[str, Any]:
        seconds = max(1, self._heard_to - self._start)
        return self._about | {
            "status": "incomplete" if self.gaps else "complete",
            "why": f"{self.gaps} samples came too fast to be written" if self.gaps else "",
            "mode": self._around.mode,
            "alert": self.alert.id,
            "stream": self.alert.stream,
            "raised": self.alert.time,
            "events": self._said.events,
            "rate": self._rate,
            "samples": {
                "start": self._start,
                "stop": self._stop,
                "onset": round(self.alert.onset * self._rate),
                "raised": round(self.alert.media_time * self._rate),
                "cleared": round(step.at * self._rate),
            },
            "not_recorded_seconds": round((self._heard_to - self._stop) / self._rate, 3),
            "lost_share": round(min(1.0, self._lost / seconds), 4),
            "thresholds": _thresholds(self._judged[0][1]),
            "thresholds_changed": [{"at": round(at, 3)} | _thresholds(judged) for at, judged in self._judged[1:]],
            "scores": [(round(at, 3), None if p is None else round(p, 4)) for at, p in self._said.scores],
        }

    def _path(self, suffix: str) -> Path:
        return self._around.folder / (self.name + suffix)


class Sound:
    """A FLAC file, 16 bit mono, that is on the disk as far as it is encoded.

    libsndfile encodes into memory and the bytes are written from there, so that a disk that is full says so here.
    """

    def __init__(self, path: Path, rate: int) -> None:
        self._buffer = io.BytesIO()
        self._flac = soundfile.SoundFile(self._buffer, "w", rate, 1, "PCM_16", format="FLAC")
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, MODE)
        self._written = 0

    def write(self, samples: FloatArray) -> None:
        """Append float32 samples; what lies outside [-1, 1] is clipped."""
        self._flac.write((np.clip(samples, -1.0, 1.0) * 32_767).astype(np.int16))
        self._flush()

    def close(self) -> None:
        """Complete the file; that it lasts is seen to before it is chained."""
        self._flac.close()
        self._flush()
        with self._buffer.getbuffer() as data:
            os.pwrite(self._file, data[:HEADER], 0)
        self.abandon()

    def abandon(self) -> None:
        """Close the file as it is."""
        self._flac.close()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _flush(self) -> None:
        with self._buffer.getbuffer() as data:
            while self._written < len(data):
                self._written += os.pwrite(self._file, data[self._written :], self._written)


def chained(chain: Chain, folder: Path, name: str, content: dict[str, Any], made: list[str]) -> Entry:
    """Write the sidecar of files that are complete, and note all of them in the chain.

    Raises:
        OSError: the disk refused.
    """
    for file in made:
        sync(folder / file)
    digests = {file: file_digest(folder / file) for file in made}
    with chain.adding() as place:
        before = place.sidecar_before(SIDECAR)
        sidecar = content | {
            "v": 1,
            "files": digests,
            "chain": {"number": place.number, "previous": place.previous, "sidecar_before": before},
        }
        write_whole(folder / (name + SIDECAR), json.dumps(sidecar, indent=1, ensure_ascii=False).encode() + b"\n")
        sync(folder)
        digests[name + SIDECAR] = file_digest(folder / (name + SIDECAR))
        keys = ("alert", "stream", "raised", "status", "mode")
        sizes = sum((folder / file).stat().st_size for file in digests)
        last = content["events"][0] | content["events"][-1]
        summary = {key: content[key] for key in keys} | {key: last[key] for key in TOLD}
        entry = place.add("alert", summary | {"files": digests, "bytes": sizes})
    (folder / (name + OPEN)).unlink(missing_ok=True)
    return entry


def made_files(folder: Path, name: str) -> list[str]:
    """Return the files beside the sidecar that are there, what holds most first."""
    return [f"{name}{suffix}" for suffix in (".flac", ".npz", ".png") if (folder / f"{name}{suffix}").exists()]


def file_name(alert: Alert) -> str:
    """Name of an alert's files without the suffix: when it was raised, the stream, and the beginning of its id."""
    when = re.sub(r"[-:]|\.\d+", "", alert.time)
    return f"{when}-{UNSAFE.sub('_', alert.stream)[:48]}-{UNSAFE.sub('_', alert.id)[:13]}"


def _thresholds(judged: JudgeConfig) -> dict[str, float]:
    """Probabilities at which an alert is raised and cleared, and from which a hop is called spoof."""
    evidence = {"raise": judged.alarm.raise_at, "clear": judged.alarm.clear_at, "spoof": judged.rules.spoof_at}
    return {name: round(probability(at), 4) for name, at in evidence.items()}


def event_dict(alert: Alert) -> dict[str, Any]:
    """Plain values of an event as it was published."""
    return asdict(alert)


def _last_event(step: Transition, time: str, stream: str) -> dict[str, Any]:
    """Describe the event that ends the alert; it has no ``seq`` before it is published, which waits for this file."""
    return {
        "type": "alert",
        "stream": stream,
        "time": time,
        "media_time": round(step.at, 3),
        "id": step.id,
        "phase": step.phase,
        "reason": step.reason,
        "onset": step.onset,
        "peak": step.peak,
        "duration": step.duration,
    }
