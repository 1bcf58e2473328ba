"""Configuration of ``streamdet listen``: one TOML file, every field with its bounds and meaning."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from streamdet.bundled import find_model
from streamdet.engine.choice import EngineName
from streamdet.errors import ConfigError

DEFAULT_ENDPOINT = "tcp://127.0.0.1:5560"
ModelPath = Annotated[Path, AfterValidator(find_model)]


class Section(BaseModel):
    """A table of the TOML file; unknown keys are errors, so that a typo never goes unnoticed."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class SourceSection(Section):
    """One ``[[source]]``: something to listen to."""

    uri: str = Field(description="Where the sound comes from, such as rtp://0.0.0.0:5004")
    name: str | None = Field(
        None, description="Name of the stream; made from the URI where absent", pattern=r"^[\w.:-]+$"
    )


class WindowSection(Section):
    """``[windows]``: pooling lengths."""

    short: float = Field(3.0, ge=3.0, le=10.0, description="Length of the short window in seconds")
    long: float = Field(10.0, ge=3.0, le=10.0, description="Length of the long window in seconds")
    min_speech: float = Field(1.5, ge=0.2, le=10.0, description="Seconds of speech a window needs for a verdict")
    max_lost: float = Field(0.3, ge=0.0, le=1.0, description="Share of missing audio above which a window abstains")
    smoothing: float | None = Field(None, ge=0.0, le=60.0, description="Time constant of the smoother in seconds")


class AlarmSection(Section):
    """``[alarm]``: when an alert is raised and cleared; what is absent comes from the model file."""

    raise_at: float | None = Field(None, gt=0.0, lt=1.0, alias="raise", description="Smoothed p_fake that raises")
    clear_at: float | None = Field(None, gt=0.0, lt=1.0, alias="clear", description="Smoothed p_fake that clears")
    min_seconds: float | None = Field(None, ge=0.0, le=60.0, description="How long it must stay above raise")
    cooldown: float = Field(5.0, ge=0.0, le=3600.0, description="Seconds of quiet after an alert")
    update: float = Field(5.0, gt=0.0, le=3600.0, description="Seconds between updates of a raised alert")


class ShadowSection(Section):
    """``[shadow]``: a second model that is scored and compared, and never alarms; see docs/operation.md."""

    model: ModelPath | None = Field(
        None, description="Model file, or `streamdet`, `medium` or `edge`; no shadow where absent"
    )
    every: float = Field(300.0, ge=1.0, le=86_400.0, description="Seconds between two events with what was found")


class StreamWindowSection(Section):
    """``[stream.windows]``: what differs for some streams; the rest is as in ``[windows]``."""

    short: float | None = Field(None, ge=3.0, le=10.0, description="Length of the short window in seconds")
    long: float | None = Field(None, ge=3.0, le=10.0, description="Length of the long window in seconds")
    min_speech: float | None = Field(None, ge=0.2, le=10.0, description="Seconds of speech a window needs")
    max_lost: float | None = Field(None, ge=0.0, le=1.0, description="Share of missing audio above which it abstains")
    smoothing: float | None = Field(None, ge=0.0, le=60.0, description="Time constant of the smoother in seconds")


class StreamAlarmSection(Section):
    """``[stream.alarm]``: what differs for some streams; the rest is as in ``[alarm]``."""

    raise_at: float | None = Field(None, gt=0.0, lt=1.0, alias="raise", description="Smoothed p_fake that raises")
    clear_at: float | None = Field(None, gt=0.0, lt=1.0, alias="clear", description="Smoothed p_fake that clears")
    min_seconds: float | None = Field(None, ge=0.0, le=60.0, description="How long it must stay above raise")
    cooldown: float | None = Field(None, ge=0.0, le=3600.0, description="Seconds of quiet after an alert")
    update: float | None = Field(None, gt=0.0, le=3600.0, description="Seconds between updates of a raised alert")


class StreamSection(Section):
    """One ``[[stream]]``: settings of the streams whose name matches; the first section that matches counts alone."""

    match: str = Field(min_length=1, description="Name of a stream, or a pattern: `line-*`, `desk?`, `[ab]-*`")
    operating_point: str | None = Field(
        None,
        description="Named set of thresholds of the model file; those of the global [alarm] then do not count",
    )
    windows: StreamWindowSection = StreamWindowSection()
    alarm: StreamAlarmSection = StreamAlarmSection()


