"""``streamdet check-config``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamdet.settings.check import Check, Remark, check

COLUMNS = ("match", "operating_point", "raise", "clear", "min_seconds", "cooldown", "windows", "smoothing", "by")


def run_check(path: Path, *, as_json: bool) -> int:
    """Print what the file comes to; returns the exit code: 0 where it would run, else that of the first error."""
    found = check(path)
    if as_json:
        print(json.dumps({"ok": not found.errors, **asdict(found)}))
    else:
        _show(found)
    return found.exit_code


def _show(found: Check) -> None:
    console = Console(soft_wrap=True, highlight=False)
    for remark in found.errors:
        print(f"{_where(found, remark)}: error: {remark.message}", file=sys.stderr)
    for remark in found.warnings:
        print(f"{_where(found, remark)}: warning: {remark.message}", file=sys.stderr)
    if found.errors:
        return
    console.print(f"{found.path} is fine; digest {(found.digest or '')[:12]}", markup=False)
    model = found.model
    about = ", ".join((model["name"], model["precision"], model["digest"][:12], f"on {found.engine}"))
    console.print(f"model    {about}", markup=False)
    for source in found.sources:
        console.print(f"source   {source['name']}  {source['uri']}", markup=False)
    for sink in found.sinks:
        console.print(f"sink     {sink}", markup=False)
    for part in found.parts:
        console.print(f"part     {part}", markup=False)
    console.print(_table(found.settings))


def _table(settings: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for title in ("streams", "point", "raise", "clear", "for s", "cool s", "windows", "smooth", "by"):
        table.add_column(title, no_wrap=True)
    for entry in [*settings[1:], *settings[:1]]:  # in the order in which they are looked at
        table.add_row(*(Text(_cell(entry[key])) for key in COLUMNS))
    return table


def _cell(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(f"{entry:g}" for entry in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _where(found: Check, remark: Remark) -> str:
    line = "" if remark.line is None else f":{remark.line}"
    return f"{found.path}{line}" + (f": {remark.field}" if remark.field else "")
