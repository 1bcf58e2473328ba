"""Messages as they arrive on a real datagram socket, by path and by abstract name."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from streamdet.notify import Notifier, watchdog_seconds


@contextmanager
def manager(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        receiver.settimeout(5)
        yield receiver


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_messages_arrive(kind: str, tmp_path: Path) -> None:
    name = f"streamdet-test-{os.getpid()}"
    bound, told = (str(tmp_path / name),) * 2 if kind == "path" else (f"\0{name}", f"@{name}")
    with manager(bound) as receiver:
        notifier = Notifier({"NOTIFY_SOCKET": told})
        notifier.ready("3 streams")
        notifier.status("1 alert")
        notifier.stopping()
        received = [receiver.recv(512) for _ in range(3)]
    assert received == [b"READY=1\nSTATUS=3 streams", b"STATUS=1 alert", b"STOPPING=1"]


def test_without_systemd_nothing_happens() -> None:
    notifier = Notifier({})
    notifier.ready("listening")
    notifier.watchdog()
    notifier.stopping()
    assert watchdog_seconds({}) is None


def test_watchdog_is_fed_four_times_an_interval_at_most(tmp_path: Path) -> None:
    with manager(str(tmp_path / "notify")) as receiver:
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"})
        end = time.monotonic() + 0.35
        while time.monotonic() < end:
            notifier.watchdog()
            time.sleep(0.002)
        receiver.setblocking(False)
        received: list[bytes] = []
        while len(received) < 100:
            try:
                received.append(receiver.recv(64))
            except BlockingIOError:
                break
    assert set(received) == {b"WATCHDOG=1"}
    assert 2 <= len(received) <= 4  # at 0, 100, 200 and 300 ms; a loaded machine may be late for some


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"WATCHDOG_USEC": "15000000"}, 15.0),
        ({"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_interval(environ: dict[str, str], expected: float | None) -> None:
    assert watchdog_seconds(environ) == expected


def test_a_manager_that_is_gone_is_said_once_and_stops_nothing(tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    with capture_logs() as logs:
        notifier.ready()
        notifier.stopping()
    assert [entry["event"] for entry in logs] == ["notify_failed"]
