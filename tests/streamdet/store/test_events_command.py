"""``streamdet events`` as a user runs it."""

from __future__ import annotations

import csv
import io
import json
import threading
from pathlib import Path

import pytest

from streamdet.commands.events import Query, make_query, parse_time, run_events, run_prune
from streamdet.errors import ConfigError, StoreError
from streamdet.events import to_json
from streamdet.store.reader import Reader
from streamdet.store.upkeep import Limits, Upkeep
from streamdet.store.writer import Writer

from ..conftest import Run
from .make import BEGIN, alert, fill, health, items, score, state

ALL = ("alert", "state", "score", "health")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "events.db"
    fill(
        path,
        [state(1), score(2, at=1.0), alert(3, at=2.0), alert(4, "cleared", at=9.0), score(1, stream="door", at=5.0)],
    )
    fill(path, [health(1, at=3.0)])
    return path


def shown(path: Path, query: Query, form: str) -> str:
    output = io.StringIO()
    run_events(path, query, form=form, output=output)
    return output.getvalue()


def test_json_lines_are_what_was_published_oldest_first(path: Path) -> None:
    lines = shown(path, Query(kinds=ALL), "json").splitlines()
    events = [state(1), score(2, at=1.0), alert(3, at=2.0), health(1, at=3.0), score(1, stream="door", at=5.0)]
    assert lines == [to_json(event).decode() for event in [*events, alert(4, "cleared", at=9.0)]]


@pytest.mark.parametrize(
    ("query", "seqs"),
    [
        (Query(), [1, 3, 4]),
        (Query(kinds=("score",)), [2, 1]),
        (Query(kinds=ALL, streams=("door",)), [1]),
        (Query(kinds=ALL, streams=("door", "nobody")), [1]),
        (Query(kinds=ALL, streams=("nobody",)), []),
        (Query(kinds=ALL, since=round(1e3 * BEGIN) + 2000, until=round(1e3 * BEGIN) + 9000), [3, 1, 1]),
        (Query(kinds=ALL, limit=2), [1, 2]),
    ],
)
def test_what_is_asked_for_is_what_comes(path: Path, query: Query, seqs: list[int]) -> None:
    assert [json.loads(line)["seq"] for line in shown(path, query, "json").splitlines()] == seqs


def test_csv_has_a_header_and_one_line_an_event(path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(shown(path, Query(kinds=("alert", "score")), "csv"))))
    assert [(row["type"], row["stream"], row["p_fake"], row["phase"]) for row in rows] == [
        ("score", "hall", "0.25", ""),
        ("alert", "hall", "", "raised"),
        ("score", "door", "0.25", ""),
        ("alert", "hall", "", "cleared"),
    ]


def test_people_see_a_table(path: Path) -> None:
    text = shown(path, Query(kinds=ALL), "table")
    assert "raised  since 1:10.5, 4.5 s, peak 97%" in text
    assert "p_fake 25%  human" in text
    assert "live: sound" in text


def test_summaries_of_old_scores(path: Path) -> None:
    writer = Writer(path)
    while Upkeep(writer.db, Limits(), lambda: BEGIN + 7200.0).step():
        pass
    writer.close()
    lines = [json.loads(line) for line in shown(path, Query(kinds=("summary",)), "json").splitlines()]
    assert [(line["stream"], line["scores"], line["mean"]) for line in lines] == [("hall", 1, 0.25), ("door", 1, 0.25)]
    assert "25%" in shown(path, Query(kinds=("summary",)), "table")
    assert shown(path, Query(kinds=("summary",)), "csv").startswith("time,stream,scores,lowest,mean,highest")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2h", 92_800_000),
        ("1.5d", -29_600_000),
        ("90s", 99_910_000),
        ("1970-01-02", 86_400_000),
        ("1970-01-02T01:00+01:00", 86_400_000),
        ("1970-01-01T00:00:01.5Z", 1500),
    ],
)
def test_times(text: str, wanted: int) -> None:
    assert parse_time(text, now=100_000.0) == wanted


@pytest.mark.parametrize("text", ["yesterday", "2 h", "-1h", "2026-13-01", ""])
def test_a_time_that_is_none_is_one_clear_error(text: str) -> None:
    with pytest.raises(ConfigError, match="is no time: try 2h"):
        parse_time(text, 0.0)


def test_a_kind_that_is_none_is_one_clear_error() -> None:
    with pytest.raises(ConfigError, match="alarm; there are score, alert, state, health, summary and all"):
        make_query(None, None, [], ["alarm"], None)


def test_prune_by_age_and_by_size_says_what_it_did(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_prune(path, before="2023-11-14T22:13:25Z", megabytes=None)  # five seconds after the first
    with Reader(path) as reader:
        assert [json.loads(payload)["seq"] for _, payload in reader.find(kinds=["alert", "state"])] == [4]
    run_prune(path, before=None, megabytes=0)
    with Reader(path) as reader:
        assert list(reader.find()) == []
        assert reader.positions() == {"hall": 4, "door": 1, "*": 1}
    assert "MB now" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="say what to delete"):
        run_prune(path, None, None)


def test_pruning_while_a_daemon_writes_disturbs_neither(path: Path) -> None:
    writer = Writer(path)
    writer.append(items([score(seq, at=seq / 10) for seq in range(5, 5000)]))
    done = threading.Event()
    pruner = threading.Thread(target=lambda: (run_prune(path, "1s", None), done.set()))
    pruner.start()
    seq = 5000
    while not done.is_set():
        writer.append(items([alert(seq, at=1e9)]))  # in the future, so that it stays
        seq += 1
        done.wait(0.005)
    pruner.join()
    writer.close()
    with Reader(path) as reader:
        assert len(list(reader.find(kinds=["alert"]))) == seq - 5000
        assert list(reader.find(kinds=["score"])) == []


def test_a_prune_of_nothing_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no event store at"):
        run_prune(tmp_path / "none.db", "1d", None)
    assert list(tmp_path.iterdir()) == []


def test_from_the_command_line(run: Run, path: Path, tmp_path: Path) -> None:
    done = run("events", "--store", path, "--kind", "all", "--json")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 6
    for arguments, code, says in (
        (["events", "--store", tmp_path / "none.db"], 7, "there is no event store at"),
        (["events", "--store", __file__], 7, "cannot read the event store"),
        (["events", "--store", path, "--json", "--csv"], 2, "not both"),
    ):
        done = run(*arguments)
        assert done.returncode == code
        assert says in done.stderr
        assert "Traceback" not in done.stderr
