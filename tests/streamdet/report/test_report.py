"""The report of a day, out of a store that a real writer filled."""

from __future__ import annotations

from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from streamdet.errors import ConfigError
from streamdet.events import Alert, Event, Health, Score, State, to_json, utc
from streamdet.report.day import BINS, parse_day, read_day
from streamdet.report.page import page
from streamdet.store.schema import KIND, open_writer

DAY = datetime(2026, 11, 20, tzinfo=UTC)
NOON = DAY.timestamp() + 43_200
MODEL = "a" * 64


def score(seq: int, at: float, p_fake: float | None) -> Score:
    verdict = "no_speech" if p_fake is None else "spoof" if p_fake > 0.6 else "bona_fide"
    return Score(
        stream="<line>", seq=seq, time=utc(at), media_time=seq * 0.32, model=MODEL, p_fake=p_fake, windows={},
        speech=0.5, lost=0.25, verdict=verdict, latency_ms=1.0,
    )  # fmt: skip


def alert(seq: int, phase: str, at: float, duration: float) -> Alert:
    return Alert(
        stream="<line>", seq=seq, time=utc(at), media_time=9.0, model=MODEL, id="abcdefgh-1", phase=phase,
        reason="evidence", onset=1.0, peak=0.98, duration=duration,
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Path:
    state = State(stream="<line>", seq=6, time=utc(NOON + 9), media_time=9.0, model="", phase="failed", reason="<gone>")
    health = Health(
        seq=1, time=utc(NOON), media_time=9.0, model=MODEL, uptime=5.0, streams=1, alerts=0, hops=9, lag_ms=12.0,
        dropped={"zeromq": 7}, engine="onnx-cpu",
    )  # fmt: skip
    events: list[Event] = [
        score(1, NOON, 0.2), score(2, NOON + 1, 0.9), score(3, NOON + 2, None), alert(4, "raised", NOON + 3, 4.0),
        alert(5, "cleared", NOON + 8, 90.0), state, score(7, NOON + 86_400, 0.99), health,
    ]  # fmt: skip
    path = tmp_path / "events.db"
    db = open_writer(path)
    for number, name in enumerate(("<line>", "*"), 1):
        db.execute("INSERT INTO stream (id, name) VALUES (?, ?)", (number, name))
    for event in events:
        at = round(1e3 * datetime.fromisoformat(event.time).timestamp())
        row = (2 if event.stream == "*" else 1, event.seq, KIND[event.type], at, to_json(event))
        db.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?)", row)
    db.execute("INSERT INTO summary VALUES (1, ?, 31, 31, 0.1, 3.1, 0.3, 31, 0, 0)", (round(1e3 * (NOON - 3600)),))
    db.close()
    return path


def test_a_day_is_added_up(store: Path) -> None:
    day = read_day(store, DAY)
    stream = day.streams["<line>"]
    assert (stream.scores, stream.spoof) == (34, 1)  # that of the next day does not count
    assert stream.hours == pytest.approx(34 * 0.32 / 3600)
    noon = stream.bins[BINS // 2]
    assert (noon.scores, noon.judged, noon.highest) == (3, 2, 0.9)
    assert stream.bins[BINS // 2 - 12].highest == 0.3
    (row,) = stream.alerts.values()
    assert (row.raised, row.last["phase"], row.last["duration"]) == (43_203_000, "cleared", 90.0)
    assert (day.starts, day.lag_ms, day.dropped) == (1, 12.0, {"zeromq": 7})


class Checker(HTMLParser):
    """Notes what is open, and what would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in ("meta", "line", "rect", "polyline"):
            self.open.append(tag)
        self.fetched += [str(value) for name, value in attrs if name in ("src", "xlink:href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_for_nothing(store: Path) -> None:
    text = page(read_day(store, DAY))
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert checker.fetched == []
    assert not checker.tags & {"script", "link", "img", "iframe", "line>", "gone"}
    for wanted in ("&lt;line&gt;", "&lt;gone&gt;", "12:00:03", "2 min", "zeromq 7", "p_fake of", "onnx-cpu"):
        assert wanted in text


def test_an_empty_day_says_so(store: Path) -> None:
    assert "Nothing was heard" in page(read_day(store, DAY.replace(day=1)))


def test_days_as_people_name_them() -> None:
    now = datetime(2026, 11, 21, 9, 5, tzinfo=UTC)
    assert parse_day("yesterday", now) == parse_day("2026-11-20", now) == DAY
    with pytest.raises(ConfigError, match="no day"):
        parse_day("21.11.", now)
