"""Runs everything and puts the figures together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from streamdet.assembly import RING_SECONDS
from streamdet.bench.contestants import Field, Settings, assemble, describe_model
from streamdet.bench.live import measure_live
from streamdet.bench.machine import describe_machine
from streamdet.bench.memory import measure_memory
from streamdet.bench.publisher import Publisher
from streamdet.bench.rounds import Timing, interleave
from streamdet.engine.modelfile import ModelInfo, read_model
from streamdet.events import utc

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured: rounds, CPU seconds of a turn, seconds of the live stream (0 for none)."""

    settings: Settings
    rounds: int = 7
    turn_seconds: float = 0.3
    live_seconds: float = 20.0
    ring_seconds: float = RING_SECONDS  # as ``listen`` has it by default; for the memory
    throughput: bool = True

    def quickly(self) -> Plan:
        """Make the same plan for a rough look."""
        live = min(self.live_seconds, 2.0)
        return replace(self, rounds=min(self.rounds, 2), turn_seconds=0.02, live_seconds=live, ring_seconds=20.0)


@dataclass(slots=True)
class Progress:
    """Tells somebody how far it is: ``begin`` with a name and a number of steps, then ``advance`` so often."""

    begin: Callable[[str, int], None] = field(default=lambda _name, _steps: None)
    advance: Callable[[], None] = field(default=lambda: None)


def run_bench(plan: Plan, progress: Progress) -> dict[str, Any]:
    """Measure all of ``plan``; returns plain values for JSON (``docs/bench.md`` describes them).

    Raises:
        ModelError: a model file cannot be used.
        StreamdetError: a process that takes part failed.
    """
    model = plan.settings.models[0]
    info = read_model(model)[1]
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "created": utc(time.time()),
        "machine": describe_machine(),
        "model": {"name": info.name, "width": info.width, "precision": info.precision, "digest": info.digest},
    }
    if plan.live_seconds:
        progress.begin("one live stream", 1)
        report["live"] = measure_live(model, plan.live_seconds, plan.settings.block_ms).to_dict()
        progress.advance()
    if plan.throughput:
        report |= _throughput(plan, progress)
        progress.begin("memory", 2)
        report["memory"] = []
        for streams in (1, plan.settings.together):
            report["memory"].append(measure_memory(model, streams, plan.ring_seconds))
            progress.advance()
    return report


def _throughput(plan: Plan, progress: Progress) -> dict[str, Any]:
    publisher = Publisher()
    received = 0
    try:
        taking_part = assemble(plan.settings, publisher)
        progress.begin("rounds", plan.rounds * len(taking_part.contestants))
        timings = interleave(
            taking_part.contestants, rounds=plan.rounds, seconds=plan.turn_seconds, advance=progress.advance
        )
    finally:
        received = publisher.close()
    figures = summarise(timings, taking_part, plan)
    return {**figures, "events": {"published": publisher.published, "received": received}}


def summarise(timings: Sequence[Timing], taking_part: Field, plan: Plan) -> dict[str, Any]:
    """Streams per core, shares of the whole way and ratios to the peers, from the medians."""
    info = read_model(plan.settings.models[0])[1]
    hop_seconds = info.front_end.hop_seconds
    whole = _whole_way(timings, plan.settings)
    return {
        "settings": {
            "rounds": plan.rounds,
            "turn_seconds": plan.turn_seconds,
            "hop_seconds": hop_seconds,
            "block_ms": plan.settings.block_ms,
        },
        "end_to_end_streams_per_core": round(whole.streams_per_core(hop_seconds), 1),
        "shares": _shares(timings, whole, info, plan.settings),
        "ratios": _ratios(timings, info, plan.settings),
        "results": [timing.to_dict(hop_seconds) for timing in timings],
        "left_out": taking_part.left_out,
    }


def _whole_way(timings: Sequence[Timing], settings: Settings) -> Timing:
    wanted = {"streams": settings.together, "block_ms": settings.block_ms}
    return next(t for t in timings if t.kind == "end_to_end" and t.details == wanted)


def _streaming(timings: Sequence[Timing], info: ModelInfo, settings: Settings) -> Timing:
    """Find the timing of the first model's engine at as many streams as the parts were measured with."""
    return next(
        t for t in timings if t.kind == "stream" and t.details == {**describe_model(info), "streams": settings.together}
    )


def _shares(timings: Sequence[Timing], whole: Timing, info: ModelInfo, settings: Settings) -> dict[str, float]:
    """Share of each part in the whole way; what no part explains is ``rest`` (queues, threads, socket)."""
    parts = {t.details["part"]: t.median for t in timings if t.kind == "part"}
    parts["engine"] = _streaming(timings, info, settings).median
    shares = {name: round(value / whole.median, 4) for name, value in parts.items()}
    return shares | {"rest": round(1.0 - sum(parts.values()) / whole.median, 4)}


def _ratios(timings: Sequence[Timing], info: ModelInfo, settings: Settings) -> list[dict[str, Any]]:
    """How many times cheaper a hop is than with each way to score whole windows; both without the front end."""
    ours = _streaming(timings, info, settings)
    peers = (t for t in timings if t.kind in ("window", "eager"))
    return [{"against": peer.label, "times": round(peer.median / ours.median, 1)} for peer in peers]
