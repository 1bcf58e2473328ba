"""The terminal's live page: what it shows of many streams, in how much room, and what the keys do."""

from __future__ import annotations

import io
import os
import pty
import time

import pytest
from rich.console import Console

from streamdet.events import Alert, Health, Score, State, utc
from streamdet.keyboard import Keyboard
from streamdet.panel import Panel


def score(stream: str, p_fake: float, at: float = 60.0) -> Score:
    return Score(
        stream=stream, seq=1, time=utc(1e9), media_time=at, model="a" * 64, p_fake=p_fake,
        windows={"3": p_fake, "10": 0.5}, speech=0.7, lost=0.01, verdict="spoof" if p_fake > 0.6 else "bona_fide",
        latency_ms=3.0,
    )  # fmt: skip


def alert(stream: str, phase: str) -> Alert:
    return Alert(
        stream=stream, seq=2, time=utc(1e9), media_time=60.0, model="", id="deadbeef-1", phase=phase, reason="evidence",
        onset=58.0, peak=0.97, duration=2.0,
    )  # fmt: skip


def shown(panel: Panel, height: int = 24, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height)
    with console.capture() as captured:
        console.print(panel.draw(console))
    return captured.get().splitlines()


@pytest.fixture
def panel() -> Panel:
    panel = Panel(now=lambda: 100.0)
    for number in range(50):
        panel.take(score(f"calls/line-{number:02d}", 0.02 * (number % 5)))
    panel.take(
        State(stream="calls/line-31", seq=3, time=utc(1e9), media_time=0.0, model="", phase="failed", reason="x")
    )
    panel.take(score("calls/line-44", 0.95))
    panel.take(alert("calls/line-44", "raised"))
    return panel


def test_fifty_streams_fit_a_small_terminal_with_the_worst_first(panel: Panel) -> None:
    panel.take(
        Health(
            seq=1, time=utc(1e9), media_time=0.0, model="", uptime=65.0, streams=50, alerts=1, hops=1, lag_ms=12.0,
            dropped={"zeromq": 3}, engine="onnx-cpu",
        )
    )  # fmt: skip
    lines = shown(panel)
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert "50 streams  1 alerting  onnx-cpu  lag 12 ms  3 dropped  up 1:05" in lines[0]
    assert lines[2].startswith("calls/line-44")
    assert "ALERT 0:02" in lines[2]
    assert lines[3].startswith("calls/line-31")
    assert any("34 more" in line or "more" in line for line in lines)


def test_keys_choose_open_filter_and_end(panel: Panel) -> None:
    panel.press("down")
    panel.press("enter")
    assert any("window of 10 s: 50%" in line for line in shown(panel))
    panel.press("escape")
    panel.press("a")
    named = [line for line in shown(panel)[2:] if line.startswith("calls/")]
    assert len(named) == 1
    panel.press("p")
    assert (panel.paused, panel.over) == (True, False)
    assert "PAUSED" in shown(panel)[-1]
    panel.press("q")
    assert panel.over


def test_going_down_keeps_the_chosen_stream_in_sight(panel: Panel) -> None:
    for _ in range(60):
        panel.press("down")
    assert any(line.startswith(str(panel.chosen)) for line in shown(panel))


def test_an_alert_that_is_over_leaves_the_top(panel: Panel) -> None:
    panel.take(alert("calls/line-44", "cleared"))
    panel.take(score("calls/line-44", 0.0))
    assert shown(panel)[2].startswith("calls/line-31")


def test_the_last_minute_is_drawn_from_the_highest_values() -> None:
    panel = Panel()
    for hop in range(400):
        panel.take(score("a", 0.99 if hop == 395 else 0.0, 0.32 * hop))
    spark = panel.lines["a"].spark()
    assert len(spark) == 10
    assert spark.endswith("█")
    assert set(spark[:-1]) == {"▁"}


def test_keys_arrive_one_by_one_even_where_they_were_typed_at_once() -> None:
    outside, inside = pty.openpty()
    with Keyboard(inside) as keyboard:
        os.write(outside, b"\x1b[Bq\x1b[A\ra")
        deadline, keys = time.monotonic() + 5.0, []
        while len(keys) < 5 and time.monotonic() < deadline:
            key = keyboard.key()
            if key is not None:
                keys.append(key)
        assert keyboard.key() is None
    os.close(outside)
    os.close(inside)
    assert keys == ["down", "q", "up", "enter", "a"]
