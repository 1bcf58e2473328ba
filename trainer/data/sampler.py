"""Chooses which cached clips make up a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trainer.data.cache import Entry
from trainer.data.errors import DataError
from trainer.data.manifest import Clip

IndexArray = npt.NDArray[np.intp]


def weights(strata: Sequence[str], exponent: float, cap: int) -> npt.NDArray[np.float64]:
    """Probability of each item such that a stratum of ``n`` items is drawn in proportion to ``min(n, cap)**exponent``.

    Exponent 0 gives every stratum the same share, 1 every item; the cap keeps mass-produced strata from dominating.
    """
    count = Counter(strata)
    share = {name: min(n, cap) ** exponent / n for name, n in count.items()}
    result = np.array([share[name] for name in strata])
    return np.asarray(result / result.sum())


class BalancedSampler:
    """Half human, half synthetic, each balanced over strata, and matched: what differs is the label, not the source.

    Where a synthetic entry is a copy, its human original is the match; else any human clip of the same source. A
    network that learns what a source sounds like learns nothing about the label that way.

    Args:
        entries: what to choose from; all variants of all clips.
        exponent: of the balance over strata, see :func:`weights`; ``cap`` counts clips.
        matched: share of synthetic entries whose match, if there is one, replaces one human entry of the batch.
        copies: factor on the weight of entries with a parent.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        *,
        exponent: float = 0.7,
        cap: int = 100,
        matched: float = 0.8,
        copies: float = 2.0,
    ) -> None:
        self._matched = matched
        self._entries = entries
        self._of_clip: dict[str, list[int]] = {}
        humans: dict[str, dict[str, None]] = {}  # clips by source, in order
        for index, entry in enumerate(entries):
            self._of_clip.setdefault(entry.clip, []).append(index)
            if entry.label == 0:
                humans.setdefault(entry.source, {})[entry.clip] = None
        self._choices: dict[str, list[str]] = {source: list(clips) for source, clips in humans.items()}
        self._index: dict[int, IndexArray] = {}
        self._cumulative: dict[int, npt.NDArray[np.float64]] = {}
        for label in (0, 1):
            self._prepare(label, exponent, cap, copies)

    def _prepare(self, label: int, exponent: float, cap: int, copies: float) -> None:
        """Weigh clips, not variants: a clip with more variants must not be drawn more often."""
        strata = {e.clip: e.stratum for e in self._entries if e.label == label}
        chance = dict(zip(strata, weights(list(strata.values()), exponent, cap), strict=True))
        index = [i for i, e in enumerate(self._entries) if e.label == label]
        chances = [
            chance[e.clip] * (copies if e.parent else 1.0) / len(self._of_clip[e.clip])
            for e in (self._entries[i] for i in index)
        ]
        self._index[label] = np.array(index, np.intp)
        self._cumulative[label] = np.cumsum(chances)

    def draw(self, rng: np.random.Generator, size: int) -> IndexArray:
        """Choose ``size`` entries, as indices: first the human half, then the synthetic half."""
        human = self._choose(rng, 0, size - size // 2)
        synthetic = self._choose(rng, 1, size // 2)
        for slot, index in enumerate(synthetic):
            clips = self._matches(self._entries[index])
            if clips and rng.random() < self._matched:
                variants = self._of_clip[clips[rng.integers(len(clips))]]
                human[slot] = variants[rng.integers(len(variants))]
        return np.concatenate((human, synthetic))

    def _matches(self, entry: Entry) -> list[str]:
        """Human clips that differ from a synthetic one in little but the label."""
        if entry.parent in self._of_clip:
            return [entry.parent]
        return self._choices.get(entry.source, [])

    def _choose(self, rng: np.random.Generator, label: int, size: int) -> IndexArray:
        chances = self._cumulative[label]
        position = np.searchsorted(chances, rng.random(size) * chances[-1], side="right")
        return np.asarray(self._index[label][np.minimum(position, len(chances) - 1)])


def representative(clips: Sequence[Clip], count: int, seed: int = 0) -> list[Clip]:
    """Choose ``count`` clips, balanced over strata, half human where both classes are there, in random order.

    Raises:
        DataError: there is nothing to choose from.
    """
    if not clips:
        raise DataError("no clips to choose from; give a manifest that has some")
    rng = np.random.default_rng(seed)
    chosen: list[Clip] = []
    for label in (0, 1):
        mine = [c for c in clips if c.label == label]
        if not mine:
            continue
        size = min(len(mine), (count + 1 - label) // 2)
        p = weights([c.stratum for c in mine], 0.5, len(mine))
        chosen += [mine[i] for i in rng.choice(len(mine), size, replace=False, p=p)]
    return [chosen[i] for i in rng.permutation(len(chosen))]
