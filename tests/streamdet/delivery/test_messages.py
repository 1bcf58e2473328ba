"""Messages for people through apprise, to a real web server; log lines for the journal."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from structlog.testing import capture_logs

from streamdet.config import NotifySection
from streamdet.delivery.outbox import Outbox
from streamdet.errors import ConfigError
from streamdet.events import Alert, Score, State, to_json
from streamdet.sinks.journal import JournalSink
from streamdet.sinks.message import MessageSink, wording
from tests.waiting import until

# some of apprise's plug-ins import what Python 3.13 no longer has, where it is there
pytestmark = pytest.mark.filterwarnings("ignore:.* is deprecated and slated for removal:DeprecationWarning")


def test_an_alert_becomes_a_message(tmp_path: Path, alert: Callable[..., Alert], score: Callable[..., Score]) -> None:
    bodies: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    addresses = tmp_path / "addresses"
    addresses.write_text(f"# where alerts go\njson://127.0.0.1:{server.server_address[1]}/\n")
    sink = MessageSink(NotifySection(urls_file=addresses), Outbox(None))
    for event in (score(1), alert(2), alert(3, "updated"), alert(4, "cleared")):
        sink.emit(event, to_json(event))
    until(lambda: bodies, "a message")
    sink.close()
    server.shutdown()
    server.server_close()
    assert [body["title"] for body in bodies] == ["Synthetic speech on line 1"]
    assert "93 %" in bodies[0]["message"]


def test_a_late_message_says_so(alert: Callable[..., Alert]) -> None:
    title, body, serious = wording(json.loads(to_json(alert(1, "cleared"))), 600.0)
    assert title.startswith("Over")
    assert body.endswith("This message is 10 min late.")
    assert not serious


@pytest.mark.parametrize(("text", "reason"), [("", "no address"), ("nonsense", "line 1")])
def test_addresses_that_are_none_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "addresses").write_text(text)
    with pytest.raises(ConfigError, match=reason):
        MessageSink(NotifySection(urls_file=tmp_path / "addresses"), Outbox(None))


def test_the_journal_has_alerts_and_states_with_stable_fields(
    alert: Callable[..., Alert], state: Callable[..., State], score: Callable[..., Score]
) -> None:
    sink = JournalSink()
    with capture_logs() as lines:
        for event in (score(1), alert(2), alert(3, "updated"), state(4, "recovering"), state(5, "live")):
            sink.emit(event, b"")
    assert [(line["event"], line["log_level"], line["phase"]) for line in lines] == [
        ("alert", "warning", "raised"),
        ("state", "warning", "recovering"),
        ("state", "info", "live"),
    ]
    assert set(lines[0]) == {
        *("event", "log_level", "stream", "seq", "phase", "reason", "id", "onset", "peak", "duration")
    }
