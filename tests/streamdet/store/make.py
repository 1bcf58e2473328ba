"""Events to store, and a way to wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from streamdet.events import Alert, AlertPhase, Event, Health, Score, State, to_json, utc
from streamdet.store.writer import Writer

BEGIN = 1_700_000_000.0  # divisible by 10
MODEL = "ab" * 32


def score(seq: int, *, stream: str = "hall", at: float = 0.0, p: float | None = 0.25, spoof: bool = False) -> Score:
    return Score(
        stream=stream, seq=seq, time=utc(BEGIN + at), media_time=max(0.0, at), model=MODEL, p_fake=p,
        windows={"3": p}, speech=0.5, lost=0.125, verdict="spoof" if spoof else "bona_fide", latency_ms=4.0,
    )  # fmt: skip


def alert(seq: int, phase: AlertPhase = "raised", *, stream: str = "hall", at: float = 0.0, name: str = "a") -> Alert:
    return Alert(
        stream=stream, seq=seq, time=utc(BEGIN + at), media_time=75.0, model=MODEL, id=name, phase=phase,
        reason="evidence", onset=70.5, peak=0.97, duration=4.5,
    )  # fmt: skip


def state(seq: int, *, stream: str = "hall", at: float = 0.0, reason: str = "sound") -> State:
    return State(stream=stream, seq=seq, time=utc(BEGIN + at), media_time=0.0, model=MODEL, phase="live", reason=reason)


def health(seq: int, *, at: float = 0.0) -> Health:
    return Health(
        seq=seq, time=utc(BEGIN + at), media_time=0.0, model=MODEL, uptime=1.0, streams=1, alerts=0, hops=3,
        lag_ms=0.0, dropped={"store": 0}, engine="x",
    )  # fmt: skip


def items(events: Sequence[Event]) -> list[tuple[Event, bytes]]:
    return [(event, to_json(event)) for event in events]


def fill(path: Path, events: Sequence[Event]) -> None:
    """Make a store of these events."""
    writer = Writer(path)
    writer.append(items(events))
    writer.close()


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "this should have happened by now"
        time.sleep(0.005)
