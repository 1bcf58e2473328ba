"""RTP over UDP: one port, any number of senders, one stream for each."""

from __future__ import annotations

import ipaddress
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from streamdet.audio.block import Block, End, Item, Phase, Status
from streamdet.audio.codecs import CODECS, DEFAULT_CLOCKS, Encoding, require_codec
from streamdet.errors import ConfigError, DependencyError, FormatError, SourceError
from streamdet.sources.address import Address, Options, stream_name
from streamdet.sources.pace import Quiet
from streamdet.sources.payload import SOUNDLESS, STATIC, PayloadTypes, make_encoding, read_sdp
from streamdet.sources.rtp_packet import RtpPacket, is_rtcp, parse_rtp
from streamdet.sources.rtp_stream import RtpStream

DYNAMIC: Final = range(96, 128)
POLL_SECONDS: Final = 0.1
CHECK_SECONDS: Final = 0.25
UNTRUSTED_SECONDS: Final = 2.0
REPORT_SECONDS: Final = 10.0
OVERFLOW_SECONDS: Final = 2.0
BURST: Final = 512  # datagrams taken before the streams get their turn
RECEIVE_BUFFER: Final = 4 << 20
LARGEST_DATAGRAM: Final = 65536

Sender = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RtpOptions:
    """How a port treats its senders.

    ``shortest`` and ``longest`` bound, in seconds, the wait for a packet out of order; a stream without packets for
    ``idle`` seconds has ended; more than ``streams`` at a time are refused.
    """

    channel: int | None = None
    shortest: float = 0.04
    longest: float = 0.4
    idle: float = 30.0
    streams: int = 1024


class RtpSource:
    """All RTP that arrives on a UDP port: ``rtp://HOST:PORT``; a multicast group is joined.

    A stream is one sender's address and SSRC, named ``<name>-<ssrc in hex>``. Payload types are known by RFC 3551;
    for the dynamic ones (96 to 127) say ``codec`` (``pcmu``, ``pcma``, ``l16``, ``g722``, ``opus``), with ``pt`` for
    only one number, ``rate`` (the RTP clock) and ``channels``; or ``sdp=FILE``. Further options: ``channel`` (counted
    from 0; the mean of all where absent), ``jitter_min`` and ``jitter_max`` (ms), ``idle`` (s), ``streams`` (most at a
    time), ``name``.
    """

    live = True

    def __init__(
        self,
        host: str,
        port: int,
        *,
        payload_types: PayloadTypes | None = None,
        name: str | None = None,
        options: RtpOptions | None = None,
    ) -> None:
        self.name = stream_name(name or f"rtp-{port}")
        self._host = host
        self._port = port
        self._payload_types = {**STATIC, **(payload_types or {})}
        self._options = options or RtpOptions()

    @property
    def uri(self) -> str:
        """The address, without options."""
        return f"rtp://{_bracketed(self._host)}:{self._port}"

    @classmethod
    def from_address(cls, address: Address) -> Self:
        """Make the source from a URI taken apart."""
        host, port = address.host_port()
        options = address.options
        return cls(
            host,
            port,
            payload_types=_payload_types(options),
            name=options.text("name"),
            options=_rtp_options(options),
        )

    def items(self, stop: threading.Event) -> Iterator[Item]:
        """Yield every stream of the port until stopped; see :class:`streamdet.sources.base.Source`."""
        with bind_udp(self._host, self._port) as receiver:
            port = _Port(self.name, receiver, self._payload_types, self._options)
            yield Status(self.name, "connecting", f"waiting for RTP on {self.uri}")
            while not stop.is_set():
                if select.select([receiver], [], [], port.patience(time.monotonic()))[0]:
                    yield from port.receive()
                yield from port.tick(time.monotonic())


def _payload_types(options: Options) -> PayloadTypes:
    codec = options.text("codec")
    number = options.integer("pt", low=0, high=127)
    rate = options.integer("rate", low=4000, high=768_000)
    channels = options.integer("channels", low=1, high=255)
    sdp = options.text("sdp")
    known = dict(read_sdp(Path(sdp))) if sdp else {}
    if known:
        _require_one(known)
    if codec is None:
        if number is not None or rate is not None or channels is not None:
            raise ConfigError(f"rtp: pt, rate and channels need codec, one of {', '.join(CODECS)}")
        return known
    require_codec(codec.lower())
    encoding = _told_encoding(codec.lower(), rate, channels)
    return known | dict.fromkeys(DYNAMIC if number is None else (number,), encoding)


