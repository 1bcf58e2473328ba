"""Puts a network that hears single frequencies beside a trained one: fits its head, and weighs what both say.

Its convolutions (:mod:`trainer.models.spectral`) were trained by others and stay as they are, so they hear each piece
of the training clips once, what they said lies on the disk meanwhile, and units and head are fitted on that: minutes on
two cores instead of days. Small networks that are fitted apart and averaged (L. Hansen and P. Salamon, "Neural Network
Ensembles", 1990) make one; pairs are mixed (H. Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018).
"""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from trainer.data.sampler import weights
from trainer.fit import schedule
from trainer.models.fused import FusedNet
from trainer.models.resnet import Timeline, pool
from trainer.models.spectral import LEAST, LIMIT, SpectralNet, moments
from trainer.place import Place
from trainer.validation import Validation
from trainer.weights import WEIGHTS

ROWS = 16  # pieces a call of the convolutions
EXPONENT = 0.55  # a family or source of n pieces is learnt from in proportion to n to the power of this
EVERY = 2  # one frame in so many is learnt from
FEW = 600  # pieces that the usual size of outputs is taken from
AVERAGING = 0.01  # share of the newest weights, and of a batch's moments, in their running means

Said = npt.NDArray[np.float16]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseConfig:
    """How units and head are fitted.

    ``pieces`` are heard, of all clips in turn. ``columns`` is the length of a piece in columns of 0.32 s, ``window``
    that of what one example's moments are over. ``members`` networks of ``units`` that hear frames and of ``hidden``
    units on their moments, for each stack of convolutions, are averaged. ``share`` is the second network's in the sum
    of both log-odds, each divided by its deviation on the validation clips.
    """

    pieces: int = 20_000
    columns: int = 13
    window: int = 4
    units: int = 256
    members: int = 3
    hidden: int = 64
    steps: int = 2_400
    batch: int = 128
    rate: float = 1e-3
    decay: float = 0.3
    units_decay: float = 0.05
    dropout: float = 0.3
    outputs_dropout: float = 0.1
    smoothing: float = 0.1
    share: float = 0.7
    seed: int = 0


@dataclass(slots=True)
class Lessons:
    """What the convolutions made of ``n`` pieces.

    ``outputs`` are, of each stack, float16 ``[n, columns, frames, outputs]``, the first ``counts`` columns of which are
    sound. ``chances`` say how often a piece is learnt from.
    """

    outputs: list[Said]
    counts: npt.NDArray[np.intp]
    labels: FloatArray
    chances: Scores


@dataclass(frozen=True, slots=True)
class Figures:
    """Validation figures of the trained network, of the new one, and of both."""

    alone: dict[str, float]
    spectral: dict[str, float]
    fused: dict[str, float]


