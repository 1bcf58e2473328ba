"""The command line of the trainer."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NoReturn, cast, get_args

import numpy as np
import typer
from rich.console import Console

from streamdet.engine.modelfile import Calibration, ModelInfo, read_model
from streamdet.errors import ModelError, StreamdetError
from streamdet.features import FrontEnd, FrontEndConfig, LogMel
from streamdet.features.logmel import FloatArray
from trainer import fit as fitting
from trainer import fuse as fusing
from trainer.augment import RATE, Bank, WaveAugment, coloured
from trainer.bench import write_models
from trainer.calibrate import augmented, carried, operating_point
from trainer.calibrate import calibrate as fit_platt
from trainer.data.audio import read_audio, read_clips
from trainer.data.build import Builder, load_bank, name_of
from trainer.data.cache import FeatureCache, Settings
from trainer.data.cli import register
from trainer.data.errors import DataError
from trainer.data.feed import Selection, named
from trainer.data.fresh import Fresh
from trainer.data.manifest import Clip, read_manifests
from trainer.data.sampler import representative
from trainer.data.splits import clips_of
from trainer.data.synth.cli import app as data_app
from trainer.evaluate import evaluate as judge_scores
from trainer.evaluate import worst
from trainer.export import Precision, export_model
from trainer.models.fused import FusedNet
from trainer.models.merge import merge as join_networks
from trainer.models.resnet import CausalResNet, front_end_of
from trainer.options import Seed
from trainer.outputs import model_writable, output, picture, reason
from trainer.place import Amp, Device, Place, choose_device, choose_half, launched
from trainer.progress import list_skipped, shown, stage
from trainer.report import page, write_card
from trainer.scoring import ClipScore, score_clips
from trainer.shape import FrameAugment
from trainer.stamp import restamp
from trainer.streams.cli import stream_eval
from trainer.twin import Twin, agreement
from trainer.validation import Validation

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False)
console = Console(stderr=True)

Manifests = Annotated[list[Path], typer.Argument(help="Manifest CSV files; audio lies beside them or at `path`.")]
Noise = Annotated[Path | None, typer.Option(help="Folder of noise and impulse responses, described by NAME.csv.")]


Mels = Annotated[
    int | None, typer.Option(help="Bands of the features, 32, 64, 96 or 128; default: the cache's, else 64.")
]
Bands = Annotated[str | None, typer.Option(help="mel or linear bands; default: the cache's, else mel.")]
Without = Annotated[list[str] | None, typer.Option(help="Augmentation step to leave out; repeatable.")]
WithoutFamily = Annotated[
    list[str] | None, typer.Option("--exclude-family", help="Synthesizers to leave out, such as 'cs-*'; repeatable.")
]
WithoutSource = Annotated[list[str] | None, typer.Option("--exclude-source", help="Sources to leave out; repeatable.")]


@app.command()
def cache(
    manifests: Manifests,
    out: Annotated[Path, typer.Option(help="Cache folder.")],
    variants: Annotated[int, typer.Option(min=1, max=999, help="Augmented variants of each clip.")] = 6,
    noise: Noise = None,
    seconds: Annotated[float, typer.Option(min=0.5, max=600.0, help="Longest piece of a clip in one variant.")] = 6.0,
    clean: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of variants left nearly as they are.")] = 0.7,
    without: Without = None,
    exclude_family: WithoutFamily = None,
    exclude_source: WithoutSource = None,
    mels: Mels = None,
    bands: Bands = None,
    seed: Seed = 0,
    watch: Annotated[bool, typer.Option(help="Look for new manifest rows before each variant.")] = False,
) -> None:
    """Make augmented features of the training clips.

    Can run beside `trainer fit`, be stopped and be started again: what is there is kept. A cache holds the features of
    one front end; another one needs another folder.

    Use it so:

    `trainer cache corpus/manifest.csv --noise corpus/noise --variants 6 --out cache`

    `trainer cache corpus/manifest.csv --mels 96 --bands linear --without codec --out cache-lin96`
    """
    chosen = Selection(exclude_families=tuple(exclude_family or ()), exclude_sources=tuple(exclude_source or ()))
    steps = _steps(without, WaveAugment.STEPS)
    clips = _chosen(read_manifests(manifests, "train"), chosen)
    augment = WaveAugment(load_bank(noise, clips), clean=clean, without=steps)
    store = FeatureCache(out, _front_end(out, mels, bands))
    store.made_without(steps)
    store.made_with(_settings(noise, seed, clean, seconds))
    builder = Builder(store, augment, seconds=seconds, seed=seed)
    for variant in range(variants):
        clips = [c for c in read_manifests(manifests, "train") if chosen.wanted(c)] if watch else clips
        for earlier in range(variant + 1):
            _build(builder, clips, earlier)
    list_skipped(builder.report.skipped)


def _chosen(clips: list[Clip], selection: Selection) -> list[Clip]:
    """Clips that are not excluded; a pattern that excludes none is said."""
    for pattern in selection.idle(clips):
        said = f"nothing is excluded by '{pattern}': no family or source is called so"
        console.print(said, highlight=False, markup=False)
    return [c for c in clips if selection.wanted(c)]


def _refuse_one_class(clips: list[Clip]) -> None:
    """Refuse what cannot be trained on before hours go into its features.

    Raises:
        DataError: the clips are not of both classes.
    """
    fakes = sum(c.label for c in clips)
    if not 0 < fakes < len(clips):
        raise DataError(
            f"training needs human and synthetic clips that are not excluded; of {len(clips)} in split train "
            f"{fakes} are synthetic: give the manifests of both classes"
        )


def _settings(noise: Path | None, seed: int, clean: float = 0.7, seconds: float = 6.0) -> Settings:
    """Name what a cache notes of how its variants are made."""
    return {"seed": seed, "clean": clean, "seconds": seconds, "noise": name_of(noise)}


def _front_end(folder: Path, mels: int | None, bands: str | None) -> FrontEndConfig | None:
    """Front end that is asked for; None where the cache in ``folder`` may decide."""
    if bands not in (None, "mel", "linear"):
        raise typer.BadParameter(f"{bands} is neither mel nor linear", param_hint="--bands")
    if mels not in (None, 32, 64, 96, 128):
        raise typer.BadParameter(f"{mels} is none of 32, 64, 96, 128", param_hint="--mels")
    if mels is None and bands is None:
        return None
    there = FeatureCache(folder).config if (folder / "front_end.config").exists() else FrontEndConfig()
    return replace(there, mels=mels or there.mels, bands=cast(Any, bands) or there.bands)


def _steps(without: list[str] | None, known: tuple[str, ...]) -> tuple[str, ...]:
    for step in without or ():
        if step not in known:
            raise typer.BadParameter(f"{step} is none of {', '.join(known)}", param_hint="--without")
    return tuple(without or ())


def _build(builder: Builder, clips: list[Clip], variant: int) -> None:
    with shown(f"variant {variant}", len(clips)) as bar:
        builder.variant(clips, variant, bar.advance)
    console.print(f"variant {variant}: {len(clips)} clips, {builder.report.written} variants written", highlight=False)


def _report(state: fitting.Progress) -> None:
    figures = "  ".join(f"{k} {v:.4f}" for k, v in state.val.items())
    typer.echo(
        f"{state.minutes:7.1f} min  step {state.step}  {state.share:.1%}  loss {state.loss:.4f}  "
        f"variants {state.entries}  {figures}"
    )


@app.command()
def fit(
    manifests: Manifests,
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, log and curves.")],
    cache_folder: Annotated[Path | None, typer.Option("--cache", help="Feature cache; default OUT/cache.")] = None,
    on_the_fly: Annotated[
        bool,
        typer.Option("--on-the-fly", help="No cache and no --variants: recordings are distorted anew for each batch."),
    ] = False,
    noise: Noise = None,
    variants: Annotated[int, typer.Option(min=1, max=999, help="Variants to make of clips that the cache lacks.")] = 4,
    mels: Mels = None,
    bands: Bands = None,
    width: Annotated[
        float | None,
        typer.Option(min=0.05, max=4.0, help="Width of the network: 1.0, 0.5, 0.25; default: --start's, else 0.5."),
    ] = None,
    padding: Annotated[str, typer.Option(help="causal, or symmetric: a comparison that cannot stream.")] = "causal",
    start: Annotated[
        Path | None,
        typer.Option(help="Checkpoint whose weights a new run begins with; best with a lower --rate."),
    ] = None,
    steps: Annotated[int, typer.Option(min=0, help="End after so many steps (0: by time).")] = 0,
    minutes: Annotated[float, typer.Option(min=0.0, help="End after so many minutes (0: by steps).")] = 0.0,
    batch: Annotated[int, typer.Option(min=2, help="Crops a step, over all processes.")] = 64,
    rate: Annotated[float, typer.Option(min=0.0, max=1.0, help="Peak learning rate.")] = 1.5e-3,
    supcon: Annotated[
        float, typer.Option("--supcon", "--contrastive", min=0.0, help="Weight of the supervised contrastive term.")
    ] = 0.0,
    teacher: Annotated[
        Path | None, typer.Option(help="What a teacher says of the clips: `trainer data teach`.")
    ] = None,
    imitation: Annotated[float, typer.Option(min=0.0, help="Weight of the teacher's term.")] = 1.0,
    verdict: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of a label that is the teacher's verdict instead.")
    ] = 0.0,
    augment: Annotated[float, typer.Option(min=0.0, help="Strength of frame augmentation; 0 switches it off.")] = 1.0,
    without: Without = None,
    exclude_family: WithoutFamily = None,
    exclude_source: WithoutSource = None,
    exponent: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Balance: 0 draws families and sources alike, 1 every clip.")
    ] = 0.7,
    cap: Annotated[int, typer.Option(min=1, help="More clips of a family or source than so many add no weight.")] = 100,
    matched: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of synthetic clips with a human one of their source beside.")
    ] = 0.8,
    copies: Annotated[float, typer.Option(min=0.01, help="Factor on the weight of copies of human clips.")] = 2.0,
    processes: Annotated[int, typer.Option(min=1, help="Single-thread processes that share a batch on a CPU.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that draw batches ahead; worth it beside a GPU.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    amp: Annotated[str, typer.Option(help="Mixed precision: auto, off, bf16, fp16.")] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the network with torch.compile.")] = False,
    evaluate_minutes: Annotated[float, typer.Option(min=0.0, help="Minutes between evaluations.")] = 4.0,
    evaluate_steps: Annotated[int, typer.Option(min=0, help="Steps between evaluations, instead of minutes.")] = 0,
    patience: Annotated[
        int, typer.Option(min=0, help="End after so many evaluations that brought nothing; 0: never.")
    ] = 0,
    seed: Seed = 0,
) -> None:
    """Train a network on manifests with a train and, best, a val split; goes on where a stopped run ended.

    Of a cache only the training clips of the manifests are used; those that it lacks are made first.

    Use it so:

    `trainer fit corpus/manifest.csv --noise corpus/noise --minutes 60 --out run`

    `trainer fit corpus/manifest.csv --cache cache --steps 4000 --exclude-family 'cs-*' --out without-copies`

    `trainer fit corpus/manifest.csv --on-the-fly --workers 8 --minutes 60 --out run`

    `trainer fit corpus/manifest.csv new/manifest.csv --start run/best.pt --rate 5e-4 --minutes 30 --out tuned`

    `torchrun --nproc-per-node 4 -m trainer.cli fit corpus/manifest.csv --cache cache --steps 40000 --out run`
    """
    if not steps and not minutes:
        raise typer.BadParameter("give --steps or --minutes")
    if batch < 2 * processes:
        raise typer.BadParameter(f"{batch} is less than two crops a process", param_hint="--batch")
    folder = cache_folder or out / "cache"
    _one_of("--padding", padding, ("causal", "symmetric"))
    _one_of("--device", device, ("auto", "cpu", "cuda"))
    _one_of("--amp", amp, ("auto", "off", "bf16", "fp16"))
    left_out = _steps(without, (*WaveAugment.STEPS, *FrameAugment.STEPS))
    chosen = Selection(
        exclude_families=tuple(exclude_family or ()),
        exclude_sources=tuple(exclude_source or ()),
        exponent=exponent,
        cap=cap,
        matched=matched,
        copies=copies,
    )
    if on_the_fly and cache_folder is not None:
        raise typer.BadParameter("--on-the-fly uses no cache; leave --cache out", param_hint="--on-the-fly")
    listed = read_manifests(manifests)
    clips = _chosen([c for c in listed if c.split == "train"], chosen)
    _refuse_one_class(clips)
    bank = load_bank(noise, clips)
    in_samples = tuple(s for s in left_out if s in WaveAugment.STEPS)
    store: FeatureCache | Fresh
    front_end = _front_end(out if on_the_fly else folder, mels, bands)
    known = out / "last.pt" if start is not None and (out / "last.pt").exists() else start
    settings = {} if known is None else CausalResNet.from_checkpoint(known).settings
    if known is not None and front_end is None and not (folder / "front_end.config").exists():
        front_end = front_end_of(known)
    config = fitting.FitConfig(
        width=width or settings.get("width", 0.5),
        batch=batch,
        steps=steps,
        minutes=minutes,
        rate=rate,
        contrastive=supcon,
        imitation=imitation,
        verdict=verdict,
        selection=chosen,
        augment=augment,
        without=tuple(s for s in left_out if s in FrameAugment.STEPS),
        processes=processes,
        workers=workers,
        device=cast(Device, device),
        amp=cast(Amp, amp),
        compiled=compiled,
        evaluate_minutes=evaluate_minutes,
        evaluate_steps=evaluate_steps,
        patience=patience,
        causal=padding == "causal",
        seed=seed,
    )
    if on_the_fly:
        store = Fresh(clips, WaveAugment(bank, without=in_samples), front_end or FrontEndConfig())
    else:
        store = FeatureCache(folder, front_end)
    task = fitting.Task(
        config,
        store if isinstance(store, Fresh) else folder,
        out,
        val=[c for c in listed if c.split == "val"],
        noise=_noise_frames(bank, store.config),
        teacher=teacher,
        clips=clips,
        start=start,
        made={"noise": name_of(noise), **({"steps of --without": " ".join(sorted(in_samples))} if on_the_fly else {})},
    )
    fitting.check(task)
    if isinstance(store, Fresh):
        _hear(store)
    else:
        _prepare(store, clips, bank, variants, _settings(noise, seed), in_samples, own=cache_folder is None)
        made = {f"{name} of the cache": str(value) for name, value in store.settings.items()}
        made["steps of the cache"] = " ".join(store.without or ())
        task = replace(task, made={**task.made, **made})
    fitting.fit(task, _report)


def _hear(store: Fresh) -> None:
    """Hear all recordings once and list those that cannot be read."""
    with stage("hearing all recordings", len(store.clips)) as advance:
        store.check(advance)
    list_skipped(store.skipped)


def _one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise typer.BadParameter(f"{value} is none of {', '.join(known)}", param_hint=option)


def _prepare(
    store: FeatureCache,
    clips: list[Clip],
    bank: Bank,
    variants: int,
    settings: Settings,
    without: tuple[str, ...],
    *,
    own: bool,
) -> None:
    """Make the clips of the manifests that the cache lacks; see that it was made as is asked and labels agree.

    The cache of the run itself (``own``), and one that a run has not come to the end of, get all variants that they
    lack; any other, which may have more or still be growing, gets those clips only of which it has nothing.
    """
    if (not store.refresh() or own) and not launched():
        store.made_without(without)
    if store.entries and without and store.without != tuple(sorted(without)):
        raise DataError(
            f"{store.folder}: not made without {', '.join(without)}; make another cache with `trainer cache "
            f"{' '.join('--without ' + step for step in without)}`"
        )
    there = {e.clip for e in named(store, {c.id: c for c in clips})}
    lacking = [c for c in clips if c.id not in there]
    if launched():
        _refuse_lacking(store, lacking, "before several processes share it")
        return
    whole = own or store.filling or not store.entries
    if not (lacking or whole):
        return
    if lacking and store.entries:
        console.print(
            f"{store.folder}: {len(lacking)} of {len(clips)} clips of the manifests are not there; making them",
            highlight=False,
            markup=False,
        )
    if whole:
        store.made_with(settings)
    elif store.settings.get("noise", settings["noise"]) != settings["noise"]:
        _refuse_lacking(store, lacking, "as it was made, or give the same --noise")
    _fill(store, bank, clips if whole else lacking, variants, {**settings, **store.settings})


def _refuse_lacking(store: FeatureCache, lacking: list[Clip], how: str) -> None:
    """Stop where a cache cannot be filled here; what cannot be read does not belong there anyway."""
    builder = Builder(store, None)
    if any(builder.can(clip) for clip in lacking):
        raise DataError(
            f"{store.folder}: empty, or without {len(lacking)} clips of the manifests; fill it with "
            f"`trainer cache` {how}"
        )


def _fill(store: FeatureCache, bank: Bank, clips: list[Clip], variants: int, settings: Settings) -> None:
    augment = WaveAugment(bank, clean=float(settings["clean"]), without=store.without or ())
    builder = Builder(store, augment, seconds=float(settings["seconds"]), seed=int(settings["seed"]))
    with store.filled():
        for variant in range(variants):
            if not store.made(variant).keys() >= {c.id for c in clips}:
                _build(builder, clips, variant)
    list_skipped(builder.report.skipped)


def _noise_frames(bank: Bank, front_end: FrontEndConfig, seed: int = 0) -> list[FloatArray]:
    """Log-mels of the recorded noise and of as much hiss of all colours, the noise floors of recorders."""
    logmel, rng = LogMel(front_end), np.random.default_rng(seed)
    hiss = [0.1 * coloured(rng, 5 * RATE) for _ in range(max(20, len(bank.noise) // 2))]
    return [logmel(n[None, :], logmel.start())[0][0] for n in bank.noise + hiss if len(n) >= RATE]


@app.command()
def merge(
    checkpoints: Annotated[list[Path], typer.Argument(help="best.pt or average.pt of two runs or more.")],
    out: Annotated[Path, typer.Option(help="Checkpoint to write.", callback=output)],
) -> None:
    """Join networks of runs that differ by chance into one network as wide as all of them, whose score is their mean.

    Two networks of width 0.5 make one of width 1.0. `trainer export` takes it as it takes any other.

    Example: `trainer merge run-1/best.pt run-2/best.pt --out both.pt`
    """
    front_ends = [front_end_of(path) for path in checkpoints]
    for path, front_end in zip(checkpoints, front_ends, strict=True):
        if front_end != front_ends[0]:
            raise ModelError(f"{path}: was trained on another front end than {checkpoints[0]}")
    network = join_networks([CausalResNet.from_checkpoint(path) for path in checkpoints])
    fitting.save(out, {**network.checkpoint(), "front_end": front_ends[0].to_dict()})
    typer.echo(f"{out}: width {network.settings['width']}")


@app.command()
def fuse(
    checkpoint: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="best.pt or average.pt of a run.")],
    manifests: Manifests,
    out: Annotated[Path, typer.Option(help="Checkpoint to write.", callback=output)],
    noise: Noise = None,
    pieces: Annotated[
        int, typer.Option(min=64, help="Distorted pieces to learn from, of all training clips in turn.")
    ] = 20_000,
    steps: Annotated[int, typer.Option(min=1, help="Steps of 128 pieces.")] = 2_400,
    members: Annotated[int, typer.Option(min=1, max=64, help="Heads that are averaged, of each kind.")] = 3,
    units: Annotated[int, typer.Option(min=1, max=4096, help="Units of each head that hear frames.")] = 256,
    hidden: Annotated[int, typer.Option(min=1, max=4096, help="Hidden units of each head, on their moments.")] = 64,
    hear: Annotated[
        str,
        typer.Option(help="What to hear: power, phase (fifteen times the work of power), or both."),
    ] = "both",
    share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the network that hears frequencies in the sum of both.")
    ] = 0.7,
    exclude_family: WithoutFamily = None,
    exclude_source: WithoutSource = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make pieces ahead.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    amp: Annotated[str, typer.Option(help="Mixed precision: auto, off, bf16, fp16.")] = "auto",
    seed: Seed = 0,
) -> None:
    """Put a network that hears single frequencies beside a trained one: better, and several times the work.

    Its convolutions are those of PLCMOS, which hear powers, and of Distill-MOS, which hear the phase; they stay as they
    are, and a head is fitted on what they say of the training clips, minutes on two cores. What they say of 20,000
    pieces takes 6.4 GB beside --out for that time. The val split weighs both networks and says what is gained.
    `trainer export` takes the result as it takes any other.

    Use it so:

    `trainer fuse run/best.pt corpus/manifest.csv --noise corpus/noise --out fused.pt`

    `trainer fuse run/best.pt corpus/manifest.csv --hear power --pieces 2000 --out quick.pt`
    """
    _one_of("--device", device, ("auto", "cpu", "cuda"))
    _one_of("--amp", amp, ("auto", "off", "bf16", "fp16"))
    config = fusing.FuseConfig(
        pieces=pieces,
        steps=steps,
        members=members,
        units=units,
        hidden=hidden,
        share=share,
        seed=seed,
    )
    _one_of("--hear", hear, ("both", "phase", "power"))
    hears = ("phase", "power") if hear == "both" else (hear,)
    resnet = CausalResNet.from_checkpoint(checkpoint)
    front_end = replace(front_end_of(checkpoint), spectrum="phase" in hears, powers="power" in hears)
    if not resnet.causal:
        raise ModelError(f"{checkpoint}: padded at both ends; only a causal network can be fused")
    spectral = fusing.fresh_spectral(hears, config)
    found = choose_device(cast(Device, device))
    place = Place(found, choose_half(cast(Amp, amp), found))
    chosen = Selection(exclude_families=tuple(exclude_family or ()), exclude_sources=tuple(exclude_source or ()))
    listed = read_manifests(manifests)
    clips = _chosen([c for c in listed if c.split == "train"], chosen)
    bank = load_bank(noise, clips)
    store = Fresh(clips, None, front_end)
    _hear(store)
    judges = [c for c in listed if c.split == "val"]
    if len({c.label for c in judges}) < 2:
        raise DataError("the clips of split val weigh the networks: give a manifest that has human and synthetic ones")
    val = Validation(judges, front_end)
    list_skipped(val.skipped)
    drawn = fusing.draw(store, config)
    val.compare(store.entries)
    heard = fusing.Pieces(drawn, WaveAugment(bank), front_end, columns=config.columns, seed=seed)
    both = FusedNet(resnet, spectral).to(place.device)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        with stage("hearing pieces", len(drawn)) as advance:
            said = Path(folder)
            lessons = fusing.hear(both, heard, FrontEnd(front_end), said, place=place, workers=workers, advance=advance)
        with stage("fitting the head", steps) as advance:
            fusing.fit_head(both.cpu().spectral, lessons, config, place, advance)
        del lessons
    figures = fusing.weigh(both.to(place.device), val, share, place)
    for name, one in (("alone", figures.alone), ("beside it", figures.spectral), ("fused", figures.fused)):
        typer.echo(f"{name:10} " + "  ".join(f"{k} {v:.4f}" for k, v in one.items()))
    fitting.save(out, {**both.cpu().checkpoint(), "front_end": front_end.to_dict()})
    typer.echo(f"{out}")


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="best.pt or average.pt of a run.")],
    manifests: Manifests,
    out: Annotated[Path, typer.Option(callback=output, help="Model file to write.")],
    precision: Annotated[str, typer.Option(help="int8 for processors; fp32; fp16 or qdq for GPUs.")] = "int8",
    name: Annotated[str, typer.Option(help="Name of the model.")] = "",
    clips: Annotated[
        int, typer.Option(min=2, help="Training clips that choose the scales of int8 and measure drift.")
    ] = 96,
    data: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Markdown on data and licences for the model card.")
    ] = None,
) -> None:
    """Turn a checkpoint into a model file, and write its model card beside it.

    Example: `trainer export run/best.pt corpus/manifest.csv --out model.onnx --precision int8`
    """
    if precision not in get_args(Precision):
        raise typer.BadParameter(f"{precision} is none of {', '.join(get_args(Precision))}")
    front_end = FrontEnd(front_end_of(checkpoint))
    chosen = representative(clips_of(manifests, "train"), clips)
    skipped: dict[str, str] = {}
    features = [front_end.whole(samples[: 8 * RATE]) for _, samples in read_clips(chosen, skipped, RATE)]
    list_skipped(skipped)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    info = ModelInfo(name or out.stem, created, width=0.0, precision=precision, front_end=front_end.config)
    report = export_model(checkpoint, out, cast(Precision, precision), features, info)
    for calibrator, drift in report.drift.items():
        typer.echo(f"{calibrator}: drift {drift.column:.2f} % a column, {drift.window:.2f} % a window")
    typer.echo(f"{report.path}: {report.size / 1e6:.2f} MB")
    write_card(out, report.info, data.read_text(encoding="utf-8") if data else "")


@app.command()
def calibrate(
    model: Annotated[Path, typer.Argument(help="Model file; it is changed in place.")],
    manifests: Manifests,
    split: Annotated[str, typer.Option(help="Split to calibrate on, disjoint by source from training.")] = "val",
    noise: Noise = None,
    copies: Annotated[int, typer.Option(min=0, help="Distorted copies of each clip beside the clip itself.")] = 1,
    per_hour: Annotated[float, typer.Option(help="False alarms allowed per hour of human speech.")] = 1.0,
    seed: Seed = 0,
) -> None:
    """Fit Platt scaling and choose the default operating point; both go into the model file.

    Example: `trainer calibrate model.onnx corpus/manifest.csv --noise corpus/noise`
    """
    if not 0.0 <= per_hour < math.inf:  # NaN lies within all bounds that typer knows
        raise typer.BadParameter(f"{per_hour} is no number of 0 or more", param_hint="--per-hour")
    read_model(model)
    model_writable(model)
    clips = clips_of(manifests, split)
    if split != "val":
        _say(
            f"split {split}: calibrate on val; clips that a model was trained on make it too sure of itself, and those "
            "that calibrate it can no longer judge it"
        )
    augment = WaveAugment(load_bank(noise, clips), clean=0.0)
    skipped: dict[str, str] = {}
    with TemporaryDirectory() as folder:
        copied = [
            replace(c, source=f"{c.source} ({n})")
            for n in range(copies)
            for c in augmented(clips, _subfolder(folder, n), augment, skipped, seed + n)
        ]
        list_skipped(skipped)
        scores, _ = _score(model, [c for c in clips if c.id not in skipped] + copied)
    hop = FrontEndConfig().hop_seconds
    calibration = fit_platt(scores, hop)
    point, figures = operating_point(scores, calibration, hop, per_hour)
    info = read_model(model)[1]
    info = restamp(
        model,
        calibration=calibration,
        operating_points={**_carried_points(info, calibration), "default": point},
        figures={
            **_lasting_figures(info),
            "operating_point": figures.to_dict(),
            "calibration": {"split": split},
        },
    )
    write_card(model, info)
    typer.echo(json.dumps({"calibration": asdict(calibration), "default": point, "streams": figures.to_dict()}))


def _carried_points(info: ModelInfo, calibration: Calibration) -> dict[str, dict[str, float]]:
    """Operating points beside the default, with thresholds that mean the same under another calibration."""
    others = {name: point for name, point in info.operating_points.items() if name != "default"}
    moved = {name: carried(point, info.calibration, calibration) for name, point in others.items()}
    if dropped := [name for name, point in moved.items() if point is None]:
        _say(
            f"operating points dropped, as their thresholds hold for the former calibration: {', '.join(dropped)}; "
            "`trainer stream-eval --store` chooses them anew"
        )
    return {name: point for name, point in moved.items() if point is not None}


def _lasting_figures(info: ModelInfo) -> dict[str, Any]:
    """Figures that do not depend on calibration or on the default operating point."""
    stale = [name for name in info.figures if name not in ("export", "operating_point", "calibration")]
    if stale:
        _say(
            f"figures dropped, as they hold for the former calibration: {', '.join(stale)}; `trainer evaluate --store` "
            "(streams: `trainer stream-eval --store`) makes them anew"
        )
    return {name: value for name, value in info.figures.items() if name == "export"}


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _subfolder(folder: str, number: int) -> Path:
    path = Path(folder) / str(number)
    path.mkdir()
    return path


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    manifests: Manifests,
    split: Annotated[str, typer.Option(help="Split to judge on.")] = "test",
    as_json: Annotated[bool, typer.Option("--json", help="All figures as JSON on standard output.")] = False,
    report: Annotated[Path | None, typer.Option(callback=output, help="HTML report to write.")] = None,
    store: Annotated[bool, typer.Option(help="Write the figures into the model file and its card.")] = False,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint of the model; says how far the file is from it in torch.")
    ] = None,
) -> None:
    """Judge a model file on a split, through the pipeline that listens.

    Use it so:

    `trainer evaluate model.onnx corpus/manifest.csv --split test --report report.html`

    `trainer evaluate model.onnx corpus/manifest.csv --split val --checkpoint run/best.pt`
    """
    info = read_model(model)[1]
    twin = Twin.of(info, checkpoint) if checkpoint is not None else None
    if store:
        model_writable(model)
    scores, skipped = _score(model, clips_of(manifests, split))
    figures = judge_scores(scores, info.calibration, info.front_end.hop_seconds) | {"skipped": skipped}
    if twin is not None:
        with stage("torch", len(scores)) as advance:
            figures["agreement"] = agreement(scores, twin, info.calibration, advance).to_dict()
    if report is not None:
        report.write_text(page(scores, figures, f"{info.name} on {split}"), encoding="utf-8")
    if store:
        kept = {k: v for k, v in figures.items() if k not in ("groups", "by", "skipped")}
        write_card(model, restamp(model, figures={**info.figures, split: kept}))
    typer.echo(json.dumps({**figures, "worst": worst(scores)} if as_json else _short(figures), indent=1))


def _short(figures: dict[str, Any]) -> dict[str, Any]:
    names = ("clips", "no_speech", "figures", "mean_group_eer", "interval_95", "durations", "agreement")
    return {k: figures[k] for k in names if k in figures}


@app.command()
def baselines(
    manifests: Manifests,
    split: Annotated[str, typer.Option(help="Split to judge on; they learn from train.")] = "test",
    out: Annotated[
        Path | None, typer.Option(callback=output, help="JSON file for all figures; a table goes beside it as .md.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All figures as JSON on standard output.")] = False,
    seed: Seed = 0,
) -> None:
    """Train and judge three trivial detectors, which any model must be better than by far.

    Example: `trainer baselines corpus/manifest.csv --split test --out baselines.json`
    """
    from trainer.baselines import describe, judge, table

    described = []
    for name, clips in [(name, clips_of(manifests, name)) for name in ("train", split)]:
        with stage(f"measuring {name}", len(clips)) as advance:
            described.append(describe(clips, advance))
        list_skipped(described[-1].skipped)
    results = judge(*described, seed=seed)
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        out.with_suffix(".md").write_text(table(results) + "\n", encoding="utf-8")
    typer.echo(json.dumps(results, indent=1) if as_json else table(results))


def _score(model: Path, clips: list[Clip]) -> tuple[list[ClipScore], dict[str, str]]:
    """Scores of the clips that can be used, and why the others, by id, cannot."""
    skipped: dict[str, str] = {}
    with stage("scoring", len(clips)) as step:

        def advance(clip: Clip, error: str | None) -> None:
            step()
            if error is not None:
                skipped[clip.id] = error

        scores = score_clips(model, clips, advance)
    list_skipped(skipped)
    return scores, skipped


@app.command("augment-pictures")
def augment_pictures(
    out: Annotated[Path, typer.Argument(callback=picture, help="Picture to write, such as augment.png.")],
    clip: Annotated[Path | None, typer.Option(help="Speech of 5 s or more; default: the bundled demo.")] = None,
    seed: Seed = 0,
) -> None:
    """Draw what each augmentation step does to a clip; each one's name is what `--without` takes.

    Example: `trainer augment-pictures augment.png --clip my.wav --seed 3`
    """
    from trainer.pictures import demo_clip, draw

    draw(out, read_audio(clip) if clip else demo_clip(), seed)
    typer.echo(out)


@app.command("bench-models")
def bench_models(
    out: Annotated[Path, typer.Argument(help="Folder to write to.")],
    width: Annotated[float, typer.Option(min=0.05, max=4.0, help="Width of the network; 1.0 is ResNet-18.")] = 1.0,
    mels: Mels = None,
    bands: Bands = None,
) -> None:
    """Write a network of random weights as int8 and fp32 model files, for `streamdet bench`.

    Example: `trainer bench-models models --width 1.0 --mels 96 --bands linear`
    """
    for path in write_models(out, width, _front_end(out, mels, bands) or FrontEndConfig()):
        typer.echo(path)


def main() -> None:
    """Entry point of the console script; errors become one line and an exit code."""
    try:
        app()
    except StreamdetError as error:
        _end(str(error), error.exit_code)
    except OSError as error:
        _end(f"{error.filename}: {reason(error)}" if error.filename else reason(error), StreamdetError.exit_code)


def _end(text: str, status: int) -> NoReturn:
    console.print(text, style="red", highlight=False, markup=False, soft_wrap=True)
    raise SystemExit(status)


register(app, data_app)
app.add_typer(data_app, name="data")
app.command()(stream_eval)


if __name__ == "__main__":
    main()
