"""What the part adds to the keeper: where a stream comes from, and figures."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from streamdet.config import Config, EvidenceSection
from streamdet.events import State
from streamdet.evidence.part import EvidencePart
from streamdet.features.logmel import FrontEndConfig
from streamdet.parts import Inside

from .make import over, raised


def started(folder: Path, uri: str | None) -> EvidencePart:
    config = Config(evidence=EvidenceSection(dir=str(folder), mode="scores", free_megabytes=0))
    part = EvidencePart(config, "scores")
    model = SimpleNamespace(digest="ab" * 32, front_end=FrontEndConfig())
    inside = SimpleNamespace(
        model=model,
        config=config,
        store=None,
        health=lambda: SimpleNamespace(engine="onnx-cpu"),
        sound=lambda *_: None,
        tell=lambda *_: None,
        source_of=lambda stream: uri if stream == "hall" else None,
    )
    part.start(cast(Inside, inside))
    return part


def sidecar(folder: Path, part: EvidencePart) -> dict:
    alert = raised()
    part.keeper.follow(alert)
    part.keeper.complete("hall", over(alert), "2026-11-21T09:00:00Z").result(60)
    part.close()
    (path,) = folder.glob("2*.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("uri", "source"),
    [
        ("rtsp://ann:***@camera/stream?***", {"kind": "rtsp", "uri": "rtsp://camera/stream"}),
        ("http://token@radio:8000/live", {"kind": "http", "uri": "http://radio:8000/live"}),
        ("-", {"kind": "stdin", "uri": "-"}),
        ("mic:alsa:hw:1", {"kind": "mic", "uri": "mic:alsa:hw:1"}),
        (None, None),
    ],
)
def test_the_sidecar_names_the_source_and_no_secret(tmp_path: Path, uri: str | None, source: object) -> None:
    assert sidecar(tmp_path, started(tmp_path, uri))["source"] == source


def test_the_sidecar_names_the_sender_of_rtp(tmp_path: Path) -> None:
    part = started(tmp_path, "rtp://0.0.0.0:5004")
    detail = {"origin": "192.0.2.7:4000", "ssrc": "0000beef", "lost": 3}
    for stream in ("hall", "door"):
        part.take(
            State(
                stream=stream, seq=1, time=raised().time, media_time=0.0, model="ab" * 32, phase="live", reason="sound",
                detail=detail if stream == "hall" else {},
            )
        )  # fmt: skip
    assert sidecar(tmp_path, part)["source"] == {
        "kind": "rtp",
        "uri": "rtp://0.0.0.0:5004",
        "sender": "192.0.2.7:4000",
        "ssrc": "0000beef",
    }
