"""Recordings made of noise, without a daemon."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streamdet.decide.alarm import Transition
from streamdet.decide.judge import JudgeConfig
from streamdet.events import Alert, utc
from streamdet.evidence.chain import Chain
from streamdet.evidence.mode import Mode
from streamdet.evidence.recording import Circumstances, Piece, Recording
from streamdet.evidence.seal import Entry, Signer
from streamdet.features.logmel import FrontEndConfig

RATE, HOP = 16_000, 5_120
SOURCE = {"kind": "file"}
BEGAN = 1_790_000_000.0


def around(folder: Path, mode: Mode = "full", seconds: float = 120.0) -> Circumstances:
    return Circumstances(
        folder, mode, seconds, FrontEndConfig(), about, lambda stream: SOURCE | {"uri": f"file:{stream}"}
    )


def about() -> dict[str, str]:
    return {"model": "ab" * 32, "configuration": "cd" * 32, "engine": "onnx-cpu", "version": "0"}


def noise(count: int, seed: int = 1) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


def raised(number: int = 1, stream: str = "hall") -> Alert:
    return Alert(
        stream=stream, seq=number, time=utc(BEGAN + 60 * number), media_time=2.56, model="ab" * 32,
        id=f"{number:08d}-0000-4000-8000-000000000000", phase="raised", reason="evidence", onset=1.0, peak=0.9,
        duration=1.56,
    )  # fmt: skip


def over(alert: Alert, at: float = 3.84) -> Transition:
    return Transition(alert.id, "cleared", "evidence", at, alert.onset, 0.97)


def pieces(hops: int, seed: int = 1) -> list[Piece]:
    sound = noise(hops * HOP, seed)
    return [
        Piece(n * HOP, sound[n * HOP : (n + 1) * HOP], 0, (((n + 1) * HOP / RATE, min(1.0, n / 10)),), JudgeConfig())
        for n in range(hops)
    ]


def record(
    folder: Path, number: int = 1, *, mode: Mode = "full", hops: int = 12, signer: Signer | None = None
) -> tuple[Entry, Path]:
    """Make a whole recording, as the writer does."""
    chain = Chain(folder, signer)
    chain.prepare()
    alert, (first, *rest) = raised(number), pieces(hops, number)
    recording = Recording(around(folder, mode), about(), alert, first)
    for piece in rest:
        recording.take(piece)
    return finish(recording, chain, over(alert), utc(BEGAN + 60 * number + 4))


def finish(recording: Recording, chain: Chain, step: Transition, time: str) -> tuple[Entry, Path]:
    """End a recording; returns the chain's entry and the file that holds most."""
    path = recording.close()
    entry, sidecar = recording.seal(chain, step, time)
    return entry, path or sidecar