def _told_encoding(codec: str, rate: int | None, channels: int | None) -> Encoding:
    if codec == "g722":  # its RTP clock is 8000 whatever its sound; see G722Decoder
        rate = None
    return make_encoding(codec, rate or DEFAULT_CLOCKS[codec], channels or 1)


def _require_one(known: Mapping[int, Encoding]) -> None:
    """Raise the last complaint where nothing an SDP names can be decoded."""
    trouble: FormatError | DependencyError | None = None
    for encoding in known.values():
        try:
            if encoding.codec not in SOUNDLESS:
                require_codec(encoding.codec)
                return
        except (FormatError, DependencyError) as error:
            trouble = error
    raise trouble or FormatError("the SDP describes no sound that can be decoded")


def _rtp_options(options: Options) -> RtpOptions:
    shortest = options.number("jitter_min", 40, low=0, high=2000) / 1e3
    longest = options.number("jitter_max", 400, low=0, high=10_000) / 1e3
    if longest < shortest:
        raise ConfigError("rtp: jitter_max is less than jitter_min")
    return RtpOptions(
        channel=options.integer("channel", low=0, high=254),
        shortest=shortest,
        longest=longest,
        idle=options.number("idle", 30, low=1, high=86_400),
        streams=options.integer("streams", low=1, high=100_000) or RtpOptions().streams,
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def bind_udp(host: str, port: int) -> socket.socket:
    """Open a UDP socket that receives on an address, joining its group where it is a multicast one.

    Raises:
        SourceError: the address is taken, forbidden or not of this machine.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        receiver = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SourceError(f"cannot receive on {_bracketed(host)}:{port}: {error.strerror}") from error
    try:
        receiver.settimeout(0)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        _join(receiver, host)
        receiver.bind(where)
    except OSError as error:
        receiver.close()
        raise SourceError(f"cannot receive on {_bracketed(host)}:{port}: {error.strerror}") from error
    return receiver


def _join(receiver: socket.socket, host: str) -> None:
    with suppress(ValueError):  # a name is no group
        group = ipaddress.ip_address(host)
        if not group.is_multicast:
            return
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if group.version == 4:
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group.packed + bytes(4))
        else:
            receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group.packed + struct.pack("@I", 0))


def overflow(receiver: socket.socket) -> int:
    """Count the datagrams the kernel dropped since nobody read them in time; 0 where it does not say (proc(5))."""
    table = Path("/proc/net/udp6" if receiver.family == socket.AF_INET6 else "/proc/net/udp")
    inode = str(os.fstat(receiver.fileno()).st_ino)
    with suppress(OSError):
        for line in table.read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] == inode:
                return int(fields[12])
    return 0


class _Port:
    """The streams of one port."""

    def __init__(self, name: str, receiver: socket.socket, payload_types: PayloadTypes, options: RtpOptions) -> None:
        self._name = name
        self._receiver = receiver
        self._payload_types = payload_types
        self._options = options
        self._streams: dict[tuple[Sender, int], RtpStream] = {}
        self._names: set[str] = set()
        self._waiting: set[RtpStream] = set()
        self._buffer = bytearray(LARGEST_DATAGRAM)
        self._check_at = self._overflow_at = 0.0
        self._trouble = {"malformed": 0, "untrusted": 0, "refused": 0, "overflow": 0, "errors": 0}
        self._told = dict(self._trouble)
        self._degraded = False
        self._quiet = Quiet(REPORT_SECONDS)
        self._phase: Phase = "connecting"

    def patience(self, now: float) -> float:
        """Seconds until something is due even if no packet comes."""
        due = (deadline for stream in self._waiting if (deadline := stream.deadline(now)) is not None)
        return min(max(0.0, min(due, default=now + POLL_SECONDS) - now), POLL_SECONDS)

    def receive(self) -> Iterator[Item]:
        """Take the datagrams that lie ready, then yield what came of them."""
        touched = self._drain()
        now = time.monotonic()
        for stream in touched:
            yield from self._take(stream, now)

    def _drain(self) -> Iterable[RtpStream]:
        touched: dict[RtpStream, None] = {}
        view = memoryview(self._buffer)
        try:
            for _ in range(BURST):
                size, sender = self._receiver.recvfrom_into(self._buffer)
                stream = self._dispatch(bytes(view[:size]), sender[:2], time.monotonic())
                if stream is not None:
                    touched[stream] = None
        except BlockingIOError:
            pass  # all taken
        except OSError:
            self._trouble["errors"] += 1  # such as a network interface that went down
        return touched

    def tick(self, now: float) -> Iterator[Item]:
        """Yield what is due though no packet came."""
        for stream in tuple(self._waiting):
            deadline = stream.deadline(now)
            if deadline is None or deadline <= now:
                yield from self._take(stream, now)
        if now >= self._check_at:
            self._check_at = now + CHECK_SECONDS
            for key, stream in tuple(self._streams.items()):
                yield from self._check(key, stream, now)
            yield from self._report(now)

    def _dispatch(self, data: bytes, sender: Sender, now: float) -> RtpStream | None:
        if is_rtcp(data):
            return None
        try:
            packet = parse_rtp(data)
        except FormatError:
            self._trouble["malformed"] += 1
            return None
        key = (sender, packet.ssrc)
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) >= self._options.streams:
                self._trouble["refused"] += 1
                return None
            stream = self._streams[key] = self._open(sender, packet, now)
        stream.put(packet, now)
        return stream

    def _open(self, sender: Sender, packet: RtpPacket, now: float) -> RtpStream:
        wanted = f"{self._name}-{packet.ssrc:08x}"
        name, number = wanted, 2
        while name in self._names:  # another sender chose the same SSRC
            name, number = f"{wanted}-{number}", number + 1
        self._names.add(name)
        return RtpStream(
            name,
            origin=f"{_bracketed(sender[0])}:{sender[1]}",
            payload_types=self._payload_types,
            first=packet,
            now=now,
            channel=self._options.channel,
            shortest=self._options.shortest,
            longest=self._options.longest,
        )

    def _take(self, stream: RtpStream, now: float) -> Iterator[Block | Status]:
        yield from stream.take(now)
        if stream.deadline(now) is None:
            self._waiting.discard(stream)
        else:
            self._waiting.add(stream)

    def _check(self, key: tuple[Sender, int], stream: RtpStream, now: float) -> Iterator[Item]:
        yield from self._take(stream, now)
        if stream.trusted:
            yield from stream.check(now)
        if now - stream.last_arrival < (self._options.idle if stream.trusted else UNTRUSTED_SECONDS):
            return
        del self._streams[key]
        self._names.discard(stream.name)
        self._waiting.discard(stream)
        if stream.trusted:
            yield from stream.finish()
            yield End(stream.name, f"no packet for {self._options.idle:g} s")
        else:
            self._trouble["untrusted"] += 1

    def _report(self, now: float) -> Iterator[Status]:
        trusted = sum(stream.trusted for stream in self._streams.values())
        phase: Phase = "live" if trusted else "connecting"
        if phase != self._phase:
            self._phase = phase
            yield Status(self._name, phase, "receiving" if trusted else "no stream any more", self._detail())
        if now >= self._overflow_at:
            self._overflow_at = now + OVERFLOW_SECONDS
            self._trouble["overflow"] = overflow(self._receiver)
        if self._trouble != self._told and self._quiet.allows(now):
            self._told = dict(self._trouble)
            self._degraded = True
            reason = (
                "{malformed} datagrams were no RTP, {untrusted} senders sent no two packets in sequence, "
                "{refused} datagrams were of too many streams, {overflow} came faster than this machine read them, "
                "{errors} reads failed"
            ).format(**self._trouble)
            yield Status(self._name, "degraded", reason, self._detail())
        elif self._degraded and self._quiet.allows(now):
            self._degraded = False
            yield Status(self._name, phase, "no wrong datagram lately", self._detail())

    def _detail(self) -> dict[str, float | int | str]:
        return {**self._trouble, "streams": len(self._streams)}
