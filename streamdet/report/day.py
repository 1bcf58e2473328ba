"""What the event store has of one day, by stream."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from streamdet.decide.calibrate import log_odds
from streamdet.errors import ConfigError
from streamdet.features import FrontEndConfig
from streamdet.store.reader import Reader, Summary

BINS: Final = 288  # of five minutes
DAY_MS: Final = 86_400_000
BIN_MS: Final = DAY_MS // BINS
HOP: Final = FrontEndConfig().hop_seconds
EDGE: Final = 1e-4


@dataclass(slots=True)
class Bin:
    """Five minutes of one stream."""

    scores: int = 0
    judged: int = 0
    total: float = 0.0  # sum of p_fake over the judged
    highest: float | None = None


@dataclass(slots=True)
class AlertRow:
    """One alert, from its last event."""

    id: str
    raised: int  # ms since the begin of the day
    last: dict[str, Any]


@dataclass(slots=True)
class StreamDay:
    """One stream over the day."""

    name: str
    bins: list[Bin] = field(default_factory=lambda: [Bin() for _ in range(BINS)])
    scores: int = 0
    spoof: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)  # where single scores are kept
    speech: float = 0.0
    lost: float = 0.0
    alerts: dict[str, AlertRow] = field(default_factory=dict)
    troubles: list[tuple[int, str, str]] = field(default_factory=list)  # ms, phase, reason

    @property
    def hours(self) -> float:
        """Hours heard."""
        return self.scores * HOP / 3600

    @property
    def drift(self) -> tuple[float, float] | None:
        """Mean log-odds over the first and the second half of what was judged; None with too little of either."""
        judged = [bin_ for bin_ in self.bins if bin_.judged]
        half = len(judged) // 2
        if half < 2:
            return None
        first, second = (_mean_log_odds(part) for part in (judged[:half], judged[half:]))
        return first, second


@dataclass(slots=True)
class Day:
    """The whole day; ``dropped``, ``skipped`` and ``overrun`` are the highest counts that were told."""

    begin: datetime
    streams: dict[str, StreamDay] = field(default_factory=dict)
    models: Counter[str] = field(default_factory=Counter)
    engines: set[str] = field(default_factory=set)
    lag_ms: float = 0.0
    dropped: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    overrun: int = 0
    starts: int = 0
    remarks: list[tuple[int, str, str]] = field(default_factory=list)

    def stream(self, name: str) -> StreamDay:
        """Find a stream, or begin it."""
        return self.streams.setdefault(name, StreamDay(name))


def _mean_log_odds(bins: list[Bin]) -> float:
    values = [log_odds(min(max(b.total / b.judged, EDGE), 1 - EDGE)) for b in bins]
    return sum(values) / len(values)


def parse_day(text: str, now: datetime) -> datetime:
    """Read ``today``, ``yesterday`` or an ISO date, in UTC.

    Raises:
        ConfigError: it is neither.
    """
    words = {"today": 0, "yesterday": 1}
    if text in words:
        return now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=words[text])
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no day: try today, yesterday or 2026-11-21") from error


def read_day(path: Path, begin: datetime) -> Day:
    """Read a day out of the store.

    Raises:
        StoreError: there is no store, or it cannot be read.
    """
    day = Day(begin)
    since = round(1e3 * begin.timestamp())
    with Reader(path) as reader:
        for summary in reader.summaries(since=since, until=since + DAY_MS):
            _add_summary(day, summary)
        for at, payload in reader.find(since=since, until=since + DAY_MS):
            _add(day, at - since, json.loads(payload))
    return day


def _add_summary(day: Day, summary: Summary) -> None:
    at = 1e3 * (datetime.fromisoformat(summary.time) - day.begin).total_seconds()
    stream = day.stream(summary.stream)
    bin_ = stream.bins[min(BINS - 1, int(at // BIN_MS))]
    stream.scores += summary.scores
    stream.spoof += summary.spoof
    stream.speech += summary.speech * summary.scores
    stream.lost += summary.lost * summary.scores
    bin_.scores += summary.scores
    if summary.mean is not None:
        bin_.judged += summary.scores
        bin_.total += summary.mean * summary.scores
        bin_.highest = max(bin_.highest or 0.0, summary.highest or 0.0)


def _add(day: Day, at: int, event: dict[str, Any]) -> None:
    match event["type"]:
        case "score":
            _add_score(day, day.stream(event["stream"]), at, event)
        case "alert":
            known = day.stream(event["stream"]).alerts
            known.setdefault(event["id"], AlertRow(event["id"], at, event)).last = event
        case "state" if event["stream"] == "*":
            day.remarks.append((at, event["phase"], event["reason"]))
        case "state" if event["phase"] in ("degraded", "recovering", "failed"):
            day.stream(event["stream"]).troubles.append((at, event["phase"], event["reason"]))
        case "health":
            _add_health(day, event)


def _add_score(day: Day, stream: StreamDay, at: int, event: dict[str, Any]) -> None:
    bin_ = stream.bins[min(BINS - 1, at // BIN_MS)]
    day.models[event["model"]] += 1
    stream.scores += 1
    stream.verdicts[event["verdict"]] += 1
    stream.spoof += event["verdict"] == "spoof"
    stream.speech += event["speech"]
    stream.lost += event["lost"]
    bin_.scores += 1
    if event["p_fake"] is not None:
        bin_.judged += 1
        bin_.total += event["p_fake"]
        bin_.highest = max(bin_.highest or 0.0, event["p_fake"])


def _add_health(day: Day, event: dict[str, Any]) -> None:
    day.engines.add(event["engine"])
    day.models[event["model"]] += 0
    day.lag_ms = max(day.lag_ms, event["lag_ms"])
    day.skipped, day.overrun = max(day.skipped, event["skipped"]), max(day.overrun, event["overrun"])
    day.starts += event["uptime"] < 8.0
    for sink, count in event["dropped"].items():
        day.dropped[sink] = max(day.dropped[sink], count)
