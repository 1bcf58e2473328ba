"""A folder of ``real/`` and ``fake/``; a folder inside names the source of human, the family of synthetic speech."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from trainer.data.errors import DataError
from trainer.data.manifest import LABELS
from trainer.data.readers.base import Layout, Options, Row, audio_files, identity


def label_folders(root: Path) -> list[Path]:
    """Folders that are named like a label: real, human, bonafide, fake, spoof, synthetic, in any case."""
    return sorted(p for p in root.iterdir() if p.is_dir() and p.name.lower() in LABELS)


def both_labels(root: Path) -> bool:
    """Whether a folder holds one of each class."""
    return root.is_dir() and {LABELS[p.name.lower()] for p in label_folders(root)} == {0, 1}


def _rows(root: Path, options: Options) -> Iterator[Row]:
    if not root.is_dir():
        raise DataError(f"{root}: not a folder; give the one that holds real/ and fake/")
    name = Path(os.path.abspath(root)).name  # that of "." too
    named = {k.strip().lower() for k in options.labels}
    folders = {*label_folders(root), *(p for p in root.iterdir() if p.is_dir() and p.name.lower() in named)}
    for folder in sorted(folders):
        for path in audio_files(folder):
            parts = path.relative_to(folder).parts
            inner = parts[0] if len(parts) > 1 else ""
            source = f"{name}/{inner}" if inner else name
            own = identity(f"folder/{name}", root, path)
            yield Row(path, folder.name, own, family=inner, source=source, columns={"folder": inner})


LAYOUT = Layout(
    "folder", "folders real/ and fake/ with audio, best in a folder each source or family", both_labels, _rows
)
