"""Alerts as text for people: e-mail, chat and push services, through apprise."""

from __future__ import annotations

import json
import time
from pathlib import Path

import apprise

from streamdet.config import NotifySection
from streamdet.delivery.courier import Courier, NotDelivered
from streamdet.delivery.outbox import Outbox, Parcel
from streamdet.errors import ConfigError
from streamdet.events import Alert, Event

LATE = 60.0  # seconds; a message that took longer says how old it is


class MessageSink:
    """Sends one message when an alert is raised, and one when it is cleared if that is wanted.

    Raises:
        ConfigError: the file of addresses cannot be read, or holds one that is not understood.
        SinkError: the outbox cannot be opened.
    """

    name = "notify"

    def __init__(self, config: NotifySection, outbox: Outbox) -> None:
        self._service = _read_addresses(config.urls_file)
        self._phases = ("raised", "cleared") if config.cleared else ("raised",)
        self.courier = Courier(self.name, outbox, self._send, patience=3600.0 * config.keep_hours)
        self.courier.start()

    def emit(self, event: Event, payload: bytes) -> None:
        """Keep an alert for delivery."""
        if isinstance(event, Alert) and event.phase in self._phases:
            self.courier.outbox.put(f"{event.stream}/{event.seq}", payload)

    def close(self) -> None:
        """Deliver what can be delivered at once; the rest waits on disk."""
        self.courier.close()

    def _send(self, parcel: Parcel) -> None:
        title, body, serious = wording(json.loads(parcel.payload), time.time() - parcel.put)
        kind = apprise.NotifyType.WARNING if serious else apprise.NotifyType.INFO
        if not self._service.notify(body=body, title=title, notify_type=kind):
            raise NotDelivered("a service did not take the message")


def wording(alert: dict[str, object], age: float) -> tuple[str, str, bool]:
    """Title and body of a message, and whether it is serious, from an alert event as JSON."""
    stream, raised = alert["stream"], alert["phase"] == "raised"
    title = f"Synthetic speech on {stream}" if raised else f"Over: synthetic speech on {stream}"
    seconds, peak = float(str(alert["duration"])), 100 * float(str(alert["peak"]))
    body = (
        f"{'Raised' if raised else 'Cleared'} at {alert['time']}, {seconds:.0f} s since the onset, highest probability "
        f"{peak:.0f} %. A machine's judgement: verify before you act. [{alert['id']}]"
    )
    if age > LATE:
        body += f" This message is {age / 60.0:.0f} min late."
    return title, body, raised


def _read_addresses(path: Path | None) -> apprise.Apprise:
    service = apprise.Apprise()
    try:
        lines = [] if path is None else path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"notify: cannot read the addresses in {path}: {error}") from error
    wanted = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    for number, line in wanted:
        if line and not line.startswith("#") and not service.add(line):
            raise ConfigError(f"notify: line {number} of {path} is no address that apprise knows")
    if not len(service):
        raise ConfigError(f"notify: {path} holds no address; write one apprise URL a line")
    return service
