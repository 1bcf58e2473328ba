"""The command `trainer data synth`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.data.errors import DataError
from trainer.options import Seed
from trainer.progress import shown

if TYPE_CHECKING:
    from trainer.data.synth.base import Maker, Tools
    from trainer.data.synth.run import Report
    from trainer.data.synth.work import Order

console = Console(stderr=True)
app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Make data.")


@app.callback()
def _group() -> None:
    """Make data to train on."""


@app.command()
def synth(
    manifests: Annotated[
        list[Path] | None, typer.Argument(help="Manifests with human clips; copies are made of them.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for audio, manifest.csv and NOTES.json.")] = None,
    makers: Annotated[str, typer.Option(help="Makers, parted by commas; default: all that can run here.")] = "",
    per_maker: Annotated[int, typer.Option(help="Clips a maker.", min=1)] = 100,
    split: Annotated[str, typer.Option(help="Split whose human clips are copied.")] = "train",
    seconds: Annotated[float, typer.Option(help="Longest piece of a human clip.", min=1.0)] = 8.0,
    fargan: Annotated[Path | None, typer.Option(help="fargan_demo of Opus; default: the one on the path.")] = None,
    vocoder: Annotated[
        list[Path] | None, typer.Option(help="Vocoder as ONNX file, mel in, wave out; repeatable.")
    ] = None,
    sentences: Annotated[Path | None, typer.Option(help="Lines LANGUAGE<tab>SENTENCE instead of our own.")] = None,
    processes: Annotated[int, typer.Option(help="Processes that work side by side.", min=1)] = 1,
    list_makers: Annotated[bool, typer.Option("--list", help="Say which makers can run here, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="What was done as JSON on standard output.")] = False,
    seed: Seed = 0,
) -> None:
    """Make synthetic speech of human clips and of sentences; goes on where a stopped run ended.

    Use it so:

    `trainer data synth --list`

    `trainer data synth corpus/manifest.csv --makers world,fargan,espeak --per-maker 300 --out synth`

    `trainer data synth corpus/manifest.csv --vocoder hifigan.onnx --processes 4 --out synth`
    """
    from trainer.data.synth.base import Tools
    from trainer.data.synth.makers import every
    from trainer.data.synth.work import Order

    tools = Tools(fargan.absolute() if fargan else None, tuple(path.absolute() for path in vocoder or ()))
    known = every(tools)
    if list_makers:
        _list(known, as_json=as_json)
        return
    if out is None:
        raise typer.BadParameter("say where to", param_hint="--out")
    _refuse_unusable(tools, sentences)
    chosen = _chosen(known, makers)
    report = _run(chosen, manifests or [], Order(out, tools, sentences, seconds, seed), per_maker, processes, split)
    for name, why in sorted(report.failed.items()):
        console.print(f"skipped {name}: {why}", highlight=False, markup=False)
    if as_json:
        typer.echo(json.dumps(report.to_dict()))
    if report.failed and not report.made and not report.kept:
        raise DataError(
            f"nothing was made, {len(report.failed)} failed; the first: {next(iter(report.failed.values()))}"
        )
    if as_json:
        return
    made = ", ".join(f"{name} {count}" for name, count in report.made.items()) or "nothing new"
    typer.echo(f"{out / 'manifest.csv'}: {made}; {report.kept} were there, {len(report.failed)} skipped")


def _refuse_unusable(tools: Tools, sentences: Path | None) -> None:
    """Refuse files that were named and cannot be used, before any work.

    Raises:
        DataError: one is not there, a vocoder is no network, or the sentences are malformed.
    """
    from trainer.data.synth.base import Sentences
    from trainer.data.synth.makers.vocoder import vocoders

    for path in (*tools.vocoders, *([tools.fargan] if tools.fargan else [])):
        if not path.is_file():
            raise DataError(f"{path}: no such file")
    for vocoder in vocoders(tools.vocoders):
        vocoder.session  # noqa: B018 - loads it
    if sentences is not None:
        Sentences(sentences).by_language  # noqa: B018 - reads it


def _chosen(known: dict[str, Maker], makers: str) -> dict[str, Maker]:
    """Makers by name; those asked for must be able to run, the others are left out where they cannot.

    Raises:
        DataError: a maker is unknown or cannot run here, or none can.
    """
    names = [name.strip() for name in makers.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise DataError(f"no maker {name!r}; there are {', '.join(known)}")
        if known[name].missing():
            raise DataError(f"maker {name} cannot run here: {known[name].missing()}")
    return {n: m for n, m in known.items() if (n in names if names else m.default and not m.missing())}


def _run(
    makers: dict[str, Maker], manifests: list[Path], order: Order, each: int, processes: int, split: str
) -> Report:
    from trainer.data.manifest import read_manifests
    from trainer.data.synth.base import copies
    from trainer.data.synth.run import synthesise
    from trainer.data.synth.work import Result

    clips = read_manifests(manifests, split)
    copiers = [name for name, maker in makers.items() if copies(maker)]
    if copiers and not any(clip.label == 0 for clip in clips):
        raise DataError(f"no human clip in split {split!r}; {', '.join(copiers)} need some, so give a manifest")
    with shown("making", None) as bar:

        def advance(_: Result | None, total: int) -> None:
            bar.of(total)
            bar.advance()

        return synthesise(clips, makers, order, each, processes=processes, progress=advance)


def _list(known: dict[str, Maker], *, as_json: bool) -> None:
    from trainer.data.synth.base import copies

    rows = [
        {
            "name": name,
            "makes": "copies of human clips" if copies(maker) else "sentences",
            "family": maker.family,
            "available": not maker.missing(),
            "default": maker.default,
            "missing": maker.missing(),
            "licence": maker.licence,
        }
        for name, maker in known.items()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    table = Table("maker", "makes", "here", "licence")
    for row in rows:
        here = f"no: {row['missing']}" if row["missing"] else "yes" if row["default"] else "yes, when named"
        table.add_row(*(Text(str(cell)) for cell in (row["name"], row["makes"], here, row["licence"])))
    Console().print(table)
