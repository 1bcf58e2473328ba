"""What is put in an outbox stays until it is delivered, through kills too."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamdet.delivery import outbox as module
from streamdet.delivery.courier import Courier, NotDelivered
from streamdet.delivery.outbox import Outbox, Parcel
from streamdet.errors import SinkError
from tests.streamdet.disks import remount, small_disk, stuff
from tests.waiting import until


def test_parcels_come_out_in_order_and_stay_until_taken(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "box.db")
    for number in range(3):
        box.put(f"a/{number}", bytes([number]))
    first = box.first(0.0)
    assert first is not None
    assert (first.key, first.payload, box.waiting) == ("a/0", b"\0", 3)
    box.refused(first, "busy")
    again = box.first(0.0)
    assert again is not None
    assert (again.key, again.tries) == ("a/0", 1)
    box.took(again)
    second = box.first(0.0)
    assert second is not None
    assert (second.key, box.waiting, box.delivered) == ("a/1", 2, 1)


def test_what_was_put_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "box.db"
    code = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from streamdet.delivery.outbox import Outbox
        box = Outbox(Path({str(path)!r}))
        for number in range(50):
            box.put(f"a/{{number}}", b"x")
        print("put", flush=True)
        time.sleep(60)
    """)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "put\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    box = Outbox(path)
    assert box.waiting == 50
    parcel = box.first(0.0)
    assert parcel is not None
    assert parcel.key == "a/0"


def test_when_too_many_wait_the_oldest_is_set_aside(tmp_path: Path) -> None:
    dead = tmp_path / "sub" / "dead.jsonl"
    box = Outbox(None, dead, most=2)
    for number in range(4):
        box.put(f"a/{number}", b"{}")
    assert (box.waiting, box.dead) == (2, 2)
    assert [json.loads(line)["key"] for line in dead.read_text().splitlines()] == ["a/0", "a/1"]


def test_a_place_that_is_none_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="to be delivered"):
        Outbox(tmp_path / "file" / "box.db")


class Moody:
    """Takes parcels, or not."""

    def __init__(self) -> None:
        self.refusal: NotDelivered | None = None
        self.took: list[str] = []
        self.tries = 0

    def __call__(self, parcel: Parcel) -> None:
        self.tries += 1
        if self.refusal is not None:
            raise self.refusal
        self.took.append(parcel.key)


def test_a_service_that_is_down_gets_few_requests_and_then_everything_in_order() -> None:
    service, box = Moody(), Outbox(None)
    service.refusal = NotDelivered("down")
    courier = Courier("test", box, service, first_rest=0.1, longest_rest=0.2)
    for number in range(20):
        box.put(f"a/{number}", b"x")
    courier.start()
    until(lambda: service.tries >= 3, "three tries")
    assert courier.broken
    assert box.waiting == 20
    assert service.tries < 15  # it is left alone between the tries
    service.refusal = None
    until(lambda: box.waiting == 0, "all delivered")
    assert service.took == [f"a/{number}" for number in range(20)]
    courier.close()


def test_what_is_hopeless_is_set_aside_and_the_next_goes_on(tmp_path: Path) -> None:
    dead, taken = tmp_path / "dead.jsonl", []

    def deliver(parcel: Parcel) -> None:
        if parcel.key == "a/0":
            raise NotDelivered("what is this", hopeless=True)
        taken.append(parcel.key)

    box = Outbox(None, dead)
    courier = Courier("test", box, deliver)
    box.put("a/0", b"nonsense")
    box.put("a/1", b"sense")
    courier.start()
    until(lambda: taken == ["a/1"], "the second parcel")
    letter = json.loads(dead.read_text())
    assert (letter["key"], letter["payload"], letter["reason"]) == ("a/0", "nonsense", "what is this")
    courier.close()


def test_what_is_too_old_is_given_up() -> None:
    now = [1000.0]
    box = Outbox(None, clock=lambda: now[0])
    service = Moody()
    service.refusal = NotDelivered("down")
    box.put("a/0", b"x")
    now[0] += 61.0
    courier = Courier("test", box, service, patience=60.0, clock=lambda: now[0])
    courier.start()
    until(lambda: box.dead == 1, "given up")
    assert box.waiting == 0
    courier.close()


