"""Finds the line of a TOML file that a value came from, so that an error names it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

HEADER: Final = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")
ENTRY: Final = re.compile(r"""\s*([\w\-."']+(?:\s*\.\s*[\w\-"']+)*)\s*=""")
TOML_PLACE: Final = re.compile(r"at line (\d+), column \d+")

Key = tuple[str | int, ...]


def _parts(name: str) -> Key:
    return tuple(part.strip().strip("\"'") for part in name.split("."))


def lines_of(text: str) -> dict[Key, int]:
    """Find the line number of each table and each key, such as ``("source", 0, "uri")``; counted from 1."""
    found: dict[Key, int] = {}
    counts: dict[Key, int] = {}
    table: Key = ()
    for number, line in enumerate(text.splitlines(), 1):
        header, entry = HEADER.match(line), ENTRY.match(line)
        if header:
            table = _table(header[1], _parts(header[2]), counts)
            found.setdefault(table, number)
        elif entry:
            found.setdefault((*table, *_parts(entry[1])), number)
    return found


def _table(brackets: str, parts: Key, counts: dict[Key, int]) -> Key:
    """Count the entries of lists of tables; a table below a list belongs to its last entry."""
    if brackets == "[[":
        counts[parts] = counts.get(parts, -1) + 1
        return (*parts, counts[parts])
    for length in range(len(parts), 0, -1):
        head = parts[:length]
        if head in counts:
            return (*head, counts[head], *parts[length:])
    return parts


def line_of(lines: dict[Key, int], place: Sequence[str | int]) -> int | None:
    """Find the line of a value, or of the nearest table around it; None where nothing of it is there."""
    for length in range(len(place), 0, -1):
        number = lines.get(tuple(place[:length]))
        if number is not None:
            return number
    return None
