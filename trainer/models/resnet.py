"""A causal ResNet-18 that gives one column of evidence for every 32 frames and can run hop by hop.

The layers are those of K. He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016) with one input
channel; time is padded on the left only, by ``kernel - stride`` frames a layer. Those frames are all a layer has to
remember of the past: joined to the next chunk they make chunked evaluation equal to evaluation as a whole, for any
chunks that are multiples of the total time stride. Frequency is padded symmetrically.
"""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamdet.errors import ModelError
from streamdet.features import FrontEndConfig

STRIDE = 32  # frames a column
BLOCKS = 2  # basic blocks a stage, as in ResNet-18
CHANNELS = (64, 128, 256, 512)  # of the four stages at width 1.0
NO_CHECKPOINT = (  # what torch raises where it is to read anything else
    *(RuntimeError, pickle.UnpicklingError, EOFError, ValueError, TypeError),
    *(LookupError, AttributeError, struct.error),
)
MAX_LOG_WEIGHT = 6.0  # bound of the attention log-weight, so that exp() and running sums stay well-conditioned


class Timeline:
    """Supplies each layer, in the order of evaluation, with the frames just before its input.

    Without ``states`` the past is zeros and nothing is kept (training); with them, ``next_states`` collects what the
    following chunk needs.
    """

    def __init__(self, states: list[Tensor] | None, *, causal: bool = True) -> None:
        self._states = states
        self._causal = causal
        self.next_states: list[Tensor] = []

    def extend(self, x: Tensor, frames: int) -> Tensor:
        """Put ``frames`` frames of past before ``x`` (``[N, C, T, F]``), or share them out to both ends."""
        if self._states is None:
            left = frames if self._causal else (frames + 1) // 2
            return functional.pad(x, (0, 0, left, frames - left))
        joined = torch.cat((self._states[len(self.next_states)], x), dim=2)
        self.next_states.append(joined[:, :, -frames:])
        return joined


class ConvNorm(nn.Module):
    """Convolution that draws its left padding from the timeline, then batch normalisation."""

    def __init__(self, channels_in: int, channels_out: int, *, kernel: int, stride: int) -> None:
        super().__init__()
        self.past = max(0, kernel - stride)
        padding = (0, kernel // 2)
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(channels_out)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor, time: Timeline) -> Tensor:
        """``[N, C, T, F]`` to ``[N, C', T / stride, F / stride]``."""
        joined = time.extend(x, self.past) if self.past else x
        result: Tensor = self.norm(self.conv(joined))
        return result


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the last normalisation starts at zero, so a fresh block passes through."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels_in, channels_out, kernel=3, stride=stride)
        self.second = ConvNorm(channels_out, channels_out, kernel=3, stride=1)
        self.shortcut: ConvNorm | None = None
        if stride != 1 or channels_in != channels_out:
            self.shortcut = ConvNorm(channels_in, channels_out, kernel=1, stride=stride)
        if isinstance(self.second.norm, nn.BatchNorm2d):
            nn.init.zeros_(self.second.norm.weight)

    def forward(self, x: Tensor, time: Timeline) -> Tensor:
        """``[N, C, T, F]`` to ``[N, C', T / stride, F / stride]``."""
        y = functional.relu(self.first(x, time))
        y = self.second(y, time)
        return functional.relu(y + (x if self.shortcut is None else self.shortcut(x, time)))


