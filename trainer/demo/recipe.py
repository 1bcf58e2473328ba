"""The recipe of a demo stream: a TOML file with one table for each turn."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

Label = Literal["human", "synthetic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Part of a recording in a public package.

    ``package`` is ``deb:NAME`` or ``pypi:NAME==VERSION``, ``path`` the file inside of it, ``parts`` the excerpts in
    seconds (none: all of it), joined with a short pause.
    """

    package: str
    path: str
    parts: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn: who speaks, by which engine, from which clips or text, and under which licence it may be passed on."""

    name: str
    label: Label
    engine: str
    provenance: str
    licence: str
    voice: str = ""
    text: str = ""
    clips: tuple[Clip, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A conversation: its turns in order, and what all of them share (level and noise in dBFS, pauses in seconds)."""

    turns: tuple[Turn, ...]
    speech_level: float = -26.0
    room_level: float = -66.0
    pauses: tuple[float, ...] = (0.7, 0.9, 0.6, 0.8)
    seed: int = 1


def load(path: Path, *, only: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe; ``only`` chooses turns by name and sets their order.

    Raises:
        ValueError: a turn that ``only`` names is not in the file, or a label is neither human nor synthetic.
    """
    table = tomllib.loads(path.read_text())
    turns = {entry["name"]: _turn(entry) for entry in table.pop("turn")}
    names = only or tuple(table.pop("conversation"))
    table.pop("conversation", None)
    if missing := [name for name in names if name not in turns]:
        raise ValueError(f"{path} has no turn named {', '.join(missing)}")
    if "pauses" in table:
        table["pauses"] = tuple(table["pauses"])
    return Recipe(turns=tuple(turns[name] for name in names), **table)


def _turn(entry: dict[str, Any]) -> Turn:
    clips = tuple(_clip(clip) for clip in entry.pop("clips", ()))
    texts: dict[str, Any] = {key: " ".join(value.split()) for key, value in entry.items()}
    if texts["label"] not in get_args(Label):
        raise ValueError(f"turn {texts['name']} is labelled {texts['label']}, not human or synthetic")
    return Turn(clips=clips, **texts)


def _clip(entry: dict[str, Any]) -> Clip:
    parts = tuple((float(begin), float(end)) for begin, end in entry.pop("parts", ()))
    return Clip(parts=parts, **entry)