def test_a_fault_in_the_service_s_code_ends_nothing() -> None:
    fault, taken = threading.Event(), []

    def deliver(parcel: Parcel) -> None:
        if not fault.is_set():
            fault.set()
            raise ZeroDivisionError("a fault")
        taken.append(parcel.key)

    box = Outbox(None)
    courier = Courier("test", box, deliver, first_rest=0.05)
    box.put("a/0", b"x")
    courier.start()
    until(lambda: taken == ["a/0"], "delivered after the fault")
    courier.close()


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system of 1 MB that is soon believed in again."""
    monkeypatch.setattr(module, "STEADY_SECONDS", 0.5)
    with small_disk(tmp_path / "disk", "1m") as folder:
        yield folder


def crowd(box: Outbox, begin: int) -> int:
    """Put things in until the disk takes no more; returns the number of the next."""
    while not box.degraded:
        box.put(f"a/{begin}", b"x" * 2000)
        begin += 1
    return begin


def mended(box: Outbox) -> Outbox:
    box.mend()
    return box


def in_file(path: Path) -> list[str]:
    db = sqlite3.connect(path)
    try:
        return [key for (key,) in db.execute("SELECT key FROM parcel ORDER BY id")]
    finally:
        db.close()


def test_a_full_disk_loses_nothing_and_is_written_again_in_order_when_there_is_room(disk: Path) -> None:
    told: list[tuple[str, str]] = []
    box = Outbox(disk / "box.db")
    box.report_to(lambda phase, reason: told.append((phase, reason)))
    filler = stuff(disk)
    begin = crowd(box, 0)
    for number in range(begin, begin + 50):
        box.put(f"a/{number}", b"x" * 2000)
    wanted = [f"a/{number}" for number in range(begin + 50)]
    assert box.in_memory > 50
    assert box.waiting == begin + 50
    assert [phase for phase, _ in told] == ["degraded"]
    assert "full" in told[0][1]
    filler.unlink()
    until(lambda: mended(box).in_memory == 0, "all on the disk")
    assert in_file(disk / "box.db") == wanted
    until(lambda: not mended(box).degraded, "the end of the trouble")
    assert [phase for phase, _ in told] == ["degraded", "live"]
    assert box.lost == 0
    box.close()


def test_what_neither_the_disk_nor_memory_holds_is_refused_and_counted(disk: Path) -> None:
    box = Outbox(disk / "box.db", backlog=5)
    stuff(disk)
    begin = crowd(box, 0)
    for number in range(begin, begin + 4):
        box.put(f"a/{number}", b"x" * 2000)
    with pytest.raises(SinkError, match="full"):
        box.put("late", b"x")
    assert (box.in_memory, box.lost) == (5, 1)
    box.close()


def test_a_disk_that_fills_up_stops_no_delivery_and_nothing_is_sent_twice(disk: Path) -> None:
    service, box = Moody(), Outbox(disk / "box.db", disk / "dead.jsonl")
    service.refusal = NotDelivered("down")
    courier = Courier("test", box, service, first_rest=0.1, longest_rest=0.2)
    courier.start()
    filler = stuff(disk)
    number = crowd(box, 0)
    until(lambda: service.tries >= 3, "tries on a full disk")
    service.refusal = None
    until(lambda: len(service.took) == number, "what the disk and memory hold, while the disk is full")
    box.put("last", b"x")
    until(lambda: service.took[-1] == "last", "what came meanwhile")
    filler.unlink()
    until(lambda: not box.degraded, "the end of the trouble")
    box.put("after", b"x")
    until(lambda: box.waiting == 0, "what came after it")
    assert service.took == [*(f"a/{n}" for n in range(number)), "last", "after"]
    assert box.delivered == number + 2
    assert in_file(disk / "box.db") == []
    courier.close()


def test_what_was_delivered_and_could_not_be_marked_is_not_sent_again(disk: Path) -> None:
    service, box = Moody(), Outbox(disk / "box.db")
    for number in range(5):
        box.put(f"a/{number}", b"x")
    filler = stuff(disk)
    courier = Courier("test", box, service, first_rest=0.1, longest_rest=0.2)
    courier.start()
    box.put("a/5", b"x")
    until(lambda: box.delivered == 6, "all six")
    assert len(in_file(disk / "box.db")) == 5
    filler.unlink()
    until(lambda: not box.degraded, "the end of the trouble")
    courier.close()
    assert service.took == [f"a/{number}" for number in range(6)]
    assert in_file(disk / "box.db") == []


def test_a_dead_letter_waits_for_room_and_is_then_whole(disk: Path) -> None:
    tries, taken = [], []

    def deliver(parcel: Parcel) -> None:
        if parcel.key == "a/0":
            tries.append(parcel.key)
            raise NotDelivered("what is this", hopeless=True)
        taken.append(parcel.key)

    box = Outbox(disk / "box.db", disk / "dead.jsonl")
    box.put("a/0", b"x" * 6000)
    box.put("a/1", b"x")
    filler = stuff(disk)
    courier = Courier("test", box, deliver, first_rest=0.1, longest_rest=0.2)
    courier.start()
    until(lambda: box.errors >= 3, "tries to write the letter")
    assert not taken  # order holds
    filler.unlink()
    until(lambda: taken == ["a/1"], "the next parcel")
    courier.close()
    assert tries == ["a/0"]
    (line,) = (disk / "dead.jsonl").read_text().splitlines()
    assert json.loads(line)["key"] == "a/0"


def test_a_start_on_a_full_disk_keeps_in_memory_until_there_is_room(disk: Path) -> None:
    told: list[str] = []
    filler = stuff(disk)
    box = Outbox(disk / "outbox" / "box.db")
    box.report_to(lambda phase, _: told.append(phase))
    for number in range(3):
        box.put(f"a/{number}", b"x")
    first = box.first(0.0)
    assert first is not None
    box.took(first)
    assert (first.key, box.waiting, box.in_memory, told) == ("a/0", 2, 2, ["degraded"])
    filler.unlink()
    until(lambda: box.first(0.0) is not None and box.in_memory == 0, "all on the disk")
    assert in_file(disk / "outbox" / "box.db") == ["a/1", "a/2"]
    until(lambda: mended(box).degraded is False, "the end of the trouble")
    assert told == ["degraded", "live"]
    box.close()


def test_what_a_file_holds_that_is_opened_late_is_delivered_too(disk: Path) -> None:
    path = disk / "box.db"
    before = Outbox(path)
    for number in range(2):
        before.put(f"old/{number}", b"x")
    before.close()
    remount(disk, "ro")
    box = Outbox(path)
    for number in range(3):
        box.put(f"new/{number}", b"x")
    taken = []
    if box.in_memory == box.waiting:  # the file could not even be read
        first = box.first(0.0)
        assert first is not None
        box.took(first)
        taken.append(first.key)
        on_its_way = box.first(0.0)
        assert on_its_way is not None
        remount(disk, "rw")
        time.sleep(1.2)
        box.put("new/3", b"x")  # must not open the file while new/1 is on its way
        box.took(on_its_way)
        taken.append(on_its_way.key)
    else:
        remount(disk, "rw")
        box.put("new/3", b"x")
    until(lambda: box.first(0.0) is not None and box.in_memory == 0, "all on the disk")
    while (parcel := box.first(0.0)) is not None:
        box.took(parcel)
        taken.append(parcel.key)
    assert sorted(taken) == ["new/0", "new/1", "new/2", "new/3", "old/0", "old/1"]
    assert in_file(path) == []
    box.put("left", b"x")
    box.close()
    remount(disk, "ro")
    again = Outbox(path)
    again.put("later", b"x")
    remount(disk, "rw")
    until(lambda: again.first(0.0) is not None and again.in_memory == 0, "all on the disk")
    assert in_file(path) == ["left", "later"]
    again.close()
