"""Training: plain torch, because one loop over one network needs no framework, and every line of it can be read.

On a CPU several single-thread processes that average their gradients waste far less than one process with several
threads: they meet once a step and not twice a layer. On a machine with other work the difference was tenfold.

All random draws of a step derive from (seed, step, rank). A run that is stopped and resumed therefore ends with the
same weights as one that was not, as long as the feature cache did not grow meanwhile.
"""

from __future__ import annotations

import hashlib
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import progress as bars
from rich.console import Console
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessException, spawn

from streamdet.errors import ModelError, StreamdetError
from streamdet.features import FrontEndConfig
from streamdet.features.logmel import FloatArray, mel_filters
from trainer import curves
from trainer.data.batches import Batch, Cropper
from trainer.data.cache import FeatureCache
from trainer.data.errors import DataError
from trainer.data.feed import Feed, Selection
from trainer.data.fresh import Fresh
from trainer.data.manifest import Clip
from trainer.losses import contrastive_loss, imitation_loss, softened, window_loss
from trainer.models.pupil import Pupil
from trainer.models.resnet import CausalResNet, front_end_of, read_checkpoint
from trainer.place import Amp, Device, Place, joined, launched
from trainer.shape import FrameAugment
from trainer.teacher import Targets
from trainer.validation import Validation

REFRESH = 120.0  # seconds between looks at the cache
CHANGEABLE = (  # options that may change when a run goes on, or that are compared elsewhere
    *("steps", "minutes", "patience", "evaluate_minutes", "evaluate_steps"),
    *("processes", "workers", "amp", "device", "compiled"),
    *("width", "causal", "dropout"),  # compared with the network itself
)


@dataclass(frozen=True, slots=True)
class FitConfig:
    """Options of a run; the run ends with ``steps`` or ``minutes``, whichever comes first (0: no limit).

    ``patience`` ends it earlier, when so many evaluations in a row brought no lower mean EER over groups (0: never).
    ``without`` names steps of :class:`trainer.shape.FrameAugment`; ``workers`` is how many processes draw batches
    ahead; ``processes`` is how many share a batch on a CPU, under ``torchrun`` that says how many there are.
    """

    width: float = 0.5
    batch: int = 64
    steps: int = 0
    minutes: float = 0.0
    rate: float = 1.5e-3
    weight_decay: float = 0.1
    smoothing: float = 0.05
    column_share: float = 0.2
    contrastive: float = 0.0
    imitation: float = 1.0
    verdict: float = 0.0
    dropout: float = 0.1
    average: float = 0.999
    selection: Selection = field(default_factory=Selection)
    augment: float = 1.0
    without: tuple[str, ...] = ()
    shortest: int = 128
    longest: int = 384
    seed: int = 0
    processes: int = 1
    workers: int = 0
    amp: Amp = "auto"
    device: Device = "auto"
    compiled: bool = False
    evaluate_minutes: float = 4.0
    evaluate_steps: int = 0
    patience: int = 0
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
    """A run: options, feature cache, folder for what comes out, validation clips, and log-mels of noise to mix in.

    In place of the cache may stand what makes features anew for each batch.

    ``teacher`` is a file of :class:`trainer.teacher.Targets`, which the network learns to give beside the labels, and
    whose verdicts take the share ``verdict`` of the labels. Of the cache only ``clips`` are used, the training clips of
    the manifests; None means all that it holds. A new run begins with the weights of ``start``, a checkpoint of another
    run; one that goes on does not look into it. ``made`` says by which noise, steps and settings features are made: the
    same when the run goes on.
    """

    config: FitConfig
    cache: Path | Fresh
    out: Path
    val: Sequence[Clip] = ()
    noise: Sequence[FloatArray] = ()
    teacher: Path | None = None
    clips: Sequence[Clip] | None = None
    start: Path | None = None
    made: Mapping[str, str] = field(default_factory=dict)


def schedule(share: float, warm: float = 0.04, last: float = 0.005) -> float:
    """Factor on the learning rate: a linear rise, then half a cosine down to ``last``."""
    if share < warm:
        return 0.05 + 0.95 * share / warm
    return last + (1.0 - last) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, (share - warm) / (1.0 - warm))))


