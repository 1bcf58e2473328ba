"""Chooses which cached clips make up a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trainer.data.cache import Entry
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
    """Half human, half synthetic, each balanced over strata; copies may bring their human originals along.

    Args:
        entries: what to choose from; all variants of all clips.
        exponent: of the balance over strata, see :func:`weights`; ``cap`` counts clips.
        pairs: share of drawn copies (entries with a parent) whose original replaces one human row of the batch.
    """

    def __init__(self, entries: Sequence[Entry], *, exponent: float = 0.7, cap: int = 100, pairs: float = 0.5) -> None:
        self._pairs = pairs
        self._parents = [e.parent for e in entries]
        self._of_clip: dict[str, list[int]] = {}
        for index, entry in enumerate(entries):
            self._of_clip.setdefault(entry.clip, []).append(index)
        self._index: dict[int, IndexArray] = {}
        self._cumulative: dict[int, npt.NDArray[np.float64]] = {}
        for label in (0, 1):
            self._prepare(label, entries, exponent, cap)

    def _prepare(self, label: int, entries: Sequence[Entry], exponent: float, cap: int) -> None:
        """Weigh clips, not variants: a clip with more variants must not be drawn more often."""
        strata: dict[str, str] = {e.clip: e.stratum for e in entries if e.label == label}
        chance = dict(zip(strata, weights(list(strata.values()), exponent, cap), strict=True))
        index = [i for i, e in enumerate(entries) if e.label == label]
        chances = np.array([chance[entries[i].clip] / len(self._of_clip[entries[i].clip]) for i in index])
        self._index[label] = np.array(index, np.intp)
        self._cumulative[label] = np.cumsum(chances)

    def draw(self, rng: np.random.Generator, size: int) -> IndexArray:
        """Choose ``size`` entries, as indices: first the human half, then the synthetic half."""
        human = self._choose(rng, 0, size - size // 2)
        synthetic = self._choose(rng, 1, size // 2)
        slot = 0
        for index in synthetic:
            variants = self._of_clip.get(self._parents[index]) if self._parents[index] else None
            if variants and rng.random() < self._pairs:
                human[slot] = variants[rng.integers(len(variants))]
                slot += 1
        return np.concatenate((human, synthetic))

    def _choose(self, rng: np.random.Generator, label: int, size: int) -> IndexArray:
        chances = self._cumulative[label]
        position = np.searchsorted(chances, rng.random(size) * chances[-1], side="right")
        return np.asarray(self._index[label][np.minimum(position, len(chances) - 1)])


def representative(clips: Sequence[Clip], count: int, seed: int = 0) -> list[Clip]:
    """Choose ``count`` clips, balanced over strata, half human, in random order."""
    rng = np.random.default_rng(seed)
    chosen: list[Clip] = []
    for label in (0, 1):
        mine = [c for c in clips if c.label == label]
        size = min(len(mine), (count + 1 - label) // 2)
        p = weights([c.stratum for c in mine], 0.5, len(mine))
        chosen += [mine[i] for i in rng.choice(len(mine), size, replace=False, p=p)]
    return [chosen[i] for i in rng.permutation(len(chosen))]
