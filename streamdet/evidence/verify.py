"""Checks a folder of recordings against its chain, bit by bit."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from streamdet.errors import EvidenceError
from streamdet.evidence.chain import BEFORE_FIRST, CHAIN, HEAD, LOCK, OPEN, OWNER, PART, read_lines
from streamdet.evidence.seal import Entry, check_signature, file_digest, unseal


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it was written; ``where`` is a file, or a line of the chain."""

    where: str
    what: str


@dataclass(slots=True)
class Report:
    """What a check found; ``problems`` is empty where everything is as it was written."""

    entries: int = 0
    alerts: int = 0
    files: int = 0
    incomplete: int = 0
    pruned: dict[str, int] = field(default_factory=dict)
    signed: str = "no"  # or "with the given key", "with KEY, which nobody vouches for"
    last: str = BEFORE_FIRST
    under_way: int = 0
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def intact(self) -> bool:
        """Whether nothing was found."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"intact": self.intact} | asdict(self)


def verify(folder: Path, keys: Collection[str] = (), anchor: tuple[int, str] | None = None) -> Report:
    """Check everything in a folder.

    Args:
        folder: where recordings are kept.
        keys: public keys (hex) with one of which every entry must be signed, from the first that is on.
        anchor: number and digest of an entry, noted elsewhere before.

    Raises:
        EvidenceError: there is no chain.
        DependencyError: entries are signed and the library that checks is not installed.
    """
    report = Report()
    lines, rest = read_lines(folder)
    if rest:
        report.problems.append(Problem(CHAIN, f"its last {len(rest)} bytes are no whole line"))
    entries = [entry for entry in _read(lines, report) if entry is not None]
    report.entries = len(lines)
    report.last = str(entries[-1]["digest"]) if entries else BEFORE_FIRST
    head = _head(folder, entries, len(lines), report)
    _check_signatures([*entries, *([head] if head else [])], keys, report)
    if anchor is not None:
        _check_anchor(entries, anchor, report)
    _check_files(folder, entries, report)
    return report


def check_alert(folder: Path, alert_id: str, keys: Collection[str] = ()) -> tuple[Entry | None, list[Problem]]:
    """Check one alert's files and the whole chain, but no other files; returns its entry.

    Raises:
        EvidenceError, DependencyError: as :func:`verify`.
    """
    report = Report()
    entries = [entry for entry in _read(read_lines(folder)[0], report) if entry is not None]
    if keys:
        _check_signatures(entries, keys, report)
    found = next((entry for entry in entries if entry["kind"] == "alert" and entry["alert"] == alert_id), None)
    if found is not None:
        report.problems += _compare(folder, found["files"])
    return found, report.problems


def _read(lines: list[bytes], report: Report) -> Iterator[Entry | None]:
    previous = BEFORE_FIRST
    for number, line in enumerate(lines, 1):
        where = f"{CHAIN} line {number}"
        try:
            entry = unseal(line)
            _check_shape(entry)
        except EvidenceError as error:
            report.problems.append(Problem(where, str(error)))
            previous = ""
            yield None
            continue
        if entry["number"] != number:
            report.problems.append(Problem(where, f"is entry {entry['number']}: some are missing, or in another order"))
        if previous and entry["previous"] != previous:
            report.problems.append(Problem(where, "does not follow the line before it"))
        previous = entry["digest"]
        yield entry


def _check_shape(entry: Entry) -> None:
    needed: dict[str, tuple[str, ...]] = {
        "alert": ("files", "alert", "stream", "status"), "pruned": ("entries", "why"), "acknowledged": ("alert", "by"),
    }  # fmt: skip
    keys = ("number", "previous", "time", *needed.get(entry.get("kind", ""), ("kind of no entry",)))
    if not all(key in entry for key in keys):
        raise EvidenceError("is no entry")


def _head(folder: Path, entries: list[Entry], lines: int, report: Report) -> Entry | None:
    try:
        head = unseal((folder / HEAD).read_bytes().removesuffix(b"\n"))
        count, last = int(head["count"]), str(head["last"])
    except (OSError, KeyError):
        report.problems.append(Problem(HEAD, "is missing"))
        return None
    except EvidenceError as error:
        report.problems.append(Problem(HEAD, str(error)))
        return None
    if count > lines:
        report.problems.append(Problem(CHAIN, f"has {lines} entries of {count}: its end was cut off"))
        return head
    there = {entry["number"]: entry["digest"] for entry in entries}
    if count and there.get(count, last) != last:
        report.problems.append(Problem(HEAD, f"does not fit entry {count}"))
    elif count < lines:
        report.notes.append(f"{HEAD} lags {lines - count} behind, as after a crash")
    return head


def _check_signatures(entries: list[Entry], keys: Collection[str], report: Report) -> None:
    used = {str(entry["key"]) for entry in entries if "key" in entry}
    if not keys and not used:
        return
    signed = False
    for entry in entries:
        where = HEAD if entry.get("kind") == "head" else f"{CHAIN} line {entry['number']}"
        if "key" not in entry:
            if signed or not used:  # what comes before the first signature is covered by it
                report.problems.append(Problem(where, "is not signed"))
            continue
        signed = True
        if keys and entry["key"] not in keys:
            report.problems.append(Problem(where, f"is signed with another key, {entry['key']}"))
        elif not check_signature(entry, entry["key"]):
            report.problems.append(Problem(where, "has a wrong signature"))
    report.signed = "with the given key" if keys else f"with {', '.join(sorted(used))}, for which nobody vouches"
    if not keys:
        report.notes.append("give --key FILE.pub to check that it is your key")


def _check_anchor(entries: list[Entry], anchor: tuple[int, str], report: Report) -> None:
    number, digest = anchor
    found = next((entry for entry in entries if entry["number"] == number), None)
    if number and (found is None or found["digest"] != digest):
        report.problems.append(Problem(CHAIN, f"entry {number} is not the one that was noted elsewhere"))


def _check_files(folder: Path, entries: list[Entry], report: Report) -> None:
    gone: dict[int, str] = {n: entry["why"] for entry in entries if entry["kind"] == "pruned" for n in entry["entries"]}
    known: set[str] = set()
    for entry in entries:
        if entry["kind"] != "alert":
            continue
        report.alerts += 1
        known |= set(entry["files"])
        if entry["number"] in gone:
            why = gone[entry["number"]]
            report.pruned[why] = report.pruned.get(why, 0) + 1
            continue
        report.incomplete += entry["status"] != "complete"
        report.files += len(entry["files"])
        report.problems += _compare(folder, entry["files"])
    _check_strangers(folder, known, report)


def _compare(folder: Path, files: dict[str, str]) -> Iterator[Problem]:
    for name, digest in sorted(files.items()):
        try:
            if file_digest(folder / name) != digest:
                yield Problem(name, "was changed")
        except FileNotFoundError:
            yield Problem(name, "is missing")
        except OSError as error:
            yield Problem(name, f"cannot be read: {error.strerror}")


def _check_strangers(folder: Path, known: set[str], report: Report) -> None:
    markers = {path.name.removesuffix(OPEN) for path in folder.glob(f"*{OPEN}")}
    report.under_way = len(markers)
    for path in sorted(folder.iterdir()):
        name = path.name
        ours = name in {CHAIN, HEAD, LOCK, OWNER} or name.endswith((OPEN, PART))
        if not ours and name not in known and not any(name.startswith(marker) for marker in markers):
            report.problems.append(Problem(name, "is not in the chain"))
