"""Killed in mid-alert, and nothing is lost; ``python -m tests.chaos.kill`` is the long version."""

from __future__ import annotations

from pathlib import Path

import pytest

from .kill import run


@pytest.mark.timeout(600)
def test_killed_again_and_again_in_mid_alert_nothing_is_lost_or_told_twice(tmp_path: Path) -> None:
    said = run(tmp_path, 3)
    assert "0 missed" in said
