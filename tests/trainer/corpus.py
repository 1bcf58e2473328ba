"""A corpus in miniature: syllables of a hummed voice against the same with a buzz that gives them away."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import soundfile

from streamdet.features.logmel import FloatArray

FIELDS = ("id", "split", "label", "family", "source", "group", "era", "language", "codec", "parent")


def voice(seed: int, *, fake: bool, seconds: float = 2.0) -> FloatArray:
    """Harmonics with a syllable rhythm over faint noise; a fake has a strong tone at 3 kHz in place of the noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * 16_000)) / 16_000
    pitch = rng.uniform(90.0, 220.0)
    sound = sum(np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6)) / k for k in range(1, 9))
    sound = sound * (0.2 + np.sin(2 * np.pi * rng.uniform(2, 4) * time) ** 2)
    extra = np.sin(2 * np.pi * 3_000.0 * time) if fake else 0.3 * rng.standard_normal(len(time))
    return (0.1 * (sound + 0.5 * extra)).astype(np.float32)


def make(folder: Path, clips: int = 12) -> Path:
    """Write ``clips`` clips a class to the splits train and val; returns the manifest."""
    (folder / "audio").mkdir(parents=True)
    rows = []
    for number in range(2 * clips):
        fake, split = number % 2 == 1, "val" if number % 3 == 0 else "train"
        name = f"clip{number:02d}"
        soundfile.write(folder / "audio" / f"{name}.flac", voice(number, fake=fake), 16_000)
        values = (
            name,
            split,
            "fake" if fake else "real",
            f"family{number % 4}" if fake else "",
            f"source{number % 4}",
            f"group{number}",
            "2020",
            "en",
            "",
            "",
        )
        rows.append(dict(zip(FIELDS, values, strict=True)))
    write(folder / "manifest.csv", rows)
    return folder / "manifest.csv"


def write(path: Path, rows: list[dict[str, str]]) -> None:
    """Write manifest rows."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
