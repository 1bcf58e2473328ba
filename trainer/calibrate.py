"""Makes log-odds mean what they say, and chooses when to raise an alarm."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from streamdet.decide.alarm import AlarmConfig
from streamdet.decide.calibrate import Platt, log_odds, probability
from streamdet.decide.judge import Judge, JudgeConfig
from streamdet.decide.window import Column
from streamdet.engine.modelfile import Calibration
from trainer.augment import RATE, WaveAugment
from trainer.data.audio import read_clips
from trainer.data.build import variant_rng
from trainer.data.errors import DataError
from trainer.data.manifest import Clip
from trainer.metrics import stratum_weights
from trainer.scoring import ClipScore, pooled, windows

Array = npt.NDArray[np.float64]
WINDOWS = (3.0, 10.0)  # seconds; the lengths that decide


def platt(raw: Array, labels: Array, weights: Array) -> Calibration:
    """Logistic regression of labels on raw log-odds, both classes counting the same (J. Platt, 1999), by Newton steps.

    A weak pull towards scale 1 keeps the scale finite where the classes do not overlap.

    Raises:
        DataError: one class is missing, or higher scores are *less* synthetic.
    """
    if len(np.unique(labels)) < 2:
        raise DataError("calibration needs human and synthetic clips")
    share = np.where(labels > 0, weights / weights[labels > 0].sum(), weights / weights[labels == 0].sum()) / 2.0
    inputs, theta, pull = np.stack((raw, np.ones_like(raw)), axis=1), np.array([1.0, 0.0]), np.diag([1e-4, 0.0])
    for _ in range(100):
        p = 1.0 / (1.0 + np.exp(-np.clip(inputs @ theta, -500.0, 500.0)))
        gradient = inputs.T @ (share * (p - labels)) + pull @ (theta - [1.0, 0.0])
        hessian = (inputs * (share * p * (1.0 - p))[:, None]).T @ inputs + pull + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        theta = theta - step * min(1.0, 2.0 / (np.abs(step).max() + 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    if theta[0] <= 0.0:
        raise DataError("calibration: higher scores are less synthetic; are the labels swapped?")
    return Calibration(float(theta[0]), float(theta[1]))


def calibrate(scores: Sequence[ClipScore], hop_seconds: float) -> Calibration:
    """Platt scaling over the windows of 3 and 10 s of all clips, whole clips where shorter.

    A stratum counts with the square root of its clips, a clip's windows share its weight.
    """
    raw: list[float] = []
    labels: list[float] = []
    weights: list[float] = []
    for score, weight in zip(scores, stratum_weights([s.clip.stratum for s in scores]), strict=True):
        values = [v for seconds in WINDOWS for v in windows(score.track, round(seconds / hop_seconds))]
        whole = pooled(score.track)
        values = values or ([] if whole is None else [whole])
        raw += values
        labels += [float(score.clip.label)] * len(values)
        weights += [float(weight) / max(1, len(values))] * len(values)
    return platt(np.array(raw), np.array(labels), np.array(weights))


def augmented(
    clips: Sequence[Clip], folder: Path, augment: WaveAugment, skipped: dict[str, str], seed: int = 0
) -> Iterator[Clip]:
    """Write one distorted copy of each clip to ``folder``: channels that the clips themselves do not show.

    ``skipped`` gets the ids of clips that cannot be read, and why.
    """
    for clip, samples in read_clips(clips, skipped, RATE):
        # A digest: ids may differ in nothing but what a file system minds, and may be longer than its names.
        path = folder / f"{hashlib.blake2b(clip.id.encode(), digest_size=16).hexdigest()}.wav"
        soundfile.write(path, augment(samples, variant_rng(seed, clip.id, 0)), RATE, subtype="PCM_16")
        yield replace(clip, path=path)


@dataclass(frozen=True, slots=True)
class StreamFigures:
    """What an alarm setting does on streams: ``caught`` is the share of synthetic clips that raised an alert."""

    false_alarms: int
    human_hours: float
    caught: float
    synthetic: int
    delay_p50: float | None

    @property
    def per_hour(self) -> float:
        """False alarms per hour of human speech."""
        return self.false_alarms / self.human_hours if self.human_hours else 0.0

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain values for JSON."""
        return {**asdict(self), "per_hour": self.per_hour}


