"""What is different between two configurations, and what of it can be had without a restart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from streamdet.config import Config, SourceSection

LIVE: Final = frozenset({"windows", "alarm", "operating_point", "stream", "source", "max_streams", "shadow"})


@dataclass(frozen=True, slots=True)
class Changes:
    """``applied`` are values with what they were, ``restart`` keys that only count after a restart."""

    applied: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    added: tuple[SourceSection, ...] = ()
    removed: tuple[SourceSection, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.applied or self.restart or self.added or self.removed)

    def text(self) -> str:
        """Say it in one line."""
        told = [*self.applied]
        told += [f"source added: {section.name or section.uri}" for section in self.added]
        told += [f"source removed: {section.name or section.uri}" for section in self.removed]
        if self.restart:
            told.append(f"needs a restart: {', '.join(self.restart)}")
        return "; ".join(told) or "nothing changed"


def changes(before: Config, after: Config, live: frozenset[str] = LIVE) -> Changes:
    """Compare two configurations; what is not ``live`` needs a restart."""
    old, new = _flat(before), _flat(after)
    differ = [key for key in new.keys() | old.keys() if old.get(key) != new.get(key)]
    top = {key: key.split(".")[0] for key in sorted(differ)}
    return Changes(
        applied=tuple(_told(key, old, new) for key, head in top.items() if head in live and head != "source"),
        restart=tuple(key for key, head in top.items() if head not in live),
        added=tuple(section for section in after.source if section not in before.source),
        removed=tuple(section for section in before.source if section not in after.source),
    )


def running(before: Config, after: Config, live: frozenset[str] = LIVE) -> Config:
    """Return what runs after a reload: ``after``, except for what needs a restart."""
    kept = {name: getattr(before, name) for name in Config.model_fields if name not in live}
    return after.model_copy(update=kept)


def _told(key: str, old: dict[str, Any], new: dict[str, Any]) -> str:
    if isinstance(new.get(key), list):
        return f"[[{key}]] changed"
    return f"{key} {_word(old.get(key))} -> {_word(new.get(key))}"


def _word(value: object) -> str:
    return "as the model has it" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _flat(config: Config) -> dict[str, Any]:
    return dict(_entries(config.model_dump(mode="json", by_alias=True)))


def _entries(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _entries(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
