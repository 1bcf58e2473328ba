"""The last minute of each stream as a picture: a few bytes a hop, made outside the scoring thread."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamdet.decide.judge import Judgement
from streamdet.features.logmel import FloatArray, FrontEndConfig
from streamdet.tap import Heard

COLUMNS = 8  # columns of the picture a hop: 40 ms each
HELD = 200  # hops kept a stream: 64 s, about 100 kB
FULL = 4.5  # feature value that is drawn brightest; level-normalised speech stays below
CODES = {"bona_fide": "h", "spoof": "s", "undecided": "u", "no_speech": "n"}


@dataclass(frozen=True, slots=True)
class Slice:
    """One hop: the media time of its end, its columns, and what was said of it.

    ``columns`` holds ``COLUMNS x mels`` bytes, column by column and low bands first; empty where all sound was lost.
    """

    end: float
    columns: bytes
    judgement: Judgement


def quantise(features: FloatArray, columns: int = COLUMNS) -> bytes:
    """Turn features ``[frames, mels]`` into ``columns`` columns of one byte a band, the loudest of their frames."""
    frames = features.shape[0] // columns * columns
    loudest = features[:frames].reshape(columns, -1, features.shape[1]).max(axis=1)
    pixels: bytes = np.clip(loudest * (255 / FULL), 0, 255).astype(np.uint8).tobytes()
    return pixels


class Picture:
    """The last ``HELD`` hops of one stream."""

    def __init__(self, front_end: FrontEndConfig) -> None:
        self._front_end = front_end
        self._slices: deque[Slice] = deque(maxlen=HELD)
        self._fresh: list[Slice] = []

    def add(self, heard: Heard) -> None:
        """Take one hop."""
        if heard.front_end != self._front_end:  # another model has taken over, whose bands are others
            self._front_end, self._fresh = heard.front_end, []
            self._slices.clear()
        columns = b"" if heard.features is None else quantise(heard.features)
        piece = Slice(heard.judgement.media_time, columns, heard.judgement)
        if self._slices and piece.end <= self._slices[-1].end:
            self._slices.clear()  # another stream of the same name has begun
        self._slices.append(piece)
        self._fresh = [*self._fresh[-HELD + 1 :], piece]

    def fresh(self) -> dict[str, Any] | None:
        """Describe what came since the last call; None where nothing did."""
        fresh, self._fresh = self._fresh, []
        return self._describe(fresh) if fresh else None

    def whole(self) -> dict[str, Any]:
        """Describe everything that is held."""
        return self._describe(list(self._slices))

    def _describe(self, slices: Sequence[Slice]) -> dict[str, Any]:
        front_end = self._front_end
        blank = bytes(COLUMNS * front_end.mels)
        said = [piece.judgement for piece in slices]
        return {
            "hop": front_end.hop_seconds,
            "columns": COLUMNS,
            "mels": front_end.mels,
            "bands": {"low": front_end.low, "high": front_end.high, "scale": front_end.bands},
            "end": [round(piece.end, 2) for piece in slices],
            "p": [rounded(judgement.p_fake) for judgement in said],
            "windows": [[rounded(p) for p in judgement.windows.values()] for judgement in said],
            "verdict": "".join(CODES[judgement.verdict] for judgement in said),
            "lost": "".join("1" if not piece.columns else "0" for piece in slices),
            "pixels": base64.b64encode(b"".join(piece.columns or blank for piece in slices)).decode(),
        }


def rounded(p: float | None) -> float | None:
    """Three digits are more than a page shows."""
    return None if p is None else round(p, 3)
