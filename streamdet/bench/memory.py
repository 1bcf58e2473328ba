"""Resident memory of a process of its own that holds so many streams, rings full."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from streamdet.bench.machine import resident_mb
from streamdet.errors import StreamdetError


def measure_memory(model: Path, streams: int, ring_seconds: float) -> dict[str, Any]:
    """Start the process and ask it; memory in MB.

    Raises:
        StreamdetError: it failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "streamdet.bench.memory", str(model), str(streams), str(ring_seconds)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StreamdetError(f"measuring memory failed: {done.stderr.strip().splitlines()[-1]}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def _hold(model: Path, streams: int, ring_seconds: float) -> dict[str, Any]:
    from streamdet.assembly import judge_maker  # noqa: PLC0415  in the process that is measured only
    from streamdet.audio.block import Block  # noqa: PLC0415
    from streamdet.config import Config  # noqa: PLC0415
    from streamdet.engine.memory import give_back_memory, keep_working_memory  # noqa: PLC0415
    from streamdet.engine.onnx import OnnxEngine  # noqa: PLC0415
    from streamdet.pipeline import Pipeline  # noqa: PLC0415

    keep_working_memory()
    engine = OnnxEngine(model)
    pipeline = Pipeline(engine, judge_maker(Config(), engine.info), lambda _: None, ring_seconds=ring_seconds)
    give_back_memory()
    empty = resident_mb()
    rate, second = 16_000, np.full(16_000, 0.01, np.float32)
    for _ in range(int(ring_seconds) + 1):
        for number in range(streams):
            pipeline.push(Block(f"s{number}", second, rate))
        pipeline.drain()
    full = resident_mb()
    return {
        "streams": streams,
        "ring_seconds": ring_seconds,
        "rss_mb_without_streams": round(empty, 1),
        "rss_mb": round(full, 1),
        "mb_per_stream": round((full - empty) / streams, 3),
    }


if __name__ == "__main__":
    print(json.dumps(_hold(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))))
