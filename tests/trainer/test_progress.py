"""What long work shows where nobody looks at a terminal."""

from __future__ import annotations

import pytest

from trainer import progress


def test_a_log_gets_a_line_a_minute_and_no_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter(range(0, 1000, 25))  # seconds: one item takes 25
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(now)))
    with progress.shown("hearing pieces", 1200, counted=True) as bar:
        for _ in range(7):
            bar.advance(150)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["hearing pieces: 450 of 1,200", "hearing pieces: 900 of 1,200"]


def test_short_work_leaves_logs_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.stage("scoring", 3) as advance:
        for _ in range(3):
            advance()
    assert capsys.readouterr() == ("", "")


def test_a_total_may_come_to_be_known_later(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter([0.0, 61.0, 61.0, 122.0, 122.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with progress.shown("making", None) as bar:
        bar.advance()
        bar.of(5)
        bar.advance()
    assert capsys.readouterr().err.splitlines() == ["making: 1", "making: 2 of 5"]
