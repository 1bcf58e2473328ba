"""Sinks that tell other services: webhooks, MQTT, messages, the journal; as configured."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from streamdet.assembly import store_path
from streamdet.config import Config
from streamdet.delivery.outbox import Outbox
from streamdet.errors import DependencyError
from streamdet.sinks.base import Sink
from streamdet.sinks.journal import JournalSink

log = structlog.get_logger(__name__)


def outbound_sinks(config: Config) -> list[Sink]:
    """Open them all.

    Raises:
        ConfigError, SinkError: one cannot be opened.
        DependencyError: the library that one needs is not installed.
    """
    sinks: list[Sink] = []
    if config.journal or (config.journal is None and "JOURNAL_STREAM" in os.environ):
        sinks.append(JournalSink())
    sinks += _webhooks(config)
    if config.mqtt.host is not None:
        sinks.append(_mqtt(config))
    if config.notify.urls_file is not None:
        sinks.append(_messages(config))
    return sinks


def _webhooks(config: Config) -> list[Sink]:
    from streamdet.sinks.webhook import WebhookSink  # noqa: PLC0415  http and ssl cost memory that few need

    sinks: list[Sink] = []
    hosts: Counter[str | None] = Counter()
    addresses: Counter[str] = Counter()
    for section in config.webhook:
        host = urlsplit(section.url).hostname
        hosts[host] += 1
        addresses[section.url] += 1
        again = addresses[section.url]  # one may be told of alerts and of states apart, each with its own outbox
        name = f"webhook-{section.url}" + (f"#{again}" if again > 1 else "")
        outbox = _outbox(config, name, shown=f"webhook-{host}")  # an address may hold a secret, which no log shows
        sinks.append(WebhookSink(section, outbox, number=hosts[host]))
    return sinks


def _mqtt(config: Config) -> Sink:
    try:
        from streamdet.sinks.mqtt import MqttSink  # noqa: PLC0415  its library is an extra
    except ModuleNotFoundError as error:
        raise DependencyError(f"MQTT needs {error.name}: pip install 'streamdet[mqtt]'") from error
    return MqttSink(config.mqtt, _outbox(config, "mqtt"))


def _messages(config: Config) -> Sink:
    try:
        from streamdet.sinks.message import MessageSink  # noqa: PLC0415  its library is an extra
    except ModuleNotFoundError as error:
        raise DependencyError(f"messages need {error.name}: pip install 'streamdet[notify]'") from error
    return MessageSink(config.notify, _outbox(config, "notify"))


def _outbox(config: Config, name: str, *, shown: str | None = None) -> Outbox:
    """Open the outbox of one sink beside the event store; without a store it lives in memory, which is said."""
    store = store_path(config)
    if store is None:
        reason = "no event store: what is undelivered at the end is lost"
        log.warning("outbox_in_memory", sink=shown or name, reason=reason)
        return Outbox(None)
    folder: Path = store.parent / "outbox"
    stem = f"{name.split('/', maxsplit=1)[0].split(':', maxsplit=1)[0]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return Outbox(folder / f"{stem}.db", folder / f"{stem}.dead.jsonl")
