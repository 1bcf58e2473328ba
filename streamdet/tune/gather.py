"""Gets tracks out of the event store, or out of sound files."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamdet.config import Config
from streamdet.decide.calibrate import log_odds
from streamdet.errors import SourceError
from streamdet.scan import Scanner, find_files
from streamdet.store.reader import Reader
from streamdet.tune.track import Track

SUMMARY_SECONDS = 10.0
EDGE = 1e-9  # probabilities are kept off 0 and 1 by this much
Step = tuple[float, float, float | None]  # media time, length, p_fake


def _track(name: str, steps: Sequence[Step]) -> Track:
    values = [np.nan if p is None else log_odds(min(max(p, EDGE), 1 - EDGE)) for _, _, p in steps]
    times, lengths = (np.array([step[column] for step in steps], np.float64) for column in (0, 1))
    return Track(name, times, lengths, np.array(values, np.float64))


def from_files(config: Config, paths: Sequence[Path], tell: Callable[[str], None]) -> Iterator[Track]:
    """Score sound files; ``tell`` hears of those that cannot be read.

    Raises:
        SourceError: there is no sound file.
    """
    scanner, files = Scanner(config), find_files(paths)
    if not files:
        raise SourceError(f"no sound file in {', '.join(map(str, paths))}")
    for path in files:
        result = scanner.scan(path)
        if result.error is not None:
            tell(f"{path}: {result.error}")
        if result.track:
            hop = result.track[0]["t"]
            yield _track(str(path), [(entry["t"], hop, entry["p_fake"]) for entry in result.track])


def from_store(
    path: Path, *, hop_seconds: float, since: int, until: int, streams: Sequence[str] = ()
) -> tuple[list[Track], set[str]]:
    """Read stored scores, and where only summaries are left their highest value, which errs on the safe side.

    Returns:
        Tracks, and the digests of the models that made the scores.
    """
    steps: dict[str, list[Step]] = {}
    models: set[str] = set()
    with Reader(path) as reader:
        for summary in reader.summaries(since=since, until=until, streams=streams):
            known = steps.setdefault(summary.stream, [])
            length = summary.scores * hop_seconds
            known.append(((known[-1][0] if known else 0.0) + max(length, SUMMARY_SECONDS), length, summary.highest))
        begin = {name: known[-1][0] for name, known in steps.items()}
        for _, payload in reader.find(since=since, until=until, streams=streams, kinds=("score",)):
            score: dict[str, Any] = json.loads(payload)
            models.add(score["model"])
            name = score["stream"]
            at = begin.get(name, 0.0) + score["media_time"]
            steps.setdefault(name, []).append((at, hop_seconds, score["p_fake"]))
    tracks = [part for name, known in steps.items() for part in _unbroken(name, known)]
    return tracks, models


def _unbroken(name: str, steps: list[Step]) -> Iterator[Track]:
    """Cut where a stream of the same name began anew: no alert lasts over that."""
    cuts = [0, *(n for n in range(1, len(steps)) if steps[n][0] <= steps[n - 1][0]), len(steps)]
    for begin, end in itertools.pairwise(cuts):
        yield _track(name, steps[begin:end])
