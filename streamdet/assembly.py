"""Puts the parts together as the configuration and the model file want them."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from streamdet.bundled import find_model
from streamdet.config import Config, StreamSection
from streamdet.decide.alarm import AlarmConfig
from streamdet.decide.calibrate import Platt, log_odds
from streamdet.decide.judge import Judge, JudgeConfig, JudgeMaker, Manner
from streamdet.decide.smooth import CusumConfig
from streamdet.decide.verdict import Rules
from streamdet.endpoint import is_exposed
from streamdet.engine.base import Engine
from streamdet.engine.choice import Option, choose, find_options
from streamdet.engine.modelfile import ModelInfo, read_model
from streamdet.engine.onnx import OnnxEngine
from streamdet.errors import ConfigError, DependencyError, StoreError
from streamdet.evidence.mode import evidence_mode
from streamdet.keys import KeyRing
from streamdet.parts import NeedsSound, Part
from streamdet.store.gate import Gate
from streamdet.store.replay import Replay
from streamdet.store.upkeep import Limits

if TYPE_CHECKING:
    from streamdet.evidence.part import EvidencePart

RING_SECONDS = 20.0  # kept where nobody asks for more: 1.3 MB a stream, and the longest stall that loses nothing
STORE_FILE = "events.db"
SERVICE_STATE = "/var/lib/streamdet"


def choose_engine(config: Config) -> Option:
    """Return the configured engine, or the fastest that is ready to run the model here.

    Raises:
        ModelError: the model is missing, damaged, or does not fit this version.
        DependencyError: the configured engine cannot run it here.
    """
    info = read_model(find_model(config.model))[1]
    return choose(config.engine, find_options(info, batch=config.batch))


def load_engine(config: Config) -> Engine:
    """Load the configured model, or the bundled one, into the engine that is chosen.

    Raises:
        ModelError, DependencyError: as :func:`choose_engine`, or no plan can be made of it.
    """
    path, chosen = find_model(config.model), choose_engine(config)
    if chosen.name != "tensorrt":
        return OnnxEngine(path, max_batch=config.batch, name=chosen.name)
    from streamdet.engine.tensorrt import TensorRTEngine  # noqa: PLC0415  not where no GPU is

    return TensorRTEngine(path, max_batch=config.batch)


def ring_seconds(config: Config, parts: Sequence[Part] = ()) -> float:
    """Audio that each stream keeps: as configured, else what the parts need, and in any case enough for a stall."""
    if config.ring_seconds is not None:
        return config.ring_seconds
    return max(RING_SECONDS, *(part.sound_seconds for part in parts if isinstance(part, NeedsSound)), 0.0)


def store_path(config: Config) -> Path | None:
    """Where events are kept: as configured, else in the state directory that a service manager gives, else nowhere."""
    if config.store.path is not None:
        return None if config.store.path == "none" else Path(config.store.path)
    state = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(state) / STORE_FILE if state else None


def find_store(path: Path | None) -> Path:
    """Where to look for the store: as given, else where a service keeps it.

    Raises:
        StoreError: nothing is given and there is no service.
    """
    if path is not None:
        return path
    state = os.environ.get("STATE_DIRECTORY", SERVICE_STATE).split(":")[0]
    found = Path(state) / STORE_FILE
    if not os.access(found, os.R_OK):
        raise StoreError(f"no event store at {found} that you may read: give --store PATH")
    return found


def make_gate(config: Config, *, patient: bool, stop: threading.Event) -> Gate | None:
    """Make the event store as configured, None where there is none; nothing is opened yet."""
    path, store = store_path(config), config.store
    limits = Limits(
        recent_seconds=60 * store.recent_minutes,
        keep_seconds=86_400 * store.days,
        most_bytes=store.megabytes << 20,
    )
    return None if path is None else Gate(path, limits, patient=patient, stop=stop)


def key_ring(config: Config) -> KeyRing | None:
    """Read the key directory; None where there is none.

    Raises:
        ConfigError: it is missing or incomplete, or others can read it.
    """
    return None if config.security.keys is None else KeyRing(config.security.keys)


def exposed(config: Config) -> list[str]:
    """Endpoints with events that any machine of the network can read, though nobody said that this is meant."""
    if config.security.keys is not None or config.security.insecure:
        return []
    return [endpoint for endpoint in (config.publish, config.replay) if endpoint is not None and is_exposed(endpoint)]


def make_replay(config: Config) -> list[Part]:
    """Make the replay socket, if one is configured.

    Raises:
        ConfigError: there is no store to replay from.
        SinkError: its endpoint cannot be bound.
    """
    if config.replay in (None, "none"):
        return []
    path = store_path(config)
    if path is None:
        raise ConfigError("--replay needs an event store: give --store PATH")
    return [Replay(config.replay, path, key_ring(config))]


def make_parts(config: Config) -> list[Part]:
    """Make what runs beside scoring, as configured; nothing is opened yet."""
    parts = make_replay(config)
    evidence = _evidence(config)
    if evidence is not None:
        parts.append(evidence)
    if config.web.listen is not None:
        parts.append(_page(config, evidence))
    if config.metrics.listen is not None:
        parts.append(_metrics(config))
    return parts


def _metrics(config: Config) -> Part:
    try:
        from streamdet.metrics.part import MetricsPart  # noqa: PLC0415  its library is an extra
    except ModuleNotFoundError as error:
        raise DependencyError(f"metrics need {error.name}: pip install 'streamdet[metrics]'") from error
    return MetricsPart(config.metrics)


def _evidence(config: Config) -> EvidencePart | None:
    mode = evidence_mode(config)
    if mode is None:
        return None
    from streamdet.evidence.part import EvidencePart  # noqa: PLC0415  it asks this module for more

    return EvidencePart(config, mode)


def _page(config: Config, evidence: EvidencePart | None) -> Part:
    try:
        from streamdet.web.part import WebPart  # noqa: PLC0415  its server is an extra
    except ModuleNotFoundError as error:
        raise DependencyError(f"the live page needs {error.name}: pip install 'streamdet[web]'") from error
    return WebPart(config) if evidence is None else WebPart(config, evidence.desk)


def judge_config(config: Config, info: ModelInfo) -> JudgeConfig:
    """Merge the configuration with the model's operating point; what the configuration says wins.

    Raises:
        ConfigError: the model has no such operating point, or the numbers contradict each other.
    """
    point = info.operating_points.get(config.operating_point)
    if point is None:
        names = ", ".join(sorted(info.operating_points))
        raise ConfigError(f"the model has no operating point {config.operating_point!r}, only {names}")
    rules, alarm, windows = Rules(), AlarmConfig(), config.windows
    raise_at = config.alarm.raise_at if config.alarm.raise_at is not None else point.get("raise")
    clear_at = config.alarm.clear_at if config.alarm.clear_at is not None else point.get("clear")
    held = config.alarm.min_seconds if config.alarm.min_seconds is not None else point.get("min_seconds")
    return JudgeConfig(
        windows=(windows.short, windows.long),
        hop_seconds=info.front_end.hop_seconds,
        smooth_seconds=windows.smoothing if windows.smoothing is not None else point.get("smoothing", 1.0),
        rules=Rules(
            min_speech_seconds=windows.min_speech,
            max_lost=windows.max_lost,
            spoof_at=log_odds(point["spoof"]) if "spoof" in point else rules.spoof_at,
            bona_fide_at=log_odds(point["bona_fide"]) if "bona_fide" in point else rules.bona_fide_at,
        ),
        alarm=AlarmConfig(
            raise_at=alarm.raise_at if raise_at is None else log_odds(raise_at),
            clear_at=alarm.clear_at if clear_at is None else log_odds(clear_at),
            min_seconds=alarm.min_seconds if held is None else held,
            cooldown_seconds=config.alarm.cooldown,
            update_seconds=config.alarm.update,
        ),
    )


def cusum_config(config: Config, info: ModelInfo) -> CusumConfig | None:
    """Return how evidence is accumulated, or None where the operating point goes by the smoothed ``p_fake``.

    An operating point with ``cusum_clip``, ``cusum_drift`` and ``cusum_cap`` (nats) accumulates; its thresholds are
    probabilities of the accumulated evidence. What is absent has the default of :class:`CusumConfig`.
    """
    point = info.operating_points.get(config.operating_point, {})
    if not any(key.startswith("cusum_") for key in point):
        return None
    usual = CusumConfig()
    return CusumConfig(
        window_seconds=config.windows.short,
        clip=point.get("cusum_clip", usual.clip),
        drift=point.get("cusum_drift", usual.drift),
        cap=point.get("cusum_cap", usual.cap),
    )


def judge_maker(config: Config, info: ModelInfo) -> JudgeMaker:
    """Return what makes the judge of a new stream, by its name; raises as :func:`judge_config` does."""
    return Settings(config, info).judge


class Settings:
    """How each stream is judged, by its name: ``[[stream]]`` over the global settings over the model's.

    Raises:
        ConfigError: the model has no such operating point, or numbers contradict each other, also those of one
            ``[[stream]]`` alone.
    """

    def __init__(self, config: Config, info: ModelInfo) -> None:
        self._matches = [section.match for section in config.stream]
        self._manners = [self._manner(for_section(config, section), info) for section in config.stream]
        self._usual = self._manner(config, info)

    def of(self, stream: str) -> Manner:
        """Return how a stream of this name is judged."""
        return next(
            (manner for match, manner in zip(self._matches, self._manners, strict=True) if fnmatchcase(stream, match)),
            self._usual,
        )

    def judge(self, stream: str = "") -> Judge:
        """Make the judge of a stream of this name."""
        return Judge.of(self.of(stream))

    @staticmethod
    def _manner(config: Config, info: ModelInfo) -> Manner:
        platt = Platt(info.calibration.scale, info.calibration.offset)
        return Manner(judge_config(config, info), platt, cusum_config(config, info))


def for_section(config: Config, section: StreamSection) -> Config:
    """Return the configuration as it holds for the streams of one ``[[stream]]``.

    What the section says wins. Where it names an operating point, the global raise, clear, min_seconds and smoothing
    do not count: they belong to another one.
    """
    windows, alarm = config.windows, config.alarm
    if section.operating_point is not None:
        windows = windows.model_copy(update={"smoothing": None})
        alarm = alarm.model_copy(update={"raise_at": None, "clear_at": None, "min_seconds": None})
    return config.model_copy(
        update={
            "operating_point": section.operating_point or config.operating_point,
            "windows": windows.model_copy(update=section.windows.model_dump(exclude_none=True)),
            "alarm": alarm.model_copy(update=section.alarm.model_dump(exclude_none=True)),
        }
    )
