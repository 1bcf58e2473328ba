"""A teacher beside the labels: what a network that has heard far more speech makes of a clip.

A label is one bit a clip, and a network that learns from bits alone also learns what its few sources sound like. The
teacher's description of the same clip has hundreds of numbers that no label is behind; a network that has to give them
too keeps what is true of all speech (multi-task distillation: G. Hinton et al., "Distilling the Knowledge in a Neural
Network", 2015; with features as targets, A. Romero et al., "FitNets", ICLR 2015).

The teacher is the convolutional front of Distill-MOS (B. Stahl and H. Gamper, "Distillation and Pruning for Scalable
Self-Supervised Representation-Based Speech Quality Assessment", 2025, MIT licence), itself distilled from wav2vec 2.0
XLS-R: mean and standard deviation over time of its 1,024 outputs. It is needed to make targets, never afterwards.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from streamdet.errors import DependencyError
from streamdet.features.logmel import FloatArray
from trainer.data.audio import read_audio
from trainer.data.errors import DataError
from trainer.data.manifest import Clip

RATE = 16_000
SAMPLES = 4 * RATE  # of a clip: its middle, or the clip again and again
SHORTEST = RATE // 2
ROWS = 8  # clips a call
WINDOW, HOP = 320, 160
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


def describe_clips(clips: Sequence[Clip], out: Path, advance: Callable[[], None] = lambda: None) -> dict[str, str]:
    """Write the targets of ``clips`` to ``out`` (NPZ); returns the clips that were skipped, each with the reason.

    Raises:
        DataError: no clip could be read.
        DependencyError: the teacher is not installed.
    """
    teacher, skipped = Teacher(), dict[str, str]()
    names: list[str] = []
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
            names.append(clip.id)
        if pieces:
            described.append(teacher.describe(np.stack(pieces)))
        for _ in batch:
            advance()
    if not names:
        raise DataError(f"no clip could be read; the first: {next(iter(skipped.values()), 'there is none')}")
    partial = out.with_suffix(".tmp.npz")
    np.savez(partial, clips=np.array(names), targets=np.concatenate(described).astype(np.float16))
    partial.replace(out)
    return skipped


class Targets:
    """What the teacher says of clips, each number with mean 0 and deviation 1 over all clips.

    Raises:
        DataError: the file is not one that :func:`describe_clips` wrote.
    """

    def __init__(self, path: Path) -> None:
        try:
            with np.load(path) as stored:
                names, targets = stored["clips"], stored["targets"].astype(np.float32)
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise DataError(f"{path}: not the targets of `trainer data teach`: {error}") from error
        if not len(names) or targets.shape[:1] != names.shape or not np.isfinite(targets).all():
            raise DataError(f"{path}: not the targets of `trainer data teach`: names and numbers do not fit together")
        deviation = targets.std(axis=0)
        self._targets = (targets - targets.mean(axis=0)) / np.maximum(deviation, 1e-6)
        self._rows = {str(name): row for row, name in enumerate(names)}
        self.size = int(targets.shape[1])

    def __len__(self) -> int:
        return len(self._rows)

    def of(self, clips: Sequence[str]) -> FloatArray:
        """``[clips, size]``; NaN in the rows of clips that the teacher was not asked about."""
        result = np.full((len(clips), self.size), np.nan, np.float32)
        for row, clip in enumerate(clips):
            if (at := self._rows.get(clip)) is not None:
                result[row] = self._targets[at]
        return result
