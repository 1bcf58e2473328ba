"""Scores clips with a model file, through the very pipeline that listens: what is measured is what runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamdet.config import Config
from streamdet.decide.calibrate import log_odds
from streamdet.scan import Result, Scanner
from trainer.data.labels import Labels
from trainer.data.manifest import Clip

Array = npt.NDArray[np.float64]
LIMIT = 1e-12  # probabilities are kept this far from 0 and 1, so that log-odds stay finite


@dataclass(frozen=True, slots=True)
class ClipScore:
    """What the pipeline said of one clip.

    ``track`` is float64 ``[hops, 3]``: raw log-odds, attention log-weight and share of speech of each hop; ``llr``
    the calibrated log-odds of the whole clip, 0 (no opinion) where ``speech`` is False.
    """

    clip: Clip
    llr: float
    speech: bool
    seconds: float
    track: Array


def score_clips(
    model: Path, clips: Sequence[Clip], progress: Callable[[Clip, str | None], None] = lambda *_: None
) -> list[ClipScore]:
    """Score ``clips`` one by one; ``progress`` hears of each, with the reason where a file cannot be read.

    Raises:
        ModelError: the model file cannot be used.
        DataError: equal audio has contradicting labels.
    """
    scanner, scores, labels = Scanner(Config(model=model)), [], Labels()
    for clip in clips:
        result, sound = _heard(scanner, clip.path)
        progress(clip, result.error)
        if result.error is None:
            labels.check(clip.id, clip.label, sound)
            scores.append(_clip_score(clip, result))
    return scores


def _heard(scanner: Scanner, path: Path) -> tuple[Result, str]:
    """Scan a file; the digest of its samples is made on the way, as a recording may be long."""
    sound = hashlib.blake2b(digest_size=16)
    result = scanner.scan(path, listen=lambda samples: sound.update(samples.tobytes()))
    return result, sound.hexdigest()


def _clip_score(clip: Clip, result: Result) -> ClipScore:
    rows = [(hop["logit"], hop["attention"], hop["speech"]) for hop in result.track]
    track = np.array(rows, np.float64).reshape(-1, 3)
    p_fake = result.p_fake
    llr = 0.0 if p_fake is None else log_odds(min(max(p_fake, LIMIT), 1.0 - LIMIT))
    return ClipScore(clip, llr, p_fake is not None, result.seconds, track)


def pooled(track: Array) -> float | None:
    """Raw log-odds of a piece of a track, by the rule of :class:`streamdet.decide.window.Windows`."""
    weights = np.exp(track[:, 1]) * track[:, 2]
    total = float(weights.sum())
    return float(weights @ track[:, 0]) / total if total > 0.0 else None


def windows(track: Array, hops: int) -> list[float]:
    """Raw log-odds of the consecutive, not overlapping windows of ``hops`` hops; speechless ones are left out."""
    pieces = [track[begin : begin + hops] for begin in range(0, len(track) - hops + 1, hops)]
    return [value for piece in pieces if (value := pooled(piece)) is not None]
