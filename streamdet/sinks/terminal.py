"""Events on a terminal: one live line per stream; alerts stay above it."""

from __future__ import annotations

import time

from rich.console import Console
from rich.live import Live

from streamdet.errors import SinkEndedError
from streamdet.events import Event, Score
from streamdet.sinks.board import Board, score_line

REFRESH = 0.1  # seconds between two drawings of the live lines
EVERY = 1.0  # seconds of audio between two plain lines of one stream


class TerminalSink:
    """Shows streams to a person: live lines on a terminal, plain lines into a file or pipe.

    Plain lines come once a second of audio and at every change of verdict, so that a log stays readable.
    """

    name = "terminal"

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._board = Board()
        self._drawn = 0.0
        self._written: dict[str, Score] = {}
        self._live: Live | None = None
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()

    def emit(self, event: Event, payload: bytes) -> None:  # noqa: ARG002  as the protocol has it
        """Show one event.

        Raises:
            SinkEndedError: the reader of the pipe has gone.
        """
        try:
            self._show(event)
        except SystemExit as error:  # rich's answer to a broken pipe
            raise SinkEndedError("the reader of the lines has gone") from error

    def _show(self, event: Event) -> None:
        line = self._board.take(event)
        if event.type == "state" and event.phase == "ended":
            self._written.pop(event.stream, None)
        if line is not None:
            self._console.print(line, soft_wrap=True, highlight=False)
        if self._live is not None:
            self._draw(self._live, now=line is not None)
        elif event.type == "score" and self._worth_a_line(event):
            self._written[event.stream] = event
            self._console.print(score_line(event), soft_wrap=True, highlight=False, markup=False)

    def close(self) -> None:
        """Draw the last state and give the terminal back."""
        if self._live is not None:
            self._draw(self._live, now=True)
            self._live.stop()

    def _draw(self, live: Live, *, now: bool) -> None:
        if now or time.monotonic() - self._drawn >= REFRESH:
            live.update(self._board.table(), refresh=True)
            self._drawn = time.monotonic()

    def _worth_a_line(self, score: Score) -> bool:
        last = self._written.get(score.stream)
        return last is None or last.verdict != score.verdict or score.media_time - last.media_time >= EVERY
