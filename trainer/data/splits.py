"""Clips of a split that must not be empty."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.data.errors import DataError
from trainer.data.manifest import Clip, read_manifest, read_manifests


def clips_of(manifests: Sequence[Path], split: str) -> list[Clip]:
    """Clips of one split of several manifests.

    Raises:
        DataError: there are none, or a manifest cannot be read.
    """
    clips = read_manifests(manifests, split)
    if not clips:
        known = sorted({clip.split for path in manifests for clip in read_manifest(path)})
        having = f"the manifests have {', '.join(known)}" if known else "the manifests are empty"
        raise DataError(f"no clips in split {split!r}; {having}")
    return clips
