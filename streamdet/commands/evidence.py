"""``streamdet evidence``: lists, shows, checks and prunes recordings of alerts, and makes keys that sign them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamdet.assembly import SERVICE_STATE
from streamdet.errors import ConfigError, EvidenceError
from streamdet.evidence.chain import Chain, read_entries
from streamdet.evidence.mode import FOLDER
from streamdet.evidence.retention import Limits, Retention, kept
from streamdet.evidence.seal import PUBLIC_SUFFIX, Signer, load_public, make_key
from streamdet.evidence.verify import Report, verify

ANCHOR = re.compile(r"(\d+):([0-9a-f]{64})")


def find_folder(folder: Path | None) -> Path:
    """Where to look for recordings: as given, else where a service keeps them."""
    if folder is not None:
        return folder
    return Path(os.environ.get("STATE_DIRECTORY", SERVICE_STATE).split(":")[0]) / FOLDER


def run_list(folder: Path, *, as_json: bool) -> None:
    """List what is kept, the oldest first.

    Raises:
        EvidenceError: there is no chain.
    """
    entries = read_entries(folder)
    seen = {entry["alert"]: entry["by"] for entry in reversed(entries) if entry["kind"] == "acknowledged"}
    if as_json:
        for entry in kept(entries):
            print(json.dumps(entry | {"acknowledged": seen.get(entry["alert"])}))
        return
    table = Table(box=None, header_style="bold")
    for title in ("raised", "stream", "alert", "s", "peak", "status", "kB", "seen by"):
        table.add_column(title, no_wrap=True)
    for entry in kept(entries):
        row = (entry["raised"], entry["stream"], entry["alert"][:8], f"{entry['duration']:.1f}", f"{entry['peak']:.2f}")
        seen_by = seen.get(entry["alert"], "")
        table.add_row(*map(Text, (*row, entry["status"], str(entry["bytes"] >> 10), seen_by)))
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)


def run_show(folder: Path, alert: str, *, as_json: bool) -> None:
    """Show one recording's files and what its sidecar says.

    Raises:
        EvidenceError: there is none, or more than one alert begins like that.
    """
    found = [entry for entry in read_entries(folder) if entry["kind"] == "alert" and entry["alert"].startswith(alert)]
    if len(found) != 1:
        raise EvidenceError(f"{len(found)} alerts in {folder} begin with {alert!r}: see `streamdet evidence list`")
    name = next(name for name in found[0]["files"] if name.endswith(".json"))
    try:
        sidecar: dict[str, Any] = json.loads((folder / name).read_bytes())
    except (OSError, ValueError) as error:
        raise EvidenceError(f"cannot read {folder / name}: {error}") from error
    if as_json:
        print(json.dumps(sidecar))
        return
    for key in ("alert", "stream", "raised", "status", "why", "lost_share", "engine", "version", "model"):
        print(f"{key:12} {sidecar.get(key, '')}")
    for event in sidecar["events"]:
        print(f"{event['phase']:12} {event['time']}  {event['reason']}, peak {event['peak']:.3f}")
    for name in found[0]["files"]:
        print(f"{'file':12} {folder / name}")


def run_verify(folder: Path, keys: Sequence[Path], anchor: str | None, *, as_json: bool) -> int:
    """Check everything; returns the exit code.

    Raises:
        EvidenceError: there is no chain.
        ConfigError: a key or the anchor cannot be read.
    """
    report = verify(folder, [load_public(key) for key in keys], _anchor(anchor))
    if as_json:
        print(json.dumps(report.to_dict()))
    else:
        _print(report, folder)
    return 0 if report.intact else EvidenceError.exit_code


def run_prune(folder: Path, limits: Limits, key: Path | None) -> None:
    """Delete what is too much.

    Raises:
        EvidenceError: there is no chain, or it cannot be written.
    """
    if limits == Limits():
        raise ConfigError("say what is too much: --days, --count or --megabytes")
    entries = read_entries(folder)
    if key is None and any("key" in entry for entry in entries):
        raise ConfigError("these recordings are signed: give --key FILE, so that the note of what is deleted is too")
    chain = Chain(folder, None if key is None else Signer.load(key))
    try:
        count = Retention(folder, limits).make_room(chain)
    except OSError as error:
        raise EvidenceError(f"cannot prune {folder}: {error.strerror}") from error
    print(f"deleted {count} of {len(kept(entries))} recordings; the chain says so")


def run_make_key(path: Path) -> None:
    """Make a signing key and say what to do with it.

    Raises:
        ConfigError: it exists or cannot be written.
    """
    public = make_key(path)
    print(f"made {path} (secret) and {path}{PUBLIC_SUFFIX}: {public}")
    print(f'sign with it: [evidence] key = "{path.absolute()}"')
    print(f"check: streamdet evidence verify --key {path}{PUBLIC_SUFFIX}, with a copy kept on another machine")


def _anchor(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    found = ANCHOR.fullmatch(text)
    if found is None:
        raise ConfigError("--anchor is NUMBER:DIGEST, as an earlier `streamdet evidence verify` printed it")
    return int(found[1]), found[2]


def _print(report: Report, folder: Path) -> None:
    print(f"{folder}: {report.entries} entries, {report.alerts} alerts, {report.files} files; signed: {report.signed}")
    for why, count in sorted(report.pruned.items()):
        print(f"pruned by policy ({why}): {count}")
    if report.incomplete:
        print(f"incomplete recordings: {report.incomplete}")
    if report.under_way:
        print(f"under way: {report.under_way}")
    for note in report.notes:
        print(f"note: {note}")
    for problem in report.problems:
        print(f"PROBLEM {problem.where}: {problem.what}")
    print(f"anchor {report.entries}:{report.last}")
    print("intact" if report.intact else f"NOT INTACT: {len(report.problems)} problems")