def telephone_edge(config: FrontEndConfig) -> float:
    """Where 3.4 kHz, the end of a telephone's band, lies on the scale of the bands, as a share of it."""
    centres = mel_filters(config).argmax(axis=0) * config.rate / config.fft
    return float(np.searchsorted(centres, 3_400.0) / config.mels)


class Fit:
    """One process of a run; rank 0 evaluates, reports and saves."""

    def __init__(self, task: Task, place: Place) -> None:
        self.config, self.out, self.place = task.config, task.out, place
        self._start, self._origin = _named(task.start), _origin(task)
        cache = task.cache if isinstance(task.cache, Fresh) else FeatureCache(task.cache)
        config = task.config
        self.front_end = cache.config
        self._validation = Validation(task.val, self.front_end) if place.rank == 0 and task.val else None
        for name, why in sorted(self._validation.skipped.items()) if self._validation else ():
            _say(f"skipped {name}: {why}")
        self.network, self.average = self._networks(None if (self.out / "last.pt").exists() else task.start)
        targets = Targets(task.teacher) if task.teacher else None
        if config.verdict > 0.0 and not (targets and targets.has_verdicts):
            raise DataError(
                f"{task.teacher or 'no teacher'}: holds no verdicts to take the place of labels; make a file of clips "
                "of both classes by `trainer data teach` and give it as the teacher"
            )
        self._pupil = Pupil(self.network, targets.size if targets else 0).to(place.device)
        self._optimizer = torch.optim.AdamW(parameter_groups(self._pupil, config.weight_decay), lr=config.rate)
        self._scaler = torch.amp.GradScaler(place.device.type, enabled=place.half is torch.float16)
        augment = FrameAugment(
            task.noise, strength=config.augment, without=config.without, top=telephone_edge(self.front_end)
        )
        cropper = Cropper(self.front_end, augment, shortest=config.shortest, longest=config.longest)
        size = config.batch // place.processes
        self._feed = Feed(
            cache,
            cropper,
            config.selection,
            size=size,
            seed=config.seed,
            rank=place.rank,
            targets=targets,
            clips=task.clips,
        )
        self._batches: Iterator[Batch] = iter(())
        self.step, self.elapsed, self.loss = 0, 0.0, math.nan
        self.best, self.stale, self._had = math.inf, 0, 0
        self._evaluated, self._refreshed = 0.0, -math.inf
        self._resume()
        self._parallel = place.parallel(self._pupil, compiled=config.compiled)
        self._started = time.monotonic() - self.elapsed

    def _networks(self, start: Path | None) -> tuple[CausalResNet, CausalResNet]:
        """Make the network and its moving average, equal, and the same in all processes."""
        config = self.config
        torch.manual_seed(config.seed)
        pair = [CausalResNet(config.width, self.front_end.mels, config.causal, config.dropout) for _ in range(2)]
        weights = pair[0].state_dict() if start is None else _weights(start, pair[0].settings, self.front_end)
        for network in pair:
            network.load_state_dict(weights)
            network.to(self.place.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return pair[0], pair[1]

    def run(self, report: Report) -> None:
        """Train until the limit, or until patience is over; evaluate and save on the way and at the end."""
        if self._over():
            if self.place.rank == 0:
                _say(
                    f"{self.out}: the run is over since step {self.step}; more steps, minutes or patience let it go on"
                )
            return
        if self.place.rank == 0 and self._validation is None:
            _say("no clips in the split val: no best.pt will be written, average.pt is what to export")
        share = 0.0
        with _bar(shown=self.place.rank == 0) as show:
            while share < 1.0:
                self._refresh()
                share, evaluate = self._train_step()
                self.step += 1
                show(f"step {self.step}  loss {self.loss:.3f}", share)
                if (evaluate or share >= 1.0) and self._pause(share, report):
                    break

    def _over(self) -> bool:
        """Whether a run that goes on has reached one of its limits already."""
        return self._share(self.step) >= 1.0 or self._lost_patience(self.stale)

    def _lost_patience(self, stale: float) -> bool:
        return 0 < self.config.patience <= stale

    def _pause(self, share: float, report: Report) -> bool:
        """Evaluate, and return whether patience is over."""
        if self.place.rank == 0:
            report(self._evaluate(share))
        (stale,) = self.place.agree(self.stale)
        return self._lost_patience(stale)

    def _train_step(self) -> tuple[float, bool]:
        """Return the share of the run that is done and whether to evaluate now: rank 0 says so for all ranks."""
        config = self.config
        key = (config.seed, self.step, self.place.rank)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        self._parallel.train()
        loss = self._loss(next(self._batches))
        self._optimizer.zero_grad()
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        value = float(loss.detach())
        self.loss = value if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * value
        self.elapsed = time.monotonic() - self._started
        share, evaluate = self.place.agree(self._share(self.step + 1), self._due())
        self._scaler.unscale_(self._optimizer)
        nn.utils.clip_grad_norm_(self._pupil.parameters(), 2.0)
        for group in self._optimizer.param_groups:
            group["lr"] = config.rate * schedule(share)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._move_average()
        return share, evaluate > 0.5

    def _loss(self, batch: Batch) -> Tensor:
        config = self.config
        features, mask, labels, targets, verdicts = self.place.tensors(batch)
        wanted = softened(labels, verdicts, config.verdict)
        with self.place.autocast():
            columns, embedding, guess = self._parallel(features, mask)
        loss = window_loss(columns, mask, wanted, smoothing=config.smoothing, column_share=config.column_share)
        if config.contrastive > 0.0:
            loss = loss + config.contrastive * contrastive_loss(embedding, mask, labels)
        if targets.shape[1]:
            loss = loss + config.imitation * imitation_loss(guess, targets)
        return loss

    def _share(self, steps: int) -> float:
        by_steps = steps / self.config.steps if self.config.steps else 0.0
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
            batch = self._feed.draw(np.random.default_rng((self.config.seed, self.step, number, 1)))
            with torch.no_grad(), self.place.autocast():
                self.average(self.place.tensors(batch)[0])

    def _refresh(self) -> None:
        """Take in what the cache has gained, now and then."""
        if time.monotonic() - self._refreshed < REFRESH:
            return
        self._refreshed = time.monotonic()
        if self._feed.refresh():
            self._refuse_fewer()
            if self._validation:
                self._validation.compare(self._feed.entries)
            self._batches = self._feed.steps(self.step, self.config.workers)

    def _refuse_fewer(self) -> None:
        """Refuse another cache: that of the run may have grown while it was stopped, and never has less."""
        now, stored = len(self._feed.entries), isinstance(self._feed.cache, FeatureCache)
        if stored and now < self._had:
            raise DataError(
                f"{self._feed.cache.folder}: holds {now} variants of the training clips, and {self.out} was trained on "
                f"{self._had}; give the --cache of that run, or choose another folder (--out)"
            )

    def _evaluate(self, share: float) -> Progress:
        self._evaluated = self.elapsed
        self._settle()
        figures = self._validation.figures(self.average, place=self.place) if self._validation else {}
        state = Progress(self.step, self.elapsed / 60.0, share, self.loss, len(self._feed.entries), figures)
        mean = {**self.average.checkpoint(), **self._notes(), "figures": figures, "step": self.step}
        self.stale += 1 if figures else 0
        if figures and figures["group_eer"] < self.best:
            self.best, self.stale = figures["group_eer"], 0
            save(self.out / "best.pt", mean)
        save(self.out / "average.pt", mean)
        self._save()
        curves.append(self.out / "log.csv", {k: v for k, v in asdict(state).items() if k != "val"} | state.val)
        curves.draw(self.out / "log.csv", self.out / "curves.png")
        return state

    def _notes(self) -> dict[str, Any]:
        """Give what a checkpoint says beside its weights."""
        return {
            "front_end": self.front_end.to_dict(),
            "config": asdict(self.config),
            "on_the_fly": isinstance(self._feed.cache, Fresh),
            "start": self._start,
            "origin": self._origin,
        }

    def _save(self) -> None:
        save(
            self.out / "last.pt",
            {
                **self.network.checkpoint(),
                **self._notes(),
                "average": self.average.state_dict(),
                "guess": self._pupil.guess.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "scaler": self._scaler.state_dict(),
                "step": self.step,
                "elapsed": self.elapsed,
                "best": self.best,
                "stale": self.stale,
                "entries": len(self._feed.entries),
                "loss": self.loss,
            },
        )

    def _resume(self) -> None:
        path = self.out / "last.pt"
        if not path.exists():
            return
        stored = _stored(path)
        _refuse_network(path, stored, self.network.settings)
        if stored.get("front_end", FrontEndConfig().to_dict()) != self.front_end.to_dict():
            raise DataError(f"{path}: was trained on another front end ({stored['front_end']}); choose another folder")
        guess, there = stored.get("guess", {}), self._pupil.guess.state_dict()
        if {name: part.shape for name, part in guess.items()} != {name: part.shape for name, part in there.items()}:
            raise DataError(f"{path}: was trained with another teacher, or with none; choose another folder")
        self.network.load_state_dict(stored["weights"])
        self._pupil.guess.load_state_dict(guess)
        self.average.load_state_dict(stored["average"])
        self._optimizer.load_state_dict(stored["optimizer"])
        self._optimizer.param_groups[0]["weight_decay"] = self.config.weight_decay
        if stored.get("scaler"):
            self._scaler.load_state_dict(stored["scaler"])
        self.step, self.elapsed, self.best = stored["step"], stored["elapsed"], stored["best"]
        self.stale, self._had = stored.get("stale", 0), stored.get("entries", 0)
        self.loss, self._evaluated = stored["loss"], stored["elapsed"]


def _weights(start: Path, wanted: dict[str, Any], front_end: FrontEndConfig) -> dict[str, Any]:
    """Weights of a checkpoint for a network of the settings ``wanted``; dropout, which has none, may differ."""
    there = CausalResNet.from_checkpoint(start)
    if (trained := front_end_of(start)) != front_end:
        raise DataError(
            f"{start}: was trained on another front end ({trained.to_dict()}) than the features have "
            f"({front_end.to_dict()}); leave --mels and --bands out, and give another --cache"
        )
    settings = {**there.settings, "dropout": wanted["dropout"]}
    if settings != wanted:
        raise DataError(
            f"{start}: holds another network ({settings}) than is asked for ({wanted}); give the --width and "
            "--padding of the first"
        )
    return there.state_dict()


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Options of a run that are not what they were, in words; those that ``before`` does not know are passed over."""
    found: list[str] = []
    for name, value in now.items():
        there = before.get(name, value)
        if isinstance(value, dict):
            found += changes(there, value)
        elif name not in CHANGEABLE and there != value:
            found.append(f"{name} {_words(there)} instead of {_words(value)}")
    return found


def check(task: Task) -> None:
    """See, before any long work, that ``task`` can run and is what its folder holds.

    Raises:
        DataError: options contradict each other, what they name, or those of the run that is to go on.
        ModelError: a checkpoint cannot be read.
    """
    config, processes = task.config, _processes(task.config)
    if config.patience and not task.val:
        raise DataError("patience needs validation clips; give a manifest with a split val, or no --patience")
    if config.batch % processes:
        raise DataError(f"{processes} processes cannot share a batch of {config.batch} evenly; give another --batch")
    if config.device == "cuda" and config.processes > 1:
        raise DataError(
            "--processes share a batch on a CPU; leave it out for one GPU, or let torchrun start one process a GPU"
        )
    front_end = task.cache.config if isinstance(task.cache, Fresh) else FeatureCache(task.cache).config
    wanted = {"width": config.width, "mels": front_end.mels, "causal": config.causal, "dropout": config.dropout}
    if (path := task.out / "last.pt").exists():
        stored = _stored(path)
        _refuse_changes(path, stored, task)
        _refuse_network(path, stored, wanted)
    elif task.start is not None:
        _weights(task.start, wanted, front_end)


def _processes(config: FitConfig) -> int:
    return int(os.environ.get("WORLD_SIZE", "1")) if launched() else config.processes


def _refuse_network(path: Path, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    if stored["network"] != wanted:
        raise DataError(f"{path}: holds another network ({stored['network']}) than {wanted}; choose another folder")


def _refuse_changes(path: Path, stored: dict[str, Any], task: Task) -> None:
    begun = {"start": stored["start"]} if "start" in stored else {}
    changed = changes({**stored.get("config", {}), **begun}, {**asdict(task.config), "start": _named(task.start)})
    now = isinstance(task.cache, Fresh)
    if (fresh := stored.get("on_the_fly", now)) != now:
        changed.append("features on the fly instead of a cache" if fresh else "a cache instead of features on the fly")
    known = stored.get("origin", {})
    changed += [f"other {name}" for name, value in _origin(task).items() if known.get(name, value) != value]
    if changed:
        raise DataError(
            f"{path}: was trained with {', '.join(changed)}; choose another folder (--out), to which --start can take "
            "its weights"
        )


def _stored(path: Path) -> dict[str, Any]:
    """Read what a run left to be resumed from."""
    try:
        stored = read_checkpoint(path)
    except ModelError as error:
        raise DataError(f"{error}; choose another folder (--out), or remove it to begin anew") from error
    if missing := {"network", "weights", "average", "optimizer", "step", "elapsed", "best", "loss"} - stored.keys():
        raise DataError(
            f"{path}: nothing to resume a run from, as it lacks {', '.join(sorted(missing))}; choose another folder "
            "(--out), or remove it to begin anew"
        )
    return stored


def _origin(task: Task) -> dict[str, str]:
    """Tell by digests what a run learns from and is judged by, so that it may lie elsewhere when the run goes on."""
    return {
        **task.made,
        "targets of a teacher": _digest(b"" if task.teacher is None else task.teacher.read_bytes()),
        "training clips": "all" if task.clips is None else _digest_of(task.clips),
        "validation clips": _digest_of(task.val),
    }


def _digest_of(clips: Sequence[Clip]) -> str:
    """Of what training and validation make of clips; neither their order nor their place counts."""
    return _digest("\n".join(sorted(repr((c.id, c.label, c.stratum, c.source, c.parent)) for c in clips)).encode())


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _named(start: Path | None) -> str:
    return "nothing" if start is None else str(start)


def _words(value: object) -> str:
    return " ".join(map(str, value)) or "nothing" if isinstance(value, tuple) else str(value)


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


def _say(text: str) -> None:
    """Write a line to standard error."""
    Console(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)


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
    """Run ``task``: writes ``best.pt``, ``average.pt``, ``last.pt``, ``log.csv`` and ``curves.png``.

    When the folder holds a ``last.pt`` the run goes on from there. ``report`` is called in another process when there
    are several, so it must be a plain function.

    Raises:
        DataError: the cache, the folder or the device cannot be used as ``task`` says, or equal audio has
            contradicting labels, be it for training or for validation.
    """
    if launched() and task.config.processes > 1:
        raise DataError("torchrun says how many processes there are; leave the option processes alone")
    task.out.mkdir(parents=True, exist_ok=True)
    check(task)
    processes = _processes(task.config)
    if launched():
        _process(int(os.environ["RANK"]), task, report, None, processes)
        return
    if processes == 1:
        _process(0, task, report, None, 1)
        return
    meeting = (task.out / "processes.meeting").absolute()
    refusal = task.out / "processes.refusal"
    for file in (meeting, refusal):
        file.unlink(missing_ok=True)
    try:
        spawn(_alone, (task, report, meeting.as_uri(), refusal), processes)  # type: ignore[no-untyped-call]
    except ProcessException:  # of the one that refused, or of another that misses it
        if refusal.exists():
            text = refusal.read_text(encoding="utf-8")
            refusal.unlink()
            raise DataError(text) from None
        raise


def _alone(rank: int, task: Task, report: Report, meeting: str, refusal: Path) -> None:
    """One of several processes on a CPU: one thread, and no GPU, which they would have to share.

    What it refuses to do is left in ``refusal``: an exception would reach the user with the tracebacks of both sides.
    """
    # Torch ends this process by that signal when its parent dies; what a shell runs in the background ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    config = replace(task.config, device="cpu")
    try:
        _process(rank, replace(task, config=config), report, meeting, config.processes)
    except StreamdetError as error:
        refusal.write_text(str(error), encoding="utf-8")
        raise SystemExit(error.exit_code) from error


def _process(rank: int, task: Task, report: Report, meeting: str | None, processes: int) -> None:
    with joined(task.config.amp, task.config.device, rank, processes, meeting) as place:
        Fit(task, place).run(report)
