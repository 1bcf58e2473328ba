"""``streamdet listen`` with a store: counts go on, alerts end, and what makes no sense is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamdet.assembly import store_path
from streamdet.config import Config, load
from streamdet.store.reader import Reader

from ..conftest import DEMO, Run
from .make import alert, fill, score


def test_the_next_life_goes_on_counting_and_ends_the_alert_it_finds(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "kept" / "events.db"
    path.parent.mkdir()
    fill(path, [score(41, stream="old"), alert(42, "updated", stream="old", name="left"), score(7, stream="demo")])
    done = run("listen", "-s", f"file:{DEMO}?name=demo&speed=max", "--json", "--publish", "none", "--store", path)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    (ended,) = [event for event in events if event["stream"] == "old"]
    assert (ended["type"], ended["phase"], ended["reason"], ended["id"]) == ("alert", "cleared", "ended", "left")
    assert ended["seq"] == 43
    numbers = [event["seq"] for event in events if event["stream"] == "demo"]
    assert numbers == list(range(8, 8 + len(numbers)))
    with Reader(path) as reader:
        stored = reader.after("demo", 7, 10_000, 10_000)
    assert [json.loads(payload) for payload in stored] == [event for event in events if event["stream"] == "demo"]
    last = [event for event in events if event["type"] == "health"][-1]
    assert last["dropped"]["store"] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--replay", "tcp://127.0.0.1:*"], 2, "--replay needs an event store: give --store PATH"),
        (["--store", "/proc/nowhere/events.db"], 7, "give another --store"),
        (["--store", str(DEMO)], 7, "cannot open the event store"),
        (["--keys", "/nonexistent"], 2, "there is no key directory /nonexistent: `streamdet keys make"),
    ],
)
def test_what_makes_no_sense_is_one_clear_error(run: Run, arguments: list[str], code: int, says: str) -> None:
    done = run("listen", "--demo", "--speed", "max", "--publish", "ipc:///tmp/streamdet-test-unused", *arguments)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_where_the_store_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert store_path(Config()) is None
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}:/elsewhere")
    assert store_path(Config()) == tmp_path / "events.db"
    for text, wanted in (
        ('store = "none"', None),
        ('store = "a.db"', Path("a.db")),
        ('[store]\npath = "b.db"\ndays = 3', Path("b.db")),
    ):
        (tmp_path / "x.toml").write_text(text)
        assert store_path(load(tmp_path / "x.toml")) == wanted
