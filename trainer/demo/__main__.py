"""``python -m trainer.demo``: rebuild the demo stream and its ground truth from a recipe."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import soundfile

from trainer.demo.join import RATE, join, prepare
from trainer.demo.packages import Packages
from trainer.demo.recipe import Recipe, Turn, load
from trainer.demo.speak import sound

HERE = Path(__file__).parent


def main() -> None:
    """Build ``demo.flac`` and ``demo.json``, or with ``--turns-only`` each turn as a file of its own."""
    args = _arguments()
    recipe = load(args.recipe, only=tuple(args.turn))
    packages = Packages(args.packages.resolve())
    turns = [prepare(sound(turn, packages, fargan=args.fargan), level=recipe.speech_level) for turn in recipe.turns]
    args.out.mkdir(parents=True, exist_ok=True)
    if args.turns_only:
        for turn, samples in zip(recipe.turns, turns, strict=True):
            soundfile.write(args.out / f"{turn.name}.flac", samples, RATE, subtype="PCM_16")
        return
    samples, spans = join(turns, pauses=recipe.pauses, noise=recipe.room_level, seed=recipe.seed)
    soundfile.write(args.out / "demo.flac", samples, RATE, subtype="PCM_16")
    (args.out / "demo.json").write_text(json.dumps(truth(recipe, spans, len(samples)), indent=2) + "\n")


def truth(recipe: Recipe, spans: list[tuple[int, int]], samples: int) -> dict[str, object]:
    """Return the ground truth: seconds from the start of the stream, and where each turn comes from."""
    turns = [_entry(turn, span) for turn, span in zip(recipe.turns, spans, strict=True)]
    return {"audio": "demo.flac", "rate": RATE, "seconds": round(samples / RATE, 3), "turns": turns}


def _entry(turn: Turn, span: tuple[int, int]) -> dict[str, object]:
    begin, end = (round(sample / RATE, 3) for sample in span)
    packages = sorted({clip.package for clip in turn.clips})
    return {
        "name": turn.name,
        "start": begin,
        "end": end,
        "label": turn.label,
        "engine": turn.engine,
        "voice": turn.voice,
        "text": turn.text,
        "packages": packages,
        "provenance": turn.provenance,
        "licence": turn.licence,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trainer.demo", description=__doc__)
    parser.add_argument("--recipe", type=Path, default=HERE / "turns.toml")
    parser.add_argument("--turn", action="append", default=[], help="name of a turn, repeatable; default: all in order")
    parser.add_argument("--packages", type=Path, default=Path("runs/demo-packages"), help="where packages are kept")
    parser.add_argument("--fargan", type=Path, help="Opus' fargan_demo program")
    parser.add_argument("--out", type=Path, default=Path("streamdet/demo"))
    parser.add_argument("--turns-only", action="store_true", help="write each turn as a file of its own")
    return parser.parse_args()


if __name__ == "__main__":
    main()
