"""Puts a network that hears single frequencies beside a trained one: fits its head, and weighs what both say.

Its convolutions (:mod:`trainer.models.spectral`) were trained by others and stay as they are, so they hear each piece
of the training clips once, and the head is fitted on what they said: some minutes on two cores instead of days.
Small networks that are fitted apart and averaged (L. Hansen and P. Salamon, "Neural Network Ensembles", 1990) make one
hidden layer; pairs are mixed (H. Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from streamdet.features import FrontEnd, FrontEndConfig
from streamdet.features.logmel import FloatArray
from trainer.augment import WaveAugment
from trainer.data.audio import read_audio
from trainer.data.build import piece_of, variant_rng
from trainer.data.errors import DataError
from trainer.data.fresh import Fresh
from trainer.data.manifest import Clip
from trainer.data.sampler import BalancedSampler
from trainer.fit import schedule
from trainer.models.fused import FusedNet
from trainer.models.resnet import Timeline, pool
from trainer.models.spectral import LEAST, SpectralNet
from trainer.place import Place
from trainer.validation import Validation
from trainer.weights import WEIGHTS

ROWS = 16  # pieces a call of the convolutions
EXPONENT = 0.3  # of the balance over families and sources: more even than for a network that learns from nothing
DRAWN = 64  # clips of one draw, which is balanced in itself
AXES = 192  # pieces that principal components are of
SPARSE = 7  # one frame in so many of these

Said = npt.NDArray[np.float16]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseConfig:
    """How a head is fitted.

    ``columns`` is the length of a piece in columns of 0.32 s, ``window`` that of what one example's moments are over.
    ``components`` of each stack's outputs have their covariances heard.
    ``members`` networks of ``hidden`` units each, for each stack of convolutions, are averaged. ``share`` is the second
    network's in the sum of both log-odds, each divided by its deviation on the validation clips.
    """

    pieces: int = 12_000
    columns: int = 13
    window: int = 4
    components: int = 64
    members: int = 3
    hidden: int = 128
    steps: int = 2_400
    batch: int = 256
    rate: float = 1e-3
    decay: float = 0.3
    dropout: float = 0.4
    smoothing: float = 0.1
    share: float = 0.7
    seed: int = 0


@dataclass(slots=True)
class Lessons:
    """What the convolutions made of ``n`` pieces.

    ``columns`` are float16 ``[n, columns, 2 outputs]`` of :meth:`SpectralNet.columns`, the first ``counts`` of which
    are sound.
    """

    columns: Said
    counts: npt.NDArray[np.intp]
    labels: FloatArray


@dataclass(frozen=True, slots=True)
class Figures:
    """Validation figures of the trained network, of the new one, and of both."""

    alone: dict[str, float]
    spectral: dict[str, float]
    fused: dict[str, float]


def draw(store: Fresh, config: FuseConfig) -> list[Clip]:
    """Draw the clips that pieces are taken of, both classes and, nearly, all families and sources alike.

    Raises:
        DataError: one of the classes is missing.
    """
    store.refresh()
    if len({entry.label for entry in store.entries}) < 2:
        raise DataError("training needs human and synthetic clips that can be read and are not excluded")
    sampler = BalancedSampler(store.entries, exponent=EXPONENT, cap=len(store.entries), matched=0.0, copies=1.0)
    rng, clips = np.random.default_rng(config.seed), store.clips
    batches = [sampler.draw(rng, min(DRAWN, config.pieces - n)) for n in range(0, config.pieces, DRAWN)]
    return [clips[store.entries[at].clip] for batch in batches for at in batch]


class Pieces(Dataset[tuple[FloatArray, int]]):
    """Piece ``n`` is one of ``clips[n]``, distorted: ``(samples, columns that are sound)``, padded with zeros.

    It depends on the seed, ``n`` and the clip alone, whoever makes it.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        augment: WaveAugment | None,
        config: FrontEndConfig,
        *,
        columns: int,
        seed: int,
    ) -> None:
        self.clips, self._augment, self._config = clips, augment, config
        self.columns, self._seed = columns, seed

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, number: int) -> tuple[FloatArray, int]:
        clip, hop = self.clips[number], self._config.hop_samples
        samples = np.zeros(self.columns * hop, np.float32)
        rng = variant_rng(self._seed, clip.id, number)
        piece = piece_of(read_audio(clip.path, self._config.rate), len(samples), self._augment, rng)[: len(samples)]
        samples[: len(piece)] = piece
        return samples, min(self.columns, max(1, round(len(piece) / hop)))


