"""Fake-or-Real (R. Reimao and V. Tzerpos, SpeD 2019): training, validation and testing, each with real and fake.

Its four versions (for-original, for-norm, for-2sec, for-rerec) are the same recordings, so one at a time is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from trainer.data.readers.base import Layout, Options, Row, audio_files, only
from trainer.data.readers.folder import both_labels, label_folders

PARTS = {"training": "train", "validation": "val", "testing": "test"}


def _versions(root: Path) -> list[Path]:
    """Folders with the published parts: the root itself, or one or two levels below it, as the archives nest them."""
    places = [root, *root.glob("*"), *root.glob("*/*")] if root.is_dir() else []
    found = [p for p in places if p.is_dir() and any(both_labels(p / part) for part in PARTS)]
    return [root] if root in found else found


def _rows(root: Path, _options: Options) -> Iterator[Row]:
    version = only(_versions(root), "folder with training, validation and testing", root)
    for part, split in PARTS.items():
        if not (version / part).is_dir():
            continue
        for folder in label_folders(version / part):
            for path in audio_files(folder):
                recording = path.name.split(".")[0]  # file123.wav_16k.wav_norm.wav_mono.wav_silence.wav
                group = f"{part}/{folder.name}/{recording}"
                columns = {"part": part, "recording": recording}
                source = f"Fake-or-Real {version.name}"
                yield Row(
                    path,
                    folder.name,
                    split=split,
                    source=source,
                    group=group,
                    era="2019",
                    language="en",
                    columns=columns,
                )


LAYOUT = Layout(
    "fakeorreal",
    "training/, validation/ and testing/, each with real/ and fake/",
    lambda root: bool(_versions(root)),
    _rows,
)
