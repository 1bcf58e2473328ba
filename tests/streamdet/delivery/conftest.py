"""A web service that can be told how to answer, and events to send it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from streamdet.events import Alert, AlertPhase, Score, State, StatePhase
from tests.waiting import until

__all__ = ["until"]


@dataclass
class Service:
    """What a web service received, and what it says to the next requests (the last answer holds)."""

    port: int = 0
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=lambda: [(204, {})])
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?box=1"

    def keys(self) -> list[str]:
        with self.lock:
            return [headers["idempotency-key"] for headers, _ in self.received]


@pytest.fixture
def service() -> Iterator[Service]:
    state = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with state.lock:
                status, headers = state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]
                if status < 300:
                    state.received.append(({k.lower(): v for k, v in self.headers.items()} | {"path": self.path}, body))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def alert() -> Callable[..., Alert]:
    def make(seq: int = 1, phase: AlertPhase = "raised", stream: str = "line 1") -> Alert:
        return Alert(
            stream=stream,
            seq=seq,
            time="2026-01-01T00:00:00.000Z",
            media_time=9.0,
            model="m",
            id="7e57",
            phase=phase,
            reason="evidence",
            onset=4.0,
            peak=0.93,
            duration=5.0,
        )

    return make


@pytest.fixture
def score() -> Callable[..., Score]:
    def make(seq: int = 1, stream: str = "line 1", p_fake: float | None = 0.25) -> Score:
        return Score(
            stream=stream,
            seq=seq,
            time="2026-01-01T00:00:00.000Z",
            media_time=1.0,
            model="m",
            p_fake=p_fake,
            windows={},
            speech=1.0,
            lost=0.0,
            verdict="undecided",
            latency_ms=1.0,
        )

    return make


@pytest.fixture
def state() -> Callable[..., State]:
    def make(seq: int = 1, phase: StatePhase = "live", stream: str = "line 1") -> State:
        return State(
            stream=stream,
            seq=seq,
            time="2026-01-01T00:00:00.000Z",
            media_time=1.0,
            model="m",
            phase=phase,
            reason="why",
        )

    return make