def fresh_spectral(hears: Sequence[str], config: FuseConfig) -> SpectralNet:
    """Give the network that hears single frequencies its convolutions; its head knows nothing yet.

    Raises:
        DependencyError: the weights of the convolutions are not installed.
    """
    network = SpectralNet(config.members * config.hidden, hears, config.components)
    for name, stack in zip(hears, network.each(), strict=True):
        stack.adopt(WEIGHTS[name]())
    # In this order of memory the convolutions take half of the time on a CPU.
    return network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


@torch.inference_mode()
def find_axes(network: FusedNet, pieces: Pieces, front_end: FrontEnd, *, place: Place) -> None:
    """Find the principal components of what the convolutions say of the first pieces."""
    if not network.spectral.settings["components"]:
        return
    network.eval()
    heard: list[list[Tensor]] = [[] for _ in network.spectral.each()]
    for begin in range(0, min(AXES, len(pieces)), ROWS):
        samples = np.stack([pieces[number][0] for number in range(begin, min(begin + ROWS, len(pieces)))])
        features = torch.from_numpy(front_end(samples, front_end.start(len(samples)))[0]).to(place.device)
        with place.autocast():
            outputs = network.spectral.outputs(features[:, :, network.mels :], Timeline(None))
        for frames, output in zip(heard, outputs, strict=True):
            frames.append(output.flatten(0, 2)[::SPARSE].float().cpu())
    for stack, frames in zip(network.spectral.each(), heard, strict=True):
        stack.find_axes(torch.cat(frames))


