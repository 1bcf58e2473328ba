"""Compares what a model file said through the pipeline with what its checkpoint says in torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from streamdet.engine.modelfile import Calibration, ModelInfo
from streamdet.errors import ModelError
from streamdet.features import FrontEnd
from trainer.data.audio import read_audio
from trainer.data.errors import DataError
from trainer.export import reference_columns, whole_hops
from trainer.metrics import auc, eer
from trainer.models.load import Network, load_network
from trainer.models.resnet import STRIDE, front_end_of
from trainer.scoring import Array, ClipScore, pooled


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the pipeline and torch are apart over the same clips.

    ``column_percent`` and ``clip_percent`` are root mean square differences of the logits of hops and of the log-odds
    of clips, in percent of their standard deviation in torch; ``eer`` and ``auc`` are given for both.
    """

    clips: int
    hops: int
    column_percent: float
    clip_percent: float
    largest: float
    eer: float
    eer_torch: float
    auc: float
    auc_torch: float

    def to_dict(self) -> dict[str, float | int]:
        """Plain values for JSON; ``eer_loss`` is what the model file lost, in points of EER."""
        return {**asdict(self), "eer_loss": 100.0 * (self.eer - self.eer_torch)}


@dataclass(frozen=True, slots=True)
class Twin:
    """The network in torch that a model file was made from, and its front end."""

    network: Network
    front_end: FrontEnd

    @classmethod
    def of(cls, info: ModelInfo, checkpoint: Path) -> Twin:
        """Read the checkpoint of the model file that says ``info`` of itself.

        Raises:
            ModelError: the checkpoint cannot be read, or the model file was not made from it.
        """
        network, front_end = load_network(checkpoint), front_end_of(checkpoint)
        if front_end != info.front_end or network.settings["width"] != info.width:
            ours, theirs = (
                f"width {width:g} on {bands.mels} log-{bands.bands} bands"
                for width, bands in ((info.width, info.front_end), (network.settings["width"], front_end))
            )
            raise ModelError(
                f"{checkpoint}: of another network than the model file, which has {ours}, not {theirs}; give the "
                "checkpoint that it was exported from"
            )
        return cls(network, FrontEnd(front_end))


def agreement(
    scores: Sequence[ClipScore],
    twin: Twin,
    calibration: Calibration,
    advance: Callable[[], None] = lambda: None,
) -> Agreement:
    """Run the network of ``twin`` in float32 over the clips of ``scores``, all at once, hop for hop comparable.

    Clips without speech are left out, as neither has an opinion on them.

    Raises:
        DataError: no clip of each class has speech.
    """
    network, front_end = twin.network, twin.front_end
    pairs: list[tuple[Array, Array]] = []
    labels: list[float] = []
    for score in scores:
        advance()
        features = whole_hops(front_end.whole(read_audio(score.clip.path, front_end.config.rate)))
        hops = min(len(features) // STRIDE, len(score.track))
        if hops == 0 or pooled(score.track[:hops]) is None:
            continue
        pairs.append((score.track[:hops], _twin(network, features, score.track, hops)))
        labels.append(float(score.clip.label))
    if len(set(labels)) < 2:
        raise DataError("no clip of each class has speech")
    return _compare(pairs, np.array(labels), calibration)


def _twin(network: Network, features: np.ndarray, track: Array, hops: int) -> Array:
    """Give the track with logits and attention from torch; what counts as speech stays the pipeline's."""
    columns = reference_columns(network, features)[:hops].astype(np.float64)
    return np.column_stack((columns, track[:hops, 2]))


def _compare(pairs: Sequence[tuple[Array, Array]], labels: Array, calibration: Calibration) -> Agreement:
    ours, torchs = (np.array([pooled(pair[i]) for pair in pairs], np.float64) for i in (0, 1))
    columns = [np.concatenate([pair[i][:, 0] for pair in pairs]) for i in (0, 1)]
    llr, llr_torch = (calibration.scale * raw + calibration.offset for raw in (ours, torchs))
    return Agreement(
        clips=len(pairs),
        hops=len(columns[0]),
        column_percent=_percent(*columns),
        clip_percent=_percent(ours, torchs),
        largest=float(np.abs(llr - llr_torch).max()),
        eer=eer(ours, labels),
        eer_torch=eer(torchs, labels),
        auc=auc(ours, labels),
        auc_torch=auc(torchs, labels),
    )


def _percent(ours: Array, torchs: Array) -> float:
    return 100.0 * float(np.sqrt(np.mean((ours - torchs) ** 2)) / max(float(torchs.std()), 1e-12))
