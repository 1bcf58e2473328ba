"""Deletes the oldest recordings where there is too much, and leaves an entry in the chain that says so."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import structlog

from streamdet.errors import EvidenceError
from streamdet.evidence.chain import Chain, read_entries
from streamdet.evidence.seal import Entry

log = structlog.get_logger(__name__)
AT_ONCE: Final = 100  # recordings that one entry tells of


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept; None is no limit."""

    seconds: float | None = None
    count: int | None = None
    most_bytes: int | None = None
    free_bytes: int = 0  # what has to stay free on the disk


def kept(entries: list[Entry]) -> list[Entry]:
    """Return the alerts whose files have not been pruned, the oldest first."""
    gone = {number for entry in entries if entry["kind"] == "pruned" for number in entry["entries"]}
    return [entry for entry in entries if entry["kind"] == "alert" and entry["number"] not in gone]


class Retention:
    """Keeps a folder within its limits."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits

    def make_room(self, chain: Chain) -> int:
        """Delete what is too much; returns how many recordings that were.

        Raises:
            OSError: the disk refused.
            EvidenceError: the chain cannot be read or was changed, or everything is deleted and room is still short.
        """
        entries = read_entries(self._folder)
        _finish_pruning(self._folder, entries)
        here = kept(entries)
        doomed: dict[int, str] = {}
        for entry, why in self._too_much(here):
            doomed.setdefault(entry["number"], why)
        for why in sorted(set(doomed.values())):
            self._prune(chain, [entry for entry in here if doomed.get(entry["number"]) == why], why)
        if self._short() > 0:
            free = self._limits.free_bytes >> 20
            raise EvidenceError(f"less than {free} MB are free and there is no recording left to delete")
        return len(doomed)

    def _too_much(self, here: list[Entry]) -> Iterator[tuple[Entry, str]]:
        limits, now = self._limits, time.time()
        if limits.seconds is not None:
            yield from ((entry, "age") for entry in here if now - _at(entry) > limits.seconds)
        if limits.count is not None:
            yield from ((entry, "count") for entry in here[: max(0, len(here) - limits.count)])
        if limits.most_bytes is not None:
            over = sum(entry["bytes"] for entry in here) - limits.most_bytes
            yield from ((entry, "bytes") for entry in _oldest(here, over))
        yield from ((entry, "free space") for entry in _oldest(here, self._short()))

    def _short(self) -> int:
        """Bytes that are missing to the free space that has to stay."""
        if not self._limits.free_bytes:
            return 0
        disk = os.statvfs(self._folder)
        return self._limits.free_bytes - disk.f_bavail * disk.f_frsize

    def _prune(self, chain: Chain, entries: list[Entry], why: str) -> None:
        for begin in range(0, len(entries), AT_ONCE):
            some = entries[begin : begin + AT_ONCE]
            files = [name for entry in some for name in entry["files"]]
            # The entry comes first: a crash in between leaves files that are too many, never too few.
            chain.add("pruned", {"why": why, "entries": [entry["number"] for entry in some]})
            for name in files:
                (self._folder / name).unlink(missing_ok=True)
            log.info("evidence_pruned", why=why, recordings=len(some))


def _finish_pruning(folder: Path, entries: list[Entry]) -> None:
    gone = {number for entry in entries if entry["kind"] == "pruned" for number in entry["entries"]}
    for entry in entries:
        if entry["number"] in gone:
            for name in entry["files"]:
                (folder / name).unlink(missing_ok=True)


def _oldest(entries: list[Entry], size: float) -> Iterator[Entry]:
    for entry in entries:
        if size <= 0:
            return
        size -= entry["bytes"]
        yield entry


def _at(entry: dict[str, Any]) -> float:
    return datetime.fromisoformat(entry["time"]).timestamp()
