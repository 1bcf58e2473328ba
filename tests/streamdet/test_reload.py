"""A changed configuration taken over while sound is scored: in a real process, by the signal and by the command."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamdet.config import Config
from streamdet.decide.alarm import AlarmConfig
from streamdet.decide.calibrate import log_odds
from streamdet.decide.judge import Judge, JudgeConfig, Manner
from streamdet.decide.window import Column
from streamdet.settings.changes import changes, running

from .conftest import DEMO, Run

HOP = 0.32


def manner(raise_at: float, clear_at: float, *windows: float, **alarm: float) -> Manner:
    thresholds = AlarmConfig(raise_at=log_odds(raise_at), clear_at=log_odds(clear_at), min_seconds=0.0, **alarm)
    return Manner(JudgeConfig(windows=windows or (3.0, 10.0), alarm=thresholds))


def hear(judge: Judge, logit: float, hops: int, start: int) -> list[str]:
    steps = [judge.update(Column(logit, 0.0, 1.0), (start + n) * HOP).alerts for n in range(1, hops + 1)]
    return [step.phase for found in steps for step in found if step.phase != "updated"]


def test_an_active_alert_outlives_new_thresholds_and_clears_by_them() -> None:
    judge = Judge.of(manner(0.8, 0.5))
    assert hear(judge, 2.0, 20, 0) == ["raised"]  # p_fake 0.88
    judge.adopt(manner(0.95, 0.7))
    assert hear(judge, 2.0, 20, 20) == []  # it would not be raised now, and goes on: it is above the new clear
    judge.adopt(manner(0.95, 0.9))
    assert hear(judge, 2.0, 1, 40) == ["cleared"]


def test_what_was_heard_stays_when_a_window_changes() -> None:
    judge, straight = Judge.of(manner(0.9, 0.5, 3.0, 10.0)), Judge.of(manner(0.9, 0.5, 4.0, 8.0))
    columns = [Column(float(n % 7) - 3.0, 0.1 * (n % 3), 1.0) for n in range(60)]
    for number, column in enumerate(columns):
        if number == 50:
            judge.adopt(manner(0.9, 0.5, 4.0, 8.0))
        mine, wanted = judge.update(column, number * HOP), straight.update(column, number * HOP)
        if number >= 50:
            assert mine.windows == pytest.approx(wanted.windows)


def test_changes_say_what_needs_a_restart() -> None:
    before = Config()
    after = Config.model_validate({"alarm": {"raise": 0.95}, "web": {"listen": "127.0.0.1:1"}, "workers": 2})
    found = changes(before, after)
    assert found.applied == ("alarm.raise as the model has it -> 0.95",)
    assert found.restart == ("web.listen", "workers")
    now = running(before, after)
    assert (now.alarm.raise_at, now.workers, now.web.listen) == (0.95, 1, None)
    assert changes(now, after).restart == ("web.listen", "workers")  # said again until it is restarted


class Tail:
    """Reads a process's JSON lines in a thread."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.events: list[dict[str, Any]] = []
        self._stdout = process.stdout
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._stdout is not None
        for line in self._stdout:
            self.events.append(json.loads(line))

    def wait(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = 60.0) -> dict[str, Any]:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for event in list(self.events):
                if wanted(event):
                    return event
            time.sleep(0.05)
        raise AssertionError(f"not seen; last: {self.events[-3:]}")


def reloads(number: int, tail: Tail) -> Callable[[dict[str, Any]], bool]:
    def wanted(event: dict[str, Any]) -> bool:
        told = [e for e in list(tail.events) if e["type"] == "state" and e["detail"].get("cause") == "reload"]
        return len(told) >= number and event is told[number - 1]

    return wanted


def test_a_running_process_takes_over_what_changed(
    start: Callable[..., subprocess.Popen[bytes]], run: Run, tmp_path: Path, endpoint: str
) -> None:
    path = tmp_path / "streams.toml"
    source = f'[[source]]\nuri = "file:{DEMO}?loop=1&name=%s"\n'
    begin = f'publish = "{endpoint}"\n'
    path.write_text(begin + source % "kept" + source % "gone")
    process = start("listen", "--config", path, "--json")
    tail = Tail(process)
    for name in ("kept", "gone"):
        tail.wait(lambda event, name=name: event["type"] == "score" and event["stream"] == name)

    text = begin + "workers = 2\n" + source % "kept" + source % "new" + "[windows]\nlong = 8.0\n"
    path.write_text(text)
    process.send_signal(signal.SIGHUP)
    told = tail.wait(reloads(1, tail))
    assert told["phase"] == "live"
    assert "windows.long 10 -> 8" in told["detail"]["changed"]
    assert told["detail"]["restart"] == "workers"
    assert (told["detail"]["sources_added"], told["detail"]["sources_removed"]) == (1, 1)
    tail.wait(lambda event: event["type"] == "score" and event["stream"] == "new")
    ended = tail.wait(lambda event: event["stream"] == "gone" and event.get("phase") == "ended")
    assert "removed" in ended["reason"]
    tail.wait(lambda event: event["stream"] == "kept" and set(event.get("windows", ())) == {"3", "8"})

    path.write_text(text + "shorter = 3\n")
    done = run("reload", str(process.pid))
    assert (done.returncode, done.stderr) == (0, "")
    refused = tail.wait(reloads(2, tail))
    assert refused["phase"] == "degraded"
    assert "windows.shorter" in refused["reason"]
    assert refused["detail"]["config"] == told["detail"]["config"]
    path.write_text(text + "".join(f'[[source]]\nuri = "-"\nname = "{name}"\n' for name in ("a", "b")))
    process.send_signal(signal.SIGHUP)
    assert "standard input can be one source only" in tail.wait(reloads(3, tail))["reason"]
    seen = tail.events[-1]["seq"]
    tail.wait(lambda event: event["stream"] == "kept" and event["type"] == "score" and event["seq"] > seen)

    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    kept = [event for event in tail.events if event["stream"] == "kept"]
    assert [event["seq"] for event in kept] == list(range(1, len(kept) + 1))
    times = [event["media_time"] for event in kept if event["type"] == "score"]
    whole = [HOP * (n + 1) for n in range(len(times))]
    assert times[:-1] == pytest.approx(whole[:-1], abs=0.01)  # no hop was lost or repeated
    assert times[-2] < times[-1] <= whole[-1] + 0.01  # what was left at the end is part of a hop
    assert {event["lost"] for event in kept if event["type"] == "score"} == {0.0}


@pytest.mark.parametrize(
    "command",
    [
        ["sleep", "60"],
        # What started a listen has the same words in its command line.
        ["timeout", "60", sys.executable, "-c", "import time; time.sleep(60)", "streamdet", "listen", "-c", "a.toml"],
    ],
)
def test_a_process_that_is_no_listen_gets_no_signal(run: Run, command: list[str]) -> None:
    other = subprocess.Popen(command)
    try:
        done = run("reload", str(other.pid))
        assert (done.returncode, other.poll()) == (2, None)
        assert "nothing was sent" in done.stderr
    finally:
        other.terminate()
        other.wait()
