"""Old scores become summaries, old events go, room is kept; a few rows at a time, and nothing is counted twice."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamdet.store.reader import Reader
from streamdet.store.upkeep import STEP, Limits, Upkeep
from streamdet.store.writer import Writer

from .make import BEGIN, alert, health, items, score, state


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture
def writer(path: Path) -> Iterator[Writer]:
    writer = Writer(path)
    yield writer
    writer.close()


def keep(writer: Writer, now: float, **limits: float) -> int:
    """Do all there is to do at ``now``; returns in how many steps."""
    upkeep = Upkeep(writer.db, Limits(**limits), lambda: BEGIN + now)
    steps = 0
    while upkeep.step():
        steps += 1
        assert steps < 10_000
    return steps


def test_scores_become_one_summary_every_ten_seconds(writer: Writer, path: Path) -> None:
    writer.append(items([score(seq, at=0.5 * (seq - 1), p=seq / 100) for seq in range(1, 61)]))
    writer.append(items([score(61, at=30.0, p=None), score(62, at=30.5, p=0.9, spoof=True)]))
    keep(writer, 3600.0 + 20.0)
    with Reader(path) as reader:
        first, second = reader.summaries()
        held = reader.held("hall")
        left = len(reader.after("hall", 0, 100, 100))
    assert (first.scores, first.lowest, first.mean, first.highest) == (20, 0.01, pytest.approx(0.105), 0.2)
    assert (second.lowest, second.highest, second.speech, second.lost) == (0.21, 0.4, 0.5, 0.125)
    assert (held.oldest, held.full_from, held.last) == (41, 41, 62)
    assert left == 22
    keep(writer, 7200.0)
    with Reader(path) as reader:
        *_, last = reader.summaries()
        held = reader.held("hall")
    assert (last.scores, last.lowest, last.mean, last.highest, last.spoof) == (2, 0.9, 0.9, 0.9, 1)
    assert (held.oldest, held.full_from, held.last) == (0, 63, 62)  # all gone, and still the count is known


def test_a_summary_made_in_many_steps_is_the_same(writer: Writer, path: Path) -> None:
    writer.append(items([score(seq, at=seq / 1000, p=(seq % 100) / 100) for seq in range(1, 1001)]))
    assert keep(writer, 3600.0 + 60.0) >= 1000 / STEP
    with Reader(path) as reader:
        (summary,) = reader.summaries()
    assert (summary.scores, summary.lowest, summary.highest) == (1000, 0.0, 0.99)
    assert summary.mean == pytest.approx(0.495)


def test_alerts_and_states_stay_when_scores_go(writer: Writer, path: Path) -> None:
    writer.append(items([score(1), alert(2), state(3), score(4), alert(5, "cleared"), health(1), health(2, at=5.0)]))
    keep(writer, 86_400.0)
    with Reader(path) as reader:
        assert [payload[8:] for payload in reader.after("hall", 0, 9, 9)] == [
            payload[8:] for _, payload in items([alert(2), state(3), alert(5, "cleared")])
        ]
        assert reader.held("*").oldest == 1


def test_one_health_event_a_minute_is_kept(writer: Writer, path: Path) -> None:
    writer.append(items([health(seq, at=5.0 * seq) for seq in range(1, 121)]))
    keep(writer, 3600.0 + 300.0)
    writer.append(items([health(seq, at=5.0 * seq) for seq in range(121, 133)]))
    keep(writer, 86_400.0)
    with Reader(path) as reader:
        kept = [at for at, _ in reader.find(kinds=["health"])]
    minutes = [at // 60_000 for at in kept]
    assert len(minutes) == len(set(minutes)) == 12
    assert (max(minutes) - min(minutes)) == 11


def test_what_is_too_old_goes_and_the_rest_stays(writer: Writer, path: Path) -> None:
    day = 86_400.0
    events = [alert(1), state(2), score(3), alert(4, at=2 * day), score(5, at=2 * day), health(1)]
    writer.append(items(events))
    keep(writer, 2.5 * day, keep_seconds=day)
    with Reader(path) as reader:
        kinds = [payload for _, payload in reader.find()]
        summaries = list(reader.summaries())
        assert reader.positions() == {"hall": 5, "*": 1}
    assert kinds == [items([alert(4, at=2 * day)])[0][1]]
    assert len(summaries) == 1


@pytest.mark.parametrize("megabytes", [2, 3])
def test_the_room_is_kept_and_alerts_go_last(writer: Writer, path: Path, megabytes: int) -> None:
    scores = [score(seq, stream=f"s{seq % 9}", at=seq / 10) for seq in range(1, 15_001)]
    writer.append(items(scores))
    writer.append(items([alert(seq, at=1.0) for seq in range(1, 101)]))
    upkeep = Upkeep(writer.db, Limits(most_bytes=megabytes << 20), lambda: BEGIN + 1500.0)
    assert upkeep.used() > 5 << 20
    keep(writer, 1500.0, most_bytes=megabytes << 20)
    assert upkeep.used() <= megabytes << 20
    with Reader(path) as reader:
        assert len(list(reader.find(kinds=["alert"]))) == 100
        left = [at for at, _ in reader.find(kinds=["score"])]
        assert sum(summary.scores for summary in reader.summaries()) + len(left) == 15_000
    assert max(left) == round(1e3 * (BEGIN + 1500.0))  # the newest stay
    writer.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert path.stat().st_size < (megabytes + 1) << 20  # and the room is given back to the disk


def test_no_step_takes_long(writer: Writer) -> None:
    writer.append(items([score(seq, at=seq / 100) for seq in range(1, 10_001)]))
    upkeep = Upkeep(writer.db, Limits(), lambda: BEGIN + 7200.0)
    times = []
    more = True
    while more:
        begin = time.thread_time()
        more = upkeep.step()
        times.append(time.thread_time() - begin)
    assert len(times) > 10_000 / STEP
    assert sorted(times)[len(times) // 2] < 0.02
    assert writer.db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_step_that_fails_leaves_nothing_half_done(writer: Writer, path: Path) -> None:
    writer.append(items([score(seq) for seq in range(1, 11)]))
    writer.db.execute("CREATE TRIGGER no BEFORE DELETE ON event BEGIN SELECT raise(FAIL, 'no'); END")
    with pytest.raises(sqlite3.IntegrityError):
        keep(writer, 7200.0)
    with Reader(path) as reader:
        assert list(reader.summaries()) == []
        assert reader.held("hall").oldest == 1
