"""The whole front end, samples to network input, with its per-stream state in one value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamdet.features.level import LevelNorm, LevelState
from streamdet.features.logmel import FloatArray, FrontEndConfig, LogMel


@dataclass(frozen=True, slots=True)
class FrontEndState:
    """What the front end must remember between calls, one row a stream."""

    context: FloatArray
    level: LevelState


class FrontEnd:
    """Log-mel followed by level normalisation: ``[streams, n]`` samples to ``[streams, frames, mels]``."""

    def __init__(self, config: FrontEndConfig | None = None) -> None:
        self.config = config or FrontEndConfig()
        self.logmel = LogMel(self.config)
        self.level = LevelNorm(self.config)

    def start(self, streams: int = 1) -> FrontEndState:
        """State of ``streams`` fresh streams."""
        return FrontEndState(self.logmel.start(streams), self.level.start(streams))

    def __call__(self, samples: FloatArray, state: FrontEndState) -> tuple[FloatArray, FrontEndState]:
        """Compute the new frames of all streams (see :class:`LogMel`) and the state to pass next."""
        frames, context = self.logmel(samples, state.context)
        normalised, level = self.level(frames, state.level)
        return normalised, FrontEndState(context, level)

    def whole(self, samples: FloatArray) -> FloatArray:
        """Features ``[frames, mels]`` of one whole clip (float32 ``[n]``), as if it were a fresh stream."""
        frames, _ = self(samples[None, :].astype(np.float32, copy=False), self.start(1))
        features: FloatArray = frames[0]
        return features
