"""The live page as a part of ``listen``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import structlog

from streamdet.assembly import judge_config
from streamdet.config import Config
from streamdet.decide.calibrate import probability
from streamdet.errors import ConfigError
from streamdet.events import Event
from streamdet.parts import Inside
from streamdet.sinks.base import Sink
from streamdet.tap import Heard, Tap
from streamdet.web.access import make_access
from streamdet.web.address import Address
from streamdet.web.app import Page
from streamdet.web.desk import Desk, MemoryDesk
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
        desk: makes what keeps alerts and recordings; by default they are kept in memory.

    Raises:
        ConfigError: the address makes no sense, or others could reach the page unasked.
    """

    name = "web"

    def __init__(self, config: Config, desk: Callable[[Inside], Desk] = MemoryDesk) -> None:
        if config.web.listen is None:
            raise ConfigError("web: no address to listen on")
        self._config = config
        self._address = Address.parse(config.web.listen)
        self._access = make_access(config.web, self._address)
        self._desk = desk
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
        self._view = view = View(self._desk(inside))
        hub = Hub(view, inside, about(self._config, inside), limit=web.clients)
        self.scans = Scans(self._config) if web.uploads else None
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
        """Take one event; what comes before the start is nowhere to be seen yet."""
        if self._view is not None:
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


def about(config: Config, inside: Inside) -> dict[str, Any]:
    """Say what a page has to know once: model, windows, thresholds, limits."""
    judge, info = judge_config(config, inside.model), inside.model
    return {
        "model": {"name": info.name, "digest": info.digest},
        "hop": info.front_end.hop_seconds,
        "windows": sorted(set(judge.windows)),
        "thresholds": {
            "spoof": round(probability(judge.rules.spoof_at), 3),
            "bona_fide": round(probability(judge.rules.bona_fide_at), 3),
        },
        "min_speech": judge.rules.min_speech_seconds,
        "sources": [section.uri for section in config.source],
        "uploads": {"mb": config.web.upload_mb, "seconds": config.web.upload_seconds} if config.web.uploads else None,
    }
