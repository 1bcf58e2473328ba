"""Training: plain torch, because one loop over one network needs no framework, and every line of it can be read.

On a CPU several single-thread processes that average their gradients waste far less than one process with several
threads: they meet once a step and not twice a layer. On a machine with other work the difference was tenfold.

All random draws of a step derive from (seed, step, rank). A run that is stopped and resumed therefore ends with the
same weights as one that was not, as long as the feature cache did not grow meanwhile.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from rich import progress as bars
from rich.console import Console
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from streamdet.features.logmel import FloatArray
from trainer.data.batches import Batch, Cropper
from trainer.data.cache import FeatureCache
from trainer.data.errors import DataError
from trainer.data.manifest import Clip
from trainer.data.sampler import BalancedSampler
from trainer.losses import contrastive_loss, window_loss
from trainer.models.resnet import CausalResNet
from trainer.shape import FrameAugment
from trainer.validation import Validation


@dataclass(frozen=True, slots=True)
class FitConfig:
    """Options of a run; the run ends with ``steps`` or ``minutes``, whichever comes first (0: no limit)."""

    width: float = 0.5
    batch: int = 64
    steps: int = 0
    minutes: float = 0.0
    rate: float = 1.5e-3
    weight_decay: float = 0.1
    smoothing: float = 0.05
    column_share: float = 0.2
    contrastive: float = 0.0
    dropout: float = 0.1
    average: float = 0.999
    exponent: float = 0.7
    cap: int = 100
    matched: float = 0.8
    copies: float = 2.0
    augment: float = 1.0
    shortest: int = 128
    longest: int = 384
    seed: int = 0
    processes: int = 1
    half: bool = True
    evaluate_minutes: float = 4.0
    evaluate_steps: int = 0
    causal: bool = True


@dataclass(frozen=True, slots=True)
class Progress:
    """State of a run at an evaluation; ``share`` of the whole is in [0, 1]."""

    step: int
    minutes: float
    share: float
    loss: float
    entries: int
    val: dict[str, float]


Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Task:
    """A run: options, feature cache, folder for what comes out, validation clips, and log-mels of noise to mix in."""

    config: FitConfig
    cache: Path
    out: Path
    val: Sequence[Clip] = ()
    noise: Sequence[FloatArray] = ()


def schedule(share: float, warm: float = 0.04, last: float = 0.005) -> float:
    """Factor on the learning rate: a linear rise, then half a cosine down to ``last``."""
    if share < warm:
        return 0.05 + 0.95 * share / warm
    return last + (1.0 - last) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, (share - warm) / (1.0 - warm))))


class Fit:
    """One process of a run; rank 0 evaluates, reports and saves."""

    def __init__(self, task: Task, rank: int = 0) -> None:
        self.config, self.out, self.rank = task.config, task.out, rank
        self.cache = FeatureCache(task.cache)
        self._validation = Validation(task.val, self.cache.config) if rank == 0 and task.val else None
        self.network, self.average = self._networks()
        self._optimizer = torch.optim.AdamW(
            parameter_groups(self.network, self.config.weight_decay), lr=self.config.rate
        )
        augment = FrameAugment(task.noise, strength=self.config.augment)
        self._cropper = Cropper(self.cache.config, augment, shortest=self.config.shortest, longest=self.config.longest)
        self._sampler: BalancedSampler | None = None
        self.step, self.elapsed, self.loss = 0, 0.0, math.nan
        self.best = math.inf
        self._evaluated, self._refreshed = 0.0, -math.inf
        self._resume()
        self._started = time.monotonic() - self.elapsed

    def _networks(self) -> tuple[CausalResNet, CausalResNet]:
        """Make the network and its moving average, equal, and the same in all processes."""
        config = self.config
        torch.manual_seed(config.seed)
        pair = [CausalResNet(config.width, self.cache.config.mels, config.causal, config.dropout) for _ in range(2)]
        pair[1].load_state_dict(pair[0].state_dict())
        for network in pair:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return pair[0], pair[1]

    def run(self, report: Report) -> None:
        """Train until the limit; evaluate and save on the way and at the end."""
        share = 0.0
        with _bar(shown=self.rank == 0) as show:
            while share < 1.0:
                self._refresh()
                share, evaluate = self._train_step()
                self.step += 1
                show(f"step {self.step}  loss {self.loss:.3f}", share)
                if evaluate or share >= 1.0:
                    self._pause(share, report)

    def _pause(self, share: float, report: Report) -> None:
        if self.rank == 0:
            report(self._evaluate(share))
        if self.config.processes > 1:
            dist.barrier()

    def _train_step(self) -> tuple[float, bool]:
        """Return the share of the run that is done and whether to evaluate now: rank 0 says so for all ranks."""
        config = self.config
        key = (config.seed, self.step, self.rank)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        self.network.train()
        loss = self._loss(self._batch(np.random.default_rng(key)))
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        value = float(loss.detach())
        self.loss = value if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * value
        share, evaluate = self._meet()
        nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        for group in self._optimizer.param_groups:
            group["lr"] = config.rate * schedule(share)
        self._optimizer.step()
        self._move_average()
        return share, evaluate

    def _batch(self, rng: np.random.Generator) -> Batch:
        assert self._sampler is not None
        index = self._sampler.draw(rng, self.config.batch // self.config.processes)
        return self._cropper.draw([self.cache.entries[i] for i in index], rng)

    def _loss(self, batch: Batch) -> Tensor:
        config = self.config
        mask, labels = torch.from_numpy(batch.mask), torch.from_numpy(batch.labels)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.half):
            columns, embedding = self.network(torch.from_numpy(batch.features))
        loss = window_loss(columns, mask, labels, smoothing=config.smoothing, column_share=config.column_share)
        if config.contrastive > 0.0:
            loss = loss + config.contrastive * contrastive_loss(embedding, mask, labels)
        return loss

    def _meet(self) -> tuple[float, bool]:
        """Average gradients over the processes in one message, which also carries rank 0's clock."""
        self.elapsed = time.monotonic() - self._started
        share, due = self._share(), self._due()
        if self.config.processes == 1:
            return share, due
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        clock = torch.tensor([share, float(due)]) if self.rank == 0 else torch.zeros(2)
        flat = torch.cat([g.flatten() for g in gradients] + [clock])
        dist.all_reduce(flat)
        at = 0
        for gradient in gradients:
            gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient) / self.config.processes)
            at += gradient.numel()
        return float(flat[-2]), bool(flat[-1] > 0.5)

    def _share(self) -> float:
        by_steps = (self.step + 1) / self.config.steps if self.config.steps else 0.0
        by_time = self.elapsed / 60.0 / self.config.minutes if self.config.minutes else 0.0
        return max(by_steps, by_time)

    def _due(self) -> bool:
        if self.config.evaluate_steps:
            return (self.step + 1) % self.config.evaluate_steps == 0
        return self.elapsed - self._evaluated >= 60.0 * self.config.evaluate_minutes

    def _move_average(self) -> None:
        decay = min(self.config.average, (self.step + 1.0) / (self.step + 10.0))
        with torch.no_grad():
            for mean, parameter in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(parameter, 1.0 - decay)

    def _settle(self, batches: int = 24) -> None:
        """Measure the averaged network's normalisation statistics.

        Averaged weights give activations of less variance than any of the networks that they average, so the average
        of those networks' statistics would be wrong (P. Izmailov et al., "Averaging Weights Leads to Wider Optima and
        Better Generalization", 2018, section 3.2).
        """
        for layer in self.average.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_running_stats()
                layer.momentum = None  # a plain mean over the batches
        self.average.train()
        for number in range(batches):
            batch = self._batch(np.random.default_rng((self.config.seed, self.step, number, 1)))
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self.config.half):
                self.average(torch.from_numpy(batch.features))

    def _refresh(self) -> None:
        """Take in what the cache has gained, at most every two minutes."""
        if time.monotonic() - self._refreshed < 120.0:
            return
        self._refreshed = time.monotonic()
        gained, config = self.cache.refresh(), self.config
        if len({e.label for e in self.cache.entries}) < 2:
            raise DataError(f"{self.cache.folder}: the cache needs human and synthetic clips")
        if gained or self._sampler is None:
            self._sampler = BalancedSampler(
                self.cache.entries,
                exponent=config.exponent,
                cap=config.cap,
                matched=config.matched,
                copies=config.copies,
            )

    def _evaluate(self, share: float) -> Progress:
        self._evaluated = self.elapsed
        self._settle()
        figures = self._validation.figures(self.average, half=self.config.half) if self._validation else {}
        state = Progress(self.step, self.elapsed / 60.0, share, self.loss, len(self.cache.entries), figures)
        if figures and figures["group_eer"] < self.best:
            self.best = figures["group_eer"]
            save(self.out / "best.pt", {**self.average.checkpoint(), "figures": figures, "step": self.step})
        save(self.out / "average.pt", {**self.average.checkpoint(), "figures": figures, "step": self.step})
        self._save()
        append_log(self.out / "log.csv", state)
        return state

    def _save(self) -> None:
        save(
            self.out / "last.pt",
            {
                **self.network.checkpoint(),
                "average": self.average.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "step": self.step,
                "elapsed": self.elapsed,
                "best": self.best,
                "loss": self.loss,
                "config": asdict(self.config),
            },
        )

    def _resume(self) -> None:
        path = self.out / "last.pt"
        if not path.exists():
            return
        stored = torch.load(path, weights_only=True)
        if stored["network"] != self.network.settings:
            raise DataError(f"{path}: holds another network ({stored['network']}); choose another folder")
        self.network.load_state_dict(stored["weights"])
        self.average.load_state_dict(stored["average"])
        self._optimizer.load_state_dict(stored["optimizer"])
        self._optimizer.param_groups[0]["weight_decay"] = self.config.weight_decay
        self.step, self.elapsed, self.best = stored["step"], stored["elapsed"], stored["best"]
        self.loss, self._evaluated = stored["loss"], stored["elapsed"]


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for weights proper, none for biases and normalisation."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint so that a kill in between leaves the former one whole."""
    partial = path.with_suffix(".tmp")
    torch.save(content, partial)
    partial.replace(path)


