"""Webhooks against a real web server."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from streamdet.config import Config, StoreSection, WebhookSection
from streamdet.delivery.outbox import Outbox
from streamdet.errors import ConfigError
from streamdet.events import Alert, Score, to_json
from streamdet.outbound import outbound_sinks
from streamdet.sinks.webhook import WebhookSink
from tests.streamdet.delivery.conftest import Service
from tests.waiting import until

SECRET = b"correct horse battery staple"


def sink(service: Service, box: Outbox, **options: object) -> WebhookSink:
    return WebhookSink(WebhookSection(url=service.url, **options), box)  # type: ignore[arg-type]


def test_alerts_arrive_signed_and_scores_do_not(
    service: Service, tmp_path: Path, alert: Callable[..., Alert], score: Callable[..., Score]
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET + b"\n")
    hook = sink(service, Outbox(None), secret_file=secret)
    hook.emit(score(1), to_json(score(1)))
    hook.emit(alert(2), to_json(alert(2)))
    until(lambda: service.received, "a request")
    hook.close()
    headers, body = service.received[0]
    assert json.loads(body)["type"] == "alert"
    assert headers["path"] == "/hook?box=1"
    assert headers["idempotency-key"] == "line 1/2"
    stamp, signature = (part.split("=", 1)[1] for part in headers["streamdet-signature"].split(","))
    expected = hmac.new(SECRET, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(signature, expected)
    assert abs(time.time() - int(stamp)) < 60
    assert len(service.received) == 1


def test_nothing_is_lost_while_the_service_answers_500_and_the_process_restarts(
    service: Service, tmp_path: Path, alert: Callable[..., Alert]
) -> None:
    service.answers = [(500, {})]
    path = tmp_path / "box.db"
    hook = sink(service, Outbox(path), longest_rest=1.0)
    for seq in range(1, 6):
        hook.emit(alert(seq), to_json(alert(seq)))
    until(lambda: hook.courier.failed >= 1, "a refusal")
    hook.close()
    service.answers = [(200, {})]
    hook = sink(service, Outbox(path), longest_rest=1.0)
    hook.emit(alert(6), to_json(alert(6)))
    until(lambda: len(service.keys()) >= 6, "all six")
    hook.close()
    assert service.keys() == [f"line 1/{seq}" for seq in range(1, 7)]


def test_a_request_that_is_refused_for_good_goes_to_the_dead_letters(
    service: Service, tmp_path: Path, alert: Callable[..., Alert]
) -> None:
    service.answers = [(400, {}), (200, {})]
    dead = tmp_path / "dead.jsonl"
    hook = sink(service, Outbox(None, dead))
    hook.emit(alert(1), to_json(alert(1)))
    hook.emit(alert(2), to_json(alert(2)))
    until(lambda: service.keys() == ["line 1/2"], "the second alert")
    hook.close()
    assert json.loads(dead.read_text())["reason"] == "127.0.0.1 says 400"


def test_retry_after_is_respected(service: Service, alert: Callable[..., Alert]) -> None:
    service.answers = [(429, {"Retry-After": "2"}), (200, {})]
    hook = sink(service, Outbox(None))
    began = time.monotonic()
    hook.emit(alert(1), to_json(alert(1)))
    until(service.keys, "the alert")
    hook.close()
    assert time.monotonic() - began >= 2.0


@pytest.mark.parametrize("url", ["ftp://host/x", "nonsense", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="no http"):
        WebhookSink(WebhookSection(url=url), Outbox(None))


def test_a_short_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("short")
    with pytest.raises(ConfigError, match="shorter than 16"):
        WebhookSink(WebhookSection(url="http://a/", secret_file=tmp_path / "secret"), Outbox(None))


def test_webhooks_on_one_host_have_names_and_outboxes_of_their_own(tmp_path: Path) -> None:
    urls = ["http://127.0.0.1:1/a", "http://127.0.0.1:1/b", "http://localhost:1/a", "http://127.0.0.1:1/a"]
    hooks = tuple(WebhookSection(url=url) for url in urls)
    sinks = outbound_sinks(Config(webhook=hooks, store=StoreSection(path=str(tmp_path / "events.db")), journal=False))
    names = [sink.name for sink in sinks]
    for sink in sinks:
        sink.close()
    assert names == ["webhook-127.0.0.1", "webhook-127.0.0.1-2", "webhook-localhost", "webhook-127.0.0.1-3"]
    assert len(list((tmp_path / "outbox").glob("*.db"))) == 4


def test_no_log_shows_an_address_which_may_hold_a_secret() -> None:
    hook = WebhookSection(url="http://user:word@127.0.0.1:1/services/TOKEN?sig=abc")
    with capture_logs() as logs:
        (sink,) = outbound_sinks(Config(webhook=(hook,), journal=False))
    sink.close()
    assert [entry["sink"] for entry in logs if entry["event"] == "outbox_in_memory"] == ["webhook-127.0.0.1"]
    assert not any(secret in str(logs) for secret in ("word", "TOKEN", "abc"))
