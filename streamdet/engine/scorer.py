"""Samples to columns for many streams at once: front end, voice activity and network, state by slot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from streamdet.audio.vad import STATE, VoiceActivity, speech_share
from streamdet.engine.base import Engine, Slots
from streamdet.features import SlotFrontEnd
from streamdet.features.logmel import FloatArray


@dataclass(frozen=True, slots=True)
class Columns:
    """One row a stream: the network's ``column`` ``[n, 2]``, the share of speech ``[n]`` and the features of one hop.

    ``features`` are float32 ``[n, hop_frames, mels]``: the bands alone, as speech could be made of a spectrum again.
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
        self._front_end = SlotFrontEnd(engine.info.front_end)
        self._voice_activity = voice_activity or VoiceActivity()
        self._speech = np.empty((0, STATE), np.float32)

    def open(self) -> int:
        """Take a slot for a new stream."""
        slot = self.engine.allocate()
        missing = slot + 1 - len(self._speech)
        if missing > 0:
            self._speech = np.concatenate((self._speech, self._voice_activity.start(missing)))
        self.reset(slot)
        return slot

    def reset(self, slot: int) -> None:
        """Forget what a stream has heard, as after a long gap."""
        self._front_end.reset(slot)
        self._speech[slot] = 0.0
        self.engine.reset(slot)

    def replace(self, engine: Engine, moves: Mapping[int, int], front_end: SlotFrontEnd | None = None) -> None:
        """Score with another engine; ``moves`` says which slot each of the old ones becomes.

        What front end and voice activity remember of a stream moves along; ``front_end``, where the engine is made for
        another one, takes the place of ours, its slots being the engine's.
        """
        speech = self._voice_activity.start(max(moves.values(), default=-1) + 1)
        for old, new in moves.items():
            speech[new] = self._speech[old]
        self._front_end = self._front_end.moved(moves) if front_end is None else front_end
        self._speech, self.engine = speech, engine

    def close(self, slot: int) -> None:
        """Give a stream's slot back."""
        self.engine.release(slot)

    def score(self, slots: Slots, samples: FloatArray) -> Columns:
        """Advance the streams in ``slots`` ``[n]`` by one hop of ``samples`` (float32 ``[n, hop_samples]``)."""
        features, gain = self._front_end(slots, samples)
        probabilities, self._speech[slots] = self._voice_activity(samples * gain[:, None], self._speech[slots])
        bands = features[:, :, : self.engine.info.front_end.mels]
        return Columns(self.engine.step(slots, features), speech_share(probabilities), bands)
