"""What a crash left half written is closed as incomplete and chained, so that nothing is lost unseen."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import structlog

from streamdet.evidence.chain import OPEN, PART, Chain, read_entries
from streamdet.evidence.recording import SIDECAR, Sound, chained, made_files
from streamdet.evidence.seal import Entry

log = structlog.get_logger(__name__)
BLOCK = 4096
WHY = "streamdet ended in the middle of it"


def recover(folder: Path, chain: Chain) -> Iterator[Entry]:
    """Close the recordings that were under way when the process ended; yields what was added to the chain.

    Raises:
        OSError, EvidenceError: the disk refused, or the chain was changed.
    """
    chained_already = {entry["alert"] for entry in read_entries(folder) if entry["kind"] == "alert"}
    for marker in sorted(folder.glob(f"*{OPEN}")):
        name = marker.name.removesuffix(OPEN)
        known = _read(marker)
        raised = known["events"][0] if known.get("events") else None
        if raised is not None and raised["id"] not in chained_already:
            yield chained(chain, folder, name, _content(known, raised), _rescue(folder, name))
        marker.unlink(missing_ok=True)
    for rest in folder.glob(f"*{PART}"):
        rest.unlink(missing_ok=True)


def _read(marker: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads(marker.read_bytes())
    except ValueError as error:
        log.warning("evidence_marker_unread", path=str(marker), reason=str(error))
        return {}
    return known


def _content(known: dict[str, Any], raised: dict[str, Any]) -> dict[str, Any]:
    rest = {"alert": raised["id"], "stream": raised["stream"], "raised": raised["time"]}
    return known | rest | {"status": "incomplete", "why": WHY}


def _rescue(folder: Path, name: str) -> list[str]:
    """Return the files that can be used; sound that was cut short is written anew as far as it goes."""
    part, whole = folder / f"{name}.flac{PART}", folder / f"{name}.flac"
    if part.exists() and not whole.exists():
        samples, rate = _decode(part)
        if len(samples):
            sound = Sound(folder / f"{name}.rescued{PART}", rate)
            sound.write(samples)
            sound.close()
            (folder / f"{name}.rescued{PART}").replace(whole)
    (folder / (name + SIDECAR)).unlink(missing_ok=True)
    return made_files(folder, name)


def _decode(path: Path) -> tuple[np.ndarray[Any, np.dtype[np.float32]], int]:
    """Decode a FLAC file whose end is missing."""
    blocks = [np.zeros(0, np.float32)]
    rate = 0
    # libsndfile ends such a file with an error, or cannot open it while it holds no frame
    with contextlib.suppress(soundfile.LibsndfileError), soundfile.SoundFile(path) as file:
        rate = file.samplerate
        while len(block := file.read(BLOCK, "float32")):
            blocks.append(block)
    return np.concatenate(blocks), rate
