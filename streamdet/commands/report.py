"""``streamdet report`` and ``streamdet shadow``: what the event store says, for people."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from streamdet.commands.events import parse_time
from streamdet.errors import ConfigError
from streamdet.report.day import parse_day, read_day
from streamdet.report.page import page
from streamdet.store.reader import END, Reader

FIGURES = ("correlation", "mean_difference", "dropped")


def run_report(day: str, store: Path, output: Path) -> None:
    """Write a day as one HTML file.

    Raises:
        ConfigError: it is no day, or the file cannot be written.
        StoreError: there is no store, or it cannot be read.
    """
    text = page(read_day(store, parse_day(day, datetime.now(UTC))))
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}") from error
    print(f"{output}: {len(text) / 1024:.0f} kB")


def run_shadow(store: Path, since: str, *, as_json: bool) -> None:
    """Print how shadows compared, from the state events that say so.

    Raises:
        ConfigError: ``since`` is no time.
        StoreError: there is no store, or it cannot be read.
    """
    console = Console(highlight=False, soft_wrap=True)
    begin, found = parse_time(since, time.time()), 0
    with Reader(store) as reader:
        for _, payload in reader.find(since=begin, until=END, streams=("*",), kinds=("state",)):
            event = json.loads(payload)
            detail = event["detail"]
            if detail.get("cause") != "shadow":
                continue
            found += 1
            if as_json:
                print(json.dumps({"time": event["time"], "model": event["model"], **detail}))
                continue
            figures = (f"{name} {detail[name]}" for name in FIGURES if name in detail)
            console.print(f"{event['time']}  {event['reason']}; {', '.join(figures)}", markup=False)
    if not found:
        print(f"no shadow has reported since {since}: is [shadow] model configured?", file=sys.stderr)
