"""Alerts and states as log lines with stable fields, for the journal or syslog of the box."""

from __future__ import annotations

import structlog

from streamdet.events import Alert, Event, State

log = structlog.get_logger("streamdet.events")
SERIOUS = ("failed", "degraded", "recovering")


class JournalSink:
    """Writes one line for each alert and each change of state; scores would only hide them.

    Fields: ``event`` (``alert`` or ``state``), ``stream``, ``seq``, ``phase``, ``reason``; an alert has ``id``,
    ``onset``, ``peak`` and ``duration`` besides. They do not change within a major version.
    """

    name = "journal"

    def emit(self, event: Event, payload: bytes) -> None:  # noqa: ARG002  as the protocol has it
        """Write one event, if it is worth a line."""
        if isinstance(event, Alert) and event.phase != "updated":
            log.warning(
                "alert",
                **_shared(event),
                id=event.id,
                onset=event.onset,
                peak=round(event.peak, 3),
                duration=round(event.duration, 2),
            )
        elif isinstance(event, State):
            (log.warning if event.phase in SERIOUS else log.info)("state", **_shared(event))

    def close(self) -> None:
        """There is nothing to send."""


def _shared(event: Alert | State) -> dict[str, object]:
    return {"stream": event.stream, "seq": event.seq, "phase": event.phase, "reason": event.reason}
