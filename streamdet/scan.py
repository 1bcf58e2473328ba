"""Files scored offline, through the very pipeline that listens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from streamdet.assembly import judge_maker, load_engine, ring_seconds
from streamdet.audio.block import Block, Status
from streamdet.config import Config
from streamdet.errors import SourceError
from streamdet.events import Alert, Event, Verdict
from streamdet.features.logmel import FloatArray
from streamdet.pipeline import Pipeline
from streamdet.sources.file import FileSource
from streamdet.sources.lifecycle import UNLOGGED
from streamdet.tap import Heard

SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".oga", ".aiff", ".aif", ".au", ".w64", ".caf"})


@dataclass(frozen=True, slots=True)
class Result:
    """What a scan says of one file.

    ``p_fake`` is calibrated and taken over all of the file's speech, None only where there is none. ``track`` holds
    one entry a hop; ``alerts`` the media times (seconds) between which an alert stood. ``error`` says why the file
    could not be read, or not to its end.
    """

    path: str
    p_fake: float | None
    verdict: Verdict | None
    seconds: float = 0.0
    speech_seconds: float = 0.0
    model: str = ""
    alerts: list[dict[str, float]] = field(default_factory=list)
    track: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def find_files(paths: Sequence[Path]) -> list[Path]:
    """Files named, and sound files (by suffix) below the folders named, in a stable order."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        else:
            found.append(path)
    return found


class Scanner:
    """Scores one file after the other with one engine.

    Raises:
        ModelError, ConfigError: as :func:`streamdet.assembly.load_engine` and ``judge_config``.
    """

    def __init__(self, config: Config) -> None:
        self._engine = load_engine(config)
        self._track: list[dict[str, Any]] = []
        self._alerts: dict[str, dict[str, float]] = {}
        self._pipeline = Pipeline(
            self._engine,
            judge_maker(config, self._engine.info),
            self._hear,
            batch=config.batch,
            ring_seconds=ring_seconds(config),
            gap_reset=config.gap_reset,
            taps=(self._observe,),
        )
        self._count = 0

    def scan(
        self,
        path: Path,
        progress: Callable[[float], None] | None = None,
        listen: Callable[[FloatArray], None] | None = None,
    ) -> Result:
        """Score one file; never raises for a file that cannot be read.

        ``progress`` hears of seconds scored, ``listen`` hears the samples themselves, mono at the rate of the file.
        """
        self._count += 1
        name = f"file-{self._count}"
        self._track, self._alerts = [], {}
        error = None
        try:
            error = self._feed(FileSource(path, speed="max", name=name, log_budget=UNLOGGED), progress, listen)
        except SourceError as problem:
            error = str(problem)
        self._pipeline.finish("end of file")
        return self._result(name, path, error)

    def _feed(
        self,
        source: FileSource,
        progress: Callable[[float], None] | None,
        listen: Callable[[FloatArray], None] | None,
    ) -> str | None:
        trouble = None
        for item in source.items(threading.Event()):
            if isinstance(item, Status) and item.phase == "degraded":
                trouble = item.reason
            if isinstance(item, Block) and listen is not None:
                listen(item.samples)
            self._pipeline.push(item)
            before = len(self._track)
            self._pipeline.drain()
            if progress is not None:
                progress((len(self._track) - before) * self._engine.info.front_end.hop_seconds)
        return trouble

    def _result(self, name: str, path: Path, error: str | None) -> Result:
        totals = self._pipeline.totals.pop(name)
        if totals is None or totals.summary is None:
            nothing: Verdict | None = None if error else "no_speech"
            return Result(str(path), None, nothing, model=self._engine.info.digest, error=error)
        summary = totals.summary
        return Result(
            path=str(path),
            p_fake=summary.p_fake,
            verdict=summary.verdict,
            seconds=round(totals.end, 3),
            speech_seconds=round(summary.speech_seconds, 3),
            model=self._engine.info.digest,
            alerts=list(self._alerts.values()),
            track=self._track,
            error=error,
        )

    def _observe(self, heard: Heard) -> None:
        column, judgement = heard.column, heard.judgement
        self._track.append(
            {
                "t": round(judgement.media_time, 3),
                "p_fake": judgement.p_fake,
                "windows": judgement.windows,
                "speech": column.speech,
                "logit": column.logit,
                "attention": column.attention,
                "verdict": judgement.verdict,
            }
        )

    def _hear(self, event: Event) -> None:
        if isinstance(event, Alert):
            entry = {"onset": event.onset, "raised": event.media_time, "end": event.media_time, "peak": event.peak}
            held = self._alerts.setdefault(event.id, entry)
            held["end"], held["peak"] = event.media_time, event.peak


def scan(config: Config, paths: Sequence[Path]) -> Iterator[Result]:
    """Score all files below ``paths``, one result a file."""
    scanner = Scanner(config)
    for path in find_files(paths):
        yield scanner.scan(path)
