"""One event to all sinks."""

from __future__ import annotations

from collections.abc import Sequence

from streamdet.events import Event, to_json
from streamdet.sinks.queue import QueueSink
from streamdet.store.gate import Gate


class Fanout:
    """Encodes each event once and puts it in every sink's queue; where there is a store, once it is stored."""

    def __init__(self, sinks: Sequence[QueueSink], gate: Gate | None = None) -> None:
        self.sinks = tuple(sinks)
        self._gate = gate

    def emit(self, event: Event) -> None:
        """Send one event everywhere; returns at once."""
        payload = to_json(event)
        if self._gate is None:
            self.pass_on(event, payload)
        else:
            self._gate.emit(event, payload)

    def pass_on(self, event: Event, payload: bytes) -> None:
        """Put an event into every queue."""
        for sink in self.sinks:
            sink.emit(event, payload)

    def dropped(self) -> dict[str, int]:
        """Count what each sink lost so far, whether for want of room or because it refused."""
        lost = {sink.name: sink.dropped + sink.failed for sink in self.sinks}
        return lost if self._gate is None else lost | {self._gate.name: self._gate.dropped}

    def close(self) -> None:
        """Close all sinks; each is given its own time to finish."""
        if self._gate is not None:
            self._gate.close()
        for sink in self.sinks:
            sink.close()
