"""The page over a real engine and pipeline, fed by the tests; real browsers where a browser is meant."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamdet.assembly import Settings, judge_maker, load_engine
from streamdet.audio.block import Block, End, Status
from streamdet.audio.ring import Span
from streamdet.config import Config, EvidenceSection, WebSection
from streamdet.engine.modelfile import ModelInfo
from streamdet.events import Event, Health, to_json, utc
from streamdet.evidence.part import EvidencePart
from streamdet.pipeline import Pipeline
from streamdet.shadow.shadows import Shadows
from streamdet.sinks.queue import QueueSink
from streamdet.store.gate import Gate
from streamdet.web.part import WebPart

RATE = 16_000
SYNTHETIC = slice(int(22.8 * RATE), int(36.0 * RATE))  # a turn of the demo that raises an alert


class Rig:
    """What ``listen`` is to the page: engine, pipeline, ring; sound comes when the test wants it.

    Alerts are recorded into the folder ``evidence``, where one is given.
    """

    def __init__(self, gate: Gate | None = None, evidence: Path | None = None, **web: Any) -> None:
        self.gate = gate
        section = EvidenceSection(dir=None if evidence is None else str(evidence), free_megabytes=0)
        self.config = Config(web=WebSection(**{"listen": "127.0.0.1:0"} | web), evidence=section)
        self.recorder = None if evidence is None else EvidencePart(self.config, "full")
        self.part = WebPart(self.config, None if self.recorder is None else self.recorder.desk)
        self.engine = load_engine(self.config)
        self.events: list[Event] = []
        self.pipeline = Pipeline(
            self.engine,
            judge_maker(self.config, self.engine.info),
            self._emit,
            keeper=None if self.recorder is None else self.recorder.keeper,
            taps=[*(() if self.recorder is None else self.recorder.taps()), *self.part.taps()],
        )
        (self._sink,) = self.part.sinks()
        self._began = time.monotonic()
        self._lock = threading.Lock()
        if gate is not None:
            gate.open()
            gate.start(self._sink.emit, lambda *_: None)
        if self.recorder is not None:
            self.recorder.start(self)
        self.part.start(self)

    @property
    def url(self) -> str:
        return self.part.url

    @property
    def port(self) -> int:
        assert self.part._server is not None
        return self.part._server.address.port

    @property
    def model(self) -> ModelInfo:
        return self.engine.info

    @property
    def queues(self) -> Sequence[QueueSink]:
        return ()

    @property
    def store(self) -> Gate | None:
        return self.gate

    def tell(self, phase: Any, reason: str, detail: Any = None) -> None:
        raise AssertionError("the page has nothing to tell")

    def sources(self) -> Mapping[str, Mapping[str, Mapping[str, float]]]:
        return {}

    def source_of(self, stream: str) -> str | None:
        return None

    def sound(self, stream: str, start: int, stop: int) -> Span | None:
        return self.pipeline.sound(stream, start, stop)

    def health(self) -> Health:
        return Health(
            seq=1,
            time=utc(time.time()),
            media_time=0.0,
            model=self.engine.info.digest,
            uptime=time.monotonic() - self._began,
            streams=self.pipeline.open_streams,
            alerts=self.pipeline.active_alerts,
            hops=self.pipeline.hops,
            lag_ms=0.0,
            dropped={"page": 0},
            engine=self.engine.name,
        )

    def play(self, stream: str, samples: np.ndarray, *, step: int = RATE) -> None:
        """Score sound as fast as can be."""
        with self._lock:
            for at in range(0, len(samples), step):
                self.pipeline.push(Block(stream, samples[at : at + step], RATE))
                self.pipeline.drain()

    def swap(self, model: Path) -> None:
        """Score with another model from now on, as a reload does."""
        with self._lock:
            shadows = Shadows(self.config, model, [self.pipeline])
            shadows.start()
            shadows.swap()
            self.pipeline.drain()
            self.engine = self.pipeline.engine

    def say(self, stream: str, phase: Any, reason: str) -> None:
        with self._lock:
            self.pipeline.push(Status(stream, phase, reason))
            self.pipeline.drain()

    def end(self, stream: str) -> None:
        with self._lock:
            self.pipeline.push(End(stream, "hung up"))
            self.pipeline.drain()

    def tick(self) -> None:
        """Publish what was held back until its recording was complete."""
        with self._lock:
            self.pipeline.drain()

    def close(self) -> None:
        if self.gate is not None:
            self.gate.close()
        self.part.close()
        if self.recorder is not None:
            self.recorder.close()
        self.engine.close()

    def retune(self, config: Config) -> None:
        """What a reload does: judge like this from the next hop on."""
        with self._lock:
            self.config, settings = config, Settings(config, self.engine.info)
            self.pipeline.retune(settings.of, settings.judge)

    def _emit(self, event: Event) -> None:
        self.events.append(event)
        if self.gate is not None:
            self.gate.emit(event, to_json(event))  # which passes it on to the page
        else:
            self._sink.emit(event, b"")


class Answer:
    """One answer of the server."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.cookies = response.headers.get_all("set-cookie") or []
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def request(
    port: int,
    method: str,
    path: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    *,
    marked: bool = True,
) -> Answer:
    """Ask the server; ``marked`` sends the header that the page itself sends."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, ({"X-Streamdet": "1"} if marked else {}) | dict(headers or {}))
        return Answer(connection.getresponse())
    finally:
        connection.close()


Make = Callable[..., Rig]


@pytest.fixture(scope="module")
def make_rig() -> Iterator[Make]:
    """Make rigs, one for each set of settings and module."""
    rigs: dict[str, Rig] = {}

    def make(**web: Any) -> Rig:
        key = repr(sorted(web.items()))
        if key not in rigs:
            rigs[key] = Rig(**web)
        return rigs[key]

    yield make
    for rig in rigs.values():
        rig.close()


@pytest.fixture(scope="module")
def rig(make_rig: Make) -> Rig:
    """A page that anybody on this machine may look at."""
    return make_rig(upload_seconds=120.0, upload_mb=8, waiting=2)


@pytest.fixture(scope="module")
def alerted(rig: Rig, speech: np.ndarray) -> str:
    """The id of an alert that was raised and cleared on stream ``caller``."""
    rig.play("caller", speech[: SYNTHETIC.stop + 12 * RATE])
    (raised, *_) = [event for event in rig.events if event.type == "alert" and event.phase == "raised"]
    wait_for(lambda: request(rig.port, "GET", "/api/alerts").json["alerts"])
    return raised.id


def wait_for(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait until ``condition`` gives something true, and return that."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, "not within time"
        time.sleep(0.05)
    return value


def write_secret(path: Path, text: str) -> Path:
    path.write_text(text + "\n")
    return path
