"""ResNet-18 over whole windows in torch, eagerly, as it is mostly done. Needs torch, as nothing else here does.

The layers are those of K. He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016) with one input channel
and the usual symmetric padding; random weights, as the cost does not depend on them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CHANNELS = (64, 128, 256, 512)


def _unit(before: int, after: int, kernel: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after))


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = _unit(before, after, 3, stride)
        self.second = _unit(after, after, 3, 1)
        same = stride == 1 and before == after
        self.shortcut: nn.Module = nn.Identity() if same else _unit(before, after, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(torch.relu(self.first(x)))
        return torch.relu(y + self.shortcut(x))


def resnet(width: float) -> nn.Module:
    """ResNet-18 with all channel counts multiplied by ``width``: ``[batch, 1, frames, mels]`` to ``[batch, 1]``."""
    channels = [max(8, round(count * width / 8) * 8) for count in CHANNELS]
    layers: list[nn.Module] = [_unit(1, channels[0], 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    before = channels[0]
    for stage, after in enumerate(channels):
        layers += [_Block(before, after, 2 if stage else 1), _Block(after, after, 1)]
        before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 1)).eval()


class EagerWindow:
    """Scores one window of ``frames`` frames a call, on one thread."""

    def __init__(self, width: float, frames: int, mels: int) -> None:
        torch.set_num_threads(1)
        self._network = resnet(width)
        self._features = torch.rand(1, 1, frames, mels)

    def run(self) -> None:
        """Score the window."""
        with torch.inference_mode():
            self._network(self._features)
