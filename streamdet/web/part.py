"""The live page as a part of ``listen``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from streamdet.config import Config
from streamdet.errors import ConfigError
from streamdet.events import Event
from streamdet.parts import Inside
from streamdet.sinks.base import Sink
from streamdet.tap import Heard, Tap
from streamdet.web.access import make_access
from streamdet.web.address import Address
from streamdet.web.app import Page
from streamdet.web.desk import Desk, MemoryDesk, stored_alerts
from streamdet.web.hub import Hub
from streamdet.web.scans import Scans
from streamdet.web.server import Server
from streamdet.web.view import View

log = structlog.get_logger(__name__)
SOUND_SECONDS = 30.0
SPARE = 64  # connections beside those of the open pages


class WebPart:
    """Serves the live page in a thread of its own.

    Args:
        config: the whole configuration; ``config.web.listen`` must be set.
        desk: makes what keeps alerts and recordings; where there is none, recordings are kept in memory, and alerts
            of before this start come out of the event store.

    Raises:
        ConfigError: the address makes no sense, or others could reach the page unasked.
    """

    name = "web"

    def __init__(self, config: Config, desk: Callable[[Inside], Desk] | None = None) -> None:
        if config.web.listen is None:
            raise ConfigError("web: no address to listen on")
        self._config = config
        self._address = Address.parse(config.web.listen)
        self._access = make_access(config.web, self._address)
        self._desk = desk or _memory_desk
        self._early: list[Event] = []  # heard before the page was there
        self._lock = threading.Lock()
        self._view: View | None = None
        self._server: Server | None = None
        self._farewell: Callable[[], None] | None = None
        self.scans: Scans | None = None

    @property
    def sound_seconds(self) -> float:
        """How far back the sound of an alert is asked for: from before its onset to when it was noticed."""
        return SOUND_SECONDS

    @property
    def url(self) -> str:
        """Where the page is once it is served, with the token where one is needed."""
        assert self._server is not None
        url = self._server.address.url("https" if self._server.secure else "http")
        return url + (f"?token={self._access.token}" if self._access.token is not None else "")

    def sinks(self) -> Sequence[Sink]:
        """List the sink that hears events for the page."""
        return [_PageSink(self)]

    def taps(self) -> Sequence[Tap]:
        """List the tap that sees hops for level and picture."""
        return [self._hear]

    def start(self, inside: Inside) -> None:
        """Open the port and serve the page.

        Raises:
            SinkError: the address cannot be used.
            ConfigError: certificate or key cannot be read.
        """
        web = self._config.web
        server = self._server = Server(self._address, web.certificate, web.key, limit=web.clients + SPARE)
        view = View(self._desk(inside))
        with self._lock:
            for event in self._early:
                view.take(event)
            self._early.clear()
            self._view = view
        hub = Hub(view, inside, lambda: about(inside), limit=web.clients)
        self.scans = Scans(lambda: inside.config) if web.uploads else None
        page = Page(view, hub, self.scans)
        server.start(page.app(self._access, server.address, web.hosts, secure=server.secure))
        self._farewell = hub.close
        log.info("page", url=self.url)

    def close(self) -> None:
        """Tell the open pages that this is the end, and stop."""
        if self._server is not None:
            if self._farewell is not None:
                self._server.call(self._farewell)
            self._server.close()

    def take(self, event: Event) -> None:
        """Take one event; the ends of alerts of an earlier life come before the page is there."""
        if self._view is None:
            with self._lock:
                if self._view is None:
                    self._early.append(event)
                    return
        self._view.take(event)

    def _hear(self, heard: Heard) -> None:
        if self._view is not None:
            self._view.hear(heard)


class _PageSink:
    """Passes events from the sink's thread on to the page."""

    name = "page"

    def __init__(self, part: WebPart) -> None:
        self._part = part

    def emit(self, event: Event, payload: bytes) -> None:  # noqa: ARG002  as the protocol has it
        self._part.take(event)

    def close(self) -> None:
        pass  # the part itself is closed last


def _memory_desk(inside: Inside) -> Desk:
    return MemoryDesk(inside, stored_alerts(inside))


def about(inside: Inside) -> dict[str, Any]:
    """Say what a page has to know when it connects: model, bands, limits."""
    config, info = inside.config, inside.model
    return {
        "model": {"name": info.name, "digest": info.digest},
        "hop": info.front_end.hop_seconds,
        "sources": [section.uri for section in config.source],
        "uploads": {"mb": config.web.upload_mb, "seconds": config.web.upload_seconds} if config.web.uploads else None,
    }
