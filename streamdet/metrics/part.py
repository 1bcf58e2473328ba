"""Metrics and health checks as a part of ``listen``: ``/metrics``, ``/healthz`` and ``/readyz`` over HTTP."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Sequence
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from streamdet.config import MetricsSection
from streamdet.errors import ConfigError, SinkError
from streamdet.events import Event
from streamdet.metrics.collect import Inventory
from streamdet.metrics.figures import Figures
from streamdet.metrics.verdict import Checkup, Doctor
from streamdet.parts import Inside
from streamdet.sinks.base import Sink
from streamdet.tap import Heard, Tap

log = structlog.get_logger(__name__)
LAG_LIMIT = 5.0  # seconds, as the watchdog has it
PATIENCE = 10.0  # seconds that a client may take to say what it wants
MOST_CLIENTS = 16


class MetricsPart:
    """Serves figures and health in threads of its own; it shows no audio and no event, and takes nothing.

    Raises:
        ConfigError: the address makes no sense.
    """

    name = "metrics"

    def __init__(self, config: MetricsSection) -> None:
        if config.listen is None:
            raise ConfigError("metrics: no address to listen on")
        self._config = config
        self._address = parse_address(config.listen)
        self._figures: Figures | None = None
        self._server: _Server | None = None

    @property
    def port(self) -> int:
        """Port that is served; 0 before the start."""
        return 0 if self._server is None else int(self._server.server_address[1])

    def sinks(self) -> Sequence[Sink]:
        """List the sink that counts events."""
        return [_Count(self)]

    def taps(self) -> Sequence[Tap]:
        """List the tap that counts hops."""
        return [self._hear]

    def start(self, inside: Inside) -> None:
        """Open the port.

        Raises:
            SinkError: it cannot be opened.
        """
        config = self._config
        figures = Figures(inside.model.front_end.rate, most=config.streams)
        doctor = Doctor(
            figures, inside, stale=config.stale_seconds, quiet_is_well=config.quiet_is_healthy, lag_limit=LAG_LIMIT
        )
        registry = CollectorRegistry()
        registry.register(Inventory(figures, inside))
        try:
            self._server = _Server(self._address, registry, doctor)
        except OSError as error:
            raise SinkError(f"cannot serve metrics on {config.listen}: {error.strerror}; use another port") from error
        self._figures = figures
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()
        log.info("metrics", url=f"http://{self._address[0]}:{self.port}/metrics")

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def take(self, event: Event) -> None:
        """Count one event; what comes before the start is not counted."""
        if self._figures is not None:
            self._figures.take(event)

    def _hear(self, heard: Heard) -> None:
        if self._figures is not None:
            self._figures.hear(heard)


class _Count:
    """Counts events on the sink's thread."""

    name = "metrics"

    def __init__(self, part: MetricsPart) -> None:
        self._part = part

    def emit(self, event: Event, payload: bytes) -> None:  # noqa: ARG002  as the protocol has it
        self._part.take(event)

    def close(self) -> None:
        """There is nothing to send."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], registry: CollectorRegistry, doctor: Doctor) -> None:
        self.registry = registry
        self.doctor = doctor
        self.room = threading.BoundedSemaphore(MOST_CLIENTS)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def process_request_thread(self, request, client_address) -> None:  # type: ignore[no-untyped-def]
        """Serve one client; when too many are served already it is hung up on, so that none can exhaust threads."""
        if not self.room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.room.release()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = PATIENCE
    server_version = "streamdet"
    sys_version = ""
    paths: ClassVar = ("/metrics", "/healthz", "/readyz")

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            self._answer(HTTPStatus.OK, encode(self.server.registry), kind)
        elif path == "/healthz":
            self._report(self.server.doctor.health())
        elif path == "/readyz":
            self._report(self.server.doctor.readiness())
        else:
            self._answer(HTTPStatus.NOT_FOUND, f"there are {', '.join(self.paths)}\n".encode(), "text/plain")

    do_HEAD = do_GET  # noqa: N815  the name is the standard library's

    def _report(self, checkup: Checkup) -> None:
        status = HTTPStatus.OK if checkup.well else HTTPStatus.SERVICE_UNAVAILABLE
        self._answer(status, json.dumps(asdict(checkup)).encode() + b"\n", "application/json")

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name is the standard library's
        """Say nothing: requests are not worth a line."""


def parse_address(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT``, ``[IPV6]:PORT`` or ``:PORT``.

    Raises:
        ConfigError: it is none.
    """
    host, colon, port = text.rpartition(":")
    if not (colon and port.isdigit() and int(port) < 65_536):
        raise ConfigError(f"metrics: {text!r} is no HOST:PORT, such as 127.0.0.1:9464")
    return host.strip("[]"), int(port)