def append_log(path: Path, state: Progress) -> None:
    """One CSV line an evaluation."""
    row = {k: v for k, v in asdict(state).items() if k != "val"} | state.val
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


@contextmanager
def _bar(*, shown: bool) -> Iterator[Callable[[str, float], None]]:
    """Give a function that takes a text and the share that is done; both show where standard error is a terminal."""
    console = Console(stderr=True)
    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.TimeRemainingColumn())
    hidden = not (shown and console.is_terminal)
    with bars.Progress(*columns, console=console, disable=hidden, redirect_stdout=False) as bar:
        task = bar.add_task("fitting", total=1.0)
        yield lambda text, share: bar.update(task, description=text, completed=share)


def fit(task: Task, report: Report) -> None:
    """Run ``task``: writes ``best.pt``, ``average.pt``, ``last.pt`` and ``log.csv``.

    When the folder holds a ``last.pt`` the run goes on from there. ``report`` is called in another process when there
    are several, so it must be a plain function.
    """
    task.out.mkdir(parents=True, exist_ok=True)
    processes = task.config.processes
    if processes == 1:
        Fit(task).run(report)
        return
    meeting = (task.out / "processes.meeting").absolute()
    meeting.unlink(missing_ok=True)
    spawn(_process, (task, report, meeting.as_uri()), processes)  # type: ignore[no-untyped-call]


def _process(rank: int, task: Task, report: Report, meeting: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=task.config.processes)
    try:
        Fit(task, rank).run(report)
    finally:
        dist.destroy_process_group()
