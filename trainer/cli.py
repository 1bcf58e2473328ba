"""The command line of the trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from streamdet.errors import StreamdetError
from streamdet.features import LogMel
from streamdet.features.logmel import FloatArray
from trainer import fit as fitting
from trainer.augment import RATE, Bank, WaveAugment
from trainer.data.build import Builder, load_bank
from trainer.data.cache import FeatureCache
from trainer.data.manifest import Clip, read_manifests

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False)
console = Console(stderr=True)

Manifests = Annotated[list[Path], typer.Argument(help="Manifest CSV files; audio lies beside them or at `path`.")]
Noise = Annotated[Path | None, typer.Option(help="Folder of noise and impulse responses, described by NAME.csv.")]


@app.command()
def cache(
    manifests: Manifests,
    out: Annotated[Path, typer.Option(help="Cache folder.")],
    variants: Annotated[int, typer.Option(help="Augmented variants of each clip.")] = 6,
    noise: Noise = None,
    seconds: Annotated[float, typer.Option(help="Longest piece of a clip in one variant.")] = 6.0,
    clean: Annotated[float, typer.Option(help="Share of variants left nearly as they are.")] = 0.4,
    without: Annotated[list[str] | None, typer.Option(help="Augmentation step to leave out; repeatable.")] = None,
    seed: int = 0,
    watch: Annotated[bool, typer.Option(help="Look for new manifest rows before each variant.")] = False,
) -> None:
    """Make augmented log-mel features of the training clips.

    Can run beside `trainer fit`, be stopped and be started again: what is there is kept.

    Example: `trainer cache corpus/manifest.csv --noise corpus/noise --variants 6 --out cache`
    """
    clips = read_manifests(manifests, "train")
    augment = WaveAugment(load_bank(noise, clips), clean=clean, without=without or ())
    builder = Builder(FeatureCache(out), augment, seconds=seconds, seed=seed)
    for variant in range(variants):
        clips = read_manifests(manifests, "train") if watch else clips
        for earlier in range(variant + 1):
            _build(builder, clips, earlier)
    _list_skipped(builder)


def _build(builder: Builder, clips: list[Clip], variant: int) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"variant {variant}", total=len(clips))
        builder.variant(clips, variant, lambda n: progress.advance(task, n))
    console.print(f"variant {variant}: {len(clips)} clips, {builder.report.written} variants written", highlight=False)


def _list_skipped(builder: Builder) -> None:
    for clip, why in sorted(builder.report.skipped.items()):
        console.print(f"skipped {clip}: {why}", highlight=False)
    if builder.report.skipped:
        console.print(f"{len(builder.report.skipped)} clips skipped")


def _report(state: fitting.Progress) -> None:
    figures = "  ".join(f"{k} {v:.4f}" for k, v in state.val.items())
    typer.echo(
        f"{state.minutes:7.1f} min  step {state.step}  {state.share:.1%}  loss {state.loss:.4f}  "
        f"variants {state.entries}  {figures}"
    )


@app.command()
def fit(
    manifests: Manifests,
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and log.")],
    cache_folder: Annotated[Path | None, typer.Option("--cache", help="Feature cache; default OUT/cache.")] = None,
    noise: Noise = None,
    variants: Annotated[int, typer.Option(help="Variants to make when the cache is empty.")] = 4,
    width: Annotated[float, typer.Option(help="Width of the network: 1.0, 0.5, 0.25.")] = 0.5,
    steps: Annotated[int, typer.Option(help="End after so many steps (0: by time).")] = 0,
    minutes: Annotated[float, typer.Option(help="End after so many minutes (0: by steps).")] = 0.0,
    batch: Annotated[int, typer.Option(help="Crops a step, over all processes.")] = 64,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-3,
    contrastive: Annotated[float, typer.Option(help="Weight of the supervised contrastive term.")] = 0.0,
    augment: Annotated[float, typer.Option(help="Strength of frame augmentation; 0 switches it off.")] = 1.0,
    processes: Annotated[int, typer.Option(help="Processes that share a batch.")] = 1,
    evaluate_minutes: Annotated[float, typer.Option(help="Minutes between evaluations.")] = 4.0,
    seed: int = 0,
) -> None:
    """Train a network on manifests with a train and, best, a val split; goes on where a stopped run ended.

    Example: `trainer fit corpus/manifest.csv --noise corpus/noise --minutes 60 --out run`
    """
    if not steps and not minutes:
        raise typer.BadParameter("give --steps or --minutes")
    folder = cache_folder or out / "cache"
    clips, store = read_manifests(manifests, "train"), FeatureCache(folder)
    bank = load_bank(noise, clips)
    if not store.refresh():
        _fill(store, clips, bank, variants, seed)
    config = fitting.FitConfig(
        width=width,
        batch=batch,
        steps=steps,
        minutes=minutes,
        rate=rate,
        contrastive=contrastive,
        augment=augment,
        processes=processes,
        evaluate_minutes=evaluate_minutes,
        seed=seed,
    )
    task = fitting.Task(config, folder, out, read_manifests(manifests, "val"), _noise_frames(bank, store))
    fitting.fit(task, _report)


def _fill(store: FeatureCache, clips: list[Clip], bank: Bank, variants: int, seed: int) -> None:
    builder = Builder(store, WaveAugment(bank), seed=seed)
    for variant in range(variants):
        _build(builder, clips, variant)
    _list_skipped(builder)


def _noise_frames(bank: Bank, store: FeatureCache) -> list[FloatArray]:
    logmel = LogMel(store.config)
    return [logmel(n[None, :], logmel.start())[0][0] for n in bank.noise if len(n) >= RATE]


def main() -> None:
    """Entry point of the console script; errors become one line and an exit code."""
    try:
        app()
    except StreamdetError as error:
        console.print(f"[red]{error}", highlight=False)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
