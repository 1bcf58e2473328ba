"""Events on an MQTT broker, described so that Home Assistant finds every stream as a device by itself.

Topics below ``streamdet/<node>``: ``status`` (``online`` or ``offline``, retained, also the last will),
``<stream>/alert`` (``ON`` or ``OFF``, retained), ``<stream>/event`` (alerts and states as JSON, at least once),
``<stream>/score`` (JSON, thinned, at most once), ``<stream>/state`` (phase of the life cycle, retained).

Discovery follows Home Assistant's MQTT integration: one retained configuration for each entity below
``<discovery>/<component>/<id>/config``, sent again when the broker or Home Assistant comes back.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from streamdet.config import MqttSection
from streamdet.delivery.courier import Courier, NotDelivered
from streamdet.delivery.outbox import Outbox, Parcel
from streamdet.errors import ConfigError
from streamdet.events import DAEMON, Alert, Event, Score, State

log = structlog.get_logger(__name__)
KEEP_ALIVE = 20  # seconds
ACKNOWLEDGE = 10.0  # seconds that the broker may take to confirm
RECONNECT = (1, 60)  # seconds between tries, at first and at most
MOST_STREAMS = 1000  # that are announced as devices


def slug(stream: str) -> str:
    """Make a name that is allowed in topics and identifiers; names that differ stay different."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", stream)
    if plain == stream:
        return plain
    return f"{plain}_{hashlib.sha256(stream.encode(errors='replace')).hexdigest()[:6]}"


