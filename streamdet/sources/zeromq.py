"""Audio over ZeroMQ, in the frame format of :mod:`streamdet.sources.wire`; any number of streams on one socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, Self

import zmq

from streamdet.audio.block import Block, End, Item, Phase, Status
from streamdet.audio.pcm import to_mono
from streamdet.errors import FormatError, SourceError
from streamdet.sources.address import Address, stream_name
from streamdet.sources.cleaner import Cleaner
from streamdet.sources.pace import Quiet
from streamdet.sources.wire import LARGEST_PAYLOAD, AudioMessage, decode_message

Mode = Literal["pull", "sub"]

POLL_MS: Final = 250
CHECK_SECONDS: Final = 0.5
STALL_SECONDS: Final = 2.0
REPORT_SECONDS: Final = 10.0
BURST: Final = 256  # messages taken before the clock is looked at again
LARGEST_GAP: Final = 100_000  # messages; a larger step is a sender that began anew
_COUNTERS: Final = ("received", "lost", "restarts", "lost_samples")


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


class ZmqSource:
    """Audio that programs send: ``zmq://HOST:PORT``.

    Options: ``mode`` (``pull``, the default, for senders that PUSH; ``sub`` for those that PUBlish), ``bind`` (1 for
    pull, 0 for sub), ``topic`` (prefix to subscribe to), ``channel`` (counted from 0; the mean of all where absent),
    ``hwm`` (messages the socket queues), ``idle`` (s), ``streams`` (most at a time), ``name``. A stream has the name
    its header gives, with ``<name>-`` before it where the option ``name`` is given.
    """

    live = True

    def __init__(self, host: str, port: int, *, name: str | None = None, options: ZmqOptions | None = None) -> None:
        self.name = stream_name(name or f"zmq-{port}")
        self.uri = f"zmq://{host}:{port}"
        self._endpoint = f"tcp://{'[' + host + ']' if ':' in host else host}:{port}"
        self._prefix = "" if name is None else f"{self.name}-"
        self._options = options or ZmqOptions()

    @classmethod
    def from_address(cls, address: Address) -> Self:
        """Make the source from a URI taken apart."""
        host, port = address.host_port()
        options = address.options
        mode: Mode = "sub" if options.choice("mode", ("pull", "sub"), "pull") == "sub" else "pull"
        chosen = ZmqOptions(
            mode=mode,
            bind=options.flag("bind", default=mode == "pull"),
            topic=options.text("topic") or "",
            channel=options.integer("channel", low=0, high=254),
            high_water=options.integer("hwm", low=1, high=1_000_000) or ZmqOptions().high_water,
            idle=options.number("idle", 30, low=1, high=86_400),
            streams=options.integer("streams", low=1, high=100_000) or ZmqOptions().streams,
        )
        return cls(host, port, name=options.text("name"), options=chosen)

    def items(self, stop: threading.Event) -> Iterator[Item]:
        """Yield every stream of the socket until stopped; see :class:`streamdet.sources.base.Source`."""
        with zmq.Context() as context, context.socket(self._kind()) as socket:
            self._open(socket)
            verb = "waiting for senders on" if self._options.bind else "listening to"
            yield Status(self.name, "connecting", f"{verb} {self._endpoint}")
            hub = _Hub(self.name, self._prefix, self._options)
            while not stop.is_set():
                if socket.poll(POLL_MS):
                    yield from hub.receive(socket)
                yield from hub.check(time.monotonic())

    def _kind(self) -> int:
        return zmq.SUB if self._options.mode == "sub" else zmq.PULL

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


@dataclass(slots=True)
class _Stream:
    """What is known of one stream: where its sequence stands, and what went wrong."""

    name: str
    cleaner: Cleaner
    arrived: float
    phase: Phase = "connecting"
    expected: int = 0
    frames: int = 0
    rate: int = 0
    delay: float | None = None
    counters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTERS, 0))
    told_lost: int = 0
    report_at: float = 0.0

    def detail(self) -> dict[str, float | int | str]:
        """Count for a status."""
        delay = {} if self.delay is None else {"delay_ms": round(1e3 * self.delay, 1)}
        return {**self.counters, **delay, "bad_samples": self.cleaner.bad_samples}

    def missing(self, message: AudioMessage, now: float) -> int:
        """Move the sequence on by one message; return how many samples are lost before it."""
        header, frames = message.header, len(message.samples)
        gap = header.seq - self.expected if self.counters["received"] else 0
        lost = 0
        if 0 < gap <= LARGEST_GAP:
            self.counters["lost"] += gap
            lost = gap * self.frames * header.rate // self.rate
        elif gap:
            self.counters["restarts"] += 1
            lost = max(1, round((now - self.arrived) * header.rate) - frames)
        self.counters["received"] += 1
        self.counters["lost_samples"] += lost
        self.expected, self.rate, self.arrived = header.seq + 1, header.rate, now
        self.frames = frames or self.frames
        self.delay = None if header.time is None else time.time() - header.time
        return lost


class _Hub:
    """The streams of one socket."""

    def __init__(self, name: str, prefix: str, options: ZmqOptions) -> None:
        self._name = name
        self._prefix = prefix
        self._options = options
        self._streams: dict[str, _Stream] = {}
        self._phase: Phase = "connecting"
        self._trouble = {"malformed": 0, "refused": 0}
        self._told = dict(self._trouble)
        self._degraded = False
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
            yield from self._take(parts, time.monotonic())

    def check(self, now: float) -> Iterator[Item]:
        """Yield what is due though nothing came: stalls, ends, reports."""
        if now < self._check_at:
            return
        self._check_at = now + CHECK_SECONDS
        for key, stream in tuple(self._streams.items()):
            yield from self._check(key, stream, now)
        yield from self._report(now)

    def _take(self, parts: list[bytes], now: float) -> Iterator[Item]:
        try:
            message = decode_message(parts)
            mono = to_mono(message.samples, channel=self._options.channel)
        except FormatError as error:
            self._trouble["malformed"] += 1
            self._why = str(error)
            return
        if message.header.end and not len(mono) and message.header.stream not in self._streams:
            return  # an end said twice
        stream = self._find(message.header.stream, now)
        if stream is None:
            self._trouble["refused"] += 1
            return
        lost = stream.missing(message, now)
        if stream.phase in ("connecting", "recovering"):
            yield self._move(stream, "live", f"receiving {message.header.format} at {message.header.rate} Hz")
        if len(mono) or lost:
            yield Block(stream.name, stream.cleaner.take(mono), message.header.rate, lost=lost, arrived=now)
        yield from stream.cleaner.report()
        if message.header.end:
            yield from self._close(message.header.stream, stream, "the sender ended it")

    def _find(self, key: str, now: float) -> _Stream | None:
        stream = self._streams.get(key)
        if stream is None and len(self._streams) < self._options.streams:
            name = stream_name(self._prefix + key)
            if any(other.name == name for other in self._streams.values()):
                return None  # another name that reads the same once cleaned: two voices must not share a stream
            stream = self._streams[key] = _Stream(name, Cleaner(name), now, report_at=now + REPORT_SECONDS)
        return stream

    def _check(self, key: str, stream: _Stream, now: float) -> Iterator[Item]:
        silent = now - stream.arrived
        if silent > self._options.idle:
            yield from self._close(key, stream, f"no message for {self._options.idle:g} s")
        elif silent > STALL_SECONDS and stream.phase != "recovering":
            yield self._move(stream, "recovering", f"no message for {STALL_SECONDS:g} s")
        elif now >= stream.report_at:
            stream.report_at = now + REPORT_SECONDS
            yield from self._losses(stream)

    def _losses(self, stream: _Stream) -> Iterator[Status]:
        lost = stream.counters["lost"] - stream.told_lost
        stream.told_lost += lost
        if lost:
            yield self._move(stream, "degraded", f"{lost} messages were lost in {REPORT_SECONDS:g} s")
        elif stream.phase == "degraded":
            yield self._move(stream, "live", "no message was lost lately")

    def _close(self, key: str, stream: _Stream, reason: str) -> Iterator[Item]:
        del self._streams[key]
        yield Status(stream.name, stream.phase, "final counters", stream.detail())
        yield End(stream.name, reason)

    def _move(self, stream: _Stream, phase: Phase, reason: str) -> Status:
        stream.phase = phase
        return Status(stream.name, phase, reason, stream.detail())

    def _report(self, now: float) -> Iterator[Status]:
        phase: Phase = "live" if self._streams else "connecting"
        if phase != self._phase:
            self._phase = phase
            yield Status(self._name, phase, "receiving" if self._streams else "no stream any more", self._detail())
        if self._trouble != self._told and self._quiet.allows(now):
            self._told = dict(self._trouble)
            self._degraded = True
            why = f"; the last: {self._why}" if self._why else ""
            reason = "{malformed} malformed messages, {refused} of too many streams".format(**self._trouble)
            yield Status(self._name, "degraded", reason + why, self._detail())
        elif self._degraded and self._quiet.allows(now):
            self._degraded = False
            yield Status(self._name, phase, "no wrong message lately", self._detail())

    def _detail(self) -> dict[str, float | int | str]:
        return {**self._trouble, "streams": len(self._streams)}
