"""The whole front end, samples to network input, with its per-stream state in one value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamdet.features.level import LevelNorm, LevelState
from streamdet.features.logmel import FloatArray, FrontEndConfig, LogMel
from streamdet.features.powers import Powers
from streamdet.features.spectrum import Spectrum

SPEECH_LEVEL = 0.05  # RMS of full scale, -26 dBFS: the usual nominal level of active speech (ITU-T P.56)


@dataclass(frozen=True, slots=True)
class FrontEndState:
    """What the front end must remember between calls, one row a stream."""

    context: FloatArray
    level: LevelState


class FrontEnd:
    """Log-mel with level normalisation, spectrum and powers if wanted: samples ``[streams, n]`` to features.

    Features are ``[streams, frames, values]``, see :attr:`streamdet.features.FrontEndConfig.values`.
    """

    def __init__(self, config: FrontEndConfig | None = None) -> None:
        self.config = config or FrontEndConfig()
        self.logmel = LogMel(self.config)
        self.level = LevelNorm(self.config)
        self.spectrum = Spectrum(self.config) if self.config.spectrum else None
        self.powers = Powers(self.config) if self.config.powers else None

    def start(self, streams: int = 1) -> FrontEndState:
        """State of ``streams`` fresh streams."""
        return FrontEndState(self.logmel.start(streams), self.level.start(streams))

    def __call__(self, samples: FloatArray, state: FrontEndState) -> tuple[FloatArray, FrontEndState]:
        """Compute the new frames of all streams (see :class:`LogMel`) and the state to pass next."""
        frames, context = self.logmel(samples, state.context)
        levels, level = self.level.track(frames, state.level)
        features = self.level.normalise(frames, levels)
        others = [other for other in (self.spectrum, self.powers) if other is not None]
        if others:
            heard = np.concatenate((state.context, samples), axis=1)
            features = np.concatenate((features, *(other(heard, levels) for other in others)), axis=2)
        return features, FrontEndState(context, level)

    def gain(self, state: FrontEndState) -> FloatArray:
        """Factor ``[streams]`` that brings each stream's running level to -26 dBFS, within ±40 dB."""
        config = self.config
        power = state.level[:, 0] / state.level[:, 1]  # mean over bands; by Parseval's theorem it stands for the square
        square = power * config.mels * 2 / config.fft / float(np.square(np.hanning(config.window)).sum())
        gain: FloatArray = np.clip(SPEECH_LEVEL / np.sqrt(square), 0.01, 100.0).astype(np.float32)
        return gain

    def whole(self, samples: FloatArray) -> FloatArray:
        """Features ``[frames, values]`` of one whole clip (float32 ``[n]``), as if it were a fresh stream."""
        frames, _ = self(samples[None, :].astype(np.float32, copy=False), self.start(1))
        features: FloatArray = frames[0]
        return features
