"""A webhook that answers 500 for an hour, with a kill -9 half way: ``python -m tests.chaos.outage --minutes 60``."""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import psutil

from .daemon import DEMO, Daemon, stored

KINDS = ("alert", "state")
CONFIG = """
[[webhook]]
url = "http://127.0.0.1:{port}/"
events = ["alert", "state"]
longest_rest = {rest}
"""


class Service(ThreadingHTTPServer):
    """Answers 500 while ``failing``; ``took`` has the keys of what it took, in order, ``refused`` counts the rest."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.failing = True
        self.took: list[str] = []
        self.refused = Counter[str]()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        key = self.headers["Idempotency-Key"]
        if self.server.failing:
            self.server.refused[key] += 1
        else:
            self.server.took.append(key)
        self.send_response(500 if self.server.failing else 204)
        self.end_headers()

    def log_message(self, format: str, *values: object) -> None:  # noqa: A002  the base class calls it so
        """Say nothing."""


def waiting(folder: Path) -> int:
    """Parcels in the outbox on disk."""
    (path,) = (folder / "outbox").glob("webhook-*.db")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as base:
        return int(base.execute("SELECT count(*) FROM parcel").fetchone()[0])


def wanted(daemon: Daemon) -> dict[str, list[str]]:
    """Keys of everything that the webhook asked for, by stream, as stored."""
    return {
        stream: [f"{stream}/{seq}" for seq, payload in sorted(events.items()) if json.loads(payload)["type"] in KINDS]
        for stream, events in stored(daemon.store).items()
    }


def check(daemon: Daemon, service: Service) -> str:
    """Everything stored was taken by the service, in order within its stream; says what came twice."""
    first = list(dict.fromkeys(service.took))
    for stream, keys in wanted(daemon).items():
        assert [key for key in first if key.rpartition("/")[0] == stream] == keys, stream
    assert not list((daemon.folder / "outbox").glob("*.dead.jsonl"))
    return f"{len(first)} events taken, {len(service.took) - len(first)} twice"


@contextmanager
def running(folder: Path, rest: float) -> Iterator[tuple[Daemon, Service]]:
    service, daemon = Service(), Daemon(folder)
    (folder / "streamdet.toml").write_text(CONFIG.format(port=service.server_port, rest=rest))
    try:
        yield daemon, service
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()
        service.shutdown()
        service.server_close()


def start(daemon: Daemon, streams: int) -> None:
    uris = [f"file:{DEMO}?name=line{number}&loop=1" for number in range(streams)]
    daemon.start("-c", str(daemon.folder / "streamdet.toml"), *(part for uri in uris for part in ("-s", uri)))
    daemon.wait_for(lambda event: event["type"] == "score")


def describe(daemon: Daemon, since: int) -> str:
    """Latency of the scores printed since then, and what the process takes."""
    took = [event["latency_ms"] for event in daemon.printed[since:] if event["type"] == "score"]
    p50, p99 = np.percentile(took, [50, 99])
    resident = psutil.Process(daemon.process.pid).memory_info().rss / 1e6
    return f"{len(took)} scores, p50 {p50:.1f} p99 {p99:.1f} ms, {resident:.0f} MB"


def suffer(daemon: Daemon, service: Service, seconds: float) -> None:
    """Let time pass, with a look every two minutes at what waits."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        since = len(daemon.printed)
        time.sleep(min(120.0, left))
        if len(daemon.printed) > since:
            tries = sum(service.refused.values())
            say(f"waiting {waiting(daemon.folder)}, tries refused {tries}; {describe(daemon, since)}")


def say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def run(folder: Path, seconds: float, *, streams: int = 2, rest: float = 300.0) -> str:
    """Refuse everything for ``seconds``, kill the daemon half way, then be well again until nothing waits."""
    with running(folder, rest) as (daemon, service):
        start(daemon, streams)
        suffer(daemon, service, seconds / 2)
        daemon.kill()
        left = waiting(folder)
        start(daemon, streams)
        assert waiting(folder) >= left  # the kill took nothing out of the outbox
        suffer(daemon, service, seconds / 2)
        most = waiting(folder)
        assert most > left
        service.failing = False
        began = time.monotonic()
        while waiting(folder):
            assert time.monotonic() - began < rest + 60.0, f"{waiting(folder)} still wait"
            time.sleep(0.5)
        drained = time.monotonic() - began
        daemon.stop()
        taken = check(daemon, service)
    return (
        f"refused for {seconds:.0f} s: {sum(service.refused.values())} tries, {most} waited at most; "
        f"all taken {drained:.0f} s after it was well: {taken}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--streams", type=int, default=2)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        say(run(Path(name), 60.0 * chosen.minutes, streams=chosen.streams))
