"""In-the-Wild (N. Mueller et al., Interspeech 2022): wav files and ``meta.csv`` with file, speaker and label.

All of it comes from the web, human and synthetic speech of the same well-known people; it publishes no split, so
``group`` is the speaker and ``shares`` deals out whole speakers.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from trainer.data.errors import DataError
from trainer.data.manifest import table
from trainer.data.readers.base import Layout, Options, Row

HEADER = ("file", "speaker", "label")


def _header(path: Path) -> list[str]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        return next(csv.reader(file), [])


def _detect(root: Path) -> bool:
    return set(HEADER) <= set(_header(root / "meta.csv"))


def _rows(root: Path, _options: Options) -> Iterator[Row]:
    path = root / "meta.csv"
    if not _detect(root):
        raise DataError(f"{path}: missing, or without the columns {', '.join(HEADER)}")
    for line, row in table(path, "In-the-Wild", HEADER):
        empty = [name for name in HEADER if not row[name]]
        if empty:
            raise DataError(f"{path}:{line}: no {', no '.join(empty)}; mend the line or take it out")
        yield Row(
            root / row["file"],
            row["label"],
            source="In-the-Wild",
            group=row["speaker"],
            speaker=row["speaker"],
            language="en",
            columns=row,
        )


LAYOUT = Layout(
    "inthewild", "meta.csv with the columns file, speaker, label, and the wav files beside it", _detect, _rows
)
