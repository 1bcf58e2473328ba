"""MQTT against a real mosquitto."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from streamdet.config import MqttSection
from streamdet.delivery.outbox import Outbox
from streamdet.errors import ConfigError
from streamdet.events import Alert, Score, State, to_json
from streamdet.sinks.mqtt import MqttSink, slug
from tests.ports import free_port
from tests.waiting import until

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed (Debian: mosquitto)")


class Broker:
    """A mosquitto that can be stopped and started again on the same port, without memory."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        config = self._folder / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        self._process = subprocess.Popen(
            [str(MOSQUITTO), "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def hang(self) -> None:
        """Take and answer nothing, with all connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()  # also one that hangs; it keeps nothing anyway
            self._process.wait(10)
            self._process = None


class Ear:
    """Everything a subscriber hears, retained or not."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, bytes, bool]] = []
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self.client.on_message = lambda _c, _d, m: self.heard.append((m.topic, m.payload, m.retain))
        self.client.connect_async("127.0.0.1", port)
        self.client.loop_start()
        until(self.client.is_connected, "the ear at the broker")

    def payloads(self, topic: str) -> list[bytes]:
        return [payload for heard, payload, _ in list(self.heard) if heard == topic]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def ear(broker: Broker) -> Iterator[Ear]:
    made = Ear(broker.port)
    yield made
    made.close()


@pytest.fixture
def sink(broker: Broker) -> Iterator[MqttSink]:
    made = MqttSink(MqttSection(host="127.0.0.1", port=broker.port, node="box"), Outbox(None))
    yield made
    made.close()


def test_home_assistant_finds_a_stream_with_its_alert(
    ear: Ear, sink: MqttSink, alert: Callable[..., Alert], score: Callable[..., Score]
) -> None:
    sink.emit(score(1, "lobby"), to_json(score(1, "lobby")))
    sink.emit(alert(2, "raised", "lobby"), to_json(alert(2, "raised", "lobby")))
    topic = "homeassistant/binary_sensor/box_lobby_alert/config"
    until(lambda: ear.payloads(topic), "the description of the alert")
    entity = json.loads(ear.payloads(topic)[0])
    assert entity["state_topic"] == "streamdet/box/lobby/alert"
    assert entity["availability_topic"] == "streamdet/box/status"
    assert entity["device"]["identifiers"] == ["box_lobby"]
    until(lambda: b"ON" in ear.payloads("streamdet/box/lobby/alert"), "the alert")
    until(lambda: ear.payloads("streamdet/box/lobby/event"), "the event")
    assert json.loads(ear.payloads("streamdet/box/lobby/event")[0])["seq"] == 2
    sink.emit(alert(3, "cleared", "lobby"), to_json(alert(3, "cleared", "lobby")))
    until(lambda: ear.payloads("streamdet/box/lobby/alert")[-1] == b"OFF", "its end")


def test_status_is_online_and_then_offline(broker: Broker, ear: Ear) -> None:
    sink = MqttSink(MqttSection(host="127.0.0.1", port=broker.port, node="box"), Outbox(None))
    until(lambda: ear.payloads("streamdet/box/status") == [b"online"], "online")
    sink.close()
    until(lambda: ear.payloads("streamdet/box/status")[-1] == b"offline", "offline")


def test_a_process_that_is_killed_is_offline_by_its_last_will(broker: Broker, ear: Ear) -> None:
    code = textwrap.dedent(f"""
        import time
        from streamdet.config import MqttSection
        from streamdet.delivery.outbox import Outbox
        from streamdet.sinks.mqtt import MqttSink
        sink = MqttSink(MqttSection(host="127.0.0.1", port={broker.port}, node="box"), Outbox(None))
        time.sleep(600)
    """)
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        until(lambda: ear.payloads("streamdet/box/status") == [b"online"], "online")
        os.kill(process.pid, signal.SIGKILL)
    until(lambda: ear.payloads("streamdet/box/status") == [b"online", b"offline"], "offline")
    late = Ear(broker.port)
    until(lambda: ("streamdet/box/status", b"offline", True) in list(late.heard), "offline, retained")
    late.close()


def test_while_the_broker_is_away_nothing_piles_up_and_the_last_values_are_right_afterwards(
    broker: Broker, ear: Ear, sink: MqttSink, alert: Callable[..., Alert], state: Callable[..., State]
) -> None:
    sink.emit(alert(1, "cleared", "lobby"), to_json(alert(1, "cleared", "lobby")))
    until(lambda: ear.payloads("streamdet/box/lobby/event"), "the first event")
    broker.hang()
    sink.emit(alert(2, "raised", "lobby"), to_json(alert(2, "raised", "lobby")))  # into an open connection, unanswered
    broker.stop()
    until(lambda: not sink._client.is_connected(), "the loss of the broker")
    for seq in range(3, 63, 3):
        sink.emit(state(seq, "recovering", "lobby"), to_json(state(seq, "recovering", "lobby")))
        sink.emit(alert(seq + 1, "updated", "hall"), to_json(alert(seq + 1, "updated", "hall")))
        sink.emit(state(seq + 2, "live", "lobby"), to_json(state(seq + 2, "live", "lobby")))
    sink.emit(alert(63, "cleared", "lobby"), to_json(alert(63, "cleared", "lobby")))
    assert len(sink._client._out_messages) <= 1  # the event that was under way; all others wait in the outbox
    broker.start()
    until(lambda: sink.courier.outbox.waiting == 0, "every event after the restart", 60.0)
    late = Ear(broker.port)
    for topic, payload in (("lobby/alert", b"OFF"), ("lobby/state", b"live"), ("hall/alert", b"ON")):
        until(lambda topic=topic: late.payloads(f"streamdet/box/{topic}"), topic)  # type: ignore[misc]
        assert late.payloads(f"streamdet/box/{topic}") == [payload]
    until(lambda: late.payloads("homeassistant/binary_sensor/box_hall_alert/config"), "discovery of a new stream")
    late.close()


def test_scores_are_thinned(broker: Broker, ear: Ear, score: Callable[..., Score]) -> None:
    now = [0.0]
    settings = MqttSection(host="127.0.0.1", port=broker.port, node="box", score_seconds=1.0)
    sink = MqttSink(settings, Outbox(None), clock=lambda: now[0])
    until(lambda: sink.connections == 1, "a connection")
    for seq in range(1, 11):
        sink.emit(score(seq, "a"), to_json(score(seq, "a")))
        now[0] += 0.32
    until(lambda: len(ear.payloads("streamdet/box/a/score")) == 3, "three of ten scores")
    sink.close()
    assert [json.loads(p)["seq"] for p in ear.payloads("streamdet/box/a/score")] == [1, 5, 9]


def test_a_broker_that_restarts_without_memory_loses_no_alert_and_learns_all_again(
    broker: Broker, ear: Ear, sink: MqttSink, alert: Callable[..., Alert], state: Callable[..., State]
) -> None:
    sink.emit(alert(1, "raised", "lobby"), to_json(alert(1, "raised", "lobby")))
    until(lambda: ear.payloads("streamdet/box/lobby/event"), "the first alert")
    broker.stop()
    until(lambda: not sink._client.is_connected(), "the loss of the broker")
    for seq in range(2, 6):
        sink.emit(state(seq, "recovering", "lobby"), to_json(state(seq, "recovering", "lobby")))
    broker.start()
    until(
        lambda: len({json.loads(p)["seq"] for p in ear.payloads("streamdet/box/lobby/event")}) == 5,
        "every event after the restart",
        60.0,
    )
    late = Ear(broker.port)
    until(lambda: late.payloads("streamdet/box/lobby/alert") == [b"ON"], "the alert, retained anew")
    until(lambda: late.payloads("homeassistant/binary_sensor/box_lobby_alert/config"), "discovery, retained anew")
    late.close()


def test_a_home_assistant_that_restarts_is_told_again(ear: Ear, sink: MqttSink, score: Callable[..., Score]) -> None:
    topic = "homeassistant/sensor/box_a_p_fake/config"
    sink.emit(score(1, "a"), to_json(score(1, "a")))
    until(lambda: len(ear.payloads(topic)) >= 1, "the description")
    before = len(ear.payloads(topic))
    ear.client.publish("homeassistant/status", "online", qos=1)
    until(lambda: len(ear.payloads(topic)) > before, "the description again")


def test_names_that_are_no_topic_stay_apart() -> None:
    assert slug("line-1") == "line-1"
    assert slug("a/b") != slug("a+b")
    assert "/" not in slug("a/b")


def test_a_password_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    settings = MqttSection(host="127.0.0.1", username="me", password_file=tmp_path / "none")
    with pytest.raises(ConfigError, match="password"):
        MqttSink(settings, Outbox(None))
