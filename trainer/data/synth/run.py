"""Runs makers over clips into a folder: audio, manifest, journal and notes. What is there already is not made again.

``journal.jsonl`` gets a line for each clip once its audio is stored; ``manifest.csv`` and ``NOTES.json`` are written
from it, each in one piece. A run that is killed loses the clips it was just at and nothing else.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from trainer.data.errors import DataError
from trainer.data.manifest import Clip
from trainer.data.synth.base import Maker
from trainer.data.synth.plan import plan
from trainer.data.synth.work import Order, Result, carry_out

FIELDS = (
    *("id", "split", "label", "path", "family", "source", "group", "era", "language", "codec", "parent", "speaker"),
    *("system", "seconds"),
)
SETTLE = 50  # clips between two manifests


@dataclass(slots=True)
class Report:
    """What a run did: clips made now, clips that were there, and those that could not be made with the reason."""

    planned: int = 0
    made: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"planned": self.planned, "made": dict(self.made), "kept": self.kept, "failed": self.failed}


class Journal:
    """Rows of what has been made, in a file that is only ever appended to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "journal.jsonl"
        self.rows = self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        """Rows by id; a last line that a kill tore is cut off, as are rows whose audio is gone."""
        if not self._path.exists():
            return {}
        text = self._path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):
            with self._path.open("r+b") as file:
                file.truncate(len(whole))
        try:
            rows = [json.loads(line) for line in whole.decode().splitlines()]
            return {row["id"]: row for row in rows if (self.folder / row["path"]).is_file()}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self._path}: not a journal of this command ({error}); choose another folder") from error

    def add(self, row: dict[str, Any]) -> None:
        """Append one row."""
        self.rows[row["id"]] = row
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def settle(self, notes: Mapping[str, Any]) -> None:
        """Write manifest and notes anew."""
        ordered = [self.rows[name] for name in sorted(self.rows)]
        table = StringIO()
        writer = csv.DictWriter(table, FIELDS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(ordered)
        _replace(self.folder / "manifest.csv", table.getvalue())
        _replace(self.folder / "NOTES.json", json.dumps({**notes, "families": families(ordered)}, indent=1) + "\n")


def families(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Count what there is of each family: clips, hours, systems with their number, licence, and settings by clip."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        entry = found.setdefault(
            row["family"], {"clips": 0, "hours": 0.0, "licence": row["licence"], "systems": Counter(), "settings": {}}
        )
        entry["clips"] += 1
        entry["hours"] = round(entry["hours"] + row["seconds"] / 3600.0, 6)
        entry["systems"][row["system"]] += 1
        entry["settings"][row["id"]] = row["settings"]
    return found


def _refuse_other(path: Path, notes: Mapping[str, Any]) -> None:
    """Refuse to add to what was made otherwise: the notes would be untrue of one or the other."""
    if not path.exists():
        return
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        other = [f"{name} {known[name]}" for name in ("seed", "seconds") if known[name] != notes[name]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not notes of this command ({error}); use another --out") from error
    if other:
        raise DataError(f"{path}: what is there was made with {', '.join(other)}; give the same, or use another --out")


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def synthesise(
    clips: Sequence[Clip],
    makers: Mapping[str, Maker],
    order: Order,
    each: int,
    *,
    processes: int = 1,
    progress: Callable[[Result | None, int], None] = lambda _result, _total: None,
) -> Report:
    """Make ``each`` clips with each of ``makers`` that the folder lacks; ``progress`` hears of each, with the total.

    Raises:
        DataError: the folder holds something else or was made with another seed or length, or a process died.
    """
    (order.folder / "audio").mkdir(parents=True, exist_ok=True)
    journal, report = Journal(order.folder), Report()
    jobs = plan(clips, makers, each, order.seed)
    open_jobs = [job for job in jobs if job.id not in journal.rows]
    report.planned, report.kept = len(jobs), len(jobs) - len(open_jobs)
    notes = {"seed": order.seed, "seconds": order.seconds, "rate": 16_000}
    if journal.rows:
        _refuse_other(order.folder / "NOTES.json", notes)
    journal.settle(notes)
    for _ in range(report.kept):
        progress(None, len(jobs))
    for result in carry_out(order, open_jobs, processes):
        if result.row is None:
            report.failed[result.job.id] = result.error
        else:
            journal.add(result.row)
            report.made[result.job.maker] += 1
            if sum(report.made.values()) % SETTLE == 0:
                journal.settle(notes)
        progress(result, len(jobs))
    journal.settle({**notes, "failed": report.failed})
    return report