class MqttSink:
    """Publishes to one broker and reconnects by itself; alerts and states wait in an outbox while it is away.

    Raises:
        ConfigError: the password or the certificate cannot be read.
        SinkError: the outbox cannot be opened.
    """

    name = "mqtt"

    def __init__(self, config: MqttSection, outbox: Outbox, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.connections = 0
        self._config = config
        self._base = f"streamdet/{config.node}"
        self._clock = clock
        self._scored: dict[str, float] = {}
        self._streams: dict[str, str] = {}  # name to slug, of those announced
        self._retained: dict[str, str] = {}  # topic to payload, said again to a broker that forgot
        self._lock = threading.Lock()
        self._client = self._make_client()
        self.courier = Courier(self.name, outbox, self._confirm, longest_rest=30.0)
        self.courier.start()
        self._client.connect_async(config.host or "", config.port, KEEP_ALIVE)
        self._client.loop_start()

    def emit(self, event: Event, payload: bytes) -> None:
        """Take one event; never waits for the broker."""
        if event.stream == DAEMON:
            return
        if isinstance(event, Score):
            self._score(event, payload)
            return
        name = self._announced(event.stream)
        if isinstance(event, Alert):
            self._retain(f"{self._base}/{name}/alert", "OFF" if event.phase == "cleared" else "ON")
        elif isinstance(event, State):
            self._retain(f"{self._base}/{name}/state", event.phase)
            self._scored.pop(event.stream, None)
        self.courier.outbox.put(f"{self._base}/{name}/event", payload)  # last, as it raises when it has no room

    def close(self) -> None:
        """Say that this box is offline and disconnect."""
        self.courier.close()
        if self._client.is_connected():
            self._client.publish(f"{self._base}/status", "offline", qos=1, retain=True).wait_for_publish(1.0)
        self._client.disconnect()
        self._client.loop_stop()

    def _make_client(self) -> mqtt.Client:
        config = self._config
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"streamdet-{config.node}")
        client.will_set(f"{self._base}/status", "offline", qos=1, retain=True)
        client.reconnect_delay_set(*RECONNECT)
        client.on_connect, client.on_disconnect, client.on_message = self._connected, self._gone, self._asked
        if config.username is not None:
            client.username_pw_set(config.username, _password(config))
        if config.tls:
            try:
                client.tls_set(ca_certs=None if config.ca_file is None else str(config.ca_file))
            except OSError as error:
                raise ConfigError(f"mqtt: cannot use the certificates in {config.ca_file}: {error}") from error
        return client

    # ---- what is said ----

    def _score(self, score: Score, payload: bytes) -> None:
        now = self._clock()
        if now - self._scored.get(score.stream, float("-inf")) < self._config.score_seconds:
            return
        self._scored[score.stream] = now
        self._client.publish(f"{self._base}/{self._announced(score.stream)}/score", payload, qos=0)

    def _confirm(self, parcel: Parcel) -> None:
        """Publish at least once: done only when the broker has said so."""
        if not self._client.is_connected():
            raise NotDelivered(f"no connection to {self._config.host}:{self._config.port}")
        sent = self._client.publish(parcel.key, parcel.payload, qos=1)
        try:
            sent.wait_for_publish(ACKNOWLEDGE)
        except (RuntimeError, ValueError) as error:
            raise NotDelivered(str(error)) from error
        if not sent.is_published():
            raise NotDelivered(f"{self._config.host} did not confirm within {ACKNOWLEDGE:.0f} s")

    def _retain(self, topic: str, payload: str) -> None:
        with self._lock:
            self._retained[topic] = payload
            self._publish_retained(topic, payload)

    def _publish_retained(self, topic: str, payload: str) -> None:
        """Tell a broker that is there; one that is away is told when it is back.

        The lock is held, so that no value is overtaken by an older one. At most once on purpose: what the client keeps
        for a lost connection would be sent after what is said anew on the next one, and an old value would stay.
        """
        if self._client.is_connected():
            self._client.publish(topic, payload, qos=0, retain=True)

    def _announced(self, stream: str) -> str:
        with self._lock:
            known = self._streams.get(stream)
            if known is not None:
                return known
            name = slug(stream)
            if len(self._streams) >= MOST_STREAMS:
                return name
            self._streams[stream] = name
        self._retain(f"{self._base}/{name}/alert", "OFF")
        with self._lock:
            self._announce(stream, name)
        return name

    def _announce(self, stream: str, name: str) -> None:
        for topic, entity in self._entities(stream, name):
            self._publish_retained(topic, json.dumps(entity))

    def _entities(self, stream: str, name: str) -> list[tuple[str, dict[str, Any]]]:
        """Home Assistant's description of one stream: a device with an alert, a probability and a state."""
        prefix, node, base = self._config.discovery, self._config.node, f"{self._base}/{name}"
        if prefix in (None, "none"):
            return []
        device = {"identifiers": [f"{node}_{name}"], "name": f"streamdet {stream}", "manufacturer": "streamdet"}
        shared = {
            "availability_topic": f"{self._base}/status",
            "device": device,
            "origin": {"name": "streamdet"},
        }
        alert = {"name": "Synthetic speech", "device_class": "problem", "state_topic": f"{base}/alert"}
        score = {
            "name": "p_fake",
            "unit_of_measurement": "%",
            "state_class": "measurement",
            "state_topic": f"{base}/score",
            "value_template": "{{ (value_json.p_fake * 100) | round(1) if value_json.p_fake is not none else none }}",
            "json_attributes_topic": f"{base}/score",
            "expire_after": max(30, int(5 * self._config.score_seconds)),
        }
        state = {"name": "State", "entity_category": "diagnostic", "state_topic": f"{base}/state"}
        parts = (("binary_sensor", "alert", alert), ("sensor", "p_fake", score), ("sensor", "state", state))
        return [
            (
                f"{prefix}/{component}/{node}_{name}_{key}/config",
                {**shared, **entity, "unique_id": f"{node}_{name}_{key}"},
            )
            for component, key, entity in parts
        ]

    # ---- what the broker says ----

    def _connected(
        self, client: mqtt.Client, _data: object, _flags: object, code: ReasonCode, _properties: Properties | None
    ) -> None:
        if code.is_failure:
            log.warning("mqtt_refused", host=self._config.host, reason=str(code))
            return
        self.connections += 1
        log.info("mqtt_connected", host=self._config.host, times=self.connections)
        client.publish(f"{self._base}/status", "online", qos=1, retain=True)
        if self._config.discovery not in (None, "none"):
            client.subscribe(f"{self._config.discovery}/status", qos=1)
        self._say_again()

    def _gone(
        self, _client: mqtt.Client, _data: object, _flags: object, code: ReasonCode, _properties: Properties | None
    ) -> None:
        if code.is_failure:
            log.warning("mqtt_disconnected", host=self._config.host, reason=str(code))

    def _asked(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        if message.payload == b"online":  # Home Assistant has just started and knows nothing
            self._say_again()

    def _say_again(self) -> None:
        with self._lock:
            for stream, name in self._streams.items():
                self._announce(stream, name)
            for topic, payload in self._retained.items():
                self._publish_retained(topic, payload)


def _password(config: MqttSection) -> str | None:
    if config.password_file is None:
        return None
    try:
        return config.password_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"mqtt: cannot read the password in {config.password_file}: {error}") from error
