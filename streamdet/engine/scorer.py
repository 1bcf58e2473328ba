"""Samples to columns for many streams at once: front end, voice activity and network, state by slot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from streamdet.audio.vad import STATE, VoiceActivity, speech_share
from streamdet.engine.base import Engine, Slots
from streamdet.features import FrontEnd, FrontEndState
from streamdet.features.logmel import FloatArray


@dataclass(frozen=True, slots=True)
class Columns:
    """One row a stream: the network's ``column`` ``[n, 2]``, the share of speech ``[n]`` and the features of one hop.

    ``features`` are float32 ``[n, hop_frames, mels]``.
    """

    column: FloatArray
    speech: FloatArray
    features: FloatArray


class HopScorer:
    """Scores one hop of each of several streams; only the new audio is ever computed.

    A stream's results do not depend on which other streams share the call.
    """

    def __init__(self, engine: Engine, voice_activity: VoiceActivity | None = None) -> None:
        self.engine = engine
        self.front_end = FrontEnd(engine.info.front_end)
        self.hop_samples = self.front_end.config.hop_samples
        self._voice_activity = voice_activity or VoiceActivity()
        fresh = self.front_end.start(1)
        self._context = np.empty((0, fresh.context.shape[1]), np.float32)
        self._level = np.empty((0, fresh.level.shape[1]), np.float64)
        self._speech = np.empty((0, STATE), np.float32)

    def open(self) -> int:
        """Take a slot for a new stream."""
        slot = self.engine.allocate()
        missing = slot + 1 - len(self._context)
        if missing > 0:
            fresh = self.front_end.start(missing)
            self._context = np.concatenate((self._context, fresh.context))
            self._level = np.concatenate((self._level, fresh.level))
            self._speech = np.concatenate((self._speech, self._voice_activity.start(missing)))
        self.reset(slot)
        return slot

    def reset(self, slot: int) -> None:
        """Forget what a stream has heard, as after a long gap."""
        fresh = self.front_end.start(1)
        self._context[slot], self._level[slot] = fresh.context[0], fresh.level[0]
        self._speech[slot] = 0.0
        self.engine.reset(slot)

    def replace(self, engine: Engine, moves: Mapping[int, int]) -> None:
        """Score with another engine, of the same front end; ``moves`` says which slot each of the old ones becomes.

        What front end and voice activity remember of a stream moves along.
        """
        size = max(moves.values(), default=-1) + 1
        fresh = self.front_end.start(size)
        context, level, speech = fresh.context, fresh.level, self._voice_activity.start(size)
        for old, new in moves.items():
            context[new], level[new], speech[new] = self._context[old], self._level[old], self._speech[old]
        self._context, self._level, self._speech, self.engine = context, level, speech, engine

    def close(self, slot: int) -> None:
        """Give a stream's slot back."""
        self.engine.release(slot)

    def score(self, slots: Slots, samples: FloatArray) -> Columns:
        """Advance the streams in ``slots`` ``[n]`` by one hop of ``samples`` (float32 ``[n, hop_samples]``)."""
        state = FrontEndState(self._context[slots], self._level[slots])
        features, state = self.front_end(samples, state)
        self._context[slots], self._level[slots] = state.context, state.level
        gain = self.front_end.gain(state)[:, None]
        probabilities, self._speech[slots] = self._voice_activity(samples * gain, self._speech[slots])
        return Columns(self.engine.step(slots, features), speech_share(probabilities), features)
