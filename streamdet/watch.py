"""``streamdet watch``: streams and alerts of a running streamdet, live."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection
from typing import BinaryIO

from rich.console import Console

from streamdet.errors import FormatError, SinkEndedError
from streamdet.follow import Follower
from streamdet.keys import Curve
from streamdet.sinks.base import Sink
from streamdet.sinks.jsonl import JsonLinesSink
from streamdet.sinks.terminal import TerminalSink
from streamdet.subscribe import Message

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
