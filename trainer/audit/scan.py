"""Reads every clip once and keeps what the audit needs of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from trainer.audit.features import Array, decode, measure, table
from trainer.audit.fingerprint import Words, fingerprint
from trainer.data.errors import DataError
from trainer.data.labels import digest
from trainer.data.manifest import Clip


@dataclass(slots=True)
class Scan:
    """Clips that could be read, with features, hash and fingerprint of each; the others with the reason."""

    clips: list[Clip] = field(default_factory=list)
    rows: list[dict[str, float]] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    words: list[Words] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def features(self) -> Array:
        """Matrix of clips by features."""
        return table(self.rows, self.kinds)


def scan(clips: Sequence[Clip], *, near: bool = True, advance: Callable[[], None] = lambda: None) -> Scan:
    """Read all clips; ``near`` makes the fingerprints that near-duplicates are found by."""
    result = Scan()
    for clip in clips:
        try:
            samples, rate, kind = decode(clip.path)
        except DataError as error:
            result.skipped[clip.id] = str(error)
        else:
            result.clips.append(clip)
            result.rows.append(measure(samples, rate))
            result.kinds.append(kind)
            result.digests.append(digest(samples.astype(np.float32)))
            if near:
                result.words.append(fingerprint(samples, rate))
        advance()
    return result
