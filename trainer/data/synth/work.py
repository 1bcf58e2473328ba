"""Makes one clip after the other, in this process or in several."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from streamdet.features.logmel import FloatArray
from trainer.data.audio import read_audio
from trainer.data.build import variant_rng
from trainer.data.errors import DataError
from trainer.data.manifest import Clip
from trainer.data.synth.base import RATE, Made, Maker, Rng, Sentences, Tools, copies
from trainer.data.synth.makers import every
from trainer.data.synth.plan import Job

SHORTEST = 0.75  # seconds; less is not worth a crop
LONGEST_SPOKEN = 20.0  # seconds
LEVELS = (-32.0, -18.0)  # dBFS RMS of what synthesizers read
FLOORS = (-80.0, -55.0)  # dBFS RMS of the noise under most of it
# What makers raise on clips they cannot handle; programs and files become DataError before.
FAILURES = (DataError, OSError, ValueError, RuntimeError, ArithmeticError, subprocess.SubprocessError)


@dataclass(frozen=True, slots=True)
class Order:
    """What all jobs of a run share."""

    folder: Path
    tools: Tools
    sentences: Path | None
    seconds: float
    seed: int


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a job: a manifest row, or why there is none."""

    job: Job
    row: dict[str, Any] | None
    error: str = ""


class Workshop:
    """Carries out jobs."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._makers: Mapping[str, Maker] = every(order.tools)
        self._sentences = Sentences(order.sentences)

    def do(self, job: Job) -> Result:
        """Make and store one clip; whatever is wrong with it becomes the result's error."""
        try:
            return Result(job, self._make(job))
        except FAILURES as error:
            return Result(job, None, f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)

    def _make(self, job: Job) -> dict[str, Any]:
        rng = variant_rng(self._order.seed, job.id, 0)
        maker = self._makers[job.maker]
        if job.parent is not None and copies(maker):
            original = self._piece(job.parent, rng)
            made = maker.copy(original, rng)  # type: ignore[union-attr]
            samples = levelled(checked(made), float(np.sqrt(np.mean(original**2))))
        else:
            with tempfile.TemporaryDirectory() as scratch:
                made = maker.speak(self._sentences, rng, Path(scratch))  # type: ignore[union-attr]
            samples = recorded(checked(made)[: int(LONGEST_SPOKEN * RATE)], rng)
        path = self._order.folder / "audio" / job.file
        partial = path.with_name(f".{path.name}")
        soundfile.write(partial, samples, RATE, format="FLAC", subtype="PCM_16")
        partial.replace(path)
        return row(job, maker, made, len(samples) / RATE)

    def _piece(self, parent: Clip, rng: Rng) -> FloatArray:
        samples, most = read_audio(parent.path), int(self._order.seconds * RATE)
        begin = int(rng.integers(max(1, len(samples) - most + 1)))
        piece = samples[begin : begin + most]
        if not np.any(piece):
            raise DataError("the human clip is silent")
        return piece


def checked(made: Made) -> FloatArray:
    """Bring what was made to 16 kHz.

    Raises:
        DataError: it is too short, silent, or not finite.
    """
    if not np.isfinite(made.samples).all():
        raise DataError("samples that are not finite")
    samples = made.samples if made.rate == RATE else soxr.resample(made.samples, made.rate, RATE)
    if len(samples) < SHORTEST * RATE:
        raise DataError(f"only {len(samples) / RATE:.2f} s long")
    if np.abs(samples).max() < 1e-4:
        raise DataError("silent")
    return np.asarray(samples, np.float32)


def levelled(samples: FloatArray, level: float) -> FloatArray:
    """Bring ``samples`` to an RMS of ``level``, as far as the peak allows."""
    gain = level / float(np.sqrt(np.mean(samples**2)))
    return samples * np.float32(min(gain, 0.99 / float(np.abs(samples).max())))


def recorded(samples: FloatArray, rng: Rng) -> FloatArray:
    """Give clean synthesis the level and, mostly, a floor of noise that recordings have: silence is no cue then."""
    result = levelled(samples, 10.0 ** (rng.uniform(*LEVELS) / 20.0))
    if rng.random() < 0.7:
        result = result + (10.0 ** (rng.uniform(*FLOORS) / 20.0) * rng.standard_normal(len(result))).astype(np.float32)
    return np.clip(result, -1.0, 1.0)


def row(job: Job, maker: Maker, made: Made, seconds: float) -> dict[str, Any]:
    """Manifest row: a copy inherits source, group, speaker and all else that its human original is known by."""
    parent = job.parent
    inherited = {name: getattr(parent, name) if parent else "" for name in ("era", "language", "speaker")}
    if parent is None:
        inherited = {"era": "classic", "language": made.language, "speaker": made.system}
    return {
        "id": job.id,
        "split": parent.split if parent else "train",
        "label": "fake",
        "path": f"audio/{job.file}",
        "family": maker.family,
        "source": parent.source if parent else f"local:{maker.name}",
        "group": (parent.group or parent.id) if parent else job.id,
        "parent": parent.id if parent else "",
        **inherited,
        "codec": parent.codec if parent else "",
        "system": made.system,
        "seconds": round(seconds, 2),
        "licence": maker.licence,
        "settings": dict(made.settings),
    }


def carry_out(order: Order, jobs: Sequence[Job], processes: int) -> Iterator[Result]:
    """Do all jobs, in order of completion.

    Raises:
        DataError: a process died; what it made before is kept.
    """
    if processes <= 1:
        workshop = Workshop(order)
        yield from (workshop.do(job) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _open, (order,)) as pool:
        waiting = [pool.submit(_do, job) for job in jobs]
        try:
            for done in as_completed(waiting):
                yield done.result()
        except BrokenProcessPool as error:
            raise DataError("a process died while it made a clip; run again to go on, or leave a maker out") from error
        finally:
            pool.shutdown(cancel_futures=True)


_workshop: Workshop | None = None


def _open(order: Order) -> None:
    global _workshop  # noqa: PLW0603 - one workshop a process, made once
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _workshop = Workshop(order)


def _leave_with_parent() -> None:
    """End this process when the one that gives it work is gone, be it killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(job: Job) -> Result:
    assert _workshop is not None
    return _workshop.do(job)
