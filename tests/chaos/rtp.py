"""What a port of RTP lives through: ``python -m tests.chaos.rtp --rounds 200``; a short version is in the tests.

Each part prints one JSON line and fails where a promise is broken: a sender's return is heard within five seconds,
counters add up, and no thread, descriptor or memory is left behind.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import structlog

from streamdet.audio.block import Block, End, Item, Status
from streamdet.sources.rtp import RtpSource
from streamdet.sources.uri import from_uri
from tests.chaos.relay import Relay, Weather

RETURN_SECONDS = 5.0
CAME = ("received", "late", "duplicate", "stray", "flooded")
ELSEWHERE = (
    "rtcp",
    "rtcp_refused",
    "malformed",
    "untrusted",
    "pending",
    "refused",
    "forbidden",
    "unauthentic",
    "replayed",
)


@dataclass(slots=True)
class Held:
    """What the process holds: threads, open files, octets of memory."""

    threads: int = field(default_factory=threading.active_count)
    files: int = field(default_factory=lambda: len(os.listdir("/proc/self/fd")))
    memory: int = field(
        default_factory=lambda: int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    )


class Listener(threading.Thread):
    """Reads a source and keeps numbers, not sound."""

    def __init__(self, source: RtpSource) -> None:
        super().__init__(daemon=True)
        self.source = source
        self.seconds: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.ended: dict[str, dict[str, float | int | str]] = {}
        self.phases: Counter[str] = Counter()
        self.error: Exception | None = None
        self.cpu = 0.0
        self._last: dict[str, dict[str, float | int | str]] = {}
        self._stop_event = threading.Event()

    def run(self) -> None:
        try:
            for item in self.source.items(self._stop_event):
                self._take(item)
        except Exception as error:  # noqa: BLE001  shown by finish
            self.error = error
        self.cpu = time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID)

    def _take(self, item: Item) -> None:
        if isinstance(item, Block):
            concealed = len(item.samples) if item.concealed else 0
            self.seconds[item.stream] += (len(item.samples) - concealed) / item.rate
            self.lost[item.stream] += (item.lost + concealed) / item.rate
        elif isinstance(item, Status):
            self.phases[item.phase] += 1
            self._last[item.stream] = item.detail
        elif isinstance(item, End):
            self.ended[item.stream] = self._last[item.stream]

    def wait(self, enough: Callable[[], object], seconds: float) -> float:
        """Wait until ``enough``; returns how long that took, raises where it takes longer than ``seconds``."""
        began = time.monotonic()
        while not enough():
            if time.monotonic() - began > seconds or not self.is_alive():
                totals = self.source.counters().get(self.source.name)
                raise AssertionError(f"not seen within {seconds} s: {self.error!r} {totals}")
            time.sleep(0.01)
        return time.monotonic() - began

    def finish(self) -> None:
        self._stop_event.set()
        self.join(10)
        if self.error is not None:
            raise self.error


@contextmanager
def listening(query: str = "", port: int | None = None) -> Iterator[tuple[Listener, int]]:
    """Listen on a port of the loopback interface."""
    port = port or free_port()
    source = from_uri(f"rtp://127.0.0.1:{port}{query}")
    assert isinstance(source, RtpSource)
    listener = Listener(source)
    listener.start()
    listener.wait(lambda: listener.phases, 10)
    try:
        yield listener, port
    finally:
        listener.finish()


def free_port() -> int:
    """Find a free UDP port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def packet(number: int, ssrc: int) -> bytes:
    """One packet of 20 ms of PCMU."""
    return struct.pack("!BBHII", 0x80, 0, number & 0xFFFF, number * 160 & 0xFFFFFFFF, ssrc) + bytes([ssrc & 0xFF]) * 160


def bad_network(weather: Weather, *, streams: int = 3, packets: int = 500, seed: int = 0) -> dict[str, object]:
    """Send streams through a relay; every datagram must be found again, in the right counter.

    The first and last packets go straight through, since nobody can know what was lost before and after all.
    """
    with listening("?idle=2&jitter_max=300") as (listener, port):
        relays = [Relay(("127.0.0.1", port), weather, seed=seed + i) for i in range(streams)]
        for relay in relays:
            relay.start()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            began = time.monotonic()
            for n in range(packets):
                for i, relay in enumerate(relays):
                    out.sendto(packet(65_000 + n, 100 + i), ("127.0.0.1", relay.port))
                time.sleep(max(0.0, began + 0.02 * n - time.monotonic()))
            time.sleep(weather.delay + 0.6)
            for relay in relays:
                relay.weather = Weather()
            for n in range(packets, packets + 3):
                for i, relay in enumerate(relays):
                    out.sendto(packet(65_000 + n, 100 + i), ("127.0.0.1", relay.port))
        for relay in relays:
            relay.finish()
        listener.wait(lambda: len(listener.ended) == streams, 15)
        totals = listener.source.counters()[listener.source.name]
    done = Counter[str]()
    for relay in relays:
        done.update(relay.counts)
    found = {name: sum(int(d[name]) for d in listener.ended.values()) for name in (*CAME, "lost", "lost_samples")}
    assert done["sent"] == done["came"] - done["lost"] + done["twice"]
    assert sum(found[name] for name in CAME) == done["sent"], (found, done)
    assert found["received"] + found["late"] + found["duplicate"] + found["lost"] == done["came"] + done["twice"], found
    assert found["lost"] == done["lost"], (found, done)
    assert found["duplicate"] == done["twice"], (found, done)
    assert totals["datagrams"] == done["sent"]
    heard, lost = sum(listener.seconds.values()), sum(listener.lost.values())
    assert abs(heard + lost - streams * (packets + 3) * 0.02) < 0.1 * streams, (heard, lost)
    return {"weather": f"{weather}", "relay": dict(done), "found": found}


