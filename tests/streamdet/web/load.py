"""What open pages cost the scoring: ``python -m tests.streamdet.web.load [--pages 20] [--streams 10] [--rounds 6]``.

A real ``streamdet listen`` hears files at the pace of real time. In turns nobody looks and ``--pages`` connections read
the live events, one of them following a picture each. Prints latency of the scores (from the arrival of a hop's last
sample to the event) in both, so that both saw the same machine, and the CPU time of the whole process a second of
sound, which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np

DEMO = Path(__file__).parents[3] / "streamdet" / "demo" / "demo.flac"
READER = """
import http.client, json, sys, threading
port, pages, streams = map(int, sys.argv[1:])
def read(n):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/api/events")
    response = connection.getresponse()
    for line in response:
        if line.startswith(b"data: ") and b'"client"' in line:
            follow = json.dumps({"client": json.loads(line[6:])["client"], "stream": f"s{n % streams}"})
            other = http.client.HTTPConnection("127.0.0.1", port)
            other.request("POST", "/api/follow", follow, {"X-Streamdet": "1"})
            other.getresponse().read()
for n in range(pages):
    threading.Thread(target=read, args=(n,), daemon=True).start()
threading.Event().wait()
"""
COMMAND = ("nice", "-n", "19", sys.executable, "-c", READER)  # browsers are elsewhere: they take no core from scoring


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--streams", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    process, url = listening(options.streams)
    port = int(url.rpartition(":")[2].strip("/"))
    latencies: list[tuple[float, float]] = []

    def gather() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["type"] == "score":
                latencies.append((time.monotonic(), event["latency_ms"]))

    threading.Thread(target=gather, daemon=True).start()
    urllib.request.urlopen(url).read()
    time.sleep(3)
    spans: dict[str, list[tuple[float, float, float]]] = {"nobody": [], "pages": []}
    for _ in range(options.rounds):
        spans["nobody"].append(span(options.seconds, process.pid))
        reader = subprocess.Popen([*COMMAND, *map(str, (port, options.pages, options.streams))])
        time.sleep(1.5)
        spans["pages"].append(span(options.seconds, process.pid))
        reader.kill()
        reader.wait()
        time.sleep(0.5)
    process.terminate()
    process.wait()
    for name, times in spans.items():
        values = np.array([ms for at, ms in latencies if any(start <= at < stop for start, stop, _ in times)])
        p50, p90, p99 = np.percentile(values, (50, 90, 99))
        cpu = 1e3 * sum(used for _, _, used in times) / sum(stop - start for start, stop, _ in times)
        print(
            f"{name:>7}: {len(values)} scores, latency ms p50 {p50:.2f}, p90 {p90:.2f}, p99 {p99:.2f}; "
            f"CPU {cpu:.1f} ms a second"
        )


def listening(streams: int) -> tuple[subprocess.Popen[str], str]:
    """Start ``streamdet listen`` on so many looped files, its events on standard output; returns also its page."""
    sources = [f"-sfile:{DEMO}?loop=1&name=s{n}" for n in range(streams)]
    command = [sys.executable, "-c", "from streamdet.cli import main; main()", "listen", *sources]
    process = subprocess.Popen(
        [*command, "--web", "127.0.0.1:0", "--publish", "none", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    return process, next(m[0] for line in process.stderr if (m := re.search(r"http://127.0.0.1:\d+/", line)))


def span(seconds: float, process: int) -> tuple[float, float, float]:
    """Wait; returns begin and end (monotonic) and the CPU seconds that the process took meanwhile."""
    began, used = time.monotonic(), cpu_seconds(process)
    time.sleep(seconds)
    return began, time.monotonic(), cpu_seconds(process) - used


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