class CausalResNet(nn.Module):
    """Scores speech column by column; see the module's text.

    Args:
        width: factor on all channel counts (1.0: 64 to 512 channels, 11.2 M parameters).
        mels: mel bands of the features, a multiple of 32.
        causal: pad time on the left only. False pads both ends, as a comparison only: it cannot stream.
        dropout: probability of dropout between embedding and head while training.
    """

    def __init__(self, width: float = 1.0, mels: int = 64, causal: bool = True, dropout: float = 0.0) -> None:  # noqa: FBT001,FBT002
        super().__init__()
        if mels % STRIDE:
            raise ValueError(f"mels must be a multiple of {STRIDE}, not {mels}")
        self.settings: dict[str, Any] = {"width": width, "mels": mels, "causal": causal, "dropout": dropout}
        self.mels = mels
        self.causal = causal
        channels = channels_of(width)
        self.stem = ConvNorm(1, channels[0], kernel=7, stride=2)
        self.blocks = nn.ModuleList()
        before = channels[0]
        for stage, after in enumerate(channels):
            for index in range(BLOCKS):
                self.blocks.append(BasicBlock(before, after, stride=2 if stage > 0 and index == 0 else 1))
                before = after
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(before, 2)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    @classmethod
    def from_checkpoint(cls, path: Path) -> CausalResNet:
        """Rebuild a network in evaluation mode from a file that holds what :meth:`checkpoint` returned.

        Raises:
            ModelError: the file cannot be read or holds something else.
        """
        stored = read_checkpoint(path)
        try:
            network = cls(**stored["network"])
            network.load_state_dict(stored["weights"])
        except (RuntimeError, KeyError, TypeError) as error:
            raise ModelError(f"cannot read the checkpoint {path}: not one of `trainer fit` ({error})") from error
        return network.eval()

    def checkpoint(self) -> dict[str, Any]:
        """Give the constructor arguments and weights, for ``torch.save``; other keys may be added beside them."""
        return {"network": dict(self.settings), "weights": self.state_dict()}

    @property
    def embedding_size(self) -> int:
        """Length of a column's embedding (512 at width 1.0)."""
        return self.head.in_features

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Score whole clips, each as a stream that begins with silence.

        Args:
            features: ``[N, T, mels]``, ``T`` a multiple of 32.

        Returns:
            ``(columns, embedding)``: float32 ``[N, T / 32, 2]``, log-odds of spoof and log attention weight within
            ±6; and float32 ``[N, T / 32, D]``.
        """
        return self.run(features, Timeline(None, causal=self.causal))

    def stream(self, features: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Score the next ``32 k`` frames; ``states`` come from :meth:`initial_states` or the call before."""
        if not self.causal:
            raise ValueError("only a causal network can stream")
        time = Timeline(states)
        columns, _ = self.run(features, time)
        return columns, time.next_states

    def run(self, features: Tensor, time: Timeline) -> tuple[Tensor, Tensor]:
        """Score what follows on the past that ``time`` supplies; see :meth:`forward`."""
        if features.shape[1] % STRIDE:
            raise ValueError(f"the number of frames must be a multiple of {STRIDE}, not {features.shape[1]}")
        x = functional.relu(self.stem(features.unsqueeze(1), time))
        x = functional.max_pool2d(time.extend(x, 1), 3, 2, padding=(0, 1))
        for block in self.blocks:
            x = block(x, time)
        # Average pooling over all bands: the same as a mean, but ONNX Runtime is slow at ReduceMean.
        pooled = functional.avg_pool2d(x, (1, self.mels // STRIDE)).squeeze(3).transpose(1, 2)
        with torch.autocast(features.device.type, enabled=False):
            embedding = pooled.to(self.head.weight.dtype)
            return self._columns(self.dropout(embedding)), embedding

    def _columns(self, embedding: Tensor) -> Tensor:
        logit, weight = self.head(embedding).split(1, dim=2)
        return torch.cat((logit, weight.clamp(-MAX_LOG_WEIGHT, MAX_LOG_WEIGHT)), dim=2)

    def initial_states(self, streams: int) -> list[Tensor]:
        """States of ``streams`` streams that just begin: zeros, on the device and in the type of the weights."""
        parameter = self.head.weight
        return [parameter.new_zeros(streams, *shape) for shape in self.state_shapes()]

    def state_shapes(self) -> list[tuple[int, int, int]]:
        """``(channels, frames, bands)`` that each layer remembers, in order of evaluation."""
        channels, bands = self.stem.conv.out_channels, self.mels // 2
        shapes = [(1, self.stem.past, self.mels), (channels, 1, bands)]
        bands //= 2
        for block in self.blocks:
            assert isinstance(block, BasicBlock)
            first, second = block.first, block.second
            shapes.append((first.conv.in_channels, first.past, bands))
            bands //= first.conv.stride[0]
            shapes.append((second.conv.in_channels, second.past, bands))
        return shapes


def channels_of(width: float) -> list[int]:
    """Channels of the four stages, multiples of 8."""
    return [max(8, round(c * width / 8) * 8) for c in CHANNELS]


def front_end_of(path: Path) -> FrontEndConfig:
    """Front end that the network in a checkpoint was trained on.

    Raises:
        ModelError: the file cannot be read or holds something else.
    """
    stored = read_checkpoint(path)
    try:
        return FrontEndConfig(**stored.get("front_end", {"mels": stored["network"]["mels"]}))
    except (KeyError, TypeError) as error:
        raise ModelError(f"cannot read the checkpoint {path}: {error}") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read what :meth:`CausalResNet.checkpoint` gave and what was added to it.

    Raises:
        ModelError: the file cannot be read or holds something else.
    """
    try:
        stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"cannot read the checkpoint {path}: {error.strerror or error}") from error
    except NO_CHECKPOINT as error:  # torch would have the reader trust the file, which mends nothing
        raise ModelError(f"cannot read the checkpoint {path}: damaged, or no checkpoint of the trainer") from error
    if not isinstance(stored, dict):
        raise ModelError(f"cannot read the checkpoint {path}: it holds a {type(stored).__name__}")
    return stored


def pool(columns: Tensor, mask: Tensor | None = None) -> Tensor:
    """Raw log-odds ``[N]`` of windows: the attention-weighted mean of their columns' logits.

    Args:
        columns: ``[N, T, 2]`` from the network.
        mask: bool ``[N, T]``, False where a column does not count; each row needs one True.
    """
    logits, log_weights = columns.float().unbind(2)
    weights = log_weights.exp()
    if mask is not None:
        weights = weights * mask
    return (weights * logits).sum(1) / weights.sum(1)
