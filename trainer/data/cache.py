"""An append-only store of log-mel features: many augmented variants of many clips, read while it still grows.

A cache is a folder of shards. A shard is a pair of files: ``NAME.npy``, float16 ``[frames, mels]``, the frames of its
entries one after the other, and ``NAME.json``, which says what they are. The JSON file is renamed into place last, so
a reader that lists JSON files sees whole shards only and a writer that is killed leaves nothing half-done behind.

Features are stored *before* level normalisation: mixing in noise and shaping the spectrum are sums there, cheap enough
to be done anew for each crop. Half precision leaves an error of at most 0.008 nats, 0.07 dB.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdet.features import FrontEndConfig
from streamdet.features.logmel import FloatArray
from trainer.data.errors import DataError
from trainer.data.manifest import Clip

Settings = dict[str, int | float | str]
HalfArray = npt.NDArray[np.float16]
FIELDS = ("id", "label", "family", "source", "group", "parent")


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one variant of a clip lies; ``frames`` is a view of the mapped file, float16 ``[frames, mels]``.

    ``sound`` is the digest of the whole clip's samples; empty where the shard is older than those.
    """

    clip: str
    label: int
    stratum: str
    source: str
    parent: str
    frames: HalfArray
    sound: str = ""


class FeatureCache:
    """Reader and writer of one cache folder.

    Args:
        folder: where the shards are; it is made if need be.
        config: front end of the features; None means that of the folder, or the default one for a new folder.

    Raises:
        DataError: the folder was made with another front end than ``config``.
    """

    def __init__(self, folder: Path, config: FrontEndConfig | None = None) -> None:
        self.folder = folder
        self.entries: list[Entry] = []
        self._loaded: dict[str, None] = {}  # shards in order
        folder.mkdir(parents=True, exist_ok=True)
        self.config = self._agreed(config)

    def _agreed(self, wanted: FrontEndConfig | None) -> FrontEndConfig:
        path = self.folder / "front_end.config"
        if not path.exists():
            wanted = wanted or FrontEndConfig()
            path.write_text(json.dumps(wanted.to_dict(), sort_keys=True), encoding="utf-8")
            return wanted
        try:
            there = FrontEndConfig(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}: not the description of a front end: {error}") from error
        if wanted not in (None, there):
            raise DataError(
                f"{self.folder}: made with another front end ({there.mels} {there.bands} bands); choose another folder "
                f"for {wanted.mels} {wanted.bands} bands"
            )
        return there

    @property
    def without(self) -> tuple[str, ...] | None:
        """Steps of :class:`trainer.augment.WaveAugment` that its variants lack; None where the cache does not say."""
        path = self.folder / "without.config"
        return tuple(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None

    def made_without(self, steps: Sequence[str]) -> None:
        """Note, before the first shard, which augmentation steps are left out.

        Raises:
            DataError: variants are there already, made with other steps.
        """
        wanted = tuple(sorted(steps))
        if self.without is None and (not wanted or not any(self.folder.glob("*.json"))):
            (self.folder / "without.config").write_text(json.dumps(wanted), encoding="utf-8")
        if self.without != wanted:
            raise DataError(
                f"{self.folder}: made without {', '.join(self.without or ()) or 'leaving any step out'}, not without "
                f"{', '.join(wanted) or 'any'}; choose another folder"
            )

    @property
    def settings(self) -> Settings:
        """How variants are made, as :meth:`made_with` noted it; empty where the cache does not say."""
        path = self.folder / "made.config"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def made_with(self, settings: Settings) -> None:
        """Note, before the first shard, how variants are made; a cache that does not say takes what comes first.

        Raises:
            DataError: the cache was made with other settings.
        """
        path = self.folder / "made.config"
        if not path.exists():
            _replace(path, lambda partial: partial.write_text(json.dumps(settings), encoding="utf-8"))
        there = self.settings
        other = [f"{k} {there[k]} instead of {v}" for k, v in settings.items() if there.get(k, v) != v]
        if other:
            raise DataError(f"{self.folder}: made with {', '.join(other)}; choose another folder, or make it as before")

    @property
    def filling(self) -> bool:
        """Whether somebody who fills the cache in one go has begun and has not come to the end."""
        return (self.folder / "filling.config").exists()

    @contextmanager
    def filled(self) -> Iterator[None]:
        """Note that the cache is being filled, until the end of the block; a kill in between leaves the note."""
        note = self.folder / "filling.config"
        note.touch()
        yield
        note.unlink(missing_ok=True)

    def made(self, variant: int) -> dict[str, str]:
        """Ids of the clips of which ``variant`` is stored, with the digests of their sound, see :class:`Entry`."""
        shards = self.folder.glob(f"v{variant:03d}-*.json")
        rows = (row for shard in shards for row in json.loads(shard.read_text(encoding="utf-8")))
        return {row["id"]: row.get("sound", "") for row in rows}

    def write(self, variant: int, clips: Sequence[Clip], features: Sequence[FloatArray], sounds: Sequence[str]) -> None:
        """Store one shard: ``features`` are log-mel frames, float32 ``[frames, mels]``, one array a clip.

        ``sounds`` are digests of the clips' samples, by which a later build knows equal audio without reading it.
        """
        name = f"v{variant:03d}-{_digest(clips)}"
        joined = np.concatenate([f.astype(np.float16) for f in features], axis=0)
        rows = [
            {**{key: getattr(clip, key) for key in FIELDS}, "frames": len(f), "sound": sound}
            for clip, f, sound in zip(clips, features, sounds, strict=True)
        ]
        _replace(self.folder / f"{name}.npy", lambda path: _save(path, joined))
        _replace(self.folder / f"{name}.json", lambda path: path.write_text(json.dumps(rows), encoding="utf-8"))

    def refresh(self) -> int:
        """Load shards that have appeared since the last call; returns their number of entries."""
        before = len(self.entries)
        for path in sorted(self.folder.glob("*.json")):
            if path.stem not in self._loaded:
                self.entries.extend(self._shard(path))
                self._loaded[path.stem] = None
        return len(self.entries) - before

    def drawn(self, entries: Sequence[Entry], rng: np.random.Generator) -> Sequence[Entry]:  # noqa: ARG002
        """Give ``entries`` as they are stored, see :meth:`trainer.data.fresh.Fresh.drawn`."""
        return entries

    def __getstate__(self) -> dict[str, Any]:
        """Names of the shards instead of their content, so that another process maps the same files."""
        return {**self.__dict__, "entries": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for name in self._loaded:
            self.entries.extend(self._shard(self.folder / f"{name}.json"))

    def _shard(self, path: Path) -> list[Entry]:
        data = np.load(path.with_suffix(".npy"), mmap_mode="r")
        entries, begin = [], 0
        for row in json.loads(path.read_text(encoding="utf-8")):
            entries.append(_entry(row, data[begin : begin + row["frames"]]))
            begin += row["frames"]
        return entries


def _entry(row: dict[str, Any], frames: HalfArray) -> Entry:
    clip = Clip(row["id"], Path(), row["label"], family=row["family"], source=row["source"])
    return Entry(clip.id, clip.label, clip.stratum, clip.source, row["parent"], frames, row.get("sound", ""))


def _save(path: Path, data: HalfArray) -> None:
    with path.open("wb") as file:  # np.save would append .npy to other names
        np.save(file, data)


def _digest(clips: Sequence[Clip]) -> str:
    joined = "\n".join(c.id for c in clips)
    return hashlib.blake2b(joined.encode(), digest_size=6).hexdigest()


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    partial = path.with_name(f".{path.name}")  # hidden from the glob for shards
    write(partial)
    partial.replace(path)
