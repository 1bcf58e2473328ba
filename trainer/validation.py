"""Judges a network on the validation clips while it trains."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from streamdet.features import FrontEnd, FrontEndConfig
from trainer.data.audio import read_clips
from trainer.data.batches import columns_mask
from trainer.data.cache import Entry
from trainer.data.errors import DataError
from trainer.data.labels import Labels, digest
from trainer.data.manifest import Clip
from trainer.metrics import auc, eer, mean_group_eer, stratum_weights
from trainer.models.load import Network
from trainer.models.resnet import pool
from trainer.place import Place

CPU = Place(torch.device("cpu"))


class Validation:
    """Clips of the validation split as network input: the first ``frames`` of each, as a fresh stream.

    At most ``limit`` clips of a family or source are used: more would cost training time and weigh little. Of those,
    ``skipped`` lists what cannot be read, with the reason.

    Raises:
        DataError: what can be read is not of both classes, or equal audio has contradicting labels.
    """

    def __init__(self, clips: Sequence[Clip], config: FrontEndConfig, frames: int = 320, limit: int = 40) -> None:
        self.skipped: dict[str, str] = {}
        front_end, most = FrontEnd(config), frames * config.hop
        self._sounds = Labels()
        heard = []
        for clip, samples in read_clips(limited(clips, limit), self.skipped, config.rate):
            self._sounds.check(clip.id, clip.label, digest(samples))
            heard.append((clip, front_end.whole(samples[:most])))
        clips = [clip for clip, _ in heard]
        if len({c.label for c in clips}) < 2:
            raise DataError(
                f"the validation set needs human and synthetic clips, and has {len(clips)} that can be read, "
                f"{sum(c.label for c in clips)} synthetic; give a manifest with both in its split val, or none"
            )
        pieces = [piece for _, piece in heard]
        valid = np.array([len(p) for p in pieces], np.intp)
        self.features = np.zeros((len(clips), frames, config.values), np.float32)
        for row, piece in enumerate(pieces):
            self.features[row, : len(piece)] = piece
        self.mask = columns_mask(valid, frames // config.hop_frames, config.hop_frames)
        self.labels = np.array([c.label for c in clips], np.float64)
        self.strata = [c.stratum for c in clips]

    def compare(self, entries: Iterable[Entry]) -> None:
        """Look for training clips that are the same audio as a clip here.

        Raises:
            DataError: one has the other label.
        """
        for entry in entries:
            self._sounds.check(entry.clip, entry.label, entry.sound)

    def scores(self, network: Network, *, batch: int = 32, place: Place = CPU) -> npt.NDArray[np.float64]:
        """Raw log-odds of every clip, float64."""
        network.eval()
        parts = []
        with torch.inference_mode(), place.autocast():
            for begin in range(0, len(self.features), batch):
                columns, _ = network(torch.from_numpy(self.features[begin : begin + batch]).to(place.device))
                mask = torch.from_numpy(self.mask[begin : begin + batch]).to(place.device)
                parts.append(pool(columns, mask).cpu())
        return np.asarray(torch.cat(parts).double())

    def figures(self, network: Network, *, place: Place = CPU) -> dict[str, float]:
        """EER and AUC, balanced over families and sources and plain, and the mean over groups."""
        return self.judged(self.scores(network, place=place))

    def judged(self, scores: npt.NDArray[np.float64]) -> dict[str, float]:
        """Figures of ``scores``, one a clip; see :meth:`figures`."""
        weights = stratum_weights(self.strata)
        return {
            "group_eer": mean_group_eer(scores, self.labels, self.strata),
            "eer": eer(scores, self.labels, weights),
            "auc": auc(scores, self.labels, weights),
            "eer_plain": eer(scores, self.labels),
            "auc_plain": auc(scores, self.labels),
        }


def limited(clips: Sequence[Clip], limit: int) -> list[Clip]:
    """At most ``limit`` clips of each stratum, evenly spread over it."""
    strata: dict[str, list[Clip]] = {}
    for clip in clips:
        strata.setdefault(clip.stratum, []).append(clip)
    return [c for members in strata.values() for c in members[:: -(-len(members) // limit)]]
