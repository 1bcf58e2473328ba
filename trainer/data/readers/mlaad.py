"""MLAAD (N. Mueller et al., IJCNN 2024): ``fake/<language>/<model>/meta.csv``, fields parted by bars.

It is synthetic throughout. The human recordings that its texts come from are M-AILABS: with ``real`` (or a folder
``real`` beside ``fake``) those that ``original_file`` names are read too, as parents. ``group`` is reader and book.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from trainer.data.errors import DataError
from trainer.data.readers.base import Layout, Options, Row, identity

NEEDED = ("path", "language", "model_name")


def _lists(root: Path) -> list[Path]:
    return sorted(root.glob("fake/*/*/meta.csv")) or sorted(root.glob("*/*/meta.csv"))


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline().strip().split("|")


def _detect(root: Path) -> bool:
    lists = _lists(root) if root.is_dir() else []
    return bool(lists) and set(NEEDED) <= set(_header(lists[0]))


def _entries(path: Path) -> Iterator[dict[str, str]]:
    """Read rows; transcripts hold quotation marks that mean nothing."""
    missing = [c for c in NEEDED if c not in _header(path)]
    if missing:
        raise DataError(f"{path}: no column {', '.join(missing)}; a list of MLAAD has {', '.join(NEEDED)}")
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        for row in csv.DictReader(file, delimiter="|", quoting=csv.QUOTE_NONE):
            yield {k: v or "" for k, v in row.items() if isinstance(k, str)}


def _rows(root: Path, options: Options) -> Iterator[Row]:
    real = options.real or (root / "real" if (root / "real").is_dir() else None)
    seen: set[Path] = set()
    for path in _lists(root):
        for entry in _entries(path):
            original = _original(real, entry.get("original_file", ""))
            if original is not None and original not in seen:
                seen.add(original)
                yield _human(root, original, entry)
            yield _synthetic(root, path.parent, entry, original)


def _original(real: Path | None, name: str) -> Path | None:
    path = real / name.removeprefix("real/") if real is not None and name else None
    return path if path is not None and path.is_file() else None


def _book(original: str) -> tuple[str, str]:
    """Reader, and reader with book, of ``en_US/by_book/female/mary_ann/northandsouth/wavs/x.wav``."""
    parts = PurePosixPath(original).parts
    place = parts.index("by_book") if "by_book" in parts else -1
    if place < 0 or len(parts) < place + 5:
        return "", PurePosixPath(original).stem
    return parts[place + 2], f"{parts[place + 2]}/{parts[place + 3]}"


def _human(root: Path, original: Path, entry: dict[str, str]) -> Row:
    reader, book = _book(entry["original_file"])
    name = identity("mlaad", root, original)
    language = PurePosixPath(entry["original_file"].removeprefix("real/")).parts[0].split("_")[0]
    return Row(original, "real", name, source="M-AILABS", group=book, language=language, speaker=reader, columns=entry)


def _synthetic(root: Path, folder: Path, entry: dict[str, str], original: Path | None) -> Row:
    _, book = _book(entry.get("original_file", ""))
    model = entry["model_name"]
    return Row(
        _audio(root, folder, entry["path"]),
        "fake",
        identity("mlaad", root, folder / PurePosixPath(entry["path"]).name),
        family=entry.get("architecture") or model,
        source=f"MLAAD/{model}",
        group=book,
        language=entry["language"],
        parent="" if original is None else identity("mlaad", root, original),
        speaker=entry.get("reference_speaker", "").strip("-"),
        columns=entry,
    )


def _audio(root: Path, folder: Path, name: str) -> Path:
    """Path of a clip: releases write it from the root, or from the folder of its list."""
    paths = (root / name, root.parent / name, folder / name, folder / PurePosixPath(name).name)
    return next((p for p in paths if p.is_file()), paths[-1])


LAYOUT = Layout(
    "mlaad", "fake/<language>/<model>/meta.csv, fields parted by |; M-AILABS in real/ or as --real", _detect, _rows
)
