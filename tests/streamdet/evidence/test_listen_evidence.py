"""``listen --evidence`` as a user runs it."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamdet.evidence.chain import own
from streamdet.evidence.verify import verify

from ..conftest import DEMO, Run
from ..disks import remount, small_disk
from ..test_reload import Tail, reloads
from .make import raised, record

EAGER = ("--publish", "none", "--json", "--raise", "0.6", "--clear", "0.3")


@pytest.mark.parametrize("mode", ["full", "scores"])
def test_alerts_are_recorded_and_their_end_tells_of_it_in_order(run: Run, tmp_path: Path, mode: str) -> None:
    folder, config = tmp_path / "evidence", tmp_path / "streamdet.toml"
    config.write_text(f'[evidence]\nmode = "{mode}"\nfree_megabytes = 0\n')
    done = run("listen", "-c", config, "-s", f"file:{DEMO}?speed=max&name=line", "--evidence", folder, *EAGER)
    assert done.returncode == 0, done.stderr
    events = [event for line in done.stdout.splitlines() if (event := json.loads(line))["stream"] == "line"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert (events[-1]["type"], events[-1]["phase"]) == ("state", "ended")
    alerts = [event for event in events if event["type"] == "alert"]
    ends = [event for event in alerts if event["phase"] == "cleared"]
    assert len(ends) == len({event["id"] for event in alerts}) >= 1
    report = verify(folder)
    assert (report.problems, report.alerts, report.incomplete) == ([], len(ends), 0)
    heard = (np.clip(soundfile.read(DEMO, dtype="float32")[0], -1, 1) * 32_767).astype(np.int16)
    for end in ends:
        if end["evidence"] is not None:  # within two seconds, which a machine with other work may miss
            data = Path(end["evidence"]["path"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == end["evidence"]["sha256"]
    sidecars = [json.loads(path.read_bytes()) for path in folder.glob("2*.json")]
    assert {said["alert"] for said in sidecars} == {end["id"] for end in ends}
    for said in sidecars:
        assert said["samples"]["start"] == max(0, said["samples"]["onset"] - 5 * 16_000)
        assert said["events"][0] in alerts
        assert said["source"] == {"kind": "file", "uri": f"file:{DEMO}"}
        for name in said["files"]:
            if name.endswith(".flac"):
                samples, _ = soundfile.read(folder / name, dtype="int16")
                part = heard[said["samples"]["start"] : said["samples"]["stop"]]
                np.testing.assert_array_equal(samples, part)
    assert bool(list(folder.glob("*.flac"))) == (mode == "full")


def test_two_do_not_record_into_one_folder(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "evidence"
    folder.mkdir()
    own(folder)
    done = run("listen", "-s", f"file:{DEMO}?speed=max", "--evidence", folder, "--publish", "none", "--json")
    assert done.returncode == 8
    assert "a folder of its own" in done.stderr


def test_a_start_on_a_read_only_disk_scores_all_the_same(run: Run, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        remount(disk, "ro")
        source = f"file:{DEMO}?speed=max&name=line"
        done = run("listen", "-s", source, "--evidence", disk / "evidence", "--store", disk / "new.db", *EAGER)
        assert done.returncode == 0, done.stderr
        events = [json.loads(line) for line in done.stdout.splitlines()]
        told = [event["reason"] for event in events if event["stream"] == "*" and event["type"] == "state"]
        assert [said.split(":")[0] for said in told if "ead-only file system" in said] == ["event store", "evidence"]
        assert sum(event["type"] == "score" for event in events) > 200
        ends = [event for event in events if event["type"] == "alert" and event["phase"] == "cleared"]
        assert ends
        assert all(event["evidence"] is None for event in ends)


@pytest.mark.parametrize(("made", "code", "says"), [("file", 8, "File exists"), ("key", 2, "key")])
def test_a_mistake_of_the_configuration_ends_the_start(
    run: Run, tmp_path: Path, made: str, code: int, says: str
) -> None:
    (tmp_path / "file").write_text("neither a folder nor a key")
    config = tmp_path / "streamdet.toml"
    config.write_text(f'[evidence]\nkey = "{tmp_path / "file"}"\n' if made == "key" else "")
    folder = tmp_path / ("file" if made == "file" else "evidence")
    done = run("listen", "-c", config, "-s", f"file:{DEMO}?speed=max", "--evidence", folder, *EAGER)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_the_commands(run: Run, tmp_path: Path) -> None:
    assert run("evidence", "key", "make", tmp_path / "key").returncode == 0
    folder = tmp_path / "evidence"
    record(folder, 1, hops=4)
    assert "complete" in run("evidence", "list", "--dir", folder).stdout
    assert json.loads(run("evidence", "show", raised().id, "--dir", folder, "--json").stdout)["alert"] == raised().id
    assert run("evidence", "verify", "--dir", folder).returncode == 0
    next(folder.glob("*.png")).unlink()
    checked = run("evidence", "verify", "--dir", folder, "--json")
    assert checked.returncode == 8
    assert json.loads(checked.stdout)["problems"][0]["what"] == "is missing"
    assert "deleted 1 of 1" in run("evidence", "prune", "--count", "0", "--dir", folder).stdout
    assert run("evidence", "verify", "--dir", folder).returncode == 0


def test_after_a_reload_recordings_tell_what_is_in_force(
    start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    folder, config = tmp_path / "evidence", tmp_path / "streamdet.toml"
    text = f'[evidence]\ndir = "{folder}"\nfree_megabytes = 0\n[alarm]\nraise = %s\nclear = 0.05\n'
    config.write_text(text % 0.999)
    process = start("listen", "-c", config, "-s", f"file:{DEMO}?loop=1&name=line", "--json", "--publish", "none")
    tail = Tail(process)
    tail.wait(lambda event: event["type"] == "score")
    config.write_text(text % 0.2)
    process.send_signal(signal.SIGHUP)
    told = tail.wait(reloads(1, tail))
    raised = tail.wait(lambda event: event["type"] == "alert")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    said = next(
        said for path in folder.glob("2*.json") if (said := json.loads(path.read_bytes()))["alert"] == raised["id"]
    )
    assert (said["thresholds"]["raise"], said["thresholds"]["clear"], said["thresholds_changed"]) == (0.2, 0.05, [])
    assert said["configuration"] == told["detail"]["config"]
    assert verify(folder).intact
