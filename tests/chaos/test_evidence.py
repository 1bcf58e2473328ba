"""Killed in mid-alert, and every alert is in a chain that verifies; ``python -m tests.chaos.evidence`` is longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from .evidence import run


@pytest.mark.timeout(600)
def test_killed_in_mid_alert_every_alert_is_in_the_chain(tmp_path: Path) -> None:
    assert "alerts in the chain" in run(tmp_path, 2)
