"""How many streams an engine holds at real time, by the size of its batches: wall time, latency, parity, a picture."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamdet.assembly import load_engine
from streamdet.bench.machine import describe_machine
from streamdet.bench.plot import check_plot, save_figure
from streamdet.bench.sound import hop
from streamdet.config import validated
from streamdet.engine.base import Engine
from streamdet.engine.choice import PROVIDERS
from streamdet.engine.gpu import Gpu, find_gpu
from streamdet.engine.onnx import OnnxEngine
from streamdet.features import FrontEnd
from streamdet.features.logmel import FloatArray

HOPS = 8  # different hops, which go round
VOICES = 32  # different sounds; more streams share them, as the cost does not depend on them
WARM_STEPS = 4
SHORTEST_SECONDS, FEWEST_STEPS = 1.0, 12


@dataclass(frozen=True, slots=True)
class Pace:
    """Wall time of one call for ``streams`` streams, and how many streams that keeps up with at real time."""

    streams: int
    ms_p50: float
    ms_p99: float
    streams_at_real_time: float


@dataclass(frozen=True, slots=True)
class Parity:
    """Columns of an engine against those of ONNX Runtime on the processor, same model file."""

    hops: int
    error_percent: float  # root mean square of the logits' difference, in percent of their standard deviation
    largest: float  # difference of two logits


def measure_engine(model: Path, name: str, sizes: Sequence[int], advance: Callable[[], None]) -> dict[str, Any]:
    """Measure an engine at each of ``sizes`` streams a call; returns plain values for JSON.

    Raises:
        ModelError: the model cannot be used.
        DependencyError: the engine cannot run it here.
    """
    paces = []
    for streams in sizes:
        engine = _loaded(model, name, streams)
        try:
            paces.append(_pace(engine, streams))
        finally:
            engine.close()
        advance()
    engine = _loaded(model, name, VOICES)
    try:
        info, parity = engine.info, None if engine.name == "onnx-cpu" else _parity(engine, OnnxEngine(model))
    finally:
        engine.close()
    gpu = find_gpu() if engine.name == "tensorrt" or engine.name in PROVIDERS else "not used"
    return {
        "machine": describe_machine(),
        "gpu": asdict(gpu) if isinstance(gpu, Gpu) else None,
        "engine": engine.name,
        "model": {"name": info.name, "width": info.width, "precision": info.precision, "digest": info.digest},
        "hop_seconds": info.front_end.hop_seconds,
        "paces": [asdict(pace) for pace in paces],
        "parity": None if parity is None else asdict(parity),
    }


def write_engine_plot(report: dict[str, Any], path: Path) -> None:
    """Draw streams at real time and latency by size of batch.

    Raises:
        ConfigError, DependencyError: as :func:`streamdet.bench.plot.write_plot`.
    """
    check_plot(path)
    from matplotlib.figure import Figure  # noqa: PLC0415  optional

    paces, where = report["paces"], report["gpu"] or {"name": report["machine"]["processor"]}
    sizes = [pace["streams"] for pace in paces]
    figure = Figure(figsize=(8, 6), layout="constrained")
    held, late = figure.subplots(2, sharex=True)
    held.plot(sizes, [pace["streams_at_real_time"] for pace in paces], "o-", color="#1b6ca8")
    held.set_ylabel("streams at real time")
    late.plot(sizes, [pace["ms_p50"] for pace in paces], "o-", color="#2a9d5c", label="median")
    late.plot(sizes, [pace["ms_p99"] for pace in paces], "o--", color="#c9893a", label="99th percentile")
    late.axhline(1e3 * report["hop_seconds"], color="#b5493e", linewidth=1, label="one hop")
    late.set_ylabel("ms a call")
    late.set_xlabel("streams a call")
    late.legend(fontsize=8)
    for axes in (held, late):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.grid(visible=True, alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    late.set_xticks(sizes, [str(size) for size in sizes])
    held.set_title(f"{report['model']['name']} ({report['model']['precision']}), {report['engine']} on {where['name']}")
    save_figure(figure, path)


def _loaded(model: Path, name: str, streams: int) -> Engine:
    return load_engine(validated({"model": str(model), "engine": name, "batch": streams, "publish": None}, "--engine"))


def _features(engine: Engine, streams: int) -> list[FloatArray]:
    voices = min(streams, VOICES)
    front_end = FrontEnd(engine.info.front_end)
    state, hops = front_end.start(voices), []
    for number in range(HOPS):
        features, state = front_end(np.stack([hop(voice, number) for voice in range(voices)]), state)
        hops.append(np.ascontiguousarray(np.resize(features, (streams, *features.shape[1:]))))
    return hops


def _pace(engine: Engine, streams: int) -> Pace:
    slots = np.array([engine.allocate() for _ in range(streams)], np.intp)
    hops = _features(engine, streams)
    taken: list[float] = []
    for step in range(WARM_STEPS):
        engine.step(slots, hops[step % HOPS])
    until = time.monotonic() + SHORTEST_SECONDS
    while len(taken) < FEWEST_STEPS or time.monotonic() < until:
        begin = time.perf_counter()
        engine.step(slots, hops[len(taken) % HOPS])
        taken.append(time.perf_counter() - begin)
    median = statistics.median(taken)
    held = streams * engine.info.front_end.hop_seconds / median
    return Pace(streams, round(1e3 * median, 4), round(1e3 * float(np.percentile(taken, 99)), 4), round(held, 1))


def _parity(engine: Engine, reference: Engine) -> Parity:
    columns: dict[Engine, list[FloatArray]] = {engine: [], reference: []}
    for each, found in columns.items():
        slots = np.array([each.allocate() for _ in range(VOICES)], np.intp)
        found.extend(each.step(slots, features) for features in _features(each, VOICES))
    there, here = (np.concatenate(found)[:, 0].astype(np.float64) for found in columns.values())
    error = float(np.sqrt(np.mean(np.square(there - here))))
    spread = max(float(np.std(here)), 1e-12)
    return Parity(len(here), round(100 * error / spread, 3), round(float(np.abs(there - here).max()), 4))