def draw(store: Fresh, config: FuseConfig) -> list[Clip]:
    """Give the clips that pieces are taken of: all in random order, and again, until there are enough.

    Raises:
        DataError: one of the classes is missing, or not among so few pieces.
    """
    store.refresh()
    if len({entry.label for entry in store.entries}) < 2:
        raise DataError("training needs human and synthetic clips that can be read and are not excluded")
    rng, clips = np.random.default_rng(config.seed), store.clips
    named = list(dict.fromkeys(entry.clip for entry in store.entries))
    rounds = -(-config.pieces // len(named))
    order = np.concatenate([rng.permutation(len(named)) for _ in range(rounds)])[: config.pieces]
    drawn = [clips[named[at]] for at in order]
    if len({clip.label for clip in drawn}) < 2:
        raise DataError(f"all of the {len(drawn)} pieces would be of one class; give more --pieces")
    return drawn


def chances(clips: Sequence[Clip]) -> Scores:
    """Probability of each of ``clips``: both classes alike, families and sources more evenly than they are there."""
    result = np.zeros(len(clips))
    for label in (0, 1):
        mine = [number for number, clip in enumerate(clips) if clip.label == label]
        result[mine] = weights([clips[number].stratum for number in mine], EXPONENT, len(clips)) / 2
    return result


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
    """Give the network that hears single frequencies its convolutions; its units and its head know nothing yet.

    Raises:
        DependencyError: the weights of the convolutions are not installed.
    """
    network = SpectralNet(config.members * config.hidden, hears, config.members * config.units)
    for name, stack in zip(hears, network.each(), strict=True):
        stack.adopt(WEIGHTS[name]())
    # In this order of memory the convolutions take half of the time on a CPU.
    return network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


@torch.inference_mode()
def hear(
    network: FusedNet,
    pieces: Pieces,
    front_end: FrontEnd,
    folder: Path,
    *,
    place: Place,
    workers: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> Lessons:
    """Let the convolutions hear ``pieces``; ``workers`` processes make pieces ahead.

    What they say lies in files in ``folder``, for as long as the lessons are used.

    Raises:
        DataError: the disk has no room for it.
    """
    network.eval()
    stacks = network.spectral.each()
    shapes = [(len(pieces), pieces.columns, stack.frames // EVERY, stack.outputs) for stack in stacks]
    _look_for_room(folder, sum(2 * math.prod(shape) for shape in shapes))
    outputs: list[Said] = [
        np.memmap(folder / f"{number}.outputs", np.float16, "w+", shape=shape) for number, shape in enumerate(shapes)
    ]
    counts: list[int] = []
    loader = DataLoader(pieces, batch_size=ROWS, num_workers=workers, collate_fn=list, persistent_workers=False)
    for batch in loader:
        samples = np.stack([piece for piece, _ in batch])
        features = torch.from_numpy(front_end(samples, front_end.start(len(samples)))[0]).to(place.device)
        with place.autocast():
            said = network.spectral.outputs(features[:, :, network.mels :], Timeline(None))
        for file, part in zip(outputs, said, strict=True):
            file[len(counts) : len(counts) + len(batch)] = part[:, :, ::EVERY].half().cpu().numpy()
        counts += [count for _, count in batch]
        for _ in batch:
            advance()
    labels = np.array([clip.label for clip in pieces.clips], np.float32)
    return Lessons(outputs, np.array(counts, np.intp), labels, chances(pieces.clips))


def _look_for_room(folder: Path, size: int) -> None:
    """Look for ``size`` bytes before the files grow: a disk that fills up under them would kill the process."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise DataError(
            f"{folder}: {free / 1e9:.1f} GB are free, and what is heard takes {size / 1e9:.1f} GB; "
            "make room, write elsewhere, or give fewer --pieces"
        )


class Member(nn.Module):
    """One of the networks whose mean the second network is: units on outputs of one stack, and a head."""

    def __init__(self, usual: tuple[Tensor, Tensor], config: FuseConfig) -> None:
        super().__init__()
        middle, spread = usual
        self.middle: Tensor
        self.spread: Tensor
        self.register_buffer("middle", middle)
        self.register_buffer("spread", spread)
        self.forget, self.before, self.after = (
            nn.Dropout(rate) for rate in (config.outputs_dropout, config.dropout, config.dropout)
        )
        self.units = nn.Linear(len(middle), config.units)
        self.normalise = nn.BatchNorm1d(2 * config.units, affine=False, momentum=2 * AVERAGING)
        self.hidden, self.head = nn.Linear(2 * config.units, config.hidden), nn.Linear(config.hidden, 1)

    def moments(self, outputs: Tensor, sound: Tensor, place: Place) -> Tensor:
        """Normalised moments ``[n, 2 units]`` of ``[n, frames, outputs]``, where ``sound`` ``[n, frames]``."""
        kept = self.forget(torch.ones_like(outputs[:, :1]))  # all frames of an example without the same outputs
        with place.autocast():
            said = functional.relu(self.units((outputs - self.middle) / self.spread * kept)).float()
        mean, square = (
            (value * sound[:, :, None]).sum(1) / sound.sum(1, keepdim=True) for value in (said, said.square())
        )
        result: Tensor = self.normalise(moments(mean, square)).clamp(-LIMIT, LIMIT)
        return result

    def forward(self, normalised: Tensor) -> Tensor:
        """Log-odds of ``[n, 2 units]``."""
        result: Tensor = self.head(self.after(functional.relu(self.hidden(self.before(normalised)))))
        return result.squeeze(1)


def examples(
    lessons: Lessons, rows: npt.NDArray[np.intp], window: int, rng: np.random.Generator
) -> tuple[list[Tensor], Tensor]:
    """Take outputs ``[rows, frames, outputs]`` of each stack in ``window`` columns somewhere in each piece.

    The second part ``[rows, frames]`` is 1 where they are sound and else 0.
    """
    end = rng.integers(np.minimum(window, lessons.counts[rows]), lessons.counts[rows] + 1)
    begin = np.maximum(0, end - window)
    columns = begin[:, None] + np.arange(window)
    taken = np.minimum(columns, lessons.outputs[0].shape[1] - 1)
    parts = [torch.from_numpy(outputs[rows[:, None], taken]).flatten(1, 2).float() for outputs in lessons.outputs]
    sound = np.repeat(columns < end[:, None], lessons.outputs[0].shape[2], axis=1)
    return parts, torch.from_numpy(sound.astype(np.float32))


def fit_head(
    spectral: SpectralNet,
    lessons: Lessons,
    config: FuseConfig,
    place: Place,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Fit units and head of ``spectral`` on what was heard; repeatable by the seed.

    Each stack has ``members`` networks of its own.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        join(spectral, _fitted(lessons, config, place, advance))


def _fitted(lessons: Lessons, config: FuseConfig, place: Place, advance: Callable[[], None]) -> list[list[Member]]:
    """Members of each stack."""
    rng = np.random.default_rng(config.seed)
    some = rng.choice(len(lessons.counts), min(FEW, len(lessons.counts)), replace=False)
    usual = [_usual(outputs[np.sort(some)]) for outputs in lessons.outputs]
    members = [[Member(one, config).to(place.device) for _ in range(config.members)] for one in usual]
    averages = copy.deepcopy(members)
    each = [pair for ours, means in zip(members, averages, strict=True) for pair in zip(ours, means, strict=True)]
    units = [weight for member, _ in each for weight in member.units.parameters()]
    heads = [weight for member, _ in each for part in (member.hidden, member.head) for weight in part.parameters()]
    groups = [{"params": units, "weight_decay": config.units_decay}, {"params": heads, "weight_decay": config.decay}]
    optimizer = torch.optim.AdamW(groups, lr=config.rate)
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.rate * schedule(step / config.steps)
        rows = rng.choice(len(lessons.counts), config.batch, p=lessons.chances)
        parts, sound = examples(lessons, rows, config.window, rng)
        sound, labels = sound.to(place.device), torch.from_numpy(lessons.labels[rows]).to(place.device)
        loss = torch.zeros((), device=place.device)
        for ours, part in zip(members, parts, strict=True):
            outputs = part.to(place.device)
            for member in ours:
                normalised = member.moments(outputs, sound, place)
                loss = loss + _mixed_loss(member, normalised, labels, config.smoothing)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            for member, average in each:
                for now, mean in zip(member.parameters(), average.parameters(), strict=True):
                    mean.lerp_(now, AVERAGING)
        advance()
    for member, average in each:
        average.normalise.load_state_dict(member.normalise.state_dict())
    return [[average.cpu().eval() for average in ours] for ours in averages]


def _usual(outputs: Said) -> tuple[Tensor, Tensor]:
    """Mean and deviation ``[outputs]``."""
    flat = torch.from_numpy(outputs).flatten(0, 2).float()
    return flat.mean(dim=0), flat.std(dim=0) + LEAST


def _mixed_loss(member: Member, normalised: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy of pairs of examples, mixed in all proportions alike."""
    smooth = labels * (1 - smoothing) + smoothing / 2
    part = torch.rand(len(labels)).to(labels.device)
    other = torch.randperm(len(labels)).to(labels.device)
    mixed = torch.lerp(normalised[other], normalised, part[:, None])
    return functional.binary_cross_entropy_with_logits(member(mixed), torch.lerp(smooth[other], smooth, part))


@torch.no_grad()
def join(spectral: SpectralNet, fitted: Sequence[Sequence[Member]]) -> None:
    """Make one network of the members: the mean of each stack's, and the mean of the stacks'."""
    centres: list[Tensor] = []
    spreads: list[Tensor] = []
    heads: list[Member] = []
    for stack, hidden, members in zip(spectral.each(), spectral.hidden, fitted, strict=True):
        assert isinstance(hidden, nn.Linear)
        units = [member.units for member in members]
        stack.units.weight.copy_(torch.cat([u.weight / m.spread for u, m in zip(units, members, strict=True)]))
        shifts = [u.bias - u.weight @ (m.middle / m.spread) for u, m in zip(units, members, strict=True)]
        stack.units.bias.copy_(torch.cat(shifts))
        usual = [member.normalise for member in members]
        centres += _by_moment([_known(one.running_mean) for one in usual])
        spreads += _by_moment([(_known(one.running_var) + one.eps).sqrt() for one in usual])
        # A member's hidden units hear nothing of the others' units.
        blocks = [member.hidden.weight.chunk(2, dim=1) for member in members]
        hidden.weight.copy_(torch.cat([_diagonal(part) for part in zip(*blocks, strict=True)], dim=1))
        hidden.bias.copy_(torch.cat([member.hidden.bias for member in members]))
        heads += members
    spectral.centre.copy_(torch.cat(centres))
    spectral.spread.copy_(torch.cat(spreads))
    spectral.head.weight.copy_(torch.cat([member.head.weight for member in heads], dim=1) / len(heads))
    spectral.head.bias.copy_(torch.stack([member.head.bias for member in heads]).mean(dim=0))


def _by_moment(members: Sequence[Tensor]) -> list[Tensor]:
    """Means of all members, then deviations of all."""
    return [part for parts in zip(*(one.chunk(2) for one in members), strict=True) for part in parts]


def _diagonal(blocks: Sequence[Tensor]) -> Tensor:
    result: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return result


def _known(running: Tensor | None) -> Tensor:
    assert running is not None
    return running


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
