"""The service in a booted systemd: ready, scoring, confined, killed by the watchdog, started again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .machine import Machine, MachineError

pytestmark = pytest.mark.timeout(900)  # the first test waits for the machine to be made

UNIT = "streamdet.service"
CONFIG_FILE = "/etc/streamdet/streams.toml"
CONFIG = """publish = "tcp://127.0.0.1:5560"

[[source]]
uri = "file:{demo}?loop=1"
name = "demo"
"""


def wait_for(what: str, condition: Callable[[], bool], *, seconds: float) -> float:
    """Wait until ``condition`` holds; returns how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"{what} took over {seconds} s"
        time.sleep(0.25)
    return time.monotonic() - began


@pytest.fixture(scope="module")
def service(machine: Machine) -> Iterator[Machine]:
    """Start the service on the demo stream, played over and over."""
    demo = machine.run("sh", "-c", "ls /opt/streamdet/lib/python3.*/site-packages/streamdet/demo/demo.flac").strip()
    machine.write(CONFIG_FILE, CONFIG.format(demo=demo))
    machine.run("systemctl", "start", UNIT)
    yield machine
    machine.run("systemctl", "stop", UNIT)


def restarts(machine: Machine) -> int:
    return int(machine.property(UNIT, "NRestarts"))


def watch(machine: Machine, seconds: int) -> list[dict[str, Any]]:
    """What a subscriber in the machine receives within ``seconds``."""
    command = ("timeout", "--signal=INT", str(seconds), "/opt/streamdet/bin/streamdet", "watch", "--json")
    lines = machine.run(*command, check=False).splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_ready_only_after_the_model_is_loaded(service: Machine) -> None:
    assert service.property(UNIT, "ActiveState") == "active"
    assert service.property(UNIT, "Type") == "notify"
    assert service.property(UNIT, "StatusText") != ""
    assert service.property(UNIT, "WatchdogTimestampMonotonic") not in ("", "0")
    assert restarts(service) == 0, service.log(UNIT)


def test_installed_unit_verifies(service: Machine) -> None:
    report = service.run("systemd-analyze", "verify", "--man=no", UNIT, check=False)
    assert [line for line in report.splitlines() if "Restart" not in line] == []


def test_scores_reach_a_subscriber(service: Machine) -> None:
    events = watch(service, 12)
    scores = [event for event in events if event["type"] == "score"]
    assert len(scores) >= 20, service.log(UNIT)
    assert {event["stream"] for event in scores} == {"demo"}
    assert any(event["type"] == "health" for event in events)


def test_a_reload_is_taken_over_between_two_hops_and_no_sound_is_lost(service: Machine) -> None:
    pid, count = service.property(UNIT, "MainPID"), restarts(service)
    good = service.run("cat", CONFIG_FILE)
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch, service, 40)
        time.sleep(10)
        service.write(CONFIG_FILE, good + "\n[windows]\nlong = 8.0\n")
        service.run("systemctl", "reload", UNIT)
        events = watching.result()
    service.write(CONFIG_FILE, good)
    assert (service.property(UNIT, "MainPID"), restarts(service)) == (pid, count)
    (told,) = [event for event in events if event["type"] == "state" and event["detail"].get("cause") == "reload"]
    assert (told["phase"], told["detail"]["changed"]) == ("live", "windows.long 10 -> 8")
    demo = [event for event in events if event["stream"] == "demo"]
    first = demo[0]["seq"]
    assert [event["seq"] for event in demo] == list(range(first, first + len(demo)))
    scores = [event for event in demo if event["type"] == "score"]
    began = scores[0]["media_time"]
    assert [score["media_time"] for score in scores] == pytest.approx(
        [began + 0.32 * number for number in range(len(scores))], abs=0.01
    )
    assert {score["lost"] for score in scores} == {0.0}
    lengths = [tuple(score["windows"]) for score in scores]
    change = lengths.index(("3", "8"))
    assert change > 10
    assert set(lengths[:change]) == {("3", "10")}
    assert set(lengths[change:]) == {("3", "8")}


def test_a_reload_of_a_broken_file_fails_and_the_service_goes_on(service: Machine) -> None:
    pid = service.property(UNIT, "MainPID")
    good = service.run("cat", CONFIG_FILE)
    service.write(CONFIG_FILE, good + "\nvolume = 11\n")
    with pytest.raises(MachineError, match="failed"):
        service.run("systemctl", "reload", UNIT)
    service.write(CONFIG_FILE, good)
    assert "volume" in service.log(UNIT, "--lines=20")
    assert (service.property(UNIT, "MainPID"), service.property(UNIT, "ActiveState")) == (pid, "active")
    assert [event for event in watch(service, 8) if event["type"] == "score"]


def test_process_is_confined(service: Machine) -> None:
    pid = service.property(UNIT, "MainPID")
    status = dict(line.split(":\t", 1) for line in service.run("cat", f"/proc/{pid}/status").splitlines())
    assert status["Uid"].split()[0] not in ("0", "65534")
    assert status["CapEff"].strip("0\n ") == ""
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    assert service.property(UNIT, "User") in ("", "streamdet")


def test_the_watchdog_is_fed(service: Machine) -> None:
    before = service.property(UNIT, "WatchdogTimestampMonotonic")
    wait_for(
        "feeding the watchdog",
        lambda: service.property(UNIT, "WatchdogTimestampMonotonic") != before,
        seconds=10,
    )
    assert restarts(service) == 0


def test_watchdog_kills_a_stopped_process_and_systemd_starts_it_again(service: Machine) -> None:
    pid = service.property(UNIT, "MainPID")
    count = restarts(service)
    service.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", UNIT)
    wait_for("the restart", lambda: restarts(service) == count + 1, seconds=60)
    wait_for("getting ready", lambda: service.property(UNIT, "ActiveState") == "active", seconds=60)
    assert service.property(UNIT, "MainPID") != pid
    log = service.log(UNIT)
    assert "Watchdog timeout" in log
    assert "Fatal Python error: Aborted" in log  # and below it, where each thread hung
    assert [event for event in watch(service, 8) if event["type"] == "score"], service.log(UNIT)


def test_a_crash_is_followed_by_a_restart_however_often(service: Machine) -> None:
    count = restarts(service)
    service.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT)
    wait_for("the restart", lambda: restarts(service) == count + 1, seconds=60)
    wait_for("getting ready", lambda: service.property(UNIT, "ActiveState") == "active", seconds=60)
    assert service.property(UNIT, "StartLimitIntervalUSec") == "0"  # no limit, so no "start-limit-hit"


def test_stop_is_clean_and_quick(service: Machine) -> None:
    began = time.monotonic()
    service.run("systemctl", "stop", UNIT)
    assert time.monotonic() - began < 60
    assert service.property(UNIT, "Result") == "success", service.log(UNIT)
    service.run("systemctl", "start", UNIT)
    assert service.property(UNIT, "ActiveState") == "active"


def test_a_broken_configuration_is_one_clear_line_in_the_journal(service: Machine) -> None:
    good = service.run("cat", CONFIG_FILE)
    service.write(CONFIG_FILE, good + "\nvolume = 11\n")
    service.run("systemctl", "restart", UNIT, check=False)
    assert "volume" in service.log(UNIT, "--lines=20")
    service.write(CONFIG_FILE, good)
    service.run("systemctl", "restart", UNIT)
    assert service.property(UNIT, "ActiveState") == "active"
