"""Reads whole audio files for training."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from streamdet.audio.pcm import LOUDEST
from streamdet.features.logmel import FloatArray
from trainer.data.errors import DataError
from trainer.data.manifest import Clip


def read_audio(path: Path, rate: int = 16_000) -> FloatArray:
    """Read a file as float32 mono at ``rate``.

    Raises:
        DataError: the file cannot be decoded, is empty, or holds values that are no sound.
    """
    try:
        samples, native = soundfile.read(os.fsencode(path), dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise DataError(f"{path}: {error}") from error
    refuse_no_sound(path, samples)
    mono = samples.mean(axis=1)
    return np.asarray(soxr.resample(mono, native, rate) if native != rate else mono, np.float32)


def refuse_no_sound(path: Path, samples: npt.NDArray[np.floating[Any]]) -> None:
    """See that ``samples``, of all channels of ``path``, are sound; the runtime takes what is not for silence.

    Raises:
        DataError: there are none, or some are not finite or far out of range.
    """
    if not len(samples):
        raise DataError(f"{path}: no samples")
    if not np.abs(samples).max() <= LOUDEST:  # a NaN makes the comparison false
        raise DataError(f"{path}: samples that are not finite or far out of range (full scale is 1)")


def read_clips(clips: Iterable[Clip], skipped: dict[str, str], rate: int = 16_000) -> Iterator[tuple[Clip, FloatArray]]:
    """Give each clip that can be used with its samples; ``skipped`` gets the ids of the others, and why."""
    for clip in clips:
        try:
            samples = read_audio(clip.path, rate)
        except DataError as error:
            skipped[clip.id] = str(error)
        else:
            yield clip, samples