OPUS_SAMPLES = 960  # of a packet of 20 ms at 48 kHz


def opus(loss: float, *, seconds: float = 20.0, seed: int = 0) -> dict[str, object]:
    """A real ffmpeg sends Opus with its own error correction through a relay that loses packets.

    The correction (the copy of a frame in the next packet, RFC 6716 section 2.1.7) is not used: what is lost is counted
    as lost to the sample, and what the decoder makes up instead is marked as made up.
    """
    if shutil.which("ffmpeg") is None:
        raise RuntimeError("ffmpeg is not installed")
    talk = ["-f", "lavfi", "-i", f"anoisesrc=r=48000:a=0.2:c=pink:d={seconds}"]
    codec = ["-c:a", "libopus", "-application", "voip", "-b:a", "32k", "-fec:a", "1", "-packet_loss", "20"]
    with listening("?idle=2&codec=opus&name=call&max_loss=0.02") as (listener, port):
        relay = Relay(("127.0.0.1", port), Weather(loss, twice=0.05, delay=0.1), seed=seed)
        relay.start()
        command = ["ffmpeg", "-loglevel", "error", "-re", *talk, *codec, "-f", "rtp", f"rtp://127.0.0.1:{relay.port}"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as sender:
            listener.wait(lambda: relay.counts["came"] >= (seconds - 1) * 50, seconds + 30)
            relay.weather = Weather()  # so that nothing is lost at the very end, where nobody can know of it
            sender.wait(30)
        relay.finish()
        listener.wait(lambda: listener.ended, 15)
    (found,) = listener.ended.values()
    done, lost = relay.counts, int(found["lost"])
    assert sum(int(found[name]) for name in CAME) == done["sent"], (found, done)
    assert found["received"] == done["came"] - done["lost"] - int(found["late"]), (found, done)
    assert (lost, found["duplicate"], found["malformed"]) == (done["lost"], done["twice"], 0), (found, done)
    gone = lost + int(found["late"])  # a late packet was given up, and something may stand in for it
    assert found["lost_samples"] == gone * OPUS_SAMPLES, (found, gone)
    assert 0.5 * gone * OPUS_SAMPLES <= int(found["concealed_samples"]) <= gone * OPUS_SAMPLES, found
    heard, missing = sum(listener.seconds.values()), sum(listener.lost.values())
    assert abs(missing - gone * 0.02) < 1e-6, (missing, gone)
    assert abs(heard - int(found["received"]) * 0.02) < 1e-6, (heard, found)
    if loss:
        assert listener.phases["degraded"] > 0
    share = missing / (heard + missing)
    return {"loss": loss, "relay": dict(done), "lost": lost, "late": found["late"], "share_lost": round(share, 4)}


def come_and_go(rounds: int, *, seconds: float = 0.6) -> dict[str, object]:
    """Kill and restart a real ffmpeg again and again; each comes back with another SSRC from another port."""
    if shutil.which("ffmpeg") is None:
        raise RuntimeError("ffmpeg is not installed")
    talk = Path(os.environ.get("TMPDIR", "/tmp"), f"chaos-{os.getpid()}.wav")
    soundfile.write(talk, np.random.default_rng(0).normal(0, 0.1, 16_000 * 20).astype(np.float32), 16_000)
    delays: list[float] = []
    settled: Held | None = None
    try:
        with listening("?by=host&name=box&idle=60") as (listener, port):
            for number in range(rounds):
                heard = listener.seconds["box-127.0.0.1"]
                command = ["ffmpeg", "-loglevel", "error", "-re", "-i", str(talk), "-ar", "8000", "-c:a", "pcm_mulaw"]
                command += ["-f", "rtp", f"rtp://127.0.0.1:{port}?pkt_size=172"]
                with subprocess.Popen(command, stdout=subprocess.DEVNULL) as sender:
                    began = time.monotonic()
                    listener.wait(lambda before=heard: listener.seconds["box-127.0.0.1"] > before + 0.1, 20)
                    delays.append(time.monotonic() - began)
                    time.sleep(seconds)
                    sender.kill()
                listener.wait(lambda: _silent(listener) > 1.05, 10)
                if number == min(rounds - 1, 5):
                    settled = Held()
            left = Held()
            streams = set(listener.seconds)
    finally:
        talk.unlink(missing_ok=True)
    assert streams == {"box-127.0.0.1"}, streams
    assert max(delays) < RETURN_SECONDS, delays
    assert settled is not None
    _nothing_grew(settled, left)
    return {
        "rounds": rounds,
        "slowest_return": round(max(delays), 2),
        "median_return": round(float(np.median(delays)), 2),
    }


def _silent(listener: Listener) -> float:
    before = sum(listener.seconds.values())
    time.sleep(1.1)
    return 1.1 if sum(listener.seconds.values()) == before else 0.0


def _nothing_grew(before: Held, after: Held) -> None:
    assert after.threads <= before.threads, (before, after)
    assert after.files <= before.files, (before, after)
    assert after.memory - before.memory < 24 << 20, (before, after)


SENDER = """
import socket, struct, sys, time
port, streams, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
body, begin = bytes(range(160)), time.monotonic()
for n in range(int(seconds * 50)):
    for ssrc in range(streams):
        out.sendto(struct.pack("!BBHII", 0x80, 0, n & 0xFFFF, n * 160, ssrc) + body, ("127.0.0.1", port))
        if ssrc % 20 == 19:  # spread over the 20 ms, as senders are
            time.sleep(max(0.0, begin + 0.02 * (n + ssrc / streams) - time.monotonic()))
"""


def crowd(streams: int = 300, seconds: float = 10.0) -> dict[str, object]:
    """Many SSRCs on one port, from a process of its own; what they cost in CPU of the receiving thread."""
    with listening("?name=trunk") as (listener, port):
        subprocess.run([sys.executable, "-c", SENDER, str(port), str(streams), str(seconds)], check=True)
        sent = streams * int(seconds * 50)
        listener.wait(lambda: _arrived(listener) >= sent, 20)
        counters = dict(listener.source.counters())
    totals = counters.pop(listener.source.name)
    assert len(counters) == streams
    assert totals["datagrams"] + totals["overflow"] == sent, totals
    assert sum(totals[name] for name in (*CAME, *ELSEWHERE)) == totals["datagrams"], totals
    if not totals["overflow"]:  # a machine that is too busy to read has no say about the rest
        assert (totals["received"], totals["lost"], totals["late"], totals["duplicate"]) == (sent, 0, 0, 0), totals
    return {
        "streams": streams,
        "seconds": seconds,
        "cpu_share": round(listener.cpu / seconds, 3),
        "us_per_packet": round(1e6 * listener.cpu / totals["datagrams"], 1),
        "dropped_by_kernel": totals["overflow"],
    }


def _arrived(listener: Listener) -> float:
    totals = listener.source.counters()[listener.source.name]
    return totals["datagrams"] + totals["overflow"]


def flood(seconds: float = 3.0, rate: int = 4000) -> dict[str, object]:
    """Made-up senders by the thousand beside one that is real: it goes on, and a second real one still gets in."""
    before = Held()
    with listening("?name=line&streams=50") as (listener, port):
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as good,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bad,
        ):
            began, noise = time.monotonic(), 0
            for n in range(int(seconds * 50)):
                good.sendto(packet(n, 1), ("127.0.0.1", port))
                if n >= 25:
                    good.sendto(packet(n, 2), ("127.0.0.1", port))
                for _ in range(rate // 50):
                    bad.sendto(b"\x80\x00" + os.urandom(170), ("127.0.0.1", port))
                    noise += 1
                time.sleep(max(0.0, began + 0.02 * n - time.monotonic()))
        sent = noise + 2 * int(seconds * 50) - 25
        listener.wait(lambda: _arrived(listener) >= sent, 20)
        counters = dict(listener.source.counters())
    totals = counters.pop(listener.source.name)
    took = sum(totals[name] for name in (*CAME, *ELSEWHERE))
    assert took == totals["datagrams"], totals
    assert totals["datagrams"] + totals["overflow"] == sent, totals
    assert {"line-00000001", "line-00000002"} <= set(counters), counters
    for name in ("line-00000001", "line-00000002"):
        assert counters[name]["lost"] <= totals["overflow"]
    after = Held()
    assert after.memory - before.memory < 48 << 20, (before, after)
    return {"flood": noise, "untrusted": totals["untrusted"], "streams": len(counters), "overflow": totals["overflow"]}


def main() -> None:
    """Run the long version."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="how often ffmpeg is killed and restarted")
    parser.add_argument("--packets", type=int, default=3000, help="packets of each stream through the bad network")
    parser.add_argument("--part", choices=("network", "opus", "crowd", "flood", "restart"), action="append")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    parts = given.part or ["network", "opus", "crowd", "flood", "restart"]
    if "network" in parts:
        for loss in (0.0, 0.1, 0.2, 0.3):
            say(bad_network(Weather(loss, 0.1, 0.2), packets=given.packets, seed=int(100 * loss)))
    if "opus" in parts:
        for loss in (0.0, 0.1, 0.3):
            say(opus(loss, seed=int(100 * loss)))
    if "crowd" in parts:
        say(crowd())
    if "flood" in parts:
        say(flood(10.0))
    if "restart" in parts:
        say(come_and_go(given.rounds))


def say(figures: dict[str, object]) -> None:
    """Print one part's figures."""
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
