"""``trainer stream-eval``: how the alarm does on long streams, and which thresholds it should have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamdet.decide.calibrate import Platt
from streamdet.decide.verdict import Rules
from streamdet.engine.modelfile import ModelInfo, read_model
from trainer.data.errors import DataError
from trainer.progress import shown, stage
from trainer.report import write_card
from trainer.stamp import restamp
from trainer.streams.choose import BUDGETS, Draws, Ranked, best, best_by_kind, settings, sweep_all
from trainer.streams.figures import LONG
from trainer.streams.hear import Heard, Setup, hear_all
from trainer.streams.picture import draw
from trainer.streams.points import choose_points, judge_points, with_points
from trainer.streams.replay import Track, prepare
from trainer.streams.script import Line, Script
from trainer.streams.splice import Turn

WINDOW = 3.0  # seconds; the window that decides


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to run; with ``judge_only`` nothing is chosen and the model's own operating points are judged."""

    split: str = "val"
    seed: int = 0
    judge_only: bool = False
    cache: Path | None = None
    processes: int = 1
    picture: Path | None = None


def run(setup: Setup, plan: Sequence[Script], options: Options) -> dict[str, Any]:
    """Hear all scripts, then choose operating points, or judge those of the model where ``options`` say so.

    Raises:
        ModelError, DataError, ConfigError: the model, a clip, or an operating point cannot be used.
    """
    info = read_model(setup.model)[1]
    _need_long([line for script in plan if script.mixed for line in script.lines])
    heard = _hear(setup, plan, options)
    _need_long([turn for stream in heard for turn in stream.turns])
    tracks = tracks_of(heard, info)
    about = {
        "model": info.digest,
        "split": options.split,
        "seed": options.seed,
        "streams": len(plan),
        "clean": setup.clean,
    }
    if options.judge_only:
        return {**about, "points": judge_points(heard, tracks, info)}
    return {**about, **choose(heard, tracks, info, options)}


def _need_long(turns: Sequence[Line] | Sequence[Turn]) -> None:
    """Refuse turns of which no synthetic one is long enough to count; splicing may shorten what was planned."""
    if not any(turn.label == 1 and turn.seconds >= LONG for turn in turns):
        raise DataError(f"no turn of {LONG:g} s; give more --hours or --mixed, or more synthetic clips of a source")


def tracks_of(heard: Sequence[Heard], info: ModelInfo) -> list[Track]:
    """Pool what was heard by the model's calibration."""
    platt, hop = Platt(info.calibration.scale, info.calibration.offset), info.front_end.hop_seconds
    return [prepare(stream, platt, Rules(), WINDOW, hop) for stream in heard]


def _hear(setup: Setup, plan: Sequence[Script], options: Options) -> list[Heard]:
    with shown("hearing", sum(script.seconds for script in plan), counted=False) as bar:
        return hear_all(setup, plan, cache=options.cache, processes=options.processes, progress=bar.advance)


def choose(
    heard: Sequence[Heard],
    tracks: Sequence[Track],
    info: ModelInfo,
    options: Options,
) -> dict[str, Any]:
    """Compare all settings and choose operating points; returns what ``--json`` prints."""
    with stage("replaying", len(list(settings(info.front_end.hop_seconds)))) as advance:
        curves = sweep_all(tracks, processes=options.processes, progress=advance)
    draws = Draws(curves[0].counts[0], seed=options.seed)
    ranked = [draws.rank(curve) for curve in curves]
    kinds, winner = best_by_kind(ranked), best(ranked)
    smoothing = (kinds["EMA"] if winner.curve.setting.method.kind != "EMA" else winner).curve.setting.method.smoothing
    points, notes = choose_points(tracks, winner.curve, draws, smoothing)
    judged = judge_points(heard, tracks, with_points(info, points))
    if options.picture is not None:
        drawn = {entry.curve.setting.name: entry.curve for entry in kinds.values()}
        draw(drawn, {name: judged[name] for name in points}, options.picture)
    return {
        "chosen": winner.curve.setting.name,
        "operating_points": points,
        "points": {name: {**judged[name], **notes.get(name, {})} for name in judged},
        "methods": {kind: _method(entry, kinds["EMA"], draws) for kind, entry in kinds.items()},
        "settings": {entry.curve.setting.name: entry.score for entry in ranked},
    }