def stream_figures(
    scores: Sequence[ClipScore], judge: Callable[[], Judge], least_seconds: float = 6.0
) -> StreamFigures:
    """Run the alarm over the tracks: human clips of one source as one stream, synthetic clips one by one.

    Synthetic clips shorter than ``least_seconds`` do not count.
    """
    human: dict[str, list[Array]] = {}
    for score in scores:
        if score.clip.label == 0:
            human.setdefault(score.clip.source, []).append(score.track)
    streams = [np.concatenate(tracks) for tracks in human.values()]
    false_alarms = sum(len(raised(judge(), stream)) for stream in streams)
    hop = judge().config.hop_seconds
    fakes = [s for s in scores if s.clip.label == 1 and s.seconds >= least_seconds]
    delays = [times[0] for s in fakes if (times := raised(judge(), s.track))]
    return StreamFigures(
        false_alarms,
        sum(map(len, streams)) * hop / 3600.0,
        len(delays) / len(fakes) if fakes else 0.0,
        len(fakes),
        float(np.median(delays)) if delays else None,
    )


def raised(judge: Judge, track: Array) -> list[float]:
    """Run a judge over a track; returns the times in seconds at which it raises alerts."""
    hop, times = judge.config.hop_seconds, []
    for index, (logit, attention, speech) in enumerate(track.tolist()):
        at = (index + 1) * hop
        judgement = judge.update(Column(logit, attention, speech), at)
        times += [at for step in judgement.alerts if step.phase == "raised"]
    return times


def operating_point(
    scores: Sequence[ClipScore], calibration: Calibration, hop_seconds: float, per_hour: float = 1.0
) -> tuple[dict[str, float], StreamFigures]:
    """Lowest raising threshold whose false alarms on the human clips stay within ``per_hour``.

    The threshold to clear lies two nats below, at most at even odds. Returns the entry for the model file
    (probabilities and seconds) and what it does on ``scores``.
    """
    scaling = Platt(calibration.scale, calibration.offset)
    best: tuple[dict[str, float], StreamFigures] | None = None
    for raise_at in np.arange(6.0, -0.01, -0.25).tolist():
        alarm = AlarmConfig(raise_at=raise_at, clear_at=min(0.0, raise_at - 2.0))
        config = JudgeConfig(hop_seconds=hop_seconds, alarm=alarm)
        figures = stream_figures(scores, partial(Judge, config, scaling))
        if best is not None and figures.per_hour > per_hour:
            break
        best = _entry(config), figures
    assert best is not None
    return best


def carried(point: dict[str, float], before: Calibration, after: Calibration) -> dict[str, float] | None:
    """Thresholds of an operating point for another calibration, by which the same sound raises the same alerts.

    Averages of log-odds are calibrated as log-odds are, so thresholds map through raw log-odds. None where that is not
    exact: accumulated evidence is clipped and summed in calibrated nats, and 0 and 1 are no log-odds.
    """
    known = {name: value for name, value in point.items() if name in ("raise", "clear", "spoof", "bona_fide")}
    if any(name.startswith("cusum_") for name in point) or not all(0.0 < value < 1.0 for value in known.values()):
        return None
    raw = {name: (log_odds(value) - before.offset) / before.scale for name, value in known.items()}
    moved = {name: probability(after.scale * value + after.offset) for name, value in raw.items()}
    return {**point, **moved} if all(0.0 < value < 1.0 for value in moved.values()) else None


def _entry(config: JudgeConfig) -> dict[str, float]:
    return {
        "raise": probability(config.alarm.raise_at),
        "clear": probability(config.alarm.clear_at),
        "min_seconds": config.alarm.min_seconds,
        "smoothing": config.smooth_seconds,
    }
