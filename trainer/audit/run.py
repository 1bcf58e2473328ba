"""Runs the whole audit on a list of clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from trainer.audit.leakage import leakage
from trainer.audit.report import Audit
from trainer.audit.scan import Scan, scan
from trainer.audit.shortcuts import Shortcuts, shortcuts, steps
from trainer.data.errors import DataError
from trainer.data.manifest import Clip

Stage = Callable[[str, int], AbstractContextManager[Callable[[], None]]]


def run(clips: Sequence[Clip], *, by: str, near: bool, seed: int, stage: Stage) -> tuple[Audit, Scan]:
    """Read all clips and judge them; ``stage(name, steps)`` opens a progress bar and gives what advances it.

    Raises:
        DataError: ``by`` is no field of a clip or the label, or no clip can be read.
    """
    known = [name for name in Clip.__dataclass_fields__ if name != "label"]
    if by == "label":
        raise DataError(f"label: what is to be told apart cannot be held out; choose one of {', '.join(known)}")
    if by and by not in known:
        raise DataError(f"{by}: clips have no such field; there are {', '.join(known)}")
    with stage("reading", len(clips)) as advance:
        read = scan(clips, near=near, advance=advance)
    if not read.clips:
        raise DataError(f"none of {len(clips)} clips can be read; the first: {next(iter(read.skipped.values()), '')}")
    leaks = leakage(read.clips, read.digests, read.words)
    with stage("judging", steps()) as advance:
        cuts = _shortcuts(read, by=by, seed=seed, advance=advance)
    counts = Counter((c.split, "synthetic" if c.label else "human") for c in read.clips)
    named = {f"{split} {kind}": count for (split, kind), count in sorted(counts.items())}
    return Audit(named, dict(read.skipped), leaks, cuts), read


def _shortcuts(read: Scan, *, by: str, seed: int, advance: Callable[[], None]) -> Shortcuts | None:
    """Figures, or None where a class has fewer than two groups to hold out."""
    try:
        return shortcuts(read.features, read.clips, by=by, seed=seed, advance=advance)
    except ValueError as error:
        if "two groups" not in str(error):
            raise
        return None
