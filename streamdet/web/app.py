"""What can be asked of the page's server: the page, its events, alerts and files to score."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from streamdet.events import utc
from streamdet.web.access import Access
from streamdet.web.address import Address
from streamdet.web.desk import Acknowledgement
from streamdet.web.guard import Guard
from streamdet.web.hub import Hub
from streamdet.web.ranges import ranged
from streamdet.web.scans import ScanRefusedError, Scans
from streamdet.web.view import View, describe

log = structlog.get_logger(__name__)
STATIC = Path(__file__).parent / "static"
SMALL = 4096  # bytes of a request that carries a few words
LINGER_SECONDS = 10.0  # at most, for the rest of a file that is refused
SILENCE_SECONDS = 1.0  # after which no more of it is waited for
NAME = 80  # characters of a person's or file's name


class Page:
    """Answers requests; all methods run on the server's event loop."""

    def __init__(self, view: View, hub: Hub, scans: Scans | None) -> None:
        self.view = view
        self.hub = hub
        self.scans = scans

    def app(self, access: Access, address: Address, hosts: Collection[str], *, secure: bool) -> ASGIApp:
        """Return the application, behind its guard."""
        routes = [
            Route("/", self.index),
            Route("/api/events", self.events),
            Route("/api/follow", self.follow, methods=["POST"]),
            Route("/api/alerts", self.alerts),
            Route("/api/alerts/{alert_id}/sound", self.sound),
            Route("/api/alerts/{alert_id}/picture", self.picture),
            Route("/api/alerts/{alert_id}/verify", self.verify, methods=["POST"]),
            Route("/api/alerts/{alert_id}/acknowledge", self.acknowledge, methods=["POST"]),
            Route("/api/scans", self.scan, methods=["POST"]),
            Route("/api/scans/{scan_id}", self.scan_state),
            Route("/api/scans/{scan_id}", self.scan_cancel, methods=["DELETE"]),
            Mount("/static", _Static(directory=STATIC)),
        ]
        handlers: Any = {HTTPException: _say_error, ScanRefusedError: _say_refused, Exception: _say_fault}
        inner = Starlette(routes=routes, lifespan=self._lifespan, exception_handlers=handlers)
        return _Spanning(inner, Guard(inner, access=access, address=address, hosts=hosts, secure=secure))

    async def index(self, request: Request) -> Response:  # noqa: ARG002
        """Serve the page itself."""
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

    async def events(self, request: Request) -> Response:  # noqa: ARG002
        """Serve what happens, for as long as the page is open."""
        if self.hub.full:
            raise HTTPException(503, "Too many pages are open.", {"retry-after": "10"})
        return StreamingResponse(self.hub.events(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    async def follow(self, request: Request) -> Response:
        """Send a page another stream's picture: ``{"client": ID, "stream": NAME or null}``."""
        words = await _words(request)
        stream = words.get("stream")
        if not isinstance(stream, str | None) or not self.hub.follow(str(words.get("client", "")), stream):
            raise HTTPException(404, "There is no such page.")
        return Response(status_code=204)

    async def alerts(self, request: Request) -> Response:  # noqa: ARG002
        """List the latest alerts, the newest first."""
        kept = await run_in_threadpool(self.view.desk.alerts, 200)
        return JSONResponse({"alerts": [describe(one) for one in kept]})

    async def sound(self, request: Request) -> Response:
        """Serve an alert's recording, whole or in part."""
        recording = await run_in_threadpool(self.view.desk.recording, request.path_params["alert_id"])
        if recording is None:
            raise HTTPException(404, "No recording of this alert is kept.")
        if recording.path is not None:
            return FileResponse(
                recording.path,
                media_type=recording.media_type,
                filename=recording.name,
                content_disposition_type="inline",
            )
        return ranged(recording.data, request.headers, recording.media_type)

    async def picture(self, request: Request) -> Response:
        """Serve the picture of an alert's recording."""
        picture = await run_in_threadpool(self.view.desk.picture, request.path_params["alert_id"])
        if picture is None or picture.path is None:
            raise HTTPException(404, "There is no picture of this alert, or not before it is over.")
        return FileResponse(picture.path, media_type=picture.media_type)

    async def verify(self, request: Request) -> Response:
        """Check that an alert's recording is what was recorded."""
        proof = await run_in_threadpool(self.view.desk.verify, self._alert(request))
        return JSONResponse(asdict(proof))

    async def acknowledge(self, request: Request) -> Response:
        """Note who has seen to an alert: ``{"by": NAME}``, or the user who is logged in."""
        words = await _words(request)
        by = request.state.user or str(words.get("by", "")).strip()
        if not by or len(by) > NAME or not by.isprintable():
            raise HTTPException(400, f"Say who you are, in 1 to {NAME} characters.")
        note = Acknowledgement(by, utc(time.time()))
        kept = await run_in_threadpool(self.view.desk.acknowledge, self._alert(request), note)
        if kept is None:
            raise HTTPException(404, "There is no such alert.")
        self.view.note(kept)
        return JSONResponse(describe(kept))

    async def scan(self, request: Request) -> Response:
        """Take a sound file to score, as the body; ``?name=`` is what to call it."""
        name = request.query_params.get("name", "recording")[:NAME]
        length = request.headers.get("content-length", "")
        try:
            job = await self._scans().receive(name, int(length) if length.isdigit() else None, request.stream())
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        return JSONResponse(self._scans().get(job.id), 202)

    async def scan_state(self, request: Request) -> Response:
        """Say how far a file is, and what came of it."""
        state = self._scans().get(request.path_params["scan_id"])
        if state is None:
            raise HTTPException(404, "This file is not known any more.")
        return JSONResponse(state)

    async def scan_cancel(self, request: Request) -> Response:
        """Give up scoring a file."""
        if not await self._scans().cancel(request.path_params["scan_id"]):
            raise HTTPException(404, "This file is not known any more.")
        return Response(status_code=204)

    def _scans(self) -> Scans:
        if self.scans is None:
            raise HTTPException(403, "Files are not taken here (uploads = false).")
        return self.scans

    def _alert(self, request: Request) -> str:
        alert_id: str = request.path_params["alert_id"]
        if self.view.desk.get(alert_id) is None:
            raise HTTPException(404, "There is no such alert.")
        return alert_id

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:  # noqa: ARG002
        tasks = [asyncio.create_task(_watched(self.hub.run(), "hub"))]
        if self.scans is not None:
            tasks.append(asyncio.create_task(_watched(self.scans.run(), "scans")))
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Static(StaticFiles):
    """The page's own files; browsers ask each time whether they have changed, so that an update is never half old."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response


class _Spanning:
    """Sends start and stop to the application itself, everything else through its guard."""

    def __init__(self, inner: ASGIApp, guard: ASGIApp) -> None:
        self._inner, self._guard = inner, guard

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await (self._inner if scope["type"] == "lifespan" else self._guard)(scope, receive, send)


async def _watched(work: Any, name: str) -> None:
    try:
        await work
    except Exception:
        log.exception("page_task_crashed", task=name)
        raise


async def _words(request: Request) -> dict[str, Any]:
    """Read a small JSON object."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > SMALL:
            raise HTTPException(413, "The request is too large.")
    try:
        words = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        words = None
    if not isinstance(words, dict):
        raise HTTPException(400, "A JSON object is needed.")
    return words


async def _say_error(request: Request, error: HTTPException) -> Response:  # noqa: ARG001
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


class _Refusal(JSONResponse):
    """Answers at once, then reads on and forgets what is still being sent.

    A connection that is closed with bytes unread is reset, and a sender that finishes sending before it listens never
    learns why (RFC 9112, section 9.6).
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the answer, linger, end."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        until = time.monotonic() + LINGER_SECONDS
        with contextlib.suppress(TimeoutError):
            while (await asyncio.wait_for(receive(), SILENCE_SECONDS)).get("more_body"):
                if time.monotonic() > until:
                    break
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _say_refused(request: Request, error: ScanRefusedError) -> Response:  # noqa: ARG001
    """Refuse a file; the connection ends with the answer."""
    headers = {"connection": "close"} | ({"retry-after": "30"} if error.status == 503 else {})
    return _Refusal({"error": str(error)}, error.status, headers)


async def _say_fault(request: Request, error: Exception) -> Response:
    log.error("page_fault", path=request.url.path, error=f"{type(error).__name__}: {error}")
    return JSONResponse({"error": "Something went wrong inside streamdet; its log says more."}, 500)
