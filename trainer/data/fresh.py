"""Features made anew from the recordings for each batch, instead of a cache of variants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from streamdet.features import FrontEndConfig, LogMel
from trainer.augment import WaveAugment
from trainer.data.audio import read_audio, read_clips
from trainer.data.build import piece_of
from trainer.data.cache import Entry, HalfArray
from trainer.data.labels import Labels, digest
from trainer.data.manifest import Clip

Rng = np.random.Generator


class Fresh:
    """Stands where a :class:`trainer.data.cache.FeatureCache` does: no variant is ever heard twice, nothing is stored.

    A clip takes some 14 ms of a core each time, so it wants ``workers`` that draw ahead.

    Args:
        clips: what may be drawn.
        augment: distortion on samples; None takes the clips as they are.
        config: front end of the features.
        seconds: longest piece of a clip; where it begins is drawn anew each time.
    """

    def __init__(
        self, clips: Sequence[Clip], augment: WaveAugment | None, config: FrontEndConfig, *, seconds: float = 6.0
    ) -> None:
        self.config = config
        self.folder = "the recordings"  # where messages say that entries are
        self.entries: list[Entry] = []
        self.skipped: dict[str, str] = {}
        self.clips = {clip.id: clip for clip in clips}
        self._augment = augment
        self._samples = int(seconds * config.rate)
        self._logmel = LogMel(config)
        self._sounds: dict[str, str] = {}

    def check(self, progress: Callable[[], None] = lambda: None) -> None:
        """Hear every recording once: what cannot be read is noted in ``skipped`` and never drawn.

        Raises:
            DataError: equal audio has contradicting labels.
        """
        labels = Labels()
        for clip, samples in read_clips(self._told(progress), self.skipped, self.config.rate):
            self._sounds[clip.id] = digest(samples)
            labels.check(clip.id, clip.label, self._sounds[clip.id])
        self.clips = {name: clip for name, clip in self.clips.items() if name not in self.skipped}

    def _told(self, progress: Callable[[], None]) -> Iterator[Clip]:
        for clip in self.clips.values():
            yield clip
            progress()

    def refresh(self) -> int:
        """Entries gained since the last call: all of them at the first, and none after it."""
        if self.entries:
            return 0
        nothing = np.empty((0, self.config.mels), np.float16)
        self.entries = [
            Entry(c.id, c.label, c.stratum, c.source, c.parent, nothing, self._sounds.get(c.id, ""))
            for c in self.clips.values()
        ]
        return len(self.entries)

    def drawn(self, entries: Sequence[Entry], rng: Rng) -> list[Entry]:
        """Give ``entries`` frames; what they are depends on ``rng`` and the clips alone."""
        return [replace(entry, frames=self._frames(self.clips[entry.clip], rng)) for entry in entries]

    def _frames(self, clip: Clip, rng: Rng) -> HalfArray:
        piece = piece_of(read_audio(clip.path, self.config.rate), self._samples, self._augment, rng)
        short = self.config.hop_samples - len(piece)
        frames, _ = self._logmel(np.pad(piece, (0, max(0, short)))[None, :], self._logmel.start())
        return np.asarray(frames[0], np.float16)
