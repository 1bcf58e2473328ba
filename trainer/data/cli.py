"""Commands on data sets: audit them, and turn published layouts into manifests."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from trainer import outputs
from trainer.data.errors import DataError
from trainer.data.manifest import TEXTS, Clip, read_manifests
from trainer.data.readers import Dataset, Options, open_dataset
from trainer.options import Seed
from trainer.progress import stage

console = Console(stderr=True)

Places = Annotated[list[str], typer.Argument(help="Data sets: a manifest, a folder, or LAYOUT:FOLDER.")]
Labels = Annotated[list[str] | None, typer.Option("--label", help="WORD=real, WORD=fake or WORD=skip; repeatable.")]
Group = Annotated[str, typer.Option(help="Column that holds clips together; default: the layout's own.")]
Split = Annotated[str | None, typer.Option(help="Read this split only.")]
Limit = Annotated[int, typer.Option(help="At most so many clips of a class in a split; 0: all.", min=0)]
Real = Annotated[Path | None, typer.Option(help="Human recordings that WaveFake and MLAAD were made from.")]


def audit(
    places: Places,
    by: Annotated[str, typer.Option(help="Hold out whole values of it: source, speaker, group, family, id.")] = "",
    label: Labels = None,
    group: Group = "",
    split: Split = None,
    limit: Limit = 0,
    real: Real = None,
    near: Annotated[bool, typer.Option(help="Look for near-duplicates.")] = True,
    picture: Annotated[
        Path | None, typer.Option(callback=outputs.picture, help="Picture to draw, such as audit.png.")
    ] = None,
    out: Annotated[Path | None, typer.Option(callback=outputs.output, help="File for the report in words.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All findings as JSON on standard output.")] = False,
    seed: Seed = 0,
) -> None:
    """Say how much of a data set can be told apart without listening, and what leaks between its splits.

    Use it so:

    `trainer audit corpus/manifest.csv --picture audit.png`

    `trainer audit asvspoof2019la:/data/LA --limit 2000 --by speaker --json`

    Ends with status 7 when equal audio carries contradicting labels.
    """
    import numpy as np

    from trainer.audit.report import picture as draw
    from trainer.audit.report import text
    from trainer.audit.run import run

    data = _open(places, Options(labels=_words(label), group=group, split=split, limit=limit, real=real))
    clips, missing = _joined(data)
    found, scanned = run(clips, by=by, near=near, seed=seed, stage=stage)
    found.skipped |= missing
    if picture is not None and found.shortcuts is not None:
        draw(found, scanned.features, np.array([c.label for c in scanned.clips], float), picture)
    elif picture is not None:
        why = "it shows what tells the classes apart, for which each needs two groups of clips or more"
        console.print(f"{picture}: not drawn; {why}", highlight=False, markup=False)
    if out is not None:
        out.write_text(text(found) + "\n", encoding="utf-8")
    typer.echo(json.dumps(found.to_dict(), indent=1) if as_json else text(found))
    if found.leakage.contradictions:
        raise DataError(f"{len(found.leakage.contradictions)} pairs of equal audio with contradicting labels")


def manifest(
    places: Places,
    out: Annotated[Path, typer.Option(callback=outputs.output, help="Manifest to write.")],
    label: Labels = None,
    group: Group = "",
    split: Split = None,
    shares: Annotated[str, typer.Option(help="Deal whole groups out anew: shares of train,val,test.")] = "",
    limit: Limit = 0,
    real: Real = None,
    check: Annotated[
        bool, typer.Option(help="Decode every file; list and leave out those that cannot be used.")
    ] = True,
) -> None:
    """Turn published data sets into one manifest that `trainer cache`, `fit` and `evaluate` read.

    Use it so:

    `trainer manifest inthewild:/data/release_in_the_wild --shares 0,0,1 --out wild.csv`

    `trainer manifest /data/WaveFake --real /data/LJSpeech-1.1 --shares 8,1,1 --group utterance --out wavefake.csv`
    """
    from trainer.data.readers.check import check as decode_all

    options = Options(labels=_words(label), group=group, split=split, shares=_shares(shares), limit=limit, real=real)
    data = _open(places, options)
    clips, skipped = _joined(data)
    if check:
        with stage("decoding", len(clips)) as advance:
            checked = decode_all(clips, advance)
        clips, skipped = checked.good, skipped | checked.skipped
    _write(out, clips, {name: columns for d in data for name, columns in d.columns.items()})
    for name, why in skipped.items():
        console.print(f"skipped {name}: {why}", highlight=False, markup=False)
    counts = Counter((c.split, "fake" if c.label else "real") for c in clips)
    listed = ", ".join(f"{split} {kind} {n}" for (split, kind), n in sorted(counts.items()))
    console.print(f"{out}: {len(clips)} clips ({listed}); {len(skipped)} skipped", highlight=False, markup=False)


def teach(
    manifests: Annotated[list[Path], typer.Argument(help="Manifests; their training clips are described.")],
    out: Annotated[Path, typer.Option(callback=outputs.output, help="File for what the teacher says (NPZ).")],
) -> None:
    """Ask a teacher what it hears in each training clip, for `trainer fit --teacher`.

    The teacher is Distill-MOS, of which only the weights are used: `pip install --no-deps 'distillmos>=0.9,<0.10'`.
    A clip takes it about 50 ms on one core.

    Use it so:

    `trainer data teach corpus/manifest.csv --out teacher.npz`
    """
    from trainer.teacher import describe_clips

    clips = read_manifests(manifests, "train")
    with stage("listening", len(clips)) as advance:
        lesson = describe_clips(clips, out, advance)
    for name, why in sorted(lesson.skipped.items()):
        console.print(f"skipped {name}: {why}", highlight=False, markup=False)
    typer.echo(f"{out}: {lesson.described} clips described, {len(lesson.skipped)} skipped")
    if not math.isnan(lesson.auc):
        typer.echo(f"a logistic regression on it, on sources it was not fitted on: AUC {lesson.auc:.3f}")


def register(app: typer.Typer, data: typer.Typer) -> None:
    """Add the commands to a command line, and what makes data to its own group there."""
    app.command()(audit)
    app.command()(manifest)
    data.command()(teach)


def _open(places: Sequence[str], options: Options) -> list[Dataset]:
    data = [open_dataset(place, options) for place in places]
    words = {word for d in data for word in d.words}
    for word in options.labels:
        if word.strip().lower() not in words:
            known = ", ".join(sorted(words))
            console.print(f"--label {word}: no clip is labelled so; there are {known}", highlight=False, markup=False)
    return data


def _joined(data: Sequence[Dataset]) -> tuple[list[Clip], dict[str, str]]:
    clips: dict[str, Clip] = {}
    roots: dict[str, Path] = {}
    for root, clip in ((d.root, c) for d in data for c in d.clips):
        if clip.id in clips:
            other = roots[clip.id]
            raise DataError(f"{other} and {root}: id {clip.id!r} occurs in both data sets; rename one folder or id")
        clips[clip.id], roots[clip.id] = clip, root
    return list(clips.values()), {name: why for d in data for name, why in d.skipped.items()}


def _words(label: list[str] | None) -> dict[str, str]:
    pairs = [text.partition("=") for text in label or ()]
    wrong = [word for word, equals, meaning in pairs if not (equals and meaning)]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]}: write WORD=real, WORD=fake or WORD=skip", param_hint="--label")
    return {word: meaning for word, _, meaning in pairs}


def _shares(text: str) -> tuple[float, float, float] | None:
    if not text:
        return None
    try:
        train, val, test = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text}: write three numbers, such as 0.8,0.1,0.1", param_hint="--shares") from None
    if not math.isfinite(train + val + test) or min(train, val, test) < 0.0 or train + val + test <= 0.0:
        raise typer.BadParameter(f"{text}: shares are finite, not negative and not all zero", param_hint="--shares")
    return train, val, test


def _write(out: Path, clips: Sequence[Clip], columns: Mapping[str, Mapping[str, str]]) -> None:
    """Write a manifest; what a data set publishes beyond the fields of a clip follows in columns of its own."""
    head = ("id", "split", "label", "path", *TEXTS)
    more = [*dict.fromkeys(name for clip in clips for name in columns.get(clip.id, ()) if name and name not in head)]
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*head, *more))
        for clip in clips:
            words = (getattr(clip, name) for name in TEXTS)
            extra = (columns.get(clip.id, {}).get(name, "") for name in more)
            label = "fake" if clip.label else "real"
            writer.writerow((clip.id, clip.split, label, clip.path.resolve(), *words, *extra))
