"""Audio over ZeroMQ, in the frame format of :mod:`streamdet.sources.wire`; any number of streams on one socket."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Self

import zmq
from zmq.utils.monitor import recv_monitor_message

from streamdet.audio.block import Block, Item, Status
from streamdet.endpoint import is_exposed
from streamdet.errors import ConfigError, DependencyError, FormatError, SourceError
from streamdet.features.logmel import FloatArray
from streamdet.keys import Curve, KeyRing, curve_from
from streamdet.sources.address import Address, Options, stream_name
from streamdet.sources.cleaner import Cleaner
from streamdet.sources.lifecycle import LifeCycle
from streamdet.sources.pace import Quiet
from streamdet.sources.wire import AudioHeader, split_message
from streamdet.sources.wire_payload import LARGEST_PAYLOAD, PayloadDecoder
from streamdet.zap import Doorkeeper

Mode = Literal["pull", "sub"]

POLL_MS: Final = 250
CHECK_SECONDS: Final = 0.5
STALL_SECONDS: Final = 2.0
REPORT_SECONDS: Final = 10.0
BEHIND_SECONDS: Final = 1.0  # a message that waited longer somewhere is told of
SMALLEST_SECONDS: Final = 60.0  # the least delay of this long is what the way itself takes
BURST: Final = 256  # messages taken before the clock is looked at again
LARGEST_GAP: Final = 100_000  # messages; a larger step is a sender that began anew
_COUNTERS: Final = ("received", "lost", "restarts", "lost_samples", "undecodable")
PEERS: Final = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
FAILED: Final = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


@dataclass(frozen=True, slots=True, kw_only=True)
class ZmqOptions:
    """How the socket is opened; a stream without messages for ``idle`` seconds has ended."""

    mode: Mode = "pull"
    bind: bool = True
    topic: str = ""
    channel: int | None = None
    high_water: int = 1000
    idle: float = 30.0
    streams: int = 1024
    keys: Path | None = None  # key directory of a socket that lets in known keys alone
    curve: Curve | None = None  # keys of a socket that connects to such a one
    open: bool = False  # no keys are meant, whatever the configuration says


class ZmqSource:
    """Audio that programs send: ``zmq://HOST:PORT``.

    Options: ``mode`` (``pull``, the default, for senders that PUSH; ``sub`` for those that PUBlish), ``bind`` (1 for
    pull, 0 for sub), ``topic`` (prefix to subscribe to), ``channel`` (counted from 0; the mean of all where absent),
    ``hwm`` (messages the socket queues), ``idle`` (s), ``streams`` (most at a time), ``name``. A stream has the name
    its header gives, with ``<name>-`` before it where the option ``name`` is given.

    CURVE: ``curve=server&keys=DIR`` lets in the clients of a key directory alone, ``curve=client&key=NAME.key_secret&
    server_key=server.key`` connects to a sender that does; ``curve=off`` says that no keys are meant although
    ``[security] keys`` is configured, which otherwise guards every socket that binds.
    """

    live = True

    def __init__(self, host: str, port: int, *, name: str | None = None, options: ZmqOptions | None = None) -> None:
        self.name = stream_name(name or f"zmq-{port}")
        self.uri = f"zmq://{host}:{port}"
        self._endpoint = f"tcp://{'[' + host + ']' if ':' in host else host}:{port}"
        self._prefix = "" if name is None else f"{self.name}-"
        self._options = options or ZmqOptions()
        self._keys = self._options.keys
        self._hub = _Hub(self.name, self._prefix, self._options)

    @classmethod
    def from_address(cls, address: Address) -> Self:
        """Make the source from a URI taken apart."""
        host, port = address.host_port()
        options = address.options
        mode: Mode = "sub" if options.choice("mode", ("pull", "sub"), "pull") == "sub" else "pull"
        bind = options.flag("bind", default=mode == "pull")
        keys, curve, unguarded = _security(options, bind=bind)
        chosen = ZmqOptions(
            mode=mode,
            bind=bind,
            topic=options.text("topic") or "",
            channel=options.integer("channel", low=0, high=254),
            high_water=options.integer("hwm", low=1, high=1_000_000) or ZmqOptions().high_water,
            idle=options.number("idle", 30, low=1, high=86_400),
            streams=options.integer("streams", low=1, high=100_000) or ZmqOptions().streams,
            keys=keys,
            curve=curve,
            open=unguarded,
        )
        return cls(host, port, name=options.text("name"), options=chosen)

    def guard_by_default(self, keys: Path) -> None:
        """Let in the clients of this key directory alone, unless the URI said otherwise or the socket connects."""
        if self._options.bind and not self._options.open and self._keys is None:
            self._keys = keys

    def counters(self) -> Mapping[str, Mapping[str, float]]:
        """Counters of the source and of each stream; see :class:`streamdet.sources.base.Counted`.

        Under the source's own name: ``messages`` is all that came, and all that came is ``malformed + refused +
        repeated_ends`` and, over all streams that ever were, ``received + undecodable``. ``connections`` and
        ``disconnections`` are of senders, ``connected`` those now; ``unauthorised`` had no key that is known. Of each
        stream: ``queue_ms`` is by how much its last message came later than the fastest lately (sound that waits
        somewhere), ``blocked_ms`` what the sender says it had to wait for room.
        """
        return self._hub.counters()

    def items(self, stop: threading.Event) -> Iterator[Item]:
        """Yield every stream of the socket until stopped; see :class:`streamdet.sources.base.Source`."""
        hub = self._hub = _Hub(self.name, self._prefix, self._options)
        with ExitStack() as stack:
            context = stack.enter_context(zmq.Context())
            socket = stack.enter_context(context.socket(self._kind()))
            monitor = stack.enter_context(socket.get_monitor_socket(PEERS | FAILED))
            stack.callback(socket.disable_monitor)
            doorkeeper = self._guard(context, socket)
            if doorkeeper is not None:
                stack.enter_context(doorkeeper)
            self._open(socket)
            yield hub.life.move("connecting", self._described())
            while not stop.is_set():
                if socket.poll(POLL_MS):
                    yield from hub.receive(socket)
                hub.watch(monitor, doorkeeper)
                yield from hub.check(time.monotonic())

    def _described(self) -> str:
        verb = "waiting for senders on" if self._options.bind else "listening to"
        guarded = self._keys is not None or self._options.curve is not None
        bare = self._options.bind and not guarded and is_exposed(self._endpoint)
        warning = ", which takes sound from the whole network: give keys=DIR, or curve=off" if bare else ""
        return f"{verb} {self._endpoint}{' with CURVE' if guarded else ''}{'' if self._options.open else warning}"

    def _kind(self) -> int:
        return zmq.SUB if self._options.mode == "sub" else zmq.PULL

    def _guard(self, context: zmq.Context[zmq.Socket[bytes]], socket: zmq.Socket[bytes]) -> Doorkeeper | None:
        if self._options.curve is not None:
            self._options.curve.apply(socket)
        if self._keys is None:
            return None
        doorkeeper = Doorkeeper(context, KeyRing(self._keys))
        doorkeeper.guard(socket, watch=False)
        return doorkeeper

    def _open(self, socket: zmq.Socket[bytes]) -> None:
        socket.linger = 0
        socket.rcvhwm = self._options.high_water
        socket.ipv6 = "[" in self._endpoint
        socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_PAYLOAD)
        if self._options.mode == "sub":
            socket.subscribe(self._options.topic)
        try:
            (socket.bind if self._options.bind else socket.connect)(self._endpoint)
        except zmq.ZMQError as error:
            verb = "bind" if self._options.bind else "connect to"
            raise SourceError(f"cannot {verb} {self._endpoint}: {error.strerror}") from error


def _security(options: Options, *, bind: bool) -> tuple[Path | None, Curve | None, bool]:
    """Take the options of CURVE: the key directory, the keys of a client, and whether no keys are meant."""
    curve = options.choice("curve", ("auto", "server", "client", "off"), "auto")
    paths = [None if (text := options.text(name)) is None else Path(text) for name in ("keys", "key", "server_key")]
    keys, client = paths[0], curve_from(paths[1], paths[2])
    if curve == "auto":
        curve = "server" if keys is not None else "client" if client is not None else "auto"
    wanted = {"server": (True, False), "client": (False, True)}.get(curve, (False, False))
    if (keys is not None, client is not None) != wanted:
        raise ConfigError("zmq: curve=server goes with keys=DIR, curve=client with key= and server_key=")
    if (curve == "server" and not bind) or (curve == "client" and bind):
        raise ConfigError(f"zmq: curve={curve} goes with bind={int(not bind)}: who binds is the server")
    return keys, client, curve == "off"


class _Delay:
    """Tells how long messages waited on their way from how much later they come than the fastest of late.

    The clocks of sender and receiver need not agree: what is constant of the difference drops out.
    """

    def __init__(self) -> None:
        self.seconds: float | None = None  # as the clocks say
        self.queue = 0.0
        self._least: tuple[float, float] | None = None  # of the present and the last period
        self._until = 0.0

    def add(self, delay: float, now: float) -> None:
        """Note that a message came ``delay`` seconds after its capture, at monotonic time ``now``."""
        self.seconds = delay
        if self._least is None:
            self._least, self._until = (delay, delay), now + SMALLEST_SECONDS
        elif now >= self._until:
            self._least, self._until = (delay, self._least[0]), now + SMALLEST_SECONDS
        else:
            self._least = (min(self._least[0], delay), self._least[1])
        self.queue = delay - min(self._least)


@dataclass(slots=True)
class _Stream:
    """What is known of one stream: where its sequence stands, and what went wrong."""

    name: str
    cleaner: Cleaner
    decoder: PayloadDecoder
    life: LifeCycle
    arrived: float
    expected: int = 0
    seconds: float = 0.0  # of sound in the last message that had any
    delay: _Delay = field(default_factory=_Delay)
    blocked: float | None = None
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTERS, 0))
    told: dict[str, float] = field(default_factory=dict)
    report_at: float = 0.0
    pending: int = 0  # samples lost with payloads that could not be decoded
    behind: float = 0.0  # the longest a message waited since the last report

    def detail(self) -> dict[str, float | int | str]:
        """Count for a status."""
        return dict(self.counters())

    def counters(self) -> dict[str, float]:
        """Count for metrics."""
        more: dict[str, float] = {"bad_samples": self.cleaner.bad_samples, "queue_ms": round(1e3 * self.delay.queue, 1)}
        if self.delay.seconds is not None:
            more["delay_ms"] = round(1e3 * self.delay.seconds, 1)
        if self.blocked is not None:
            more["blocked_ms"] = round(1e3 * self.blocked, 1)
        return {**self.counts, **more}

    def missing(self, header: AudioHeader, frames: int, now: float) -> int:
        """Move the sequence on by one message of ``frames``; return how many samples are lost before it."""
        gap = header.seq - self.expected if self.counts["received"] + self.counts["undecodable"] else 0
        lost = 0
        if 0 < gap <= LARGEST_GAP:
            self.counts["lost"] += gap
            lost = round(gap * self.seconds * header.rate)
        elif gap:
            self.counts["restarts"] += 1
            lost = max(1, round((now - self.arrived) * header.rate) - frames)
        self.expected, self.arrived = header.seq + 1, now
        self.seconds = frames / header.rate if frames else self.seconds
        self.blocked = header.blocked
        if header.time is not None:
            self.delay.add(time.time() - header.time, now)
            self.behind = max(self.behind, self.delay.queue)
        return lost

    def begins_anew(self, header: AudioHeader) -> bool:
        """Tell whether the sequence took a step that no loss explains."""
        return self.expected > 0 and not 0 <= header.seq - self.expected <= LARGEST_GAP

    def troubles(self) -> list[str]:
        """Say what went wrong since this was last asked."""
        now: dict[str, float] = {**self.counts, "blocked": self.blocked or 0.0, "bad": self.cleaner.bad_samples}
        since = {key: value - self.told.get(key, 0) for key, value in now.items()}
        self.told, behind, self.behind = now, self.behind, 0.0
        told = [
            (since["lost"], f"{since['lost']:.0f} messages were lost"),
            (since["undecodable"], f"{since['undecodable']:.0f} messages could not be decoded"),
            (since["bad"], f"{since['bad']:.0f} samples that are no numbers became 0"),
            (since["blocked"] > BEHIND_SECONDS, f"the sender had to wait {since['blocked']:.1f} s for room"),
            (behind > BEHIND_SECONDS, f"messages waited {behind:.1f} s on their way"),
        ]
        return [text for wrong, text in told if wrong]


class _Hub:
    """The streams of one socket."""

    def __init__(self, name: str, prefix: str, options: ZmqOptions) -> None:
        self.life = LifeCycle(name)
        self._name = name
        self._prefix = prefix
        self._options = options
        self._streams: dict[str, _Stream] = {}
        self._names: set[str] = set()
        self._counts = Counter[str]()
        self._gone = Counter[str]()  # of streams that have ended
        self._told: dict[str, int] = self._troubles()
        self._why = ""
        self._quiet = Quiet(REPORT_SECONDS)
        self._check_at = 0.0

    def receive(self, socket: zmq.Socket[bytes]) -> Iterator[Item]:
        """Take the messages that lie ready."""
        for _ in range(BURST):
            try:
                parts = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._counts["messages"] += 1
            yield from self._take(parts, time.monotonic())
        self._counts["full_bursts"] += 1  # more lay ready than one turn takes

    def watch(self, monitor: zmq.Socket[bytes], doorkeeper: Doorkeeper | None) -> None:
        """Count who came, went, and was turned away."""
        while monitor.poll(0):
            event = recv_monitor_message(monitor)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._counts["connections"] += 1
                self._counts["connected"] += 1
            elif event == zmq.EVENT_DISCONNECTED:
                self._counts["disconnections"] += 1
                self._counts["connected"] -= 1
            else:
                self._counts["handshakes_failed"] += 1
        if doorkeeper is not None:
            self._counts["unauthorised"] = doorkeeper.refused

    def check(self, now: float) -> Iterator[Item]:
        """Yield what is due though nothing came: stalls, ends, reports."""
        if now < self._check_at:
            return
        self._check_at = now + CHECK_SECONDS
        for key, stream in tuple(self._streams.items()):
            yield from self._check(key, stream, now)
        yield from self._report(now)

    def counters(self) -> Mapping[str, Mapping[str, float]]:
        """See :meth:`ZmqSource.counters`."""
        streams = list(self._streams.values())
        totals = Counter(self._gone)
        for stream in streams:
            totals.update(stream.counts)
        own = {**dict.fromkeys(_COUNTERS, 0), **totals, **self._troubles(), **self._counts, "streams": len(streams)}
        each = {stream.name: stream.counters() | stream.life.counters() for stream in streams}
        return {self._name: own | self.life.counters(), **each}

    def _take(self, parts: list[bytes], now: float) -> Iterator[Item]:
        try:
            header, payload = split_message(parts)
        except FormatError as error:
            self._counts["malformed"] += 1
            self._why = str(error)
            return
        if header.end and not payload and header.stream not in self._streams:
            self._counts["repeated_ends"] += 1
            return
        stream = self._find(header.stream, now)
        if stream is None:
            self._counts["refused"] += 1
            return
        if stream.begins_anew(header):
            stream.decoder.reset()
        samples = self._decode(stream, header, payload)
        lost = stream.missing(header, 0 if samples is None else len(samples), now) + stream.pending
        yield from self._blocks(stream, header, samples, lost, now)
        if header.end:
            yield from self._close(header.stream, stream, "the sender ended it")

    def _blocks(
        self, stream: _Stream, header: AudioHeader, samples: FloatArray | None, lost: int, now: float
    ) -> Iterator[Item]:
        if samples is None:  # as long as the last one, for want of a better guess
            stream.counts["lost_samples"] += round(stream.seconds * header.rate)
            stream.counts["undecodable"] += 1
            stream.pending = lost + round(stream.seconds * header.rate)
            return
        stream.counts["received"] += 1
        stream.counts["lost_samples"] += lost - stream.pending
        stream.pending = 0
        if stream.life.phase in ("connecting", "recovering"):
            yield stream.life.move("live", f"receiving {header.format} at {header.rate} Hz", stream.detail())
        if len(samples) or lost:
            yield Block(stream.name, stream.cleaner.take(samples), header.rate, lost=lost, arrived=now)

    def _decode(self, stream: _Stream, header: AudioHeader, payload: bytes) -> FloatArray | None:
        try:
            return stream.decoder.decode(payload, wire_format=header.format, rate=header.rate, channels=header.channels)
        except (FormatError, DependencyError) as error:  # who sends Opus where PyAV is absent harms nobody else
            self._why = str(error)
            return None

    def _find(self, key: str, now: float) -> _Stream | None:
        stream = self._streams.get(key)
        if stream is None and len(self._streams) < self._options.streams:
            name = stream_name(self._prefix + key)
            if name in self._names:
                return None  # another name that reads the same once cleaned: two voices must not share a stream
            decoder = PayloadDecoder(self._options.channel)
            stream = _Stream(name, Cleaner(), decoder, LifeCycle(name), now)
            self._streams[key] = stream
            self._names.add(name)
        return stream

    def _check(self, key: str, stream: _Stream, now: float) -> Iterator[Item]:
        silent = now - stream.arrived
        if silent > self._options.idle:
            yield from self._close(key, stream, f"no message for {self._options.idle:g} s")
        elif silent > STALL_SECONDS and stream.life.phase in ("live", "degraded"):
            yield stream.life.move("recovering", f"no message for {STALL_SECONDS:g} s", stream.detail())
        elif now >= stream.report_at and stream.life.phase in ("live", "degraded"):
            yield from self._complain(stream, now)

    def _complain(self, stream: _Stream, now: float) -> Iterator[Status]:
        """Tell of trouble at once, and then of what came since every so often."""
        troubles = stream.troubles()
        if troubles:
            yield stream.life.move("degraded", ", ".join(troubles), stream.detail())
        elif stream.life.phase == "degraded":
            yield stream.life.move("live", "no trouble lately", stream.detail())
        else:
            return
        stream.report_at = now + REPORT_SECONDS

    def _close(self, key: str, stream: _Stream, reason: str) -> Iterator[Item]:
        yield stream.life.update("final counters", stream.detail())
        yield stream.life.end(reason)
        del self._streams[key]
        self._names.discard(stream.name)
        self._gone.update(stream.counts)

    def _report(self, now: float) -> Iterator[Status]:
        if self._streams and self.life.phase == "connecting":
            yield self.life.move("live", "receiving", self._detail())
        elif not self._streams and self.life.phase == "live":
            yield self.life.move("connecting", "no stream any more", self._detail())
        if self._troubles() != self._told and self._quiet.allows(now):
            told, self._told = self._told, self._troubles()
            yield self.life.move("degraded", self._complaint(told), self._detail())
        elif self.life.phase == "degraded" and self._quiet.allows(now):
            yield self.life.move("live" if self._streams else "connecting", "no wrong message lately", self._detail())

    def _complaint(self, told: Mapping[str, int]) -> str:
        words = {
            "malformed": "malformed messages",
            "refused": "messages of too many streams",
            "unauthorised": "connections without a known key",
            "handshakes_failed": "failed handshakes",
        }
        now = self._troubles()
        said = ", ".join(f"{count} {words[name]}" for name, count in now.items() if count != told[name])
        return said + (f"; the last: {self._why}" if self._why else "")

    def _troubles(self) -> dict[str, int]:
        return {name: self._counts[name] for name in ("malformed", "refused", "unauthorised", "handshakes_failed")}

    def _detail(self) -> dict[str, float | int | str]:
        return {**self._troubles(), "connected": self._counts["connected"], "streams": len(self._streams)}
