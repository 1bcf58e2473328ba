"""The terminal's version of the live page: all streams by concern, with keys; knows no transport."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from streamdet.events import Alert, Event, Health, Score
from streamdet.sinks.board import PHASES, STYLES, WORDS, alert_line, clock, percent, state_line

SPARKS: Final = "▁▂▃▄▅▆▇█"
CELLS: Final = 10  # of the spark line, six seconds each
CELL_SECONDS: Final = 6.0
LINES: Final = 3  # the last alerts and states, below the streams
FRAME: Final = 4 + LINES  # lines that are no stream: head, titles, remarks, keys
HELP: Final = "q quit   ↑↓ choose   enter details   a only alerting   p pause"
TROUBLE: Final = ("failed", "degraded", "recovering")


@dataclass(slots=True)
class Line:
    """What is known of one stream."""

    name: str
    score: Score | None = None
    phase: str = ""
    reason: str = ""
    alert: Alert | None = None
    alert_since: float = 0.0
    cells: deque[float] = field(default_factory=lambda: deque(maxlen=CELLS))  # highest p_fake of six seconds each
    cell: int = -1
    alerts: int = 0
    history: deque[Text] = field(default_factory=lambda: deque(maxlen=8))

    @property
    def concern(self) -> tuple[float, ...]:
        """Sort key: alerts first, then sources in trouble, then by p_fake."""
        p_fake = (self.score.p_fake or 0.0) if self.score is not None else 0.0
        return (self.alert is None, self.phase not in TROUBLE, self.phase == "ended", -p_fake)

    def hear(self, score: Score) -> None:
        """Take a score."""
        number = int(score.media_time / CELL_SECONDS)
        if number != self.cell:
            self.cell = number
            self.cells.append(0.0)
        self.cells[-1] = max(self.cells[-1], score.p_fake or 0.0)
        self.score = score

    def spark(self) -> str:
        """Draw the last minute."""
        return "".join(SPARKS[min(7, int(8 * value))] for value in self.cells).rjust(CELLS)


class Panel:
    """Takes events and keys, and draws."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.lines: dict[str, Line] = {}
        self.health: Health | None = None
        self.chosen: str | None = None
        self.details = self.only_alerting = self.paused = self.over = False
        self._said: deque[Text] = deque(maxlen=LINES)
        self._shown: list[Line] = []
        self._now = now

    def take(self, event: Event) -> None:
        """Take an event."""
        if event.type == "health":
            self.health = event
            return
        line = self.lines.setdefault(event.stream, Line(event.stream))
        if event.type == "score":
            line.hear(event)
        elif event.type == "state":
            line.phase, line.reason = event.phase, event.reason
            self._say(line, state_line(event))
        else:
            self._take_alert(line, event)

    def _take_alert(self, line: Line, alert: Alert) -> None:
        if line.alert is None:
            line.alert_since = self._now() - alert.duration
        line.alerts += alert.phase == "raised"
        line.alert = alert if alert.phase != "cleared" else None
        if alert.phase != "updated":
            self._say(line, alert_line(alert))

    def _say(self, line: Line, text: Text) -> None:
        line.history.append(text)
        self._said.append(text)

    def press(self, key: str) -> None:
        """Take a key: a letter, ``up``, ``down``, ``enter`` or ``escape``."""
        match key:
            case "q":
                self.over = True
            case "a":
                self.only_alerting = not self.only_alerting
            case "p":
                self.paused = not self.paused
            case "enter":
                self.details = not self.details
            case "escape":
                self.details = False
            case "up" | "down":
                self._move(1 if key == "down" else -1)

    def _move(self, by: int) -> None:
        names = [line.name for line in self._sorted()]
        if names:
            at = names.index(self.chosen) + by if self.chosen in names else 0
            self.chosen = names[min(max(at, 0), len(names) - 1)]

    def _sorted(self) -> list[Line]:
        found = [line for line in self.lines.values() if line.name != "*"]
        if self.only_alerting:
            found = [line for line in found if line.alert is not None]
        return sorted(found, key=lambda line: (line.concern[:3], round(line.concern[3], 1), line.name))

    def draw(self, console: Console) -> RenderableType:
        """Draw everything into the size of the console."""
        rows = max(3, console.height - FRAME)
        line = self.lines.get(self.chosen or "") if self.details else None
        middle = self._details(line) if line is not None else self._table(self._sorted(), rows, console.width)
        said = list(self._said) + [Text("")] * (LINES - len(self._said))
        for text in said:
            text.no_wrap, text.overflow = True, "ellipsis"
        state = "   PAUSED" if self.paused else ""
        return Group(self._head(), middle, *said, Text(HELP + state, style="dim", no_wrap=True, overflow="ellipsis"))

    def _head(self) -> Text:
        streams = [line for line in self.lines.values() if line.name != "*" and line.phase != "ended"]
        alerting = sum(line.alert is not None for line in streams)
        text = Text(no_wrap=True, overflow="ellipsis").append(f"{len(streams)} streams", style="bold")
        text.append(f"  {alerting} alerting", style="bold red" if alerting else "dim")
        if self.health is None:
            return text.append("  no health event yet", style="dim")
        lost, health = sum(self.health.dropped.values()), self.health
        text.append(f"  {health.engine}  lag {health.lag_ms:.0f} ms", style="red" if health.overloaded else "dim")
        text.append(f"  {lost} dropped", style="yellow" if lost else "dim")
        return text.append(f"  up {clock(health.uptime).split('.')[0]}", style="dim")

    def _table(self, lines: list[Line], rows: int, width: int) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
        table.add_column("stream", no_wrap=True, overflow="ellipsis", max_width=max(10, width - 64))
        for title in ("audio", "p_fake", "verdict", "3 s", "10 s", "lost", "minute", "state"):
            table.add_column(title, no_wrap=True, justify="right" if title in ("audio", "lost") else "left")
        names = [line.name for line in lines]
        at = names.index(self.chosen) if self.chosen in names else 0
        room = rows - (len(lines) > rows)  # the last line then says how many more there are
        begin = max(0, at - room + 1)
        for line in lines[begin : begin + room]:
            table.add_row(*self._cells(line), style="reverse" if line.name == self.chosen else "")
        if len(lines) > rows:
            table.add_row(Text(f"{len(lines) - room} more", style="dim"))
        return table

    def _cells(self, line: Line) -> tuple[Text | str, ...]:
        score = line.score
        state = Text(line.phase, style=PHASES.get(line.phase, "dim"))
        if line.alert is not None:
            state = Text(f"ALERT {clock(self._now() - line.alert_since).split('.')[0]}", style="bold red")
        if score is None:
            return Text(line.name), "", "", "", "", "", "", "", state
        values = [*score.windows.values(), None, None]
        return (
            Text(line.name),
            clock(score.media_time).split(".")[0],
            Text(percent(score.p_fake), style=STYLES[score.verdict]),
            Text(WORDS[score.verdict], style=STYLES[score.verdict]),
            percent(values[0]).strip(),
            percent(values[1]).strip(),
            percent(score.lost).strip(),
            Text(line.spark(), style=STYLES[score.verdict]),
            state,
        )

    def _details(self, line: Line) -> Group:
        source = f"{line.phase}: {line.reason}" if line.phase else ""
        parts: list[RenderableType] = [Text(line.name, style="bold"), Text(source)]
        if line.score is not None:
            score = line.score
            parts.append(Text(f"{clock(score.media_time)} of audio, {line.alerts} alerts since this watch began"))
            parts.append(Text(f"p_fake {percent(score.p_fake).strip()}, {WORDS[score.verdict]}"))
            parts += [Text(f"window of {name} s: {percent(p).strip()}") for name, p in score.windows.items()]
            parts.append(Text(f"speech {score.speech:.0%}, lost {score.lost:.0%}, {score.latency_ms:.1f} ms"))
            parts.append(Text(f"model {score.model[:12]}   last minute {line.spark()}"))
        return Group(*parts, *line.history)
