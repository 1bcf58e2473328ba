"""Manifest CSV: what :func:`trainer.data.manifest.read_manifest` reads, with label map and any column as group."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from trainer.data.errors import DataError
from trainer.data.manifest import REQUIRED, TEXTS
from trainer.data.readers.base import Layout, Options, Row


def _file(root: Path) -> Path:
    return root / "manifest.csv" if root.is_dir() else root


def _detect(root: Path) -> bool:
    path = _file(root)
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        return set(REQUIRED) <= set(next(csv.reader(file), []))


def _rows(root: Path, _options: Options) -> Iterator[Row]:
    path = _file(root)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [c for c in REQUIRED if c not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path}: no column {', '.join(missing)}; a manifest needs {', '.join(REQUIRED)}")
            for row in reader:
                columns = {key: value or "" for key, value in row.items() if isinstance(key, str)}
                yield _row(path.parent, columns)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from error


def _row(folder: Path, columns: dict[str, str]) -> Row:
    audio = columns.get("path") or f"audio/{columns['id']}.flac"
    texts = {key: columns.get(key, "") for key in TEXTS}
    split = columns.get("split") or "train"
    return Row(folder / audio, columns["label"], columns["id"], split, **texts, columns=columns)


LAYOUT = Layout("manifest", "a CSV with the columns id and label, or a folder with manifest.csv", _detect, _rows)
