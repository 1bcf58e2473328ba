from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from streamdet.events import Health, to_json, utc
from streamdet.sinks.board import ENDED_ROWS, Board, bar, clock, percent
from streamdet.sinks.terminal import TerminalSink

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def shown(*sent: Any, terminal: bool, width: int = 110) -> str:
    output = io.StringIO()
    sink = TerminalSink(Console(file=output, force_terminal=terminal, width=width, color_system=None))
    for event in sent:
        sink.emit(event, to_json(event))
    sink.close()
    return output.getvalue()


def last_screen(output: str, lines: int) -> list[str]:
    return [line.rstrip() for line in ESCAPES.sub("", output).splitlines()[-lines:]]


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        (0.0, "0:00.0"),
        (9.6, "0:09.6"),
        (59.96, "1:00.0"),
        (75.25, "1:15.2"),
        (3599.99, "1:00:00.0"),
        (7384.1, "2:03:04.1"),
    ],
)
def test_clock(seconds: float, wanted: str) -> None:
    assert clock(seconds) == wanted


@pytest.mark.parametrize(("share", "wanted"), [(None, "   -"), (0.0, "  0%"), (0.126, " 13%"), (1.0, "100%")])
def test_percent(share: float | None, wanted: str) -> None:
    assert percent(share) == wanted


@pytest.mark.parametrize(("p", "cells"), [(None, 0), (0.0, 0), (0.5, 8), (1.0, 16)])
def test_the_bar_is_as_long_as_the_probability(p: float | None, cells: int) -> None:
    assert bar(p, "spoof").plain == "━" * cells + "─" * (16 - cells)


def test_a_terminal_shows_one_line_per_stream_and_keeps_the_alerts(score: Any, alert: Any, state: Any) -> None:
    output = shown(
        state(1),
        score(2, p=0.1),
        score(1, stream="door", p=None, verdict="no_speech"),
        alert(3),
        score(4, at=81.2, p=0.97, verdict="spoof"),
        terminal=True,
    )
    header, hall, door = last_screen(output, 3)
    assert header.split() == ["stream", "audio", "p_fake", "verdict", "speech", "windows", "state"]
    assert re.fullmatch(r"hall +1:21\.2 +━{16} +97% +SYNTHETIC +50% +3s +97% +10s +- +live +ALERT 11 s", hall)
    assert re.fullmatch(r"door +0:00\.3 +─{16} +- +no speech +50% +3s +- +10s +-", door)
    lines = ESCAPES.sub("", output).splitlines()
    assert [line for line in lines if "ALERT raised" in line] == [
        "2001-09-09T01:46:40.000Z  ALERT raised  hall  since 1:10.5, 4.5 s, peak 97%  [0b1c2d3e]"
    ]
    assert sum("hall  live: sound arrives" in line for line in lines) == 1


def test_a_cleared_alert_leaves_the_live_line_but_not_the_screen(score: Any, alert: Any) -> None:
    output = shown(score(1), alert(2), alert(3, "updated"), alert(4, "cleared"), terminal=True)
    assert "ALERT" not in last_screen(output, 1)[0]
    lines = ESCAPES.sub("", output).splitlines()
    assert sum("ALERT cleared" in line for line in lines) == 1
    assert not any("ALERT updated" in line for line in lines)


def test_without_a_terminal_plain_lines_come_once_a_second_and_at_each_change(score: Any) -> None:
    sent = [score(n, at=0.32 * n, p=0.1) for n in range(1, 8)]
    sent += [score(8, at=0.32 * 8, p=0.9, verdict="spoof"), score(9, at=0.32 * 9, p=0.9, verdict="spoof")]
    output = shown(*sent, terminal=False)
    assert "\x1b" not in output
    lines = output.splitlines()
    assert [line.split()[1] for line in lines] == ["0:00.3", "0:01.6", "0:02.6"]
    assert lines[0] == "hall  0:00.3  p_fake  10%  human      speech  50%  3s  10%  10s    -"
    assert "SYNTHETIC" in lines[-1]


def test_without_a_terminal_alerts_and_states_are_lines_of_their_own(alert: Any, state: Any) -> None:
    output = shown(state(1), alert(2), alert(3, "cleared"), terminal=False, width=20)  # a narrow pipe does not wrap
    assert [line.split("  ")[1] for line in output.splitlines()] == ["hall", "ALERT raised", "ALERT cleared"]


def test_markup_in_a_name_is_shown_as_it_is(score: Any, state: Any) -> None:
    sent = state(1, stream="[red]x[/red]", reason="[bold]a[/]"), score(2, stream="[red]x[/red]")
    for terminal in (True, False):
        output = ESCAPES.sub("", shown(*sent, terminal=terminal))
        assert "[red]x[/red]" in output.splitlines()[-1]
        assert "[bold]a[/]" in output


def test_the_board_keeps_health_out_of_the_streams(score: Any) -> None:
    board = Board()
    health = Health(
        seq=1, time=utc(0), media_time=0.0, model="", uptime=0.0, streams=1, alerts=0, hops=0, lag_ms=0.0, dropped={},
        engine="onnx-cpu",
    )  # fmt: skip
    assert board.take(health) is None
    board.take(score())
    assert list(board.rows) == ["hall"]
    assert board.health == health


def test_streams_that_ended_long_ago_leave_the_board(score: Any, state: Any) -> None:
    board = Board()
    board.take(score(stream="open"))
    for number in range(500):
        board.take(score(stream=f"call-{number}"))
        board.take(replace(state(2, stream=f"call-{number}"), phase="ended"))
    assert list(board.rows) == ["open", *(f"call-{number}" for number in range(500 - ENDED_ROWS, 500))]
    board.take(score(3, stream="call-480"))  # it comes again, and is open
    for number in range(500, 600):
        board.take(replace(state(1, stream=f"call-{number}"), phase="ended"))
    assert {"open", "call-480"} <= board.rows.keys()
    assert len(board.rows) == ENDED_ROWS + 2


def test_what_the_daemon_says_of_itself_is_a_line_and_no_stream(state: Any) -> None:
    board = Board()
    line = board.take(replace(state(1, stream="*"), phase="degraded", reason="overload: scoring is 2.0 s behind"))
    assert line is not None
    assert line.plain.endswith("*  degraded: overload: scoring is 2.0 s behind")
    assert board.rows == {}
