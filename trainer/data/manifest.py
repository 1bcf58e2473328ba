"""Reads manifests: CSV files with one clip a row."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.data.errors import DataError

LABELS = {"real": 0, "human": 0, "bonafide": 0, "bona-fide": 0, "fake": 1, "spoof": 1, "synthetic": 1}
REQUIRED = ("id", "label")
SPLITS = ("train", "val", "test", "hidden")  # hidden: a subset that ASVspoof 2021 publishes
TEXTS = ("family", "source", "group", "era", "language", "codec", "parent", "speaker", "condition")


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip: ``label`` is 1 for synthetic speech; ``parent`` names the human clip a copy-synthesis was made from."""

    id: str
    path: Path
    label: int
    split: str = "train"
    family: str = ""
    source: str = ""
    group: str = ""
    era: str = ""
    language: str = ""
    codec: str = ""
    parent: str = ""
    speaker: str = ""
    condition: str = ""

    @property
    def stratum(self) -> str:
        """What batches are balanced over: the family of synthetic speech, the source of human speech."""
        return (self.family or self.source) if self.label else self.source


def read_manifest(path: Path, split: str | None = None) -> list[Clip]:
    """Read the clips of one manifest, of one split only when ``split`` is given.

    Columns ``id`` and ``label`` (``real`` or ``fake``) are needed; ``split`` defaults to ``train``. Audio is found by
    the column ``path`` (relative paths start at the manifest) or else as ``audio/<id>.flac`` beside the manifest.

    Raises:
        DataError: see :func:`entries`; or a label or a split is unknown, or an id occurs twice.
    """
    clips = [_clip(path, line, row) for line, row in entries(path)]
    _refuse_repeats(path, clips)
    return [c for c in clips if split is None or c.split == split]


def entries(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a manifest with the number of their line; what a row lacks is empty.

    Raises:
        DataError: see :func:`table`; or an id is empty.
    """
    for line, row in table(path, "a manifest", REQUIRED):
        if not row["id"].strip():
            raise DataError(f"{path}:{line}: the id is empty; give each clip one of its own")
        yield line, row


def table(path: Path, what: str, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV file with the number of their line; blank lines are passed over, what a row lacks is empty.

    Raises:
        DataError: the file is missing or no text in UTF-8, or a column is missing; it says ``what`` needs it.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            missing = missing_columns(reader.fieldnames or (), needed)
            if missing:
                raise DataError(f"{path}: no column {', '.join(missing)}; {what} needs {', '.join(needed)}")
            for row in reader:
                yield reader.line_num, {key: value for key, value in row.items() if isinstance(key, str)}
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no text in UTF-8 ({error}); save it anew as CSV in UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{path}: {error}") from error


def missing_columns(header: Iterable[str], needed: Sequence[str] = REQUIRED) -> list[str]:
    """Columns that are needed and that ``header`` lacks."""
    return [c for c in needed if c not in header]


def split_of(path: Path, line: int, row: Mapping[str, str]) -> str:
    """Split of a row; ``train`` where it says none.

    Raises:
        DataError: no command would ever read it.
    """
    split = row.get("split") or "train"
    if split not in SPLITS:
        raise DataError(f"{path}:{line}: split {split!r} is none of {', '.join(SPLITS)}")
    return split


def read_manifests(paths: Iterable[Path], split: str | None = None) -> list[Clip]:
    """Clips of several manifests; one that stands in several of them is taken from the first.

    Raises:
        DataError: see :func:`read_manifest`; or two manifests give an id other labels or other audio.
    """
    clips: dict[str, Clip] = {}
    seen: dict[str, tuple[Path, Clip]] = {}
    for path in paths:
        for clip in read_manifest(path):
            first, known = seen.setdefault(clip.id, (path, clip))
            if clip is not known:
                _refuse_contradiction(path, clip, first, known)
            if split is None or clip.split == split:
                clips.setdefault(clip.id, clip)
    return list(clips.values())


def _refuse_contradiction(path: Path, clip: Clip, first: Path, known: Clip) -> None:
    what = "labels" if clip.label != known.label else "audio" if clip.path.resolve() != known.path.resolve() else ""
    if what:
        raise DataError(f"{first} and {path}: id {clip.id!r} stands in both, with different {what}; rename one of them")


def _clip(path: Path, line: int, row: Mapping[str, str]) -> Clip:
    name = row["label"].strip().lower()
    if name not in LABELS:
        raise DataError(f"{path}:{line}: label {name!r} is none of {', '.join(sorted(LABELS))}")
    audio = row.get("path") or f"audio/{row['id']}.flac"
    texts = {key: row.get(key, "") for key in TEXTS}
    return Clip(row["id"], path.parent / audio, LABELS[name], split_of(path, line, row), **texts)


def _refuse_repeats(path: Path, clips: Sequence[Clip]) -> None:
    seen: set[str] = set()
    for clip in clips:
        if clip.id in seen:
            raise DataError(f"{path}: id {clip.id!r} occurs twice")
        seen.add(clip.id)
