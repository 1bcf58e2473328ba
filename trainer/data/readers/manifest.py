"""Manifest CSV: what :func:`trainer.data.manifest.read_manifest` reads, with label map and any column as group."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from trainer.data.manifest import TEXTS, entries, missing_columns, split_of
from trainer.data.readers.base import Layout, Options, Row


def _file(root: Path) -> Path:
    return root / "manifest.csv" if root.is_dir() else root


def _detect(root: Path) -> bool:
    """Whether it is a CSV file, which can be nothing else, or a folder whose ``manifest.csv`` has the columns."""
    path = _file(root)
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    if path == root:
        return True
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        return not missing_columns(next(csv.reader(file), []))


def _rows(root: Path, options: Options) -> Iterator[Row]:
    path = _file(root)
    for line, columns in entries(path):
        split = columns.get("split", "") if options.shares is not None else split_of(path, line, columns)
        yield _row(path.parent, columns, split)


def _row(folder: Path, columns: dict[str, str], split: str) -> Row:
    audio = columns.get("path") or f"audio/{columns['id']}.flac"
    texts = {key: columns.get(key, "") for key in TEXTS}
    return Row(folder / audio, columns["label"], columns["id"], split, **texts, columns=columns)


LAYOUT = Layout("manifest", "a CSV with the columns id and label, or a folder with manifest.csv", _detect, _rows)
