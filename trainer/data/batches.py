"""Cuts crops out of cached features and makes network input of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamdet.features import FrontEndConfig, LevelNorm
from streamdet.features.logmel import POWER_FLOOR, FloatArray
from trainer.data.cache import Entry, HalfArray
from trainer.shape import FrameAugment

SILENCE = np.float32(np.log(POWER_FLOOR))
Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Batch:
    """Network input ``features [rows, frames, mels]``, ``mask [rows, columns]`` of columns that hold audio, labels.

    ``targets [rows, size]`` is what a teacher says of the clips; rows it says nothing of are NaN, no teacher is size 0.
    ``verdicts [rows]`` is the probability that follows from it, NaN where there is none.
    """

    features: FloatArray
    mask: npt.NDArray[np.bool_]
    labels: FloatArray
    targets: FloatArray
    verdicts: FloatArray


class Cropper:
    """Draws crops of one length a batch.

    Half of the batches start as fresh streams do; in the others up to ``history`` frames of the clip come before the
    crop and settle the level, as in the middle of a stream. Clips shorter than the crop are followed by silence that
    the mask excludes, so length tells nothing.
    """

    def __init__(
        self,
        config: FrontEndConfig,
        augment: FrameAugment,
        *,
        shortest: int = 64,
        longest: int = 416,
        history: int = 192,
    ) -> None:
        self._level = LevelNorm(config)
        self._augment = augment
        self._hop = config.hop_frames
        self._shortest, self._longest, self._history = shortest, longest, history

    def draw(self, entries: Sequence[Entry], rng: Rng) -> Batch:
        """One batch of crops of ``entries``, all of one random length."""
        hops = int(rng.integers(self._shortest // self._hop, self._longest // self._hop + 1))
        before = int(rng.integers(self._history + 1)) if rng.random() < 0.5 else 0
        crops, valid = stack([e.frames for e in entries], hops * self._hop, before, rng)
        features = normalise(self._level, self._augment.raw(crops, rng))[:, before:]
        mask = columns_mask(valid, hops, self._hop)
        labels = np.array([e.label for e in entries], np.float32)
        targets, verdicts = np.empty((len(entries), 0), np.float32), np.full(len(entries), np.nan, np.float32)
        return Batch(self._augment.masks(np.ascontiguousarray(features), rng), mask, labels, targets, verdicts)


def stack(clips: Sequence[HalfArray], frames: int, before: int, rng: Rng) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """Random crops ``[rows, before + frames, mels]`` and how many of the last ``frames`` of each hold audio."""
    result = np.full((len(clips), before + frames, clips[0].shape[1]), SILENCE, np.float32)
    valid = np.empty(len(clips), np.intp)
    for row, clip in enumerate(clips):
        latest = max(0, len(clip) - frames)
        at = int(rng.integers(min(before, latest), latest + 1))
        start = max(0, at - before)
        part = clip[start : at + frames]
        begin = before - (at - start)
        result[row, begin : begin + len(part)] = part
        valid[row] = min(frames, len(clip) - at)
    return result, valid


def columns_mask(valid: npt.NDArray[np.intp], hops: int, hop: int) -> npt.NDArray[np.bool_]:
    """Mark columns whose hop is at least half audio, and always the first."""
    full = np.maximum(1, (valid + hop // 2) // hop)
    return np.arange(hops)[None, :] < full[:, None]


def normalise(level: LevelNorm, frames: FloatArray) -> FloatArray:
    """Level-normalised features of raw log-mel crops, each row a fresh stream."""
    result, _ = level(frames, level.start(len(frames)))
    return result
