"""Shows how far long work is: a bar on a terminal, else a line now and then, for logs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

SECONDS = 60.0  # between two lines of a log


class Shown:
    """What is done of ``total`` items, or seconds, or None while nobody knows how many."""

    def __init__(self, name: str, total: float | None, bar: Progress, console: Console) -> None:
        self._name, self._done, self._total = name, 0.0, total
        self._bar, self._console, self._task = bar, console, bar.add_task(name, total=total)
        self._said = time.monotonic()

    def advance(self, amount: float = 1.0) -> None:
        """So much more is done."""
        self._done += amount
        self._bar.advance(self._task, amount)
        if self._bar.disable and time.monotonic() - self._said >= SECONDS:
            self._said = time.monotonic()
            of = f" of {self._total:,.0f}" if self._total else ""
            self._console.print(f"{self._name}: {self._done:,.0f}{of}", highlight=False, markup=False)

    def of(self, total: int) -> None:
        """There are ``total`` in all, as is known now."""
        self._total = total
        self._bar.update(self._task, total=total)


@contextmanager
def shown(name: str, total: float | None, *, counted: bool = True) -> Iterator[Shown]:
    """Show ``name`` on standard error until the block ends; not ``counted`` shows percents."""
    console = Console(stderr=True)
    share = MofNCompleteColumn() if counted else TaskProgressColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), share, TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield Shown(name, total, bar, console)


@contextmanager
def stage(name: str, total: int) -> Iterator[Callable[[], None]]:
    """Show :func:`shown` for ``total`` items; gives what to call after each."""
    with shown(name, total) as one:
        yield one.advance


def list_skipped(skipped: Mapping[str, str]) -> None:
    """List on standard error the clips that cannot be used, by id, and why."""
    console = Console(stderr=True)
    for clip, why in sorted(skipped.items()):
        console.print(f"skipped {clip}: {why}", highlight=False, markup=False)
    if skipped:
        console.print(f"{len(skipped)} clips skipped")
