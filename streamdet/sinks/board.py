"""What a person sees: the present state of every stream as a table, and the lines that stay."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from streamdet.events import DAEMON, Alert, Event, Health, Score, State

BAR = 16  # cells
ENDED_ROWS = 20  # of streams that ended last; those that ended before leave the board
STYLES = {"spoof": "bold red", "bona_fide": "green", "undecided": "yellow", "no_speech": "dim"}
PHASES = {"raised": "bold red", "updated": "red", "cleared": "green", "failed": "bold red", "degraded": "yellow"}
WORDS = {"bona_fide": "human", "spoof": "SYNTHETIC", "undecided": "undecided", "no_speech": "no speech"}
REASONS = {"evidence": "", "silence": ", nobody speaks", "gap": ", audio missing", "limit": ", time limit", "ended": ""}


@dataclass(slots=True)
class Row:
    """The last that was heard of one stream."""

    score: Score | None = None
    state: str = ""
    alert: Alert | None = None


def clock(seconds: float) -> str:
    """Write seconds as ``m:ss.s`` or ``h:mm:ss.s``."""
    tenths = round(seconds * 10)
    hours, rest = divmod(tenths, 36_000)
    minutes, rest = divmod(rest, 600)
    start = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{start}:{rest / 10:04.1f}"


def percent(share: float | None) -> str:
    """Write a share as a percentage of four characters; a dash where there is none."""
    return "   -" if share is None else f"{100 * share:3.0f}%"


def bar(p_fake: float | None, verdict: str) -> Text:
    """Draw a probability as a bar in the verdict's colour."""
    filled = round(BAR * (p_fake or 0.0))
    return Text().append("━" * filled, style=STYLES[verdict]).append("─" * (BAR - filled), style="dim")


def windows_text(windows: dict[str, float | None]) -> str:
    """Write the windows' own values, such as ``3s  12%  10s   8%``."""
    return "  ".join(f"{seconds}s {percent(p)}" for seconds, p in windows.items())


def score_line(score: Score) -> str:
    """Write one score as one plain line."""
    return (
        f"{score.stream}  {clock(score.media_time)}  p_fake {percent(score.p_fake)}  {WORDS[score.verdict]:<9}"
        f"  speech {percent(score.speech)}  {windows_text(score.windows)}"
    )


def alert_line(alert: Alert) -> Text:
    """Write one step of an alert as one line."""
    text = Text(f"{alert.time}  ALERT {alert.phase}", style=PHASES[alert.phase])
    text.append(f"  {alert.stream}", style="bold")
    text.append(f"  since {clock(alert.onset)}, {alert.duration:.1f} s, peak {percent(alert.peak).strip()}")
    return text.append(f"{REASONS[alert.reason]}  [{alert.id[:8]}]")


def state_line(state: State) -> Text:
    """Write a move in a source's life cycle as one line."""
    text = Text(f"{state.time}  {state.stream}  ").append(state.phase, style=PHASES.get(state.phase, ""))
    return text.append(f": {state.reason}")


class Board:
    """Keeps the last of every open stream and of a few that ended, in the order in which they came."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self._ended: dict[str, None] = {}  # names, those that ended first in front
        self.health: Health | None = None

    def take(self, event: Event) -> Text | None:
        """Take an event; returns the line that should stay on the screen, if it is worth one."""
        if event.type == "health":
            self.health = event
            return None
        if event.type == "state" and event.stream == DAEMON:
            return state_line(event)
        row = self.rows.setdefault(event.stream, Row())
        self._note_end(event)
        if event.type == "score":
            row.score = event
            return None
        if event.type == "state":
            row.state = event.phase
            return state_line(event)
        row.alert = event if event.phase != "cleared" else None
        return None if event.phase == "updated" else alert_line(event)

    def _note_end(self, event: Event) -> None:
        """Forget streams that ended long ago; one that comes again is open."""
        self._ended.pop(event.stream, None)
        if event.type == "state" and event.phase in {"ended", "failed"}:
            self._ended[event.stream] = None
        while len(self._ended) > ENDED_ROWS:
            oldest = next(iter(self._ended))
            del self._ended[oldest], self.rows[oldest]

    def table(self) -> Table:
        """Draw all streams; one line each."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        for title in ("stream", "audio", "p_fake", "", "verdict  ", "speech", "windows", "state"):
            table.add_column(title, no_wrap=True)
        for name, row in self.rows.items():
            table.add_row(*self._cells(name, row))
        return table

    def _cells(self, name: str, row: Row) -> tuple[Text | str, ...]:
        state, score = Text(row.state, style=PHASES.get(row.state, "")), row.score
        if row.alert is not None:  # scores come between the events of an alert
            lasted = max(row.alert.duration, 0.0 if score is None else score.media_time - row.alert.onset)
            state.append(f"  ALERT {lasted:.0f} s", style="bold red")
        if score is None:
            return Text(name), "", Text("─" * BAR, style="dim"), "", "", "", "", state
        verdict = Text(WORDS[score.verdict], style=STYLES[score.verdict])
        level = bar(score.p_fake, score.verdict)
        shares = percent(score.p_fake), verdict, percent(score.speech), windows_text(score.windows)
        return Text(name), clock(score.media_time), level, *shares, state
