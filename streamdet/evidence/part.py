"""Evidence as a part of ``listen``."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import Future
from importlib.util import find_spec
from typing import Any

import structlog

from streamdet.config import Config
from streamdet.decide.alarm import Transition
from streamdet.errors import DependencyError, EvidenceError
from streamdet.events import Alert, Event, Evidence, State
from streamdet.evidence.chain import Chain, own
from streamdet.evidence.desk import EvidenceDesk
from streamdet.evidence.keeper import PREROLL, AlertKeeper
from streamdet.evidence.mode import Mode, evidence_folder
from streamdet.evidence.recording import Circumstances
from streamdet.evidence.retention import Limits, Retention
from streamdet.evidence.seal import Signer
from streamdet.parts import Inside
from streamdet.settings.digest import config_digest
from streamdet.sinks.base import Sink
from streamdet.tap import Heard, Keeper, KeeperFigures, Tap
from streamdet.version import running_version
from streamdet.web.desk import stored_alerts

log = structlog.get_logger(__name__)
NOTICED = 25.0  # seconds that may lie between the onset of an alert and the moment it is raised
FAREWELL = 5.0
SENDER = {"origin": "sender", "ssrc": "ssrc"}  # what state events of RTP streams tell, and its name in the sidecar
USER = re.compile(r"(?<=//)[^/?#@\s]*@")


class EvidencePart:
    """Records alerts.

    Args:
        config: the whole configuration.
        mode: what is kept.

    Raises:
        ConfigError: no folder is given, or the signing key cannot be used.
        DependencyError: what draws or signs is not installed.
    """

    name = "evidence"

    def __init__(self, config: Config, mode: Mode) -> None:
        if mode != "scores" and find_spec("PIL") is None:
            raise DependencyError("pictures of recordings need Pillow: pip install 'streamdet[evidence]'")
        section = config.evidence
        self._config, self._mode = config, mode
        self._folder = evidence_folder(config)
        self._signer = None if section.key is None else Signer.load(section.key)
        self._chain = Chain(self._folder, self._signer)
        self._retention = Retention(
            self._folder,
            Limits(
                seconds=86_400 * section.days,
                count=section.count,
                most_bytes=section.megabytes << 20,
                free_bytes=section.free_megabytes << 20,
            ),
        )
        self._inside: Inside | None = None
        self._owner: int | None = None
        self._desk: EvidenceDesk | None = None
        self._senders: dict[str, dict[str, float | int | str]] = {}  # by stream
        self._early: list[Event] = []  # heard before the start
        self._keeper = _Later()

    @property
    def sound_seconds(self) -> float:
        """How far back sound is asked for."""
        return PREROLL + NOTICED

    @property
    def keeper(self) -> Keeper:
        """What scoring tells of alerts."""
        return self._keeper

    def figures(self) -> KeeperFigures:
        """Count what became of the recordings; from any thread."""
        return KeeperFigures() if self._keeper.real is None else self._keeper.real.figures()

    def sinks(self) -> Sequence[Sink]:
        """List the sink that hears of alerts which an earlier life of the process raised."""
        return [_Ears(self)]

    def taps(self) -> Sequence[Tap]:
        """List the tap that sees hops."""
        return [self._keeper.hear]

    def start(self, inside: Inside) -> None:
        """Open the folder, close what an earlier life left, and begin to write; a disk that refuses is tried again.

        Raises:
            EvidenceError: the folder cannot be used, or another process records into it.
        """
        keeper = AlertKeeper(self._circumstances(inside), self._chain, self._retention, inside.sound, inside.tell)
        try:
            keeper.start(self._claim)
        except OSError as error:
            raise EvidenceError(f"cannot keep recordings in {self._folder}: {error.strerror}") from error
        self._desk = EvidenceDesk(inside, self._chain, self._mode, self._signer, stored_alerts(inside))
        keeper.on_sealed = self._desk.sealed
        self._keeper.real = keeper
        early, self._early = self._early, []
        for event in early:
            self.take(event)
        log.info("evidence", folder=str(self._folder), mode=self._mode, signed=self._signer is not None)

    def close(self) -> None:
        """Write what waits, for a few seconds at most."""
        if self._keeper.real is not None:
            self._keeper.real.close(FAREWELL)
        if self._owner is not None:
            os.close(self._owner)

    def desk(self, inside: Inside) -> EvidenceDesk:  # noqa: ARG002  as the page calls it
        """Return what the live page shows of recordings."""
        assert self._desk is not None  # the page starts after this part
        return self._desk

    def take(self, event: Event) -> None:
        """Take an event; the end of an alert matters, and who sends a stream."""
        if event.type == "state":
            self._note_sender(event)
        if event.type != "alert" or event.phase != "cleared":
            return
        if self._keeper.real is None:
            self._early.append(event)
        else:
            self._keeper.real.orphan(event)

    def _claim(self) -> None:
        if self._owner is None:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._owner = own(self._folder)

    def _note_sender(self, state: State) -> None:
        if state.phase == "ended":
            self._senders.pop(state.stream, None)
            return
        said = {name: state.detail[key] for key, name in SENDER.items() if key in state.detail}
        if said:
            self._senders[state.stream] = said

    def _source(self, uri: str | None, stream: str) -> dict[str, Any] | None:
        """Where a stream comes from, without a name or a password that would open it; what is unknown is left out."""
        if uri is None:
            return None
        kind = "stdin" if uri == "-" else uri.partition(":")[0]
        return {"kind": kind, "uri": USER.sub("", uri).removesuffix("?***"), **self._senders.get(stream, {})}

    def _circumstances(self, inside: Inside) -> Circumstances:
        return Circumstances(
            folder=self._folder,
            mode=self._mode,
            seconds=self._config.evidence.seconds,
            front_end=inside.model.front_end,
            about=_About(inside),
            source=lambda stream: self._source(inside.source_of(stream), stream),
        )


class _About:
    """Says what scores now, for the sidecars."""

    def __init__(self, inside: Inside) -> None:
        self._inside = inside
        self._version = running_version()
        self._digest = (inside.config, config_digest(inside.config))

    def __call__(self) -> dict[str, Any]:
        config = self._inside.config
        if config is not self._digest[0]:  # making it anew for each alert would hold up the thread that scores
            self._digest = (config, config_digest(config))
        return {
            "model": self._inside.model.digest,
            "configuration": self._digest[1],
            "engine": self._inside.health().engine,
            "version": self._version,
        }


class _Later:
    """Stands for the keeper from before the start on; no hop comes earlier."""

    def __init__(self) -> None:
        self.real: AlertKeeper | None = None

    def hear(self, heard: Heard) -> None:
        if self.real is not None:
            self.real.hear(heard)

    def follow(self, alert: Alert) -> None:
        self._there().follow(alert)

    def complete(self, stream: str, step: Transition, time: str) -> Future[Evidence | None]:
        return self._there().complete(stream, step, time)

    def leave(self, stream: str) -> None:
        if self.real is not None:
            self.real.leave(stream)

    def _there(self) -> AlertKeeper:
        assert self.real is not None
        return self.real


class _Ears:
    """Passes events on from the sink's thread."""

    name = "evidence"

    def __init__(self, part: EvidencePart) -> None:
        self._part = part

    def emit(self, event: Event, payload: bytes) -> None:  # noqa: ARG002  as the protocol has it
        self._part.take(event)

    def close(self) -> None:
        pass  # the part itself is closed last
