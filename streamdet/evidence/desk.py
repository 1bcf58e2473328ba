"""The live page's alerts where recordings are kept: those of earlier runs too, played from the disk and checked."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import structlog

from streamdet.errors import EvidenceError, StreamdetError
from streamdet.events import Alert, Evidence
from streamdet.evidence.chain import Chain, read_entries
from streamdet.evidence.mode import Mode
from streamdet.evidence.retention import kept as not_pruned
from streamdet.evidence.seal import Entry, Signer
from streamdet.evidence.verify import check_alert
from streamdet.parts import Inside
from streamdet.web.desk import Acknowledgement, Kept, MemoryDesk, Proof, Recording, store_acknowledgement

log = structlog.get_logger(__name__)
SHOWN = 200  # alerts


class EvidenceDesk:
    """Implements :class:`streamdet.web.desk.Desk`.

    An alert that is still recorded is played from memory where sound is kept at all; one that is over from its file.
    ``past`` are the alerts that the event store knows, the newest first.
    """

    def __init__(
        self, inside: Inside, chain: Chain, mode: Mode, signer: Signer | None, past: Sequence[Kept] = ()
    ) -> None:
        self._inside = inside
        self._chain = chain
        self._folder = chain.folder
        self._model = inside.model.digest
        self._keys = () if signer is None else (signer.public,)
        self._memory = MemoryDesk(inside) if mode == "full" else None
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._files: dict[str, tuple[str, ...]] = {}
        self._changed: dict[str, Kept] = {}
        self._load(past)

    def sealed(self, entry: Entry) -> None:
        """Hear that an alert is in the chain; on the writer's thread."""
        with self._lock:
            self._files[entry["alert"]] = tuple(entry["files"])
            while len(self._files) > 2 * SHOWN:
                del self._files[next(iter(self._files))]
            kept = self._kept.get(entry["alert"])
            if kept is not None:
                alert_id = kept.alert.id
                playable, picture = self._sound(alert_id) is not None, self._file(alert_id, ".png")
                kept = self._kept[alert_id] = replace(kept, playable=playable, pictured=picture is not None)
                self._changed[alert_id] = kept

    def take(self, alert: Alert) -> Kept:
        """Hear of an alert's next step."""
        live = None if self._memory is None else self._memory.take(alert)
        with self._lock:
            before = self._kept.get(alert.id)
            playable = self._sound(alert.id) is not None or (live is not None and live.playable)
            said = None if before is None else before.acknowledged
            raised = alert.time if before is None else before.raised
            pictured = self._file(alert.id, ".png") is not None
            kept = self._kept[alert.id] = Kept(alert, raised, playable, said, pictured)
            while len(self._kept) > SHOWN:
                self._kept.popitem(last=False)
            return kept

    def alerts(self, limit: int) -> Sequence[Kept]:
        """Return the latest alerts, the newest first."""
        with self._lock:
            return list(reversed(self._kept.values()))[:limit]

    def get(self, alert_id: str) -> Kept | None:
        """Return one alert."""
        with self._lock:
            return self._kept.get(alert_id)

    def recording(self, alert_id: str) -> Recording | None:
        """Return the file to play; while it is being written, what there is in memory."""
        with self._lock:
            name = self._sound(alert_id)
        if name is not None:
            return Recording("audio/flac", name, path=self._folder / name)
        return None if self._memory is None else self._memory.recording(alert_id)

    def picture(self, alert_id: str) -> Recording | None:
        """Return the picture, once the recording is complete."""
        with self._lock:
            name = self._file(alert_id, ".png")
        return None if name is None else Recording("image/png", name, path=self._folder / name)

    def verify(self, alert_id: str) -> Proof:
        """Check the alert's files and the chain."""
        try:
            entry, problems = check_alert(self._folder, alert_id, self._keys)
        except StreamdetError as error:
            return Proof("missing", str(error))
        if entry is None:
            return Proof("unsealed", "It is not in the chain yet: an alert is sealed when it is over.")
        digest = next(iter(entry["files"].values()))
        if not problems:
            signed = "signed" if self._keys else "not signed"
            return Proof("intact", f"Every bit is as it was written; entry {entry['number']}, {signed}.", digest)
        missing = all(problem.what == "is missing" for problem in problems)
        said = "; ".join(f"{problem.where} {problem.what}" for problem in problems[:3])
        return Proof("missing" if missing else "changed", said, digest)

    def acknowledge(self, alert_id: str, acknowledgement: Acknowledgement) -> Kept | None:
        """Note in the chain who has seen to an alert; the first one stands."""
        with self._lock:
            kept = self._kept.get(alert_id)
            if kept is None or kept.acknowledged is not None:
                return kept
            try:
                content = {"alert": alert_id, "by": acknowledgement.by, "at": acknowledgement.at}
                self._chain.add("acknowledged", content)
            except (OSError, EvidenceError) as error:
                log.warning("acknowledgement_not_stored", alert=alert_id, reason=str(error))
                return kept  # the page shows it as not acknowledged, which is true
            kept = self._kept[alert_id] = replace(kept, acknowledged=acknowledgement)
        store_acknowledgement(self._inside, alert_id, acknowledgement)
        return kept

    def tick(self) -> Sequence[Kept]:
        """Go on holding the sound of alerts that last; returns those whose recording is complete now."""
        if self._memory is not None:
            self._memory.tick()
        with self._lock:
            changed, self._changed = self._changed, {}
        return list(changed.values())

    def _file(self, alert_id: str, suffix: str) -> str | None:
        return next((name for name in self._files.get(alert_id, ()) if name.endswith(suffix)), None)

    def _sound(self, alert_id: str) -> str | None:
        return self._file(alert_id, ".flac")

    def _load(self, past: Sequence[Kept]) -> None:
        """Read what earlier runs kept: what the store knows, and what is in the chain instead where both know it."""
        entries = self._entries()
        self._kept.update((kept.alert.id, kept) for kept in past)
        for entry in not_pruned(entries)[-SHOWN:]:
            alert = self._alert(entry)
            self._files[alert.id] = tuple(entry["files"])
            pictured = self._file(alert.id, ".png") is not None
            said = self._kept[alert.id].acknowledged if alert.id in self._kept else None
            playable = self._sound(alert.id) is not None
            self._kept[alert.id] = Kept(alert, entry["raised"], playable, said, pictured)
        for entry in entries:
            kept = self._kept.get(entry.get("alert", ""))
            if entry["kind"] == "acknowledged" and kept is not None and kept.acknowledged is None:
                self._kept[entry["alert"]] = replace(kept, acknowledged=Acknowledgement(entry["by"], entry["at"]))
        latest = sorted(self._kept.items(), key=lambda item: item[1].raised)[-SHOWN:]
        self._kept = OrderedDict(latest)

    def _entries(self) -> list[Entry]:
        try:
            return read_entries(self._folder)
        except EvidenceError as error:  # the disk let nobody begin a chain yet
            log.warning("evidence_past_unread", reason=str(error))
            return []

    def _alert(self, entry: Entry) -> Alert:
        name, digest = next(iter(entry["files"].items()))
        duration = entry["duration"] or 0.0
        return Alert(
            stream=entry["stream"],
            seq=1,
            time=entry["time"],
            media_time=entry["onset"] + duration,
            model=self._model,
            id=entry["alert"],
            phase="cleared",
            reason=entry["reason"],
            onset=entry["onset"],
            peak=entry["peak"] or 0.0,
            duration=duration,
            evidence=Evidence(path=str(self._folder / name), sha256=digest),
        )