class WebSection(Section):
    """``[web]``: the live page; off where ``listen`` is absent."""

    listen: str | None = Field(None, description="HOST:PORT of the page, such as 127.0.0.1:8765; port 0 takes any")
    auth: Literal["auto", "token", "basic", "none"] = Field(
        "auto", description="Who may look: auto is none on loopback and token elsewhere; none is refused elsewhere"
    )
    token_file: Path | None = Field(None, description="File with the token; made anew at each start where absent")
    password_file: Path | None = Field(None, description="File with one line USER:PASSWORD, for auth = basic")
    hosts: tuple[str, ...] = Field((), description="Names under which browsers may ask for the page, without port")
    certificate: Path | None = Field(None, description="PEM file with the certificate chain; the page is then https")
    key: Path | None = Field(None, description="PEM file with the key of the certificate")
    clients: int = Field(64, ge=1, le=1024, description="Most pages connected at once")
    uploads: bool = Field(default=True, description="Whether sound files may be dropped on the page and scored")
    upload_mb: int = Field(64, ge=1, le=2048, description="Largest file taken, in MB")
    upload_seconds: float = Field(1800.0, ge=1.0, le=36_000.0, description="Longest recording taken, in seconds")
    waiting: int = Field(4, ge=1, le=64, description="Most files that wait to be scored")


