"""Fills a feature cache with augmented variants of clips; may run beside training and be stopped at any time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from streamdet.features import LogMel
from streamdet.features.logmel import FloatArray
from trainer.augment import Bank, WaveAugment
from trainer.data.audio import read_audio
from trainer.data.cache import FeatureCache
from trainer.data.errors import DataError
from trainer.data.labels import Labels, digest
from trainer.data.manifest import Clip, table

SHARD = 200  # clips


@dataclass(slots=True)
class BuildReport:
    """What a build did: variants written, and the clips that could not be read with the reason."""

    written: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


def load_bank(noise: Path | None, speech: Sequence[Clip] = (), voices: int = 60) -> Bank:
    """Noise and impulse responses of a folder (``<folder>/<id>.flac``, described by ``<folder>.csv``) and babble.

    Babble is made from human clips, so that it cannot give a label away.
    """
    bank = Bank()
    if noise is not None:
        described = noise.with_suffix(".csv")
        if not described.exists():
            raise DataError(f"{described}: missing; it lists the noise in {noise} with the columns id and kind")
        for line, row in table(described, "a list of noise", ("id", "kind")):
            if not (row["id"] and row["kind"]):
                raise DataError(f"{described}:{line}: an id and a kind (noise or rir) are needed")
            (bank.rooms if row["kind"] == "rir" else bank.noise).append(read_audio(noise / f"{row['id']}.flac"))
    bank.rooms = [r / np.abs(r).max() for r in bank.rooms]
    human = [c for c in speech if c.label == 0]
    for clip in human[:: max(1, len(human) // voices)][:voices]:
        try:
            samples = read_audio(clip.path)[:80_000]
        except DataError:
            continue  # the build itself meets the file again and reports it
        bank.speech.append(samples / np.float32(samples.std() + 1e-9))
    return bank


def name_of(noise: Path | None) -> str:
    """Tell folders of noise apart by a digest of its description, wherever it lies; ``none`` is no folder."""
    if noise is None:
        return "none"
    return hashlib.blake2b(noise.with_suffix(".csv").read_bytes(), digest_size=6).hexdigest()


class Builder:
    """Writes variants of clips to a cache; what is there already is not made again.

    Args:
        cache: where to write.
        augment: distortion on samples; None stores the clips as they are.
        seconds: longest piece of a clip that one variant keeps; where it begins is drawn anew for each variant.
        seed: with it, clip id and variant number determine a variant wholly.
    """

    def __init__(
        self, cache: FeatureCache, augment: WaveAugment | None, *, seconds: float = 6.0, seed: int = 0
    ) -> None:
        self.cache = cache
        self.report = BuildReport()
        self._augment = augment
        self._samples = int(seconds * cache.config.rate)
        self._seed = seed
        self._logmel = LogMel(cache.config)
        self._labels = Labels()

    def variant(self, clips: Sequence[Clip], number: int, progress: Callable[[int], None] = lambda _: None) -> None:
        """Make variant ``number`` of those ``clips`` that lack it; ``progress`` is told how many clips are done.

        Raises:
            DataError: equal audio has contradicting labels, be it cached or new.
        """
        made = self.cache.made(number)
        for clip in clips:
            self._labels.check(clip.id, clip.label, made.get(clip.id, ""))
        progress(len([c for c in clips if c.id in made]))
        for part in _shards([c for c in clips if c.id not in made], number):
            self._shard(part, number)
            progress(len(part))

    def can(self, clip: Clip) -> bool:
        """Whether variants of ``clip`` can be made; if not, the report says why."""
        return self._features(clip, 0) is not None

    def _shard(self, clips: Sequence[Clip], number: int) -> None:
        made = [(clip, *heard) for clip in clips if (heard := self._features(clip, number)) is not None]
        if made:
            self.cache.write(number, [c for c, _, _ in made], [f for _, f, _ in made], [s for _, _, s in made])
            self.report.written += len(made)

    def _features(self, clip: Clip, number: int) -> tuple[FloatArray, str] | None:
        """Give the frames of a variant and the digest of the clip's samples."""
        try:
            samples = read_audio(clip.path, self.cache.config.rate)
        except DataError as error:
            self.report.skipped[clip.id] = str(error)
            return None
        sound = digest(samples)
        self._labels.check(clip.id, clip.label, sound)
        piece = piece_of(samples, self._samples, self._augment, variant_rng(self._seed, clip.id, number))
        frames, _ = self._logmel(piece[None, :], self._logmel.start())
        if len(frames[0]) < self.cache.config.hop_frames:
            self.report.skipped[clip.id] = f"{clip.path}: shorter than one hop"
            return None
        return np.asarray(frames[0]), sound


def piece_of(samples: FloatArray, longest: int, augment: WaveAugment | None, rng: np.random.Generator) -> FloatArray:
    """Cut out a random piece of at most ``longest`` samples, distorted by ``augment`` where there is one."""
    begin = int(rng.integers(max(1, len(samples) - longest + 1)))
    piece = samples[begin : begin + longest]
    return piece if augment is None else augment(piece, rng)


def variant_rng(seed: int, clip: str, number: int) -> np.random.Generator:
    """Random numbers that depend on seed, clip and variant only: not on label, order or worker."""
    key = hashlib.blake2b(clip.encode(), digest_size=8).digest()
    return np.random.default_rng((seed, int.from_bytes(key, "little"), number))


def _shards(clips: Sequence[Clip], number: int) -> list[list[Clip]]:
    """Clips in a fixed shuffled order per variant, so that a cache half-filled is still a fair sample."""
    order = sorted(clips, key=lambda c: hashlib.blake2b(f"{number}/{c.id}".encode(), digest_size=8).digest())
    return [order[i : i + SHARD] for i in range(0, len(order), SHARD)]
