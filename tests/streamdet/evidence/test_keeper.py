"""The writer beside scoring: disks that fill up or go read-only, alerts of an earlier life, the page's desk."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from streamdet.audio.ring import Span
from streamdet.events import Evidence
from streamdet.evidence import keeper as module
from streamdet.evidence.chain import Chain, read_entries
from streamdet.evidence.desk import EvidenceDesk
from streamdet.evidence.keeper import AlertKeeper
from streamdet.evidence.retention import Limits, Retention
from streamdet.evidence.verify import verify
from streamdet.features.logmel import FrontEndConfig
from streamdet.web.desk import Acknowledgement

from ..disks import remount, small_disk, stuff
from .make import around, noise, over, raised, record

SOUND = noise(8 * 16_000)


def wait_until(what: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def soon_steady(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEADY_SECONDS", 0.5)


def sound(_stream: str, start: int, stop: int) -> Span:
    return Span(start, stop, SOUND[start:stop], 0)


class Box:
    """A keeper and what it said."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.folder = folder
        self.said: list[tuple[str, str]] = []
        chain = Chain(folder)
        self.keeper = AlertKeeper(
            around(folder),
            chain,
            Retention(folder, limits or Limits()),
            sound,
            lambda p, r, _d: self.said.append((p, r)),
        )
        self.keeper.start()

    def alert(self, number: int) -> Evidence | None:
        self.keeper.follow(raised(number))
        evidence = self.keeper.complete("hall", over(raised(number)), "2026-11-21T09:00:00Z").result(60)
        if evidence is not None:  # told before it is chained
            wait_until(lambda: any(entry.get("alert") == raised(number).id for entry in read_entries(self.folder)))
        return evidence


