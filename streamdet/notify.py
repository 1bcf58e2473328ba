"""Tells systemd how the service is: ready, alive, what it does, stopping (sd_notify(3), sd_watchdog_enabled(3))."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

import structlog

log = structlog.get_logger(__name__)


class Notifier:
    """A datagram to ``$NOTIFY_SOCKET`` for each message; where the variable is absent, all methods do nothing."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._interval = watchdog_seconds(environ)
        self._due = float("-inf")

    def ready(self, status: str = "") -> None:
        """Say that start-up is complete; call it once the model is loaded."""
        self._send("READY=1", *([f"STATUS={status}"] if status else []))

    def reloading(self) -> None:
        """Say that the configuration is read anew; :meth:`ready` says when that is done."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def status(self, text: str) -> None:
        """Set the one line that ``systemctl status`` shows."""
        self._send(f"STATUS={text}")

    def watchdog(self) -> None:
        """Feed the watchdog; cheap to call often, as it sends four times an interval at most."""
        now = time.monotonic()
        if self._interval is not None and now >= self._due:
            self._due = now + self._interval / 4
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the service is about to end."""
        self._send("STOPPING=1")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.connect(self._address)
                sender.sendall("\n".join(lines).encode())
        except OSError as error:  # nobody listens any more: not worth losing the streams for
            log.warning("notify_failed", reason=str(error))
            self._address = None


def watchdog_seconds(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return the interval within which this process must feed the watchdog; None where there is no watchdog."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # the watchdog is meant for another process, whose environment was passed on
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) > 0 else None


def _address(name: str) -> str | None:
    """Turn ``@name``, an abstract socket, into what the kernel wants; a path stays as it is."""
    return ("\0" + name[1:] if name.startswith("@") else name) or None
