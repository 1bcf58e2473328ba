from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from streamdet.events import Alert, AlertPhase, Score, State, Verdict, utc

MakeScore = Callable[..., Score]
MakeAlert = Callable[..., Alert]
MakeState = Callable[..., State]
Until = Callable[[Callable[[], bool]], None]


@pytest.fixture
def score() -> MakeScore:
    def make(
        seq: int = 1, *, stream: str = "hall", at: float = 0.32, p: float | None = 0.25, verdict: Verdict = "bona_fide"
    ) -> Score:
        return Score(
            stream=stream,
            seq=seq,
            time=utc(1e9 + at),
            media_time=at,
            model="ab" * 32,
            p_fake=p,
            windows={"3": p, "10": None},
            speech=0.5,
            lost=0.0,
            verdict=verdict,
            latency_ms=4.0,
        )

    return make


@pytest.fixture
def alert() -> MakeAlert:
    def make(seq: int = 1, phase: AlertPhase = "raised", *, stream: str = "hall") -> Alert:
        return Alert(
            stream=stream,
            seq=seq,
            time=utc(1e9),
            media_time=75.0,
            model="ab" * 32,
            id="0b1c2d3e-0000-4000-8000-000000000000",
            phase=phase,
            reason="evidence",
            onset=70.5,
            peak=0.97,
            duration=4.5,
        )

    return make


@pytest.fixture
def state() -> MakeState:
    def make(seq: int = 1, *, stream: str = "hall", reason: str = "sound arrives") -> State:
        return State(
            stream=stream,
            seq=seq,
            time=utc(1e9),
            media_time=0.0,
            model="ab" * 32,
            phase="live",
            reason=reason,
        )

    return make


@pytest.fixture
def until() -> Until:
    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20.0
        while not condition():
            assert time.monotonic() < deadline, "this should have happened by now"
            time.sleep(0.005)

    return wait
