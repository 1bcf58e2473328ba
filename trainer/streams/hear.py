"""Runs spliced streams through the pipeline that listens, once; what came out is kept and replayed many times."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from streamdet import tap
from streamdet.audio.block import Block
from streamdet.decide.judge import Judge
from streamdet.engine.modelfile import read_model
from streamdet.engine.onnx import OnnxEngine
from streamdet.events import Event
from streamdet.features.logmel import FloatArray
from streamdet.pipeline import Pipeline
from trainer.augment import RATE
from trainer.data.build import load_bank
from trainer.streams.script import Script
from trainer.streams.splice import Splicer, Turn

Array = npt.NDArray[np.float64]
TOGETHER = 8  # streams that are scored side by side
VERSION = 1  # of what splicing and hearing do; columns of another version are made anew


@dataclass(frozen=True, slots=True)
class Heard:
    """One stream after the network: its truth, and a row a hop.

    ``columns`` is float64 ``[hops, 5]``: media time at the hop's end, raw log-odds, attention log-weight, share of
    speech, share lost.
    """

    name: str
    mixed: bool
    turns: tuple[Turn, ...]
    columns: Array


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker needs to splice and hear."""

    model: Path
    noise: Path | None = None
    clean: float = 0.5


def hear_all(
    setup: Setup,
    scripts: Sequence[Script],
    *,
    cache: Path | None = None,
    processes: int = 1,
    progress: Callable[[float], None] = lambda _: None,
) -> list[Heard]:
    """Hear all scripts, in their order; ``progress`` is told of the seconds done.

    With ``cache``, columns are kept there by model and script, so that an interrupted run goes on where it was.

    Raises:
        ModelError, DataError: the model or a clip cannot be used.
    """
    digest = read_model(setup.model)[1].digest
    keys = {script.name: _key(digest, setup, script) for script in scripts}
    kept = {name: heard for name, key in keys.items() if cache and (heard := _load(cache / f"{key}.npz"))}
    progress(sum(script.seconds for script in scripts if script.name in kept))
    missing = [script for script in scripts if script.name not in kept]
    for group in _in_groups(setup, missing, processes):
        for heard in group:
            kept[heard.name] = heard
            if cache:
                _save(cache / f"{keys[heard.name]}.npz", heard)
        progress(sum(script.seconds for script in missing if script.name in {heard.name for heard in group}))
    return [kept[script.name] for script in scripts]


def _in_groups(setup: Setup, scripts: Sequence[Script], processes: int) -> Iterator[list[Heard]]:
    groups = [scripts[at : at + TOGETHER] for at in range(0, len(scripts), TOGETHER)]
    if processes <= 1 or len(groups) <= 1:
        yield from (hear(setup, group) for group in groups)
        return
    with ProcessPoolExecutor(min(processes, len(groups)), mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(hear, setup, group) for group in groups]
        for job in as_completed(jobs):
            yield job.result()


def hear(setup: Setup, scripts: Sequence[Script]) -> list[Heard]:
    """Splice some streams and score them side by side."""
    splicer = _splicer(setup.noise, setup.clean)
    spliced = {script.name: splicer(script) for script in scripts}
    columns = listen(setup.model, {name: samples for name, (samples, _) in spliced.items()})
    return [Heard(s.name, s.mixed, spliced[s.name][1], columns[s.name]) for s in scripts]


def listen(model: Path, streams: dict[str, FloatArray]) -> dict[str, Array]:
    """Columns (as in :class:`Heard`) of streams of 16 kHz samples, side by side through one pipeline."""
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in streams}

    def observe(seen: tap.Heard) -> None:
        column, judgement = seen.column, seen.judgement
        rows[seen.stream].append((judgement.media_time, column.logit, column.attention, column.speech, column.lost))

    def judge(_: str = "") -> Judge:
        return Judge()

    pipeline = Pipeline(OnnxEngine(model, max_batch=TOGETHER), judge, _ignore, batch=TOGETHER, taps=(observe,))
    for begin in range(0, max(map(len, streams.values())), RATE):
        for name, samples in streams.items():
            if begin < len(samples):
                pipeline.push(Block(name, samples[begin : begin + RATE], RATE))
        pipeline.drain()
    pipeline.finish("end of stream")
    return {name: np.array(hops, np.float64).reshape(-1, 5) for name, hops in rows.items()}


def _ignore(_event: Event) -> None:
    """Events are made anew by each replay."""


@lru_cache(maxsize=1)
def _splicer(noise: Path | None, clean: float) -> Splicer:
    return Splicer(load_bank(noise), clean)


def _key(digest: str, setup: Setup, script: Script) -> str:
    told = json.dumps((VERSION, digest, str(setup.noise), setup.clean, asdict(script)), default=str, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def _save(path: Path, heard: Heard) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    about = json.dumps({"name": heard.name, "mixed": heard.mixed, "turns": [asdict(turn) for turn in heard.turns]})
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        np.savez_compressed(file, about=np.array(about), columns=heard.columns)
    partial.replace(path)


def _load(path: Path) -> Heard | None:
    """Give what was kept; None where there is nothing, or a file that was cut or is something else."""
    try:
        with path.open("rb") as file, np.load(file) as stored:
            about = json.loads(str(stored["about"]))
            turns = tuple(Turn(**turn) for turn in about["turns"])
            return Heard(about["name"], about["mixed"], turns, stored["columns"])
    except (OSError, ValueError, LookupError, TypeError, EOFError, BadZipFile, zlib.error):
        return None
