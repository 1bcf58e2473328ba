"""Decodes every clip: files that cannot be used are listed, equal audio with two labels is found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from trainer.data.audio import read_audio
from trainer.data.errors import DataError
from trainer.data.labels import digest
from trainer.data.manifest import Clip


@dataclass(slots=True)
class Check:
    """Clips that can be used, and those that cannot with the reason."""

    good: list[Clip] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def check(clips: Sequence[Clip], advance: Callable[[], None] = lambda: None) -> Check:
    """Decode all clips.

    Raises:
        DataError: clips with equal audio have contradicting labels; all such pairs are named.
    """
    result, seen, wrong = Check(), dict[str, Clip](), list[str]()
    for clip in clips:
        try:
            other = seen.setdefault(digest(read_audio(clip.path)), clip)
        except DataError as error:
            result.skipped[clip.id] = str(error)
        else:
            result.good.append(clip)
            if other.label != clip.label:
                wrong.append(f"{other.id} and {clip.id}")
        advance()
    if wrong:
        raise DataError(f"the same audio with contradicting labels; remove one of each: {'; '.join(wrong)}")
    return result
