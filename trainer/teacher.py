"""A teacher beside the labels: what a network that has heard far more speech makes of a clip.

A label is one bit a clip, and a network that learns from bits alone also learns what its few sources sound like. The
teacher's description of the same clip has hundreds of numbers that no label is behind; a network that has to give them
too keeps what is true of all speech (multi-task distillation: G. Hinton et al., "Distilling the Knowledge in a Neural
Network", 2015; with features as targets, A. Romero et al., "FitNets", ICLR 2015).

The teacher is the convolutional front of Distill-MOS (B. Stahl and H. Gamper, "Distillation and Pruning for Scalable
Self-Supervised Representation-Based Speech Quality Assessment", 2025, MIT licence), itself distilled from wav2vec 2.0
XLS-R: mean and standard deviation over time of its 1,024 outputs. It is needed to make targets, never afterwards.

Its *verdict* on a clip is what a logistic regression on those numbers says: it knows fewer clips by heart than a
network does, so its doubts may teach more than the certainty of a label.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError
from zipfile import BadZipFile

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional

from streamdet.errors import DependencyError
from streamdet.features.logmel import FloatArray
from trainer.data.audio import read_audio
from trainer.data.errors import DataError
from trainer.data.manifest import Clip
from trainer.metrics import auc, balanced, stratum_weights

RATE = 16_000
SAMPLES = 4 * RATE  # of a clip: its middle, or the clip again and again
SHORTEST = RATE // 2
ROWS = 8  # clips a call
WINDOW, HOP = 320, 160
STRENGTH = 3e-4  # inverse of the regularisation: the best of five on validation clips
INSTALL = "pip install --no-deps 'distillmos>=0.9,<0.10'"


class Teacher:
    """Describes clips.

    Of the package ``distillmos`` only the file of weights is read: importing it wants far more than this needs.

    Raises:
        DependencyError: the package is not installed, or holds other weights than those of its versions 0.9.
    """

    def __init__(self) -> None:
        found = importlib.util.find_spec("distillmos")
        if found is None or found.origin is None:
            raise DependencyError(f"distillmos is not installed: {INSTALL}")
        path = Path(found.origin).parent / "weights" / "distill_mos_v7.pt"
        self._network = convolutions()
        try:
            stored = torch.load(path, map_location="cpu", weights_only=True)["model"]
            parts = {name.removeprefix("cnn.cnn."): part for name, part in stored.items() if name.startswith("cnn.")}
            self._network.load_state_dict(parts)
        except (OSError, KeyError, RuntimeError, UnpicklingError) as error:
            raise DependencyError(f"{path}: not the weights that are known: {INSTALL} ({error})") from error
        self._network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def convolutions(self) -> list[nn.Conv2d]:
        """Its layers, in order."""
        return [layer for layer in self._network if isinstance(layer, nn.Conv2d)]

    def describe(self, samples: FloatArray) -> FloatArray:
        """``[clips, SAMPLES]`` of sound, float32 at 16 kHz, to ``[clips, 2048]``, float32."""
        peak = np.abs(samples).max(axis=1, keepdims=True) + 1e-8
        spectrum = compressed(torch.from_numpy((samples / peak).astype(np.float32)))
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            outputs: Tensor = self._network(spectrum.contiguous(memory_format=torch.channels_last)).float()
        outputs = outputs.flatten(1, 2)
        return np.asarray(torch.cat((outputs.mean(2), outputs.std(2)), dim=1))


def convolutions() -> nn.Sequential:
    """Front of Distill-MOS: six convolutions over frequency and time; all but the first halve the frequencies."""
    channels = (2, 64, 64, 128, 256, 256, 256)
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(pairwise(channels)):
        stride = (1 if number == 0 else 2, 2 if number == len(channels) - 2 else 1)
        layers += [nn.Conv2d(before, after, 3, stride, padding=(0, 1)), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers)


def compressed(samples: Tensor) -> Tensor:
    """Spectrum ``[clips, 2, 161, frames]``, 20 ms every 10 ms: real and imaginary part, magnitude to the power 0.3."""
    padded = functional.pad(samples, ((WINDOW - HOP) // 2,) * 2, mode="reflect")
    spectrum = torch.stft(
        padded, WINDOW, HOP, window=torch.hann_window(WINDOW), center=False, return_complex=True, onesided=True
    )
    magnitude = spectrum.abs().clamp(min=1e-12)
    return torch.view_as_real(spectrum * (magnitude ** (0.3 - 1.0))).permute(0, 3, 1, 2)


def piece(samples: FloatArray) -> FloatArray:
    """Middle four seconds of a clip; a shorter one is repeated, since silence would be described too."""
    begin = max(0, (len(samples) - SAMPLES) // 2)
    return np.resize(samples[begin : begin + SAMPLES], SAMPLES)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What :func:`describe_clips` did: clips described, those skipped with the reason, and AUC of the verdicts.

    ``auc`` is over sources that the regression was not fitted on, in turn; NaN where there are not enough.
    """

    described: int
    skipped: dict[str, str]
    auc: float


