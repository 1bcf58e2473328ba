"""``streamdet tune``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from streamdet.assembly import cusum_config, judge_config
from streamdet.bundled import find_model
from streamdet.commands.events import parse_time
from streamdet.config import Config
from streamdet.engine.modelfile import read_model
from streamdet.errors import ConfigError
from streamdet.settings.write import write_keys
from streamdet.store.reader import BEGINNING, END
from streamdet.tune.gather import from_files, from_store
from streamdet.tune.propose import Choice, Proposal, histogram, parse_rate, propose, rate_text
from streamdet.tune.track import Track


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Which stored scores are meant."""

    path: Path
    since: str | None = None
    until: str | None = None
    streams: Sequence[str] = ()


def run_tune(config: Config, where: Sequence[Path] | Stored, *, rate: str, write: Path | None, as_json: bool) -> None:
    """Propose thresholds and print them, or write them to the configuration file ``write``.

    Raises:
        ConfigError: the rate makes no sense, there is too little audio for it, or the operating point goes by
            accumulated evidence.
        StoreError, SourceError, ModelError: what is asked for cannot be read.
    """
    per_hour = parse_rate(rate)
    info = read_model(find_model(config.model))[1]
    if cusum_config(config, info) is not None:
        raise ConfigError(f"operating point {config.operating_point!r} accumulates evidence: tune one that does not")
    alarm = judge_config(config, info).alarm
    if isinstance(where, Stored):
        tracks = _stored(where, info.front_end.hop_seconds, info.digest)
    else:
        tracks = list(from_files(config, where, _warn))
    if not tracks:
        raise ConfigError("there are no scores to tune on")
    proposal = propose(tracks, alarm, per_hour)
    if as_json:
        print(json.dumps(proposal.to_dict()))
    else:
        _show(proposal, tracks)
    if write is not None:
        chosen = proposal.proposed
        values = {"raise": chosen.raise_at, "clear": chosen.clear_at, "min_seconds": chosen.min_seconds}
        write_keys(write, "alarm", values)
        _warn(f"written to {write}; `streamdet reload` takes it over")


def _stored(stored: Stored, hop_seconds: float, digest: str) -> list[Track]:
    now = time.time()
    since = BEGINNING if stored.since is None else parse_time(stored.since, now)
    until = END if stored.until is None else parse_time(stored.until, now)
    tracks, models = from_store(
        stored.path, hop_seconds=hop_seconds, since=since, until=until, streams=tuple(stored.streams)
    )
    if models - {digest}:
        _warn("some of these scores were made by another model than the one that is configured: narrow --since")
    return tracks


def _warn(line: str) -> None:
    print(f"streamdet: {line}", file=sys.stderr)


def _show(proposal: Proposal, tracks: Sequence[Track]) -> None:
    console = Console(highlight=False)
    console.print(
        f"{proposal.hours:.2f} h of {proposal.streams} streams, {proposal.judged_hours:.2f} h of it judged;"
        f" wanted: at most {rate_text(proposal.wanted_per_hour)} and stream\n"
    )
    console.print("smoothed p_fake       hops, logarithmic", style="dim")
    for line in histogram(tracks):
        console.print(line, soft_wrap=True)
    console.print()
    console.print(_table(proposal))
    chosen = proposal.proposed
    console.print(
        f"\nWith these, {chosen.alarms} false alarms in {proposal.hours:.2f} h: with 95 % confidence at most"
        f" {rate_text(chosen.at_most_per_hour)} and stream, as long as voices and lines are like these.\n"
    )
    console.print(snippet(chosen), soft_wrap=True, markup=False)


def _table(proposal: Proposal) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for title in ("", "raise", "clear", "min_seconds", "false alarms", "at most (95 %)"):
        table.add_column(title, justify="right")
    rows = [("now", proposal.present), ("proposed", proposal.proposed), *(("or", choice) for choice in proposal.others)]
    for title, choice in rows:
        values = (f"{choice.raise_at:.4g}", f"{choice.clear_at:.4g}", f"{choice.min_seconds:g}", str(choice.alarms))
        table.add_row(title, *values, rate_text(choice.at_most_per_hour))
    return table


def snippet(choice: Choice) -> str:
    """Write thresholds as a table of the configuration."""
    return f"[alarm]\nraise = {choice.raise_at:g}\nclear = {choice.clear_at:g}\nmin_seconds = {choice.min_seconds:g}"
