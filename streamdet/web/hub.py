"""Passes on what is new to every open page, as server-sent events (HTML Living Standard, section 9.2).

Everything lives on the server's event loop. What is new is gathered and encoded once, a few times a second, for all
pages together; each has a bounded queue. A page that reads too slowly loses scores, and is told how many; never
an alert or a change of state: one that cannot even hold those is disconnected, and gets everything anew when it
comes back.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Any

import structlog

from streamdet.parts import Inside
from streamdet.web.view import News, View

log = structlog.get_logger(__name__)
PERIOD = 0.2  # seconds between two messages to a page
TICKS = 16  # messages with scores that may wait for a slow page: about three seconds
KEPT = 512  # messages that must not be lost and may wait
HEALTH_PERIOD = 1.0
ALIVE_SECONDS = 10.0  # a page that hears nothing for twice as long takes the connection for lost


def encode(kind: str, data: dict[str, Any]) -> bytes:
    """Encode one server-sent event."""
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'), ensure_ascii=False)}\n\n".encode(
        errors="replace"
    )


class Client:
    """One open page: what waits for it, and which stream's picture it wants."""

    def __init__(self, *, ticks: int = TICKS, kept: int = KEPT) -> None:
        self.id = secrets.token_urlsafe(12)
        self.stream: str | None = None
        self.lost = 0
        self.closed = False
        self._ticks, self._kept = ticks, kept
        self._waiting: deque[tuple[bytes, int | None]] = deque()
        self._held = 0  # messages with scores among them
        self._ready = asyncio.Event()
        self._untold = False

    def keep(self, message: bytes) -> None:
        """Queue what must not be lost; a page with too much of that is disconnected."""
        if len(self._waiting) - self._held >= self._kept:
            self.close()
            return
        self._waiting.append((message, None))
        self._ready.set()

    def tick(self, message: bytes, scores: int) -> None:
        """Queue a message with scores; the oldest of them is dropped where there is no room."""
        if self._held >= self._ticks:
            at = next(at for at, (_, count) in enumerate(self._waiting) if count is not None)
            self.lost += self._waiting[at][1] or 0
            del self._waiting[at]
            self._held -= 1
            self._untold = True
        self._waiting.append((message, scores))
        self._held += 1
        self._ready.set()

    def close(self) -> None:
        """End the page's connection once what waits is sent."""
        self.closed = True
        self._ready.set()

    async def next(self, patience: float) -> bytes | None:
        """Return all that waits, a sign of life after ``patience`` seconds without, or None at the end."""
        if not self._waiting and not self.closed:
            try:
                await asyncio.wait_for(self._ready.wait(), patience)
            except TimeoutError:
                return b": alive\n\n"
        self._ready.clear()
        if not self._waiting:
            return None if self.closed else b": alive\n\n"
        messages = [message for message, _ in self._waiting]
        self._waiting.clear()
        self._held = 0
        if self._untold:
            self._untold = False
            messages.insert(0, encode("lost", {"scores": self.lost}))
        return b"".join(messages)


class Hub:
    """All open pages, and the round that serves them.

    Args:
        view: what there is to show.
        inside: asked for the daemon's health.
        about: says what a page is told once, when it connects.
        limit: most pages at once.
    """

    def __init__(self, view: View, inside: Inside, about: Callable[[], dict[str, Any]], *, limit: int) -> None:
        self.clients: dict[str, Client] = {}
        self.lost = 0
        self._view = view
        self._inside = inside
        self._about = about
        self._limit = limit
        self._closing = False

    @property
    def full(self) -> bool:
        """Whether there is no room for one more page."""
        return self._closing or len(self.clients) >= self._limit

    async def run(self) -> None:
        """Serve all pages until cancelled."""
        loop = asyncio.get_running_loop()
        due = health_due = loop.time()
        while True:
            self.round()
            if loop.time() >= health_due:
                health_due = loop.time() + HEALTH_PERIOD
                self._keep("health", self.health())
            due = max(due + PERIOD, loop.time() + PERIOD / 4)  # a busy machine gets fewer rounds, not a backlog
            await asyncio.sleep(due - loop.time())

    def round(self) -> None:
        """Pass on what is new since the last round."""
        news = self._view.news()
        if not self.clients:
            return
        for alert in news.alerts:
            self._keep("alert", alert)
        if news.moved or news.gone:
            self._keep("streams", {"rows": news.moved, "gone": news.gone})
        if news.scored:
            message = encode("scores", {"rows": news.scored})
            for client in self.clients.values():
                client.tick(message, news.scores)
        self._draw(news)

    def _draw(self, news: News) -> None:
        wanted = {client.stream for client in self.clients.values()}
        for stream, picture in news.pictures.items():
            if stream not in wanted:
                continue
            message = encode("picture", {"stream": stream, **picture})
            for client in self.clients.values():
                if client.stream == stream:
                    client.tick(message, 0)

    def follow(self, client_id: str, stream: str | None) -> bool:
        """Send a page the picture of this stream from now on, beginning with all that is held of it."""
        client = self.clients.get(client_id)
        if client is None:
            return False
        client.stream = stream
        if stream is not None:
            whole = self._view.picture(stream)
            client.keep(encode("picture", {"stream": stream, "whole": True, **(whole or {})}))
        return True

    async def events(self) -> AsyncIterator[bytes]:
        """Serve one page: everything there is, then what changes."""
        client = Client()
        self.clients[client.id] = client
        try:
            hello = self._about() | self._view.snapshot() | {"client": client.id, "health": self.health()}
            yield b"retry: 1000\n" + encode("hello", hello)
            while (message := await client.next(ALIVE_SECONDS)) is not None:
                yield message
        finally:
            del self.clients[client.id]
            self.lost += client.lost

    def health(self) -> dict[str, Any]:
        """Say how the daemon fares, what troubles it, and how many pages look at it."""
        notice = self._view.notice
        return asdict(self._inside.health()) | {
            "pages": len(self.clients),
            "page_lost": self.lost + sum(client.lost for client in self.clients.values()),
            "trouble": None if notice is None or notice.phase == "live" else notice.reason,
        }

    def close(self) -> None:
        """Tell all pages that this is the end."""
        self._closing = True
        self.round()
        for client in self.clients.values():
            client.keep(encode("bye", {}))
            client.close()

    def _keep(self, kind: str, data: dict[str, Any]) -> None:
        message = encode(kind, data)
        for client in self.clients.values():
            client.keep(message)
