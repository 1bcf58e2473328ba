"""What every sink is: a place that takes one event at a time, already encoded."""

from __future__ import annotations

from typing import Protocol

from streamdet.events import Event


class Sink(Protocol):
    """Where events go; one file of this package implements one kind.

    A sink may be slow and may fail: :class:`streamdet.sinks.queue.QueueSink` gives each one its own thread and bounds
    what waits for it, so it calls a sink from one thread only and never from the one that scores.
    """

    @property
    def name(self) -> str:
        """Short name for status and logs, such as ``zeromq``."""
        ...

    def emit(self, event: Event, payload: bytes) -> None:
        """Take one event; ``payload`` is ``to_json(event)``, made once for all sinks.

        Raises:
            SinkError: the event could not be taken; the text says why.
            SinkEndedError: nobody is there any more, and never will be.
        """
        ...

    def close(self) -> None:
        """Send what can still be sent and free the rest; called once."""
        ...
