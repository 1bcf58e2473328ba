"""A bounded queue and a thread before each sink, so that a slow one costs events and never time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import structlog

from streamdet.errors import SinkEndedError, SinkError
from streamdet.events import Event
from streamdet.sinks.base import Sink

log = structlog.get_logger(__name__)
PATIENCE = 0.2  # seconds between two looks at ``stop`` while waiting for room
Item = tuple[Event, bytes]


def _nothing() -> None:
    """Do nothing."""


class QueueSink:
    """Passes events on to ``sink`` in a thread of its own and never blocks the caller.

    At most ``capacity`` events wait. When there is no more room a score is dropped, an old one for the sake of a new
    alert, state or health event; ``dropped`` counts what was lost this way and ``failed`` what the sink refused. When
    the sink's reader is gone for good, ``on_ended`` is called once and every later event is thrown away uncounted.

    ``patient`` turns that round for work that has no clock, such as files scored as fast as can be: the caller waits
    for room and nothing is dropped, until ``stop`` is set.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        capacity: int = 1024,
        linger: float = 2.0,
        patient: bool = False,
        stop: threading.Event | None = None,
        on_ended: Callable[[], None] = _nothing,
    ) -> None:
        self.sink = sink
        self.capacity = capacity
        self.dropped = 0
        self.failed = 0
        self.ended = False
        self._linger = linger
        self._patient = patient
        self._stop = stop or threading.Event()
        self._on_ended = on_ended
        self._waiting: deque[Item] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"sink-{sink.name}", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """Name of the sink behind the queue."""
        return self.sink.name

    @property
    def waiting(self) -> int:
        """Events that wait now."""
        return len(self._waiting)

    def emit(self, event: Event, payload: bytes) -> None:
        """Put one event in the queue, or drop one; returns at once unless the queue is patient."""
        with self._changed:
            while self._patient and not (self._has_room or self._over or self._stop.is_set()):
                self._changed.wait(PATIENCE)
            if self._over or not (self._has_room or self._make_room(event)):
                return
            self._waiting.append((event, payload))
            self._changed.notify_all()

    def close(self) -> None:
        """Let the sink finish what waits, for ``linger`` seconds at most, then close it."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(self._linger)
        if self._thread.is_alive():
            log.warning("sink_stuck", sink=self.name, unsent=self.waiting)

    @property
    def _has_room(self) -> bool:
        return len(self._waiting) < self.capacity

    @property
    def _over(self) -> bool:
        return self.ended or self._closing

    def _make_room(self, event: Event) -> bool:
        """Drop one event; False where it is the new one itself."""
        self.dropped += 1
        if event.type == "score":
            return False
        oldest = next((at for at, (old, _) in enumerate(self._waiting) if old.type == "score"), 0)
        del self._waiting[oldest]
        return True

    def _run(self) -> None:
        while (item := self._next()) is not None:
            self._pass_on(*item)
        self.sink.close()

    def _next(self) -> Item | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            self._changed.notify_all()  # there is room now, for one who waits for it
            return self._waiting.popleft() if self._waiting else None

    def _pass_on(self, event: Event, payload: bytes) -> None:
        try:
            self.sink.emit(event, payload)
        except SinkEndedError:
            self._end()
        except SinkError as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001  a fault in one sink must neither kill its thread nor go unseen
            self._fail(f"{type(error).__name__}: {error}")

    def _fail(self, reason: str) -> None:
        self.failed += 1
        if self.failed & (self.failed - 1) == 0:  # the 1st, 2nd, 4th, 8th ...: a broken sink must not flood the log
            log.warning("sink_failed", sink=self.name, reason=reason, failed=self.failed)

    def _end(self) -> None:
        with self._changed:
            self.ended = True
            self._waiting.clear()
            self._changed.notify_all()
        self._on_ended()
