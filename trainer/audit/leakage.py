"""What the splits of a data set share and should not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.audit.fingerprint import Words, duplicates
from trainer.data.manifest import Clip


@dataclass(slots=True)
class Leakage:
    """Findings; a ``pair`` names two clips, ``shared`` names values by what they are of and the splits they are in."""

    kind: str
    contradictions: list[tuple[str, str]] = field(default_factory=list)
    equal_within: list[tuple[str, str]] = field(default_factory=list)
    equal_across: list[tuple[str, str]] = field(default_factory=list)
    near: list[dict[str, Any]] = field(default_factory=list)
    shared: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    @property
    def found(self) -> bool:
        """Whether anything crosses a border; shared speakers alone may be as published."""
        parts = (self.shared.get("group"), self.shared.get("source"), self.shared.get("parent"))
        return bool(self.equal_across or self.near or any(parts))


def leakage(clips: Sequence[Clip], digests: Sequence[str], words: Sequence[Words]) -> Leakage:
    """Compare all clips; with a single split, borders run between groups instead.

    Args:
        clips: what was read.
        digests: hash of each clip's samples.
        words: fingerprint of each clip, or an empty list to leave near-duplicates out.
    """
    kind = "split" if len({c.split for c in clips}) > 1 else "group"
    border = [c.split if kind == "split" else c.group or c.id for c in clips]
    result = Leakage(kind)
    _equal(clips, digests, border, result)
    if words:
        _near(clips, digests, words, border, result)
    if kind == "split":
        result.shared = {name: values for name, of in KEYS.items() if (values := _shared(clips, of))}
        result.shared |= {"parent": parents} if (parents := _torn(clips)) else {}
    return result


KEYS: dict[str, Callable[[Clip], str]] = {
    "group": lambda c: c.group,
    "source": lambda c: c.source,
    "speaker": lambda c: c.speaker,
    "family": lambda c: c.family if c.label else "",
}


def _equal(clips: Sequence[Clip], digests: Sequence[str], border: Sequence[str], result: Leakage) -> None:
    first: dict[str, int] = {}
    for index, digest in enumerate(digests):
        other = first.setdefault(digest, index)
        if other == index:
            continue
        pair = (clips[other].id, clips[index].id)
        (result.equal_across if border[other] != border[index] else result.equal_within).append(pair)
        if clips[other].label != clips[index].label:
            result.contradictions.append(pair)


def _near(
    clips: Sequence[Clip], digests: Sequence[str], words: Sequence[Words], border: Sequence[str], result: Leakage
) -> None:
    for match in duplicates(words, border):
        a, b = clips[match.first], clips[match.second]
        if digests[match.first] != digests[match.second]:
            entry = {
                "clips": [a.id, b.id],
                "labels": [a.label, b.label],
                "in": [border[match.first], border[match.second]],
            }
            result.near.append(entry | {"seconds": round(match.seconds, 2), "bit_errors": round(match.errors, 3)})


def _shared(clips: Sequence[Clip], of: Callable[[Clip], str]) -> dict[str, list[str]]:
    places: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        if of(clip):
            places[of(clip)].add(clip.split)
    return {value: sorted(splits) for value, splits in sorted(places.items()) if len(splits) > 1}


def _torn(clips: Sequence[Clip]) -> dict[str, list[str]]:
    """Human originals that lie in another split than a copy of them."""
    split = {c.id: c.split for c in clips}
    torn = [c for c in clips if c.parent in split and split[c.parent] != c.split]
    return {c.id: sorted({c.split, split[c.parent]}) for c in torn}
