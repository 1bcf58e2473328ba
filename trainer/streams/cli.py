"""The command ``trainer stream-eval``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from streamdet.engine.modelfile import read_model
from trainer import outputs
from trainer.data.audio import read_clips
from trainer.data.manifest import Clip
from trainer.data.splits import clips_of
from trainer.progress import list_skipped, stage
from trainer.stream_eval import Options, run, store, summary
from trainer.streams.hear import Setup
from trainer.streams.script import scripts


def stream_eval(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    manifests: Annotated[list[Path], typer.Argument(help="Manifest CSV files; audio lies beside them or at `path`.")],
    split: Annotated[str, typer.Option(help="Split to splice; on `test` nothing is chosen, only judged.")] = "val",
    hours: Annotated[
        float, typer.Option(min=0.01, help="Hours of human-only streams, at most six times what there is.")
    ] = 3.0,
    mixed: Annotated[float, typer.Option(min=0.05, help="Hours of streams with synthetic turns.")] = 1.5,
    noise: Annotated[Path | None, typer.Option(help="Folder of noise and impulse responses, see NAME.csv.")] = None,
    clean: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of streams with an undistorted channel.")] = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="Draws turns, gaps and channels.")] = 0,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps what the network said of each stream.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that work side by side.")] = 1,
    out: Annotated[
        Path | None, typer.Option(callback=outputs.output, help="JSON file for all figures and the operating points.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(callback=outputs.picture, help="Curve of the choice to draw, .svg or .png.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--store", help="Write points and figures into the model file and its card.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All figures as JSON on standard output.")] = False,
) -> None:
    """Splice human and synthetic turns into streams; compare ways to raise the alarm, choose operating points.

    The network hears each stream once; the decision logic is then replayed with every setting.

    Example: `trainer stream-eval model.onnx val.csv --noise noise --out points.json --picture curve.svg --store`

    Another, on the test split: `trainer stream-eval model.onnx test.csv --split test --json`
    """
    if picture is not None and split == "test":
        raise typer.BadParameter(
            "shows how thresholds are chosen, and on the split test none are; leave it out", param_hint="--picture"
        )
    read_model(model)
    if keep:
        outputs.model_writable(model)
    skipped: dict[str, str] = {}
    chosen = clips_of(manifests, split)
    with stage("reading all recordings", len(chosen)) as advance:
        clips = list(_readable(chosen, skipped, advance))
    list_skipped(skipped)
    plan = scripts(clips, human_hours=hours, mixed_hours=mixed, seed=seed)
    options = Options(
        split=split, seed=seed, judge_only=split == "test", cache=cache, processes=processes, picture=picture
    )
    result = {**run(Setup(model, noise, clean), plan, options), "skipped": skipped}
    if out is not None:
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if keep:
        store(model, result, split)
    typer.echo(json.dumps(result, indent=1) if as_json else summary(result))


def _readable(clips: Sequence[Clip], skipped: dict[str, str], advance: Callable[[], None]) -> Iterator[Clip]:
    """Clips that can be read to the end: hours may pass before a stream is spliced that one is part of."""
    for clip in clips:
        yield from (one for one, _ in read_clips([clip], skipped))
        advance()
