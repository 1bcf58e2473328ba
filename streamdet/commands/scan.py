"""``streamdet scan``: progress, table, JSON lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from streamdet.config import Config
from streamdet.errors import SourceError
from streamdet.scan import Result, Scanner, find_files

WIDE = 160  # characters of a line where no terminal says how wide it is
COLOURS = {"spoof": "red", "bona_fide": "green", "undecided": "yellow", "no_speech": "dim"}


def run_scan(config: Config, paths: Sequence[Path], *, as_json: bool) -> int:
    """Score all files; returns the exit code, that of a source error where a file could not be read whole.

    Raises:
        SourceError: there is nothing to scan.
    """
    files = find_files(paths)
    if not files:
        raise SourceError(f"no sound files in {', '.join(map(str, paths))}")
    scanner = Scanner(config)
    results = []
    with _progress() as progress:
        task = progress.add_task("scanning", total=len(files))
        for path in files:
            result = scanner.scan(path)
            progress.advance(task)
            if as_json:
                print(json.dumps(result.to_dict(), allow_nan=False), flush=True)
            elif result.error is not None:
                told = _shown(_complaint(result.path, result.error))
                progress.console.print(told, style="red", markup=False, highlight=False, soft_wrap=True)
            results.append(result)
    if not as_json:
        console = Console()
        wide = console if console.is_terminal else Console(width=WIDE)
        wide.print(_table(results))
    return SourceError.exit_code if any(result.error for result in results) else 0


def _complaint(path: str, error: str) -> str:
    """Name the file where what is wrong with it does not."""
    return error if path in error else f"{path}: {error}"


def _shown(text: str) -> Text:
    """Text as it is: no markup, and a question mark for bytes of a file name that are no characters."""
    return Text(text.encode(errors="replace").decode())


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _table(results: Sequence[Result]) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("file", overflow="fold")
    for title in ("verdict", "p_fake", "seconds", "speech", "alerts"):
        table.add_column(title, justify="right")
    for result in results:
        if result.verdict is None:
            table.add_row(_shown(result.path), "[red]unreadable[/red]")
            continue
        colour = COLOURS[result.verdict]
        table.add_row(
            _shown(result.path),
            f"[{colour}]{result.verdict}[/{colour}]",
            "-" if result.p_fake is None else f"{result.p_fake:.3f}",
            f"{result.seconds:.1f}",
            f"{result.speech_seconds:.1f}",
            str(len(result.alerts)),
            *(["[red]damaged[/red]"] if result.error else []),  # a column more where there are such files
        )
    return table