def test_the_model_is_the_one_that_raised_the_alert(tmp_path: Path) -> None:
    box = Box(tmp_path)
    alert = replace(raised(1), model="ef" * 32)  # a reload has swapped it in
    box.keeper.follow(alert)
    box.keeper.complete("hall", over(alert), "2026-11-21T09:00:00Z").result(60)
    box.keeper.close(30)
    (path,) = tmp_path.glob("*hall*.json")
    said = json.loads(path.read_text())
    assert said["model"] == "ef" * 32
    assert said["source"] == {"kind": "file", "uri": "file:hall"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    with small_disk(tmp_path / "disk", "1m") as folder:
        yield folder


def test_a_full_disk_costs_recordings_and_never_an_alert(disk: Path) -> None:
    box = Box(disk)
    assert box.alert(1) is not None
    filler = stuff(disk)
    assert box.alert(2) is None
    assert box.alert(3) is None
    assert [phase for phase, _ in box.said] == ["degraded"]
    assert "No space left" in box.said[0][1]
    filler.unlink()
    wait_until(lambda: len(box.said) == 2)
    assert box.said[1][0] == "live"
    wait_until(lambda: len(read_entries(disk)) == 3)
    assert box.alert(4) is not None
    box.keeper.close(30)
    report = verify(disk)
    assert report.problems == []
    assert {entry["alert"]: entry["status"] for entry in read_entries(disk)} == {
        raised(n).id: "incomplete" if n in (2, 3) else "complete" for n in (1, 2, 3, 4)
    }


def test_a_disk_that_goes_read_only_is_used_again_when_it_can_be_written(disk: Path) -> None:
    box = Box(disk)
    remount(disk, "ro")
    assert box.alert(1) is None
    assert [phase for phase, _ in box.said] == ["degraded"]
    remount(disk, "rw")
    wait_until(lambda: len(box.said) == 2)
    assert box.alert(2) is not None
    box.keeper.close(30)
    assert [entry["status"] for entry in read_entries(disk)] == ["incomplete", "complete"]


@pytest.mark.parametrize("trouble", ["full", "read-only"])
@pytest.mark.parametrize("before", [False, True])
def test_a_disk_that_refuses_at_the_start_is_used_once_it_does_not(disk: Path, trouble: str, *, before: bool) -> None:
    folder = disk / "evidence"
    if before:  # an earlier life has recorded one alert, and died in the middle of another
        box = Box(folder)
        assert box.alert(1) is not None
        box.keeper.follow(raised(2))
        wait_until(lambda: len(list(folder.glob("*.flac.part"))) == 1)
        box.keeper.close(30)
    filler = stuff(disk)
    if trouble == "read-only":
        remount(disk, "ro")
    box = Box(folder)
    assert [phase for phase, _ in box.said] == ["degraded"]
    assert box.keeper.figures().broken
    assert box.keeper.figures().failed >= 1
    assert ("No space left" if trouble == "full" else "ead-only file system") in box.said[0][1]
    box.keeper.orphan(raised(1))  # the event store tells of it
    assert box.alert(3) is None
    time.sleep(1.0)  # it tries at least once
    assert len(box.said) == 1
    if trouble == "read-only":
        remount(disk, "rw")
    filler.unlink()
    wait_until(lambda: len(box.said) == 2)
    assert box.said[1][0] == "live"
    assert not box.keeper.figures().broken
    assert box.alert(4) is not None
    box.keeper.close(30)
    assert box.keeper.figures().recorded == (2 if before else 3)  # what recovery closes was of another life
    assert {entry["alert"]: entry["status"] for entry in read_entries(folder)} == {
        raised(1).id: "complete" if before else "incomplete",
        **({raised(2).id: "incomplete"} if before else {}),
        raised(3).id: "incomplete",
        raised(4).id: "complete",
    }
    assert len(read_entries(folder)) == 3 + before
    said = [json.loads(path.read_text()) for path in folder.glob("2*.json")]
    assert {one["alert"] for one in said if one["source"] is not None} == {
        raised(number).id
        for number in ((1, 2, 3, 4) if before else (3, 4))  # all but an orphan's
    }
    assert verify(folder).intact


def test_it_is_not_well_again_before_it_has_written_for_a_while(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEADY_SECONDS", 3.0)
    box = Box(disk)
    for number in (1, 2, 3):  # again and again somebody makes room, and somebody else fills it
        filler = stuff(disk)
        assert box.alert(number) is None
        filler.unlink()
        wait_until(lambda number=number: len(read_entries(disk)) == number)
    assert [phase for phase, _ in box.said] == ["degraded"]
    wait_until(lambda: len(box.said) == 2)
    assert box.said[1][0] == "live"
    box.keeper.close(30)


def test_what_is_no_fault_of_the_disk_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="File exists"):
        Box(tmp_path / "file")


def test_the_oldest_go_where_free_space_is_short(disk: Path) -> None:
    box = Box(disk, Limits(free_bytes=400_000))
    for number in range(1, 9):  # room for five
        assert box.alert(number) is not None
    box.keeper.close(30)
    report = verify(disk)
    assert report.intact
    assert report.pruned["free space"] >= 1


def test_an_alert_that_an_earlier_life_never_wrote_is_in_the_chain_all_the_same(tmp_path: Path) -> None:
    box = Box(tmp_path)
    assert box.alert(1) is not None
    box.keeper.orphan(raised(1))  # its end comes to the sink too
    box.keeper.orphan(raised(2))
    box.keeper.orphan(raised(2))
    box.keeper.close(30)
    assert [entry["status"] for entry in read_entries(tmp_path)] == ["complete", "incomplete"]
    assert verify(tmp_path).intact


def test_the_desk_shows_plays_checks_and_remembers(tmp_path: Path) -> None:
    _, path = record(tmp_path, 1, hops=4)
    inside = SimpleNamespace(model=SimpleNamespace(digest="ab" * 32, front_end=FrontEndConfig()), store=None)
    desk = EvidenceDesk(inside, Chain(tmp_path), "full", None)  # type: ignore[arg-type]  no daemon runs
    (kept,) = desk.alerts(10)
    key = kept.alert.id
    assert (key, kept.playable, kept.pictured) == (raised(1).id, True, True)
    recording, picture = desk.recording(key), desk.picture(key)
    assert recording is not None
    assert recording.path == path
    assert picture is not None
    assert desk.verify(key).state == "intact"
    assert desk.acknowledge(key, Acknowledgement("ann", "2026-11-21T09:00:00Z")).acknowledged.by == "ann"
    assert desk.acknowledge(key, Acknowledgement("bob", "2026-11-21T09:01:00Z")).acknowledged.by == "ann"
    again = EvidenceDesk(inside, Chain(tmp_path), "full", None)  # type: ignore[arg-type]
    assert again.get(key).acknowledged.by == "ann"
    assert verify(tmp_path).intact
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert again.verify(key).state == "changed"
    path.unlink()
    assert again.verify(key).state == "missing"
