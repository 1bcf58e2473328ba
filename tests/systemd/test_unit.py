"""The unit as systemd reads it, without booting anything."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "systemd" / "streamdet.service"
NEWER_THAN_252 = ("RestartSteps", "RestartMaxDelaySec")

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def test_verify_finds_nothing(tmp_path: Path) -> None:
    # The program is not installed on this host; all else is as it ships.
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/streamdet/bin/streamdet", "/bin/true"))
    done = analyze("verify", "--man=no", str(copy))
    complaints = [line for line in done.stdout.splitlines() if not any(key in line for key in NEWER_THAN_252)]
    assert complaints == []
    assert done.returncode == 0


def test_verify_would_find_something(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/streamdet/bin/streamdet", "/bin/absent"))
    assert "/bin/absent is not executable" in analyze("verify", "--man=no", str(copy)).stdout


def test_exposure_is_at_most_2() -> None:
    done = analyze("security", "--offline=yes", "--no-pager", str(UNIT))
    match = re.search(r"Overall exposure level for streamdet.service: ([\d.]+)", done.stdout)
    assert match is not None, done.stdout
    assert float(match[1]) <= 2.0
