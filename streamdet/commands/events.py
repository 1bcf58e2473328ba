"""``streamdet events``: asks the event store, exports from it, prunes it."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamdet.errors import ConfigError, StoreError
from streamdet.sinks.board import REASONS, STYLES, WORDS, clock, percent
from streamdet.store.reader import BEGINNING, END, KINDS, Reader, Summary
from streamdet.store.schema import open_reader
from streamdet.store.upkeep import Limits, Upkeep
from streamdet.store.writer import Writer

SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
COLUMNS: Final = (
    "time", "type", "stream", "seq", "media_time", "verdict", "p_fake", "speech", "lost",
    "phase", "reason", "id", "onset", "peak", "duration",
)  # fmt: skip
SUMMARY_COLUMNS: Final = ("time", "stream", "scores", "lowest", "mean", "highest", "speech", "lost", "spoof")
BREATH: Final = 0.01  # seconds between two steps, in which a running daemon writes
WIDE: Final = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is asked for; times in ms since the epoch."""

    since: int = BEGINNING
    until: int = END
    streams: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("alert", "state")
    limit: int | None = None


def parse_time(text: str, now: float) -> int:
    """Read ``2h``, ``30m`` or ``7d`` (before ``now``), or an ISO date and time, in UTC unless it says otherwise, as ms.

    Raises:
        ConfigError: it is neither.
    """
    span = SPAN.fullmatch(text)
    if span is not None:
        return round(1e3 * (now - float(span[1]) * SECONDS[span[2]]))
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no time: try 2h, 7d, 2026-11-21 or 2026-11-21T06:32:28Z") from error
    return round(1e3 * (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp())


def make_query(
    since: str | None, until: str | None, streams: Sequence[str], kinds: Sequence[str], limit: int | None
) -> Query:
    """Make a query of what was typed.

    Raises:
        ConfigError: a time or a kind makes no sense.
    """
    now = time.time()
    foreign = sorted(set(kinds) - {*KINDS, "summary", "all"})
    if foreign:
        raise ConfigError(f"no kind of event: {', '.join(foreign)}; there are {', '.join(KINDS)}, summary and all")
    return Query(
        since=BEGINNING if since is None else parse_time(since, now),
        until=END if until is None else parse_time(until, now),
        streams=tuple(streams),
        kinds=tuple(KINDS) if "all" in kinds else tuple(kinds) or Query().kinds,
        limit=limit,
    )


def run_events(path: Path, query: Query, *, form: str, output: TextIO | None = None) -> None:
    """Print what is asked for as ``table``, ``json`` (lines) or ``csv``.

    Raises:
        StoreError: there is no store, or it cannot be read.
    """
    output = output or sys.stdout
    with Reader(path) as reader:
        if query.kinds == ("summary",):
            _print_summaries(islice(reader.summaries(**_range(query)), query.limit), form, output)
            return
        if "summary" in query.kinds:
            raise ConfigError("summaries have columns of their own: ask for them alone")
        found = (payload for _, payload in reader.find(**_range(query), kinds=query.kinds))
        _print_events(islice(found, query.limit), form, output)


def run_prune(path: Path, before: str | None, megabytes: int | None) -> None:
    """Delete what is older, or the oldest until the store is small enough, while a daemon may be writing.

    Raises:
        ConfigError: it is not said what to delete.
        StoreError: there is no store, or it cannot be written.
    """
    if before is None and megabytes is None:
        raise ConfigError("say what to delete: --before 30d, --megabytes 100, or both")
    now = time.time()
    keep = 1e12 if before is None else now - parse_time(before, now) / 1e3
    limits = Limits(
        recent_seconds=min(Limits().recent_seconds, keep),
        keep_seconds=keep,
        most_bytes=1 << 62 if megabytes is None else megabytes << 20,
    )
    open_reader(path).close()  # else a mistyped path would become a store
    try:
        writer = Writer(path)
        try:
            upkeep = Upkeep(writer.db, limits)
            was = upkeep.used()
            while upkeep.step():
                time.sleep(BREATH)
            print(f"{path}: {was / 2**20:.1f} MB before, {upkeep.used() / 2**20:.1f} MB now")
        finally:
            writer.close()
    except sqlite3.Error as error:
        raise StoreError(f"cannot prune {path}: {error}") from error


def _range(query: Query) -> dict[str, Any]:
    return {"since": query.since, "until": query.until, "streams": query.streams}


def _print_events(payloads: Iterator[bytes], form: str, output: TextIO) -> None:
    if form == "json":
        for payload in payloads:
            output.write(payload.decode() + "\n")
    elif form == "csv":
        rows = csv.DictWriter(output, COLUMNS, extrasaction="ignore", lineterminator="\n")
        rows.writeheader()
        rows.writerows(json.loads(payload) for payload in payloads)
    else:
        _table_of_events(payloads, output)


def _table_of_events(payloads: Iterator[bytes], output: TextIO) -> None:
    table = Table(box=None, header_style="bold")
    for title in ("time", "stream", "event", ""):
        table.add_column(title, no_wrap=title != "")
    for payload in payloads:
        fields = json.loads(payload)
        table.add_row(fields["time"], Text(fields["stream"]), fields["type"], _told(fields))
    _show(table, output)


def _told(fields: dict[str, Any]) -> Text:
    """Say in a few words what an event says."""
    match fields["type"]:
        case "score":
            p_fake, verdict = percent(fields["p_fake"]).strip(), fields["verdict"]
            text = Text(f"{clock(fields['media_time'])}  p_fake {p_fake}  ")
            return text.append(WORDS[verdict], style=STYLES[verdict])
        case "alert":
            text = Text(fields["phase"], style="red" if fields["phase"] != "cleared" else "green")
            text.append(
                f"  since {clock(fields['onset'])}, {fields['duration']:.1f} s, peak {percent(fields['peak']).strip()}"
            )
            return text.append(f"{REASONS[fields['reason']]}  [{fields['id'][:8]}]")
        case "state":
            return Text(f"{fields['phase']}: {fields['reason']}")
        case _:
            dropped = sum(fields["dropped"].values())
            return Text(f"{fields['streams']} streams, {fields['alerts']} alerts, {dropped} events dropped")


def _print_summaries(rows: Iterator[Summary], form: str, output: TextIO) -> None:
    if form == "json":
        for row in rows:
            output.write(json.dumps(asdict(row)) + "\n")
    elif form == "csv":
        table = csv.DictWriter(output, SUMMARY_COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(row) for row in rows)
    else:
        shown = Table(box=None, header_style="bold")
        for title in ("time", "stream", "scores", "p_fake lowest", "mean", "highest", "speech", "lost", "spoof"):
            shown.add_column(title, justify="left" if title in ("time", "stream") else "right", no_wrap=True)
        for row in rows:
            shares = [percent(p).strip() for p in (row.lowest, row.mean, row.highest, row.speech, row.lost)]
            shown.add_row(row.time, Text(row.stream), str(row.scores), *shares, str(row.spoof))
        _show(shown, output)


def _show(table: Table, output: TextIO) -> None:
    console = Console(file=output)
    (console if console.is_terminal else Console(file=output, width=WIDE)).print(table)
