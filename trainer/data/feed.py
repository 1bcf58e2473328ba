"""Batches by the number of their step, drawn in this process or ahead of time in others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import cast

import numpy as np
from torch.utils.data import DataLoader, Dataset

from trainer.data.batches import Batch, Cropper
from trainer.data.cache import Entry, FeatureCache
from trainer.data.errors import DataError
from trainer.data.fresh import Fresh
from trainer.data.labels import Labels
from trainer.data.manifest import Clip
from trainer.data.sampler import BalancedSampler
from trainer.teacher import Targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which entries of a cache are used, and how batches are balanced over them.

    Patterns of ``exclude_families`` (of synthetic speech) and ``exclude_sources`` (of either) are those of the shell.
    The rest is explained at :class:`trainer.data.sampler.BalancedSampler`.
    """

    exclude_families: tuple[str, ...] = ()
    exclude_sources: tuple[str, ...] = ()
    exponent: float = 0.7
    cap: int = 100
    matched: float = 0.8
    copies: float = 2.0

    def wanted(self, item: Entry | Clip) -> bool:
        """Whether an entry of a cache, or a clip of a manifest, is used."""
        of_family = item.label == 1 and _any(item.stratum, self.exclude_families)
        return not of_family and not _any(item.source, self.exclude_sources)

    def idle(self, clips: Sequence[Clip]) -> list[str]:
        """Patterns that exclude none of ``clips``; they may be misspelt."""
        families, sources = {c.stratum for c in clips if c.label == 1}, {c.source for c in clips}
        pairs = [(self.exclude_families, families), (self.exclude_sources, sources)]
        return [p for patterns, names in pairs for p in patterns if not any(fnmatchcase(name, p) for name in names)]


def _any(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def named(cache: FeatureCache | Fresh, clips: Mapping[str, Clip]) -> list[Entry]:
    """Entries of those ``clips`` (by id) that manifests name, described as the manifests describe them.

    Raises:
        DataError: a cached label contradicts the manifests, or equal audio has contradicting labels.
    """
    entries = [e for e in cache.entries if e.clip in clips]
    wrong = sorted({e.clip for e in entries if e.label != clips[e.clip].label})
    if wrong:
        words = ("human", "synthetic") if clips[wrong[0]].label else ("synthetic", "human")
        raise DataError(
            f"{cache.folder}: {wrong[0]} was cached as {words[0]}, the manifests say {words[1]} ({len(wrong)} such "
            "clips); mend the manifests, or make another cache"
        )
    labels = Labels()
    for entry in entries:
        labels.check(entry.clip, entry.label, entry.sound)
    return [_described(e, clips[e.clip]) for e in entries]


def _described(entry: Entry, clip: Clip) -> Entry:
    return replace(entry, stratum=clip.stratum, source=clip.source, parent=clip.parent)


class Feed(Dataset[Batch]):
    """Batch ``n`` depends on (seed, n, rank) and on what the cache held at the last :meth:`refresh`, not on who draws.

    A copy in another process opens the cache anew: what is sent there is the list of its shards, not their content.

    Of the cache only the entries of ``clips`` are used, those of the manifests; None means all entries.
    """

    def __init__(
        self,
        cache: FeatureCache | Fresh,
        cropper: Cropper,
        selection: Selection,
        *,
        size: int,
        seed: int,
        rank: int = 0,
        targets: Targets | None = None,
        clips: Sequence[Clip] | None = None,
    ) -> None:
        self.cache = cache
        self.entries: list[Entry] = []
        self._cropper, self._selection = cropper, selection
        self._size, self._seed, self._rank = size, seed, rank
        self._targets = targets
        self._clips = None if clips is None else {c.id: c for c in clips}
        self._sampler: BalancedSampler | None = None

    def refresh(self) -> bool:
        """Take in what the cache has gained; returns whether batches now differ.

        Raises:
            DataError: what is there and not excluded holds one class only, or nothing; a label contradicts the
                manifests, or that of equal audio.
        """
        gained = self.cache.refresh()
        if not gained and self._sampler is not None:
            return False
        self._prepare()
        return True

    def _prepare(self) -> None:
        chosen = self._selection
        entries = self.cache.entries if self._clips is None else named(self.cache, self._clips)
        self.entries = [e for e in entries if chosen.wanted(e)]
        if len({e.label for e in self.entries}) < 2:
            raise DataError(f"{self.cache.folder}: the cache needs human and synthetic clips that are not excluded")
        self._sampler = BalancedSampler(
            self.entries, exponent=chosen.exponent, cap=chosen.cap, matched=chosen.matched, copies=chosen.copies
        )

    def __getitem__(self, step: int) -> Batch:
        return self.draw(np.random.default_rng((self._seed, step, self._rank)))

    def draw(self, rng: np.random.Generator) -> Batch:
        """One batch by other random numbers than those of a step."""
        assert self._sampler is not None
        entries = [self.entries[i] for i in self._sampler.draw(rng, self._size)]
        batch = self._cropper.draw(self.cache.drawn(entries, rng), rng)
        if self._targets is None:
            return batch
        clips = [e.clip for e in entries]
        return replace(batch, targets=self._targets.of(clips), verdicts=self._targets.verdicts(clips))

    def steps(self, first: int, workers: int) -> Iterator[Batch]:
        """Batches from step ``first`` on without end, ``workers`` processes working ahead (0: none)."""
        if workers == 0:
            return (self[step] for step in _count(first))
        loader = DataLoader(
            self,
            batch_size=None,
            sampler=_Count(first),
            num_workers=workers,
            prefetch_factor=4,
            multiprocessing_context="spawn",
        )
        return cast(Iterator[Batch], iter(loader))

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "entries": [], "_sampler": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._prepare()


class _Count:
    """Steps in order; a sampler for the loader."""

    def __init__(self, first: int) -> None:
        self._first = first

    def __iter__(self) -> Iterator[int]:
        return _count(self._first)


def _count(step: int) -> Iterator[int]:
    while True:
        yield step
        step += 1
