"""What shall be made: a list of jobs that depends on clips, makers, numbers and seed alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.data.manifest import Clip
from trainer.data.synth.base import Maker, copies


@dataclass(frozen=True, slots=True)
class Job:
    """One clip to make; ``parent`` is the human clip of a copy, None for a sentence."""

    id: str
    maker: str
    parent: Clip | None = None

    @property
    def file(self) -> str:
        """Name of its audio, free of anything a file system might mind."""
        plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in self.id)
        digest = hashlib.blake2b(self.id.encode(), digest_size=4).hexdigest()
        return f"{plain[:80]}-{digest}.flac"


def plan(clips: Sequence[Clip], makers: Mapping[str, Maker], each: int, seed: int) -> list[Job]:
    """``each`` jobs a maker, fewer where there are fewer human clips; a larger number only adds to the list.

    Copies take their parents from all sources in turn, so that no source dominates.
    """
    jobs = []
    for name, maker in makers.items():
        if copies(maker):
            parents = spread([c for c in clips if c.label == 0], f"{seed}/{name}")[:each]
            jobs += [Job(f"cs-{name}-{parent.id}", name, parent) for parent in parents]
        else:
            jobs += [Job(f"tts-{name}-{number:05d}", name) for number in range(each)]
    return jobs


def spread(clips: Sequence[Clip], key: str) -> list[Clip]:
    """One clip of each source, then a second of each, and so on; ``key`` decides on the order within."""
    shuffled = sorted(clips, key=lambda clip: _hash(f"{key}/{clip.id}"))
    place: dict[str, int] = {}
    rounds = []
    for clip in shuffled:
        place[clip.source] = place.get(clip.source, -1) + 1
        rounds.append(place[clip.source])
    order = np.argsort(rounds, kind="stable")
    return [shuffled[i] for i in order]


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