def _method(entry: Ranked, average: Ranked, draws: Draws) -> dict[str, Any]:
    """Figures of the best setting of one kind of evidence, and how far it lies above the best average."""
    low, high = np.quantile(entry.scores - average.scores, (0.025, 0.975))
    return {
        "setting": entry.curve.setting.name,
        "score": entry.score,
        "above_ema_interval_95": (float(low), float(high)),
        "at": {f"{budget:g}": _at(entry, budget, draws) for budget in BUDGETS},
    }


def _at(entry: Ranked, budget: float, draws: Draws) -> dict[str, Any]:
    place = entry.curve.within(budget)
    figures = entry.curve.tallies[place].figures()
    return {
        "threshold": entry.curve.thresholds[place],
        "per_hour": figures["human_only"]["per_hour"],
        "per_hour_on_sources_left_out": draws.left_out(entry.curve, budget),
        "caught": figures["turns_of_6_s"]["caught"],
        "caught_within_4_s": figures["turns_of_6_s"]["caught_within_4_s"],
        "delay": figures["turns_of_6_s"]["delay"],
        "time_to_clear": figures["time_to_clear"],
    }


def store(model: Path, result: dict[str, Any], split: str) -> None:
    """Write operating points and figures into a model file, and its card anew."""
    info = read_model(model)[1]
    points = {**info.operating_points, **result.get("operating_points", {})}
    kept = {"points": result["points"], **({"chosen": result["chosen"]} if "chosen" in result else {})}
    write_card(model, restamp(model, operating_points=points, figures={**info.figures, f"streams_{split}": kept}))


def summary(result: dict[str, Any]) -> str:
    """Tables to read on a terminal, in Markdown."""
    lines = []
    if "methods" in result:
        lines += [
            "| evidence | false alarms/h | on other sources | caught | within 4 s | delay p50, p95 | to clear p50 |",
            "|---|---|---|---|---|---|---|",
            *(_row(entry["setting"], entry["at"]["1"]) for entry in result["methods"].values()),
            "",
            f"Chosen: {result['chosen']}",
            "",
        ]
    lines += [
        "| operating point | false alarms/h (95 %) | caught (95 %) | within 4 s | delay p50, p95 | to clear p50, p95 |",
        "|---|---|---|---|---|---|",
        *(_point(name, figures) for name, figures in result["points"].items()),
    ]
    return "\n".join(lines)


def _row(name: str, at: dict[str, Any]) -> str:
    return (
        f"| {name} | {at['per_hour']:.2f} | {at['per_hour_on_sources_left_out']:.2f} | {at['caught']:.0%} "
        f"| {at['caught_within_4_s']:.0%} | {_pair(at['delay'])} | {_seconds(at['time_to_clear']['p50'])} |"
    )


def _point(name: str, figures: dict[str, Any]) -> str:
    human, turns, interval = figures["human_only"], figures["turns_of_6_s"], figures["interval_95"]
    alarms = "{:.2f}-{:.2f}".format(*interval["per_hour"])
    caught = "{:.0%}-{:.0%}".format(*interval["caught"])
    return (
        f"| {name} | {human['per_hour']:.2f} ({alarms}) | {turns['caught']:.0%} ({caught}) "
        f"| {turns['caught_within_4_s']:.0%} | {_pair(turns['delay'])} | {_pair(figures['time_to_clear'])} |"
    )


def _pair(values: dict[str, float | None]) -> str:
    return f"{_seconds(values['p50'])}, {_seconds(values['p95'])}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"