@torch.inference_mode()
def hear(
    network: FusedNet,
    pieces: Pieces,
    front_end: FrontEnd,
    *,
    place: Place,
    workers: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> Lessons:
    """Let the convolutions hear ``pieces``; ``workers`` processes make pieces ahead."""
    network.eval()
    columns = np.empty((len(pieces), pieces.columns, network.spectral.numbers), np.float16)
    counts: list[int] = []
    loader = DataLoader(pieces, batch_size=ROWS, num_workers=workers, collate_fn=list, persistent_workers=False)
    for batch in loader:
        samples = np.stack([piece for piece, _ in batch])
        features = torch.from_numpy(front_end(samples, front_end.start(len(samples)))[0]).to(place.device)
        with place.autocast():
            said = network.spectral.columns(features[:, :, network.mels :], Timeline(None))
        columns[len(counts) : len(counts) + len(batch)] = said.half().cpu().numpy()
        counts += [count for _, count in batch]
        for _ in batch:
            advance()
    labels = np.array([clip.label for clip in pieces.clips], np.float32)
    return Lessons(columns, np.array(counts, np.intp), labels)


def examples(
    spectral: SpectralNet, lessons: Lessons, rows: npt.NDArray[np.intp], window: int, rng: np.random.Generator
) -> Tensor:
    """Moments ``[rows, numbers]`` over ``window`` columns somewhere in each piece, as the network has them."""
    means = np.empty((len(rows), lessons.columns.shape[2]), np.float32)
    for at, row in enumerate(rows):
        end = int(rng.integers(min(window, lessons.counts[row]), lessons.counts[row] + 1))
        means[at] = lessons.columns[row, max(0, end - window) : end].mean(axis=0, dtype=np.float32)
    with torch.no_grad():
        return spectral.moments_of(torch.from_numpy(means))


def fit_head(
    spectral: SpectralNet, lessons: Lessons, config: FuseConfig, advance: Callable[[], None] = lambda: None
) -> None:
    """Fit the head of ``spectral`` on what was heard; repeatable by the seed.

    Each stack has ``members`` networks of its own.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        _join(spectral, _fitted(spectral, lessons, config, advance))


def _fitted(spectral: SpectralNet, lessons: Lessons, config: FuseConfig, advance: Callable[[], None]) -> list[_Member]:
    rng = np.random.default_rng(config.seed)
    everything = np.arange(len(lessons.counts))
    some = rng.choice(everything, min(6_000, len(everything)), replace=False)
    usual = examples(spectral, lessons, some, config.window, rng)
    spectral.centre.copy_(usual.mean(dim=0))
    spectral.spread.copy_(usual.std(dim=0) + LEAST)
    inputs = [stack.numbers for stack in spectral.each() for _ in range(config.members)]
    members = [_Member(size, config) for size in inputs]
    averages = [_Member(size, config).eval() for size in inputs]
    for member, average in zip(members, averages, strict=True):
        average.load_state_dict(member.state_dict())
    weights = [weight for member in members for weight in member.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=config.rate, weight_decay=config.decay)
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.rate * schedule(step / config.steps)
        rows = rng.integers(len(everything), size=config.batch)
        moments = spectral.normalised(examples(spectral, lessons, rows, config.window, rng))
        labels, loss = lessons.labels[rows], torch.zeros(())
        parts = [part for part in spectral.parts(moments) for _ in range(config.members)]
        for member, part in zip(members, parts, strict=True):
            loss = loss + _mixed_loss(member, part, labels, config.smoothing)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            for member, average in zip(members, averages, strict=True):
                for now, mean in zip(member.parameters(), average.parameters(), strict=True):
                    mean.lerp_(now, 0.01)
        advance()
    return averages


class _Member(nn.Module):
    """One of the networks whose mean is the head."""

    def __init__(self, inputs: int, config: FuseConfig) -> None:
        super().__init__()
        self.before, self.after = nn.Dropout(config.dropout), nn.Dropout(config.dropout)
        self.hidden, self.head = nn.Linear(inputs, config.hidden), nn.Linear(config.hidden, 1)

    def forward(self, moments: Tensor) -> Tensor:
        """Log-odds of ``[n, inputs]``."""
        result: Tensor = self.head(self.after(functional.relu(self.hidden(self.before(moments)))))
        return result.squeeze(1)


def _mixed_loss(member: _Member, moments: Tensor, labels: FloatArray, smoothing: float) -> Tensor:
    """Cross-entropy of pairs of examples, mixed in all proportions alike."""
    smooth = torch.from_numpy(labels) * (1 - smoothing) + smoothing / 2
    part = torch.rand(len(moments))
    other = torch.randperm(len(moments))
    mixed = torch.lerp(moments[other], moments, part[:, None])
    return functional.binary_cross_entropy_with_logits(member(mixed), torch.lerp(smooth[other], smooth, part))


@torch.no_grad()
def _join(spectral: SpectralNet, members: Sequence[_Member]) -> None:
    each = len(members) // len(spectral.hidden)
    for number, layer in enumerate(spectral.hidden):
        assert isinstance(layer, nn.Linear)
        ours = members[number * each : (number + 1) * each]
        layer.weight.copy_(torch.cat([m.hidden.weight for m in ours]))
        layer.bias.copy_(torch.cat([m.hidden.bias for m in ours]))
    spectral.head.weight.copy_(torch.cat([m.head.weight for m in members], dim=1) / len(members))
    spectral.head.bias.copy_(torch.stack([m.head.bias for m in members]).mean(dim=0))


def weigh(network: FusedNet, val: Validation, share: float, place: Place) -> Figures:
    """Set the shares of ``network`` by the deviations of both log-odds on the validation clips, and judge it there."""
    ours, theirs = _opinions(network, val, place)
    first, second = (1.0 - share) / ours.std(), share / theirs.std()
    offset = -first * ours.mean() - second * theirs.mean()
    network.shares.copy_(torch.tensor([first, second, offset], device=network.shares.device))
    return Figures(val.judged(ours), val.judged(theirs), val.judged(first * ours + second * theirs + offset))


@torch.inference_mode()
def _opinions(network: FusedNet, val: Validation, place: Place) -> tuple[Scores, Scores]:
    """Log-odds of the validation clips by the ResNet, and by the other network, with one attention."""
    network = network.to(place.device).eval()
    ours, theirs = [], []
    for begin in range(0, len(val.features), ROWS):
        features = torch.from_numpy(val.features[begin : begin + ROWS]).to(place.device)
        mask = torch.from_numpy(val.mask[begin : begin + ROWS]).to(place.device)
        with place.autocast():
            columns, _ = network.resnet(features[:, :, : network.mels])
            other = network.spectral(features[:, :, network.mels :], Timeline(None))
        ours.append(pool(columns, mask).cpu())
        theirs.append(pool(torch.stack((other, columns[:, :, 1]), dim=2), mask).cpu())
    return torch.cat(ours).double().numpy(), torch.cat(theirs).double().numpy()
