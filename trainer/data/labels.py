"""Finds equal audio with contradicting labels, whatever file it comes from."""

from __future__ import annotations

import hashlib

from streamdet.features.logmel import FloatArray
from trainer.data.errors import DataError


def digest(samples: FloatArray) -> str:
    """Hash of the samples themselves: equal for equal audio, whatever file format or name it has."""
    return hashlib.blake2b(samples.tobytes(), digest_size=16).hexdigest()


class Labels:
    """Remembers which label each sound has."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, int]] = {}

    def check(self, clip: str, label: int, sound: str) -> None:
        """Take the digest of a clip's samples; an empty one, of what was cached before digests were, says nothing.

        Raises:
            DataError: the same audio was there before under the other label.
        """
        if not sound:
            return
        other, known = self._known.setdefault(sound, (clip, label))
        if known != label:
            raise DataError(f"{clip} and {other} are the same audio with contradicting labels; remove one")
