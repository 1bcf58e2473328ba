"""One event to all sinks."""

from __future__ import annotations

from collections.abc import Sequence

from streamdet.events import Event, to_json
from streamdet.sinks.queue import QueueSink


class Fanout:
    """Encodes each event once and puts it in every sink's queue."""

    def __init__(self, sinks: Sequence[QueueSink]) -> None:
        self.sinks = tuple(sinks)

    def emit(self, event: Event) -> None:
        """Send one event everywhere; returns at once."""
        payload = to_json(event)
        for sink in self.sinks:
            sink.emit(event, payload)

    def dropped(self) -> dict[str, int]:
        """Count what each sink lost so far, whether for want of room or because it refused."""
        return {sink.name: sink.dropped + sink.failed for sink in self.sinks}

    def close(self) -> None:
        """Close all sinks; each is given its own time to finish."""
        for sink in self.sinks:
            sink.close()
