"""``streamdet watch``: streams and alerts of a running streamdet, live."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Collection
from typing import BinaryIO

from rich.console import Console
from rich.live import Live

from streamdet.errors import FormatError, SinkEndedError
from streamdet.events import Event
from streamdet.follow import Follower
from streamdet.keyboard import Keyboard
from streamdet.keys import Curve
from streamdet.panel import Panel
from streamdet.sinks.base import Sink
from streamdet.sinks.jsonl import JsonLinesSink
from streamdet.sinks.terminal import TerminalSink
from streamdet.subscribe import Message

REFRESH = 0.2  # seconds between two drawings
PATIENCE = 0.2  # seconds between two looks at ``stop``


class Watch:
    """Passes on what a subscriber receives, and says what got lost."""

    def __init__(self, subscriber: Follower, sink: Sink, say: Callable[[str], None]) -> None:
        self._subscriber = subscriber
        self._sink = sink
        self._say = say
        self.events = 0
        self.missed = 0
        self.unreadable = 0

    def run(self, stop: threading.Event) -> None:
        """Go on until ``stop`` is set or the reader of the output has gone."""
        while not stop.is_set():
            try:
                self._step()
            except SinkEndedError:
                return

    def summary(self) -> str:
        """Say in one line what came."""
        return f"{self.events} events, {self.missed} missed, {self.unreadable} unreadable"

    def _step(self) -> None:
        if isinstance(self._sink, Screen):
            self._sink.look()
        try:
            message = self._subscriber.receive(PATIENCE)
        except FormatError as error:
            self.unreadable += 1
            self._say(str(error))
            return
        if message is not None:
            self._take(message)

    def _take(self, message: Message) -> None:
        self.events += 1
        self.missed += message.missed
        if message.missed:
            self._say(f"{message.event.stream}: {message.missed} events missed before seq {message.event.seq}")
        self._sink.emit(message.event, message.payload)


class Screen:
    """A sink that draws the panel on the whole terminal and hears keys, from the thread that watches."""

    name = "screen"

    def __init__(self, console: Console, keyboard: Keyboard, stop: threading.Event) -> None:
        self.panel = Panel()
        self._keyboard = keyboard
        self._stop = stop
        self._drawn = 0.0
        self._console = console
        self._live = Live(console=console, screen=True, auto_refresh=False)
        self._live.start()

    def emit(self, event: Event, payload: bytes) -> None:  # noqa: ARG002  as the protocol has it
        """Take one event."""
        if not self.panel.paused:
            self.panel.take(event)
        self.look()

    def look(self) -> None:
        """Take keys, and draw if it is time."""
        pressed = False
        while (key := self._keyboard.key()) is not None:
            self.panel.press(key)
            pressed = True
        if self.panel.over:
            self._stop.set()
        if pressed or time.monotonic() - self._drawn >= REFRESH:
            self._live.update(self.panel.draw(self._console), refresh=True)
            self._drawn = time.monotonic()

    def close(self) -> None:
        """Give the terminal back."""
        self._live.stop()


def run_watch(
    endpoint: str,
    *,
    replay: str | None = None,
    curve: Curve | None = None,
    json: bool = False,
    streams: Collection[str] = (),
    stop: threading.Event | None = None,
    output: BinaryIO | None = None,
    console: Console | None = None,
) -> int:
    """Show the events published on ``endpoint`` until Ctrl-C or ``stop``.

    Args:
        endpoint: ZeroMQ address of a streamdet's ``--publish``.
        replay: address of its ``--replay``, for what is missed.
        curve: keys, where the publisher asks for them.
        json: pass the events through as JSON lines to ``output`` instead of drawing them on ``console``.
        streams: only these streams; all where empty.
        stop: ends the watch when set.
        output: where JSON lines go; standard output where absent.
        console: where people look, and where remarks go in both cases; where absent standard output, or standard
            error beside JSON lines.

    Returns:
        Exit code 0.

    Raises:
        ConfigError: the endpoint is none.
    """
    console = console or Console(stderr=json)
    if not json and console.is_terminal and sys.stdin.isatty():
        return _watch_screen(Follower(endpoint, replay, streams=streams, curve=curve), console)
    subscriber = Follower(endpoint, replay, streams=streams, curve=curve)
    sink: Sink = JsonLinesSink(output or sys.stdout.buffer) if json else TerminalSink(console)

    def say(line: str) -> None:
        console.print(line, style="yellow", soft_wrap=True, highlight=False, markup=False)

    watch = Watch(subscriber, sink, say)
    say(f"watching {endpoint}; Ctrl-C ends")
    try:
        watch.run(stop or threading.Event())
    except KeyboardInterrupt:
        pass  # the way a person ends it
    finally:
        sink.close()
        subscriber.close()
    say(watch.summary())
    return 0


def _watch_screen(subscriber: Follower, console: Console) -> int:
    """Watch on the whole terminal, until q or Ctrl-C."""
    stop = threading.Event()
    said: list[str] = []
    with Keyboard() as keyboard:
        screen = Screen(console, keyboard, stop)
        watch = Watch(subscriber, screen, said.append)
        try:
            watch.run(stop)
        except KeyboardInterrupt:
            pass  # the way a person ends it
        finally:
            screen.close()
            subscriber.close()
    for line in said[-20:]:
        console.print(line, style="yellow", soft_wrap=True, highlight=False, markup=False)
    console.print(watch.summary(), style="yellow", highlight=False)
    return 0