def _as_table(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


class StoreSection(Section):
    """``[store]``: events on disk; ``store = "PATH"`` is short for its path alone."""

    path: str | None = Field(
        None, description="SQLite file, or `none`; where absent events.db in a service's state directory, else none"
    )
    recent_minutes: float = Field(60.0, ge=0.0, le=10_080.0, description="How long every single score is kept")
    days: float = Field(30.0, gt=0.0, le=3650.0, description="How long anything is kept")
    megabytes: int = Field(1024, ge=2, le=1_000_000, description="Most room it takes; the oldest detail goes first")


class EvidenceSection(Section):
    """``[evidence]``: recordings of alerts; off where neither ``dir`` nor ``mode`` is given."""

    dir: str | None = Field(
        None, description="Folder, or `none`; where absent evidence/ in a service's state directory"
    )
    mode: Literal["off", "scores", "features", "full"] | None = Field(
        None, description="scores: no sound on the disk; features: log-mel frames; full: sound, too; full where absent"
    )
    seconds: float = Field(120.0, ge=10.0, le=600.0, description="Most seconds of sound of one alert")
    key: Path | None = Field(None, description="Signing key, as `streamdet evidence key make FILE` writes it")
    days: float = Field(30.0, gt=0.0, le=3650.0, description="How long recordings are kept")
    count: int = Field(10_000, ge=1, le=1_000_000, description="Most recordings kept")
    megabytes: int = Field(2048, ge=1, le=100_000_000, description="Most room recordings take")
    free_megabytes: int = Field(256, ge=0, le=100_000_000, description="Room that stays free on the disk")


class SecuritySection(Section):
    """``[security]``: who may subscribe; ``streamdet keys`` makes the keys."""

    keys: Path | None = Field(None, description="Key directory; with one, CURVE guards all ZeroMQ endpoints")
    insecure: bool = Field(default=False, description="Publishing to a network without keys is meant: no warning")


class OverloadSection(Section):
    """``[overload]``: what happens when more sound comes in than this machine can score."""

    policy: Literal["score_all", "skip"] = Field(
        "score_all", description="score_all: every hop, however late; skip: leave out hops of all streams alike"
    )
    late: float = Field(
        1.0,
        ge=0.32,
        le=60.0,
        description="Seconds behind the sound that count as overload, and more than which is left out",
    )


class MetricsSection(Section):
    """``[metrics]``: figures for Prometheus and health checks over HTTP."""

    listen: str | None = Field(None, description="HOST:PORT of /metrics, /healthz and /readyz; none where absent")
    stale_seconds: float = Field(
        15.0, ge=1.0, le=86_400.0, description="Seconds without scored sound after which /healthz says no"
    )
    quiet_is_healthy: bool = Field(
        default=False, description="Whether /healthz says yes while no stream is open, as on a telephone line at night"
    )
    streams: int = Field(1000, ge=1, le=100_000, description="Most streams that have figures of their own")


class WebhookSection(Section):
    """One ``[[webhook]]``: alerts to a web service."""

    url: str = Field(description="Where events are posted, http:// or https://")
    secret_file: Path | None = Field(None, description="File with the secret that signs requests")
    events: tuple[Literal["alert", "state", "health", "score"], ...] = Field(
        ("alert",), description="Kinds of events that are posted"
    )
    timeout: float = Field(10.0, ge=0.5, le=120.0, description="Seconds the service may take to answer")
    keep_hours: float = Field(24.0, ge=0.1, le=720.0, description="How long a refused event is tried again")
    longest_rest: float = Field(300.0, ge=1.0, le=3600.0, description="Most seconds between two tries")


class MqttSection(Section):
    """``[mqtt]``: alerts and scores on an MQTT broker, with discovery for Home Assistant."""

    host: str | None = Field(None, description="Broker; no MQTT where absent")
    port: int = Field(1883, ge=1, le=65_535, description="Port; 8883 is usual with TLS")
    tls: bool = Field(default=False, description="Whether to speak TLS, with the system's certificate authorities")
    ca_file: Path | None = Field(None, description="Certificate authority of the broker, where it is not a public one")
    username: str | None = Field(None, description="User name at the broker")
    password_file: Path | None = Field(None, description="File with the password")
    node: str = Field("streamdet", pattern=r"^[\w-]+$", description="Name of this box in topics and identifiers")
    discovery: str | None = Field("homeassistant", description="Home Assistant's discovery prefix, or `none`")
    score_seconds: float = Field(1.0, ge=0.0, le=3600.0, description="Least seconds between two scores of a stream")


class NotifySection(Section):
    """``[notify]``: alerts as text by e-mail, chat or push, through apprise."""

    urls_file: Path | None = Field(None, description="File with one apprise URL a line; they hold secrets")
    cleared: bool = Field(default=False, description="Whether the end of an alert is worth a message too")
    keep_hours: float = Field(6.0, ge=0.1, le=720.0, description="How long a message is tried again")


class Config(Section):
    """The whole file."""

    model: ModelPath | None = Field(
        None,
        description="Model file, or in the package `streamdet` (the default), or `medium` or `edge` for many streams",
    )
    publish: str | None = Field(DEFAULT_ENDPOINT, description="ZeroMQ endpoint the events are published on")
    operating_point: str = Field("default", description="Named set of thresholds of the model file")
    engine: EngineName = Field("auto", description="What runs the network; auto takes the fastest that is ready")
    batch: int = Field(32, ge=1, le=8192, description="Most hops scored in one call; on a GPU some hundred are better")
    batch_wait: float = Field(
        0.0, ge=0.0, le=0.32, description="Seconds a hop may wait for others to share its call, which saves work"
    )
    workers: int = Field(1, ge=1, le=256, description="Scoring threads; more than one are pinned, each to a core")
    max_streams: int | None = Field(
        None,
        ge=1,
        description="Streams this machine can hold, as `streamdet bench --calibrate` found; more give a warning",
    )
    ring_seconds: float | None = Field(
        None,
        ge=20.0,
        le=3600.0,
        description="Audio kept per stream, in seconds; as the parts need where absent",
    )
    gap_reset: float = Field(
        2.0, ge=0.32, le=60.0, description="Seconds of missing audio that make a stream start anew"
    )
    source: tuple[SourceSection, ...] = Field((), description="The sources")
    stream: tuple[StreamSection, ...] = Field((), description="Settings of some streams, by name")
    replay: str | None = Field(None, description="ZeroMQ endpoint where subscribers get what they missed, or `none`")
    store: Annotated[StoreSection, BeforeValidator(_as_table)] = StoreSection()
    evidence: EvidenceSection = EvidenceSection()
    security: SecuritySection = SecuritySection()
    windows: WindowSection = WindowSection()
    alarm: AlarmSection = AlarmSection()
    shadow: ShadowSection = ShadowSection()
    overload: OverloadSection = OverloadSection()
    web: WebSection = WebSection()
    metrics: MetricsSection = MetricsSection()
    webhook: tuple[WebhookSection, ...] = Field((), description="Web services that are told")
    mqtt: MqttSection = MqttSection()
    notify: NotifySection = NotifySection()
    journal: bool | None = Field(
        None, description="Whether alerts and states are log lines too; as a service only where absent"
    )


def load(path: Path) -> Config:
    """Read a TOML file.

    Raises:
        ConfigError: the file is missing, is no TOML, or holds an unknown key or a value out of bounds.
    """
    return validated(read_toml(path), str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file without a look at what it says.

    Raises:
        ConfigError: the file is missing or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def validated(values: dict[str, Any], origin: str) -> Config:
    """Check values that came from ``origin``.

    Raises:
        ConfigError: an unknown key, or a value of the wrong type or out of bounds.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{origin}: {where}: {in_words(first)}") from error


def in_words(problem: Mapping[str, Any]) -> str:
    """Say what pydantic found wrong with one value; a key that is unknown in words of ours."""
    if problem["type"] == "extra_forbidden":
        return "there is no such key; `streamdet check-config --reference` lists all"
    return str(problem["msg"])