def describe_clips(clips: Sequence[Clip], out: Path, advance: Callable[[], None] = lambda: None) -> Lesson:
    """Write targets of ``clips``, and the verdicts that follow from them, to ``out`` (NPZ).

    Raises:
        DataError: no clip could be read.
        DependencyError: the teacher is not installed.
    """
    teacher, skipped = Teacher(), dict[str, str]()
    kept: list[Clip] = []
    described: list[FloatArray] = []
    for at in range(0, len(clips), ROWS):
        batch = clips[at : at + ROWS]
        pieces = []
        for clip in batch:
            try:
                samples = read_audio(clip.path, RATE)
            except DataError as error:
                skipped[clip.id] = str(error)
                continue
            if len(samples) < SHORTEST or not np.isfinite(samples).all():
                skipped[clip.id] = f"{clip.path}: shorter than {SHORTEST / RATE} s, or not finite"
                continue
            pieces.append(piece(samples))
            kept.append(clip)
        if pieces:
            described.append(teacher.describe(np.stack(pieces)))
        for _ in batch:
            advance()
    if not kept:
        raise DataError(f"no clip could be read; the first: {next(iter(skipped.values()), 'there is none')}")
    partial = out.with_suffix(".tmp.npz")
    targets = np.concatenate(described)
    said, figure = judged(targets, kept)
    names = np.array([clip.id for clip in kept])
    np.savez(partial, clips=names, targets=targets.astype(np.float16), verdicts=said)
    partial.replace(out)
    return Lesson(len(kept), skipped, figure)


def judged(targets: FloatArray, clips: Sequence[Clip], folds: int = 5) -> tuple[FloatArray, float]:
    """Verdicts on ``clips`` by a regression on their ``targets``, and its AUC over parts that share no source.

    Each family weighs the same, as does each human clip, and both classes. Verdicts are probabilities ``[clips]``, all
    NaN where one class is missing.
    """
    labels = np.array([clip.label for clip in clips])
    if len(set(labels)) < 2:
        return np.full(len(clips), np.nan, np.float32), np.nan
    weights = balanced(labels, stratum_weights([clip.family if clip.label else "" for clip in clips], exponent=0.0))
    said = _regression(targets, labels, weights).predict_proba(targets)[:, 1].astype(np.float32)
    sources = [clip.source for clip in clips]
    if len(set(sources)) < folds:
        return said, np.nan
    unheard = np.full(len(clips), np.nan)
    for known, rest in GroupKFold(folds).split(targets, labels, sources):
        if len(set(labels[known])) == 2:
            part = _regression(targets[known], labels[known], weights[known])
            unheard[rest] = part.decision_function(targets[rest])
    heard = np.isfinite(unheard)
    if len(set(labels[heard])) < 2:
        return said, np.nan
    return said, auc(unheard[heard], labels[heard].astype(np.float64), weights[heard])


def _regression(targets: FloatArray, labels: np.ndarray, weights: np.ndarray) -> Pipeline:
    line = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=300))
    return line.fit(targets, labels, logisticregression__sample_weight=weights)


class Targets:
    """What the teacher says of clips, each number with mean 0 and deviation 1 over all clips.

    Raises:
        DataError: the file is not one that :func:`describe_clips` wrote.
    """

    def __init__(self, path: Path) -> None:
        try:
            with np.load(path) as stored:
                names, targets = stored["clips"], stored["targets"].astype(np.float32)
                verdicts = stored["verdicts"] if "verdicts" in stored else np.full(len(names), np.nan, np.float32)
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise DataError(f"{path}: not the targets of `trainer data teach`: {error}") from error
        fits = len(names) > 0 and targets.shape[:1] == names.shape == verdicts.shape
        if not fits or not np.isfinite(targets).all():
            raise DataError(f"{path}: not the targets of `trainer data teach`: names and numbers do not fit together")
        deviation = targets.std(axis=0)
        self._targets = (targets - targets.mean(axis=0)) / np.maximum(deviation, 1e-6)
        self._verdicts = verdicts.astype(np.float32)
        self.has_verdicts = bool(np.isfinite(self._verdicts).any())
        self._rows = {str(name): row for row, name in enumerate(names)}
        self.size = int(targets.shape[1])

    def __len__(self) -> int:
        return len(self._rows)

    def of(self, clips: Sequence[str]) -> FloatArray:
        """``[clips, size]``; NaN in the rows of clips that the teacher was not asked about."""
        return self._picked(self._targets, clips)

    def verdicts(self, clips: Sequence[str]) -> FloatArray:
        """Probability of spoof ``[clips]``; NaN for clips that the teacher was not asked about."""
        return self._picked(self._verdicts, clips)

    def _picked(self, values: FloatArray, clips: Sequence[str]) -> FloatArray:
        result = np.full((len(clips), *values.shape[1:]), np.nan, np.float32)
        for row, clip in enumerate(clips):
            if (at := self._rows.get(clip)) is not None:
                result[row] = values[at]
        return result
