"""Pictures of every augmentation step on one clip."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from streamdet.features import FrontEndConfig, LogMel
from streamdet.features.logmel import FloatArray
from trainer.augment import RATE, Bank, WaveAugment
from trainer.data.audio import read_audio
from trainer.data.batches import SILENCE
from trainer.data.errors import DataError
from trainer.shape import FrameAugment

SECONDS = 2.5
LEAST = 5.0  # seconds; what comes after the piece that is shown is the babble
SILENT = 1e-3
COLUMNS = 5
FRAME_STEPS = FrameAugment.STEPS


def demo_clip() -> FloatArray:
    """Speech from the bundled conversation, float32 at 16 kHz."""
    with resources.as_file(resources.files("streamdet") / "demo" / "demo.flac") as path:
        return read_audio(path)[: 20 * RATE]


def examples(clip: FloatArray, seed: int) -> Iterator[tuple[str, FloatArray]]:
    """Name and log-mels ``[frames, mels]`` of the clip as it is, and after each step alone with ``seed``.

    Raises:
        DataError: the clip is too short, or too quiet to show anything.
    """
    speech, rest = _pieces(clip)
    logmel, augment = LogMel(FrontEndConfig()), WaveAugment(Bank(speech=[rest / rest.std()]))
    frames = logmel(speech[None], logmel.start())[0][0]
    yield "before", frames
    for step in augment.STEPS:
        changed = augment.apply(step, speech, np.random.default_rng(seed))
        yield f"{step}, seed {seed}", logmel(changed[None], logmel.start())[0][0]
    lossy = next((number for number in range(seed, seed + 100) if _loses(augment, speech, number)), None)
    if lossy is None:
        raise DataError("the clip is too quiet to show lost packets; give a louder one")
    torn = augment.apply("codec", speech, np.random.default_rng(lossy))
    yield f"codec with packet loss, seed {lossy}", logmel(torn[None], logmel.start())[0][0]
    for step in FRAME_STEPS:
        yield f"{step}, seed {seed}", _framed(step, frames, seed)


def _pieces(clip: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Cut out the part of a clip that is shown; gives it and what follows."""
    if len(clip) < LEAST * RATE:
        raise DataError(f"the clip has {len(clip) / RATE:.1f} s; {LEAST:g} s of speech are needed")
    begin, end = RATE // 2, RATE // 2 + int(SECONDS * RATE)
    if min(np.abs(clip[begin:end]).max(), np.abs(clip[end:]).max()) < SILENT:
        raise DataError(f"the clip is silent; {LEAST:g} s of speech are needed")
    return clip[begin:end], clip[end:]


def _loses(augment: WaveAugment, speech: FloatArray, seed: int) -> bool:
    """Whether this seed loses packets: whole stretches of 20 ms are silent then, where the original is not."""
    changed = augment.apply("codec", speech, np.random.default_rng(seed))
    size = RATE // 100
    blocks = [np.abs(x[: len(x) // size * size].reshape(-1, size)).max(axis=1) for x in (speech, changed)]
    return int(np.sum((blocks[1] < 1e-4) & (blocks[0] > 0.02))) > 4


def _framed(step: str, frames: FloatArray, seed: int) -> FloatArray:
    """Log-mels after one step on frames, with a seed from ``seed`` on under which it does something."""
    hiss = np.full((100, frames.shape[1]), -2.0, np.float32)
    others = [other for other in FRAME_STEPS if other != step]
    augment = FrameAugment([hiss], strength=10.0, without=others)
    for number in range(seed, seed + 20):
        rng = np.random.default_rng(number)
        result = augment.raw(frames[None].copy(), rng)[0]
        masked = augment.masks(np.ones_like(frames)[None], rng)[0]
        result = np.where(masked == 0.0, SILENCE, result)
        if not np.array_equal(result, frames):
            return result
    raise ValueError(f"{step} does nothing")


def draw(path: Path, clip: FloatArray, seed: int = 0) -> None:
    """Draw all steps into one picture."""
    panels = list(examples(clip, seed))
    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(3.0 * COLUMNS, 1.7 * rows), layout="constrained")
    before = panels[0][1]
    for axes, (title, frames) in zip(figure.subplots(rows, COLUMNS).flat, panels, strict=False):
        axes.imshow(frames.T, origin="lower", aspect="auto", vmin=before.max() - 18.0, vmax=before.max())
        axes.set_title(title, fontsize="small")
        axes.set_xticks(range(0, len(frames), 100), [f"{at / 100:g} s" for at in range(0, len(frames), 100)])
        axes.set_yticks(())
    for axes in figure.axes[len(panels) :]:
        axes.set_visible(False)
    figure.savefig(path, dpi=60)
