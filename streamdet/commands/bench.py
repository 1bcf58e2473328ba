"""``streamdet bench``: progress, table, bars, JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import progress as bars
from rich.console import Console
from rich.table import Table

from streamdet.bench.calibrate import RULE, Trial, calibrate
from streamdet.bench.engines import measure_engine, write_engine_plot
from streamdet.bench.plot import check_plot, text_bars, write_plot
from streamdet.bench.run import Plan, Progress, run_bench
from streamdet.bench.setting import check_setting, write_setting
from streamdet.config import Config
from streamdet.errors import ConfigError


def run_and_show(plan: Plan, *, as_json: bool, plot: Path | None) -> None:
    """Measure, then print; errors as :func:`streamdet.bench.run.run_bench` and ``write_plot``."""
    if plot is not None:
        check_plot(plot)
    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.TimeRemainingColumn())
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as display:
        report = run_bench(plan, _progress(display))
    if as_json:
        print(json.dumps(report))
    else:
        _show(report, Console())
    if plot is not None:
        write_plot(report, plot)


def measure_engine_and_show(model: Path, name: str, sizes: Sequence[int], *, as_json: bool, plot: Path | None) -> None:
    """Measure one engine alone, by size of batch; errors as ``measure_engine`` and ``write_engine_plot``."""
    if plot is not None:
        check_plot(plot)
    with bars.Progress(console=Console(stderr=True), transient=True) as display:
        task = display.add_task(name, total=len(sizes))
        report = measure_engine(model, name, sizes, lambda: display.advance(task))
    if as_json:
        print(json.dumps(report))
    else:
        _show_engine(report, Console())
    if plot is not None:
        write_engine_plot(report, plot)


def _show_engine(report: dict[str, Any], console: Console) -> None:
    model, where = report["model"], report["gpu"] or {"name": report["machine"]["processor"]}
    about = f"{report['engine']} on {where['name']}: {model['name']}, {model['precision']}"
    console.print(about, highlight=False, markup=False)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("streams a call", "ms, median", "ms, 99 %", "streams at real time"):
        table.add_column(title, justify="right")
    for pace in report["paces"]:
        times = (f"{pace[key]:.2f}" for key in ("ms_p50", "ms_p99"))
        table.add_row(str(pace["streams"]), *times, f"{pace['streams_at_real_time']:,.0f}")
    console.print(table)
    if report["parity"] is not None:
        error, hops = report["parity"]["error_percent"], report["parity"]["hops"]
        console.print(f"logits differ from the processor's by {error} % over {hops} hops", highlight=False)


def calibrate_and_show(config: Config, path: Path | None, *, as_json: bool, seconds: float) -> None:
    """Find how many streams fit and write that to the configuration file ``path``, where there is one.

    Raises:
        ConfigError: nothing fits, or ``path`` cannot be written: known before the trials, but for a disk that fills up.
    """
    if path is not None:
        check_setting(path, "max_streams")
    console = Console(stderr=True)

    def tell(trial: Trial) -> None:
        verdict = "held" if trial.held else "too many"
        console.print(
            f"{trial.streams:>6} streams: {verdict:<8} p50 {trial.latency_ms_p50:.0f} ms, "
            f"p99 {trial.latency_ms_p99:.0f} ms, {trial.cores_busy:.2f} cores busy",
            highlight=False,
        )

    found = calibrate(config, seconds=seconds, tell=tell)
    if found.max_streams < 1:
        raise ConfigError("this machine cannot hold a single stream with head room to spare; nothing was written")
    if as_json:
        print(json.dumps(found.to_dict()), flush=True)
    else:
        hint = "" if path is not None else "; --config FILE writes it to a configuration"
        print(f"max_streams = {found.max_streams}{hint}\n({RULE}; {found.held} were held)", flush=True)
    if path is not None:
        new = "" if path.exists() else ", which is new"  # a wrong name would make a file that nobody reads
        write_setting(path, "max_streams", found.max_streams)
        if not as_json:
            print(f"written to {path}{new}")


def _progress(display: bars.Progress) -> Progress:
    tasks: list[bars.TaskID] = []

    def begin(name: str, steps: int) -> None:
        tasks.append(display.add_task(name, total=steps))

    return Progress(begin, lambda: display.advance(tasks[-1]))


def _show(report: dict[str, Any], console: Console) -> None:
    machine, model = report["machine"], report["model"]
    told = ", ".join(machine["instructions"]) or "none of the instructions that speed integers up"
    console.print(f"{machine['processor']} ({told}), load {machine['load'][0]}", highlight=False)
    about = f"model {model['name']}: width {model['width']:g}, {model['precision']}\n"
    console.print(about, highlight=False, markup=False)
    if "results" in report:
        _show_throughput(report, console)
    if "live" in report:
        _show_live(report["live"], console)
    for entry in report.get("memory", ()):
        console.print(
            f"memory with {entry['streams']} streams: {entry['rss_mb']:.0f} MB, {entry['mb_per_stream']:.1f} MB"
            f" a stream (mostly its ring of {entry['ring_seconds']:g} s)",
            highlight=False,
        )


def _show_throughput(report: dict[str, Any], console: Console) -> None:
    console.print(_results(report))
    console.print()
    for line in text_bars(report):
        console.print(line, highlight=False, soft_wrap=True)
    console.print("streams a core, logarithmic\n", style="dim")
    together = f"{report['end_to_end_streams_per_core']:.0f} streams a core, all in"
    shares = ", ".join(f"{name.replace('_', ' ')} {share:.0%}" for name, share in report["shares"].items())
    console.print(f"[bold]{together}[/bold]; of that {shares}", highlight=False)
    for ratio in report["ratios"]:
        console.print(f"engine {ratio['times']:.1f} times cheaper than {ratio['against']}", highlight=False)
    for reason in report["left_out"]:
        console.print(f"left out: {reason}", style="yellow", highlight=False, markup=False)


def _results(report: dict[str, Any]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("CPU time of one hop of one stream")
    for title in ("ms", "low", "high", "streams a core"):
        table.add_column(title, justify="right")
    for entry in report["results"]:
        numbers = (f"{entry[key]:.3f}" for key in ("ms_per_hop", "low", "high"))
        table.add_row(entry["label"], *numbers, f"{entry['streams_per_core']:.1f}")
    return table


def _show_live(live: dict[str, Any], console: Console) -> None:
    console.print(
        f"one live stream for {live['seconds']:.0f} s: {live['cpu_percent']:.1f} % of a core, {live['rss_mb']:.0f} MB; "
        f"last sample to event received: p50 {live['latency_ms_p50']:.1f} ms, p99 {live['latency_ms_p99']:.1f} ms",
        highlight=False,
    )
