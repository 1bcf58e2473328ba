"""The streams of an RTP source: each datagram to its stream, what is refused counted, streams opened and ended."""

from __future__ import annotations

import random
import secrets
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from streamdet.audio.block import Block, Item, Status
from streamdet.errors import FormatError
from streamdet.sources.lifecycle import LifeCycle
from streamdet.sources.pace import Quiet
from streamdet.sources.payload import PayloadTypes
from streamdet.sources.rtcp import Goodbye, SenderReport, build_receiver_report, parse_rtcp
from streamdet.sources.rtp_guard import AllowList, Arrived, Key, Probation, Sender
from streamdet.sources.rtp_options import RtpOptions
from streamdet.sources.rtp_packet import RtpPacket, is_rtcp, parse_rtp
from streamdet.sources.rtp_socket import Receiver, Receivers, bracketed
from streamdet.sources.rtp_stream import RtpStream
from streamdet.sources.srtp import SrtpError, SrtpKey, SrtpReceiver

POLL_SECONDS: Final = 0.1
CHECK_SECONDS: Final = 0.25
REPORT_SECONDS: Final = 10.0
OVERFLOW_SECONDS: Final = 2.0
CONTROL_SECONDS: Final = 1.0  # after the start the ports for RTCP alone are opened, if then still free
REPLY_SECONDS: Final = 5.0  # between receiver reports (RFC 3550 section 6.2), give or take a half
TAKEOVER_SECONDS: Final = 1.0  # of silence, after which a new SSRC of the same sender means the old one is over
BURST: Final = 256  # datagrams taken from one socket before the streams and the others get their turn
LARGEST_DATAGRAM: Final = 65536

STREAM_COUNTS: Final = ("received", "late", "duplicate", "stray", "flooded", "lost")
# What became of datagrams that reached no stream, and how to say so.
REFUSED: Final = {
    "malformed": "were no RTP",
    "untrusted": "came from senders with no two packets in sequence",
    "refused": "belonged to more streams than may be open (option streams)",
    "forbidden": "came from senders that are not allowed (option allow)",
    "flooded": "were more than a stream may send in a second (option max_rate)",
    "unauthentic": "could not be decrypted: another SRTP key, or not encrypted",
    "replayed": "had been sent before (SRTP)",
    "overflow": "came faster than this machine read them",
    "errors": "reads failed",
}


class RtpPort:
    """All streams of one source. Used by its thread alone, but for :meth:`counters`."""

    def __init__(
        self,
        name: str,
        receivers: Receivers,
        payload_types: PayloadTypes,
        options: RtpOptions,
        keys: tuple[SrtpKey, ...] = (),
        *,
        many_ports: bool = False,
    ) -> None:
        self.life = LifeCycle(name)
        self._name = name
        self._receivers = receivers
        self._payload_types = payload_types
        self._options = options
        self._many_ports = many_ports
        self._allowed = AllowList(options.allow)
        self._probation = Probation()
        self._srtp = SrtpReceiver(keys) if keys else None
        self._streams: dict[Key, RtpStream] = {}
        self._names: set[str] = set()
        self._waiting: set[RtpStream] = set()
        self._buffer = bytearray(LARGEST_DATAGRAM)
        self._due: list[Item] = []
        self._control: dict[Key, tuple[Receiver, Sender]] = {}
        now = time.monotonic()
        self._check_at = self._overflow_at = now
        self._control_at = now + CONTROL_SECONDS
        self._reply_at = now + REPLY_SECONDS
        self._counts = Counter[str](dict.fromkeys(("datagrams", "rtcp", "rtcp_refused", *REFUSED, *STREAM_COUNTS), 0))
        self._told: dict[str, int] = self._troubles()
        self._quiet = Quiet(REPORT_SECONDS)
        self._cname = secrets.token_hex(12)  # anonymous, as RFC 7022 wants it
        self._ssrc = secrets.randbits(32)

    def patience(self, now: float) -> float:
        """Seconds until something is due even if no packet comes."""
        due = (deadline for stream in self._waiting if (deadline := stream.deadline(now)) is not None)
        return min(max(0.0, min(due, default=now + POLL_SECONDS) - now), POLL_SECONDS)

    def receive(self, ready: Iterable[Receiver]) -> Iterator[Item]:
        """Take the datagrams that lie ready, then yield what came of them."""
        touched: dict[RtpStream, None] = {}
        for receiver in ready:
            self._drain(receiver, touched)
        due, self._due = self._due, []
        yield from due
        now = time.monotonic()
        for stream in touched:
            yield from self._take(stream, now)

    def tick(self, now: float) -> Iterator[Item]:
        """Yield what is due though no packet came."""
        for stream in tuple(self._waiting):
            deadline = stream.deadline(now)
            if deadline is None or deadline <= now:
                yield from self._take(stream, now)
        if now < self._check_at:
            return
        self._check_at = now + CHECK_SECONDS
        for key, stream in tuple(self._streams.items()):
            yield from self._check(key, stream, now)
        self._probation.expire(now)
        yield from self._open_control(now)
        if self._options.rtcp == "reply" and now >= self._reply_at:
            self._reply(now)
        yield from self._report(now)

    def counters(self) -> Mapping[str, Mapping[str, float]]:
        """Counters of the source and of each stream; see :class:`streamdet.sources.base.Counted`.

        Under the source's own name ``datagrams`` is all that came, and all that came is ``rtcp + rtcp_refused +
        malformed + untrusted + pending + refused + forbidden + unauthentic + replayed`` and, over all streams that ever
        were, ``received + late + duplicate + stray + flooded``.
        """
        streams = {stream.name: stream for stream in list(self._streams.values())}
        each = {name: stream.counters() | stream.life.counters() for name, stream in streams.items()}
        return {self._name: self._totals() | {"streams": len(each)} | self.life.counters(), **each}

    def _totals(self) -> dict[str, float]:
        totals = Counter(self._counts)
        for stream in list(self._streams.values()):
            counts = stream.counters()
            totals.update({key: int(counts[key]) for key in STREAM_COUNTS})
        totals["untrusted"] = self._probation.rejected
        totals["pending"] = self._probation.waiting
        return dict(totals)

    # ---- datagrams ----

    def _drain(self, receiver: Receiver, touched: dict[RtpStream, None]) -> None:
        view = memoryview(self._buffer)
        receive = receiver.socket.recvfrom_into
        try:
            for _ in range(BURST):
                size, sender = receive(self._buffer)
                stream = self._dispatch(bytes(view[:size]), receiver, sender[:2], time.monotonic())
                if stream is not None:
                    touched[stream] = None
        except BlockingIOError:
            pass  # all taken
        except OSError:
            self._counts["errors"] += 1  # such as a network interface that went down

    def _dispatch(self, data: bytes, receiver: Receiver, sender: Sender, now: float) -> RtpStream | None:
        self._counts["datagrams"] += 1
        if not self._allowed.admits(sender[0]):
            self._counts["forbidden"] += 1
            return None
        control = receiver.control or is_rtcp(data)
        try:
            if control:
                self._take_rtcp(data, receiver, sender, now)
                return None
            packet = parse_rtp(data if self._srtp is None else self._srtp.rtp(data, now))
        except FormatError:
            self._counts["malformed"] += 1
        except SrtpError as error:
            self._counts["rtcp_refused" if control else error.kind] += 1
        else:
            return self._sort(packet, (receiver.port, sender, packet.ssrc), now)
        return None

    def _sort(self, packet: RtpPacket, key: Key, now: float) -> RtpStream | None:
        stream = self._streams.get(key)
        if stream is None:
            arrived = self._probation.put(key, packet, now)
            return self._meet(key, arrived, now) if arrived else None
        if not stream.limit.allows(now):
            stream.flooded += 1
            return None
        stream.put(packet, now)
        return stream

    def _take_rtcp(self, data: bytes, receiver: Receiver, sender: Sender, now: float) -> None:
        if self._srtp is not None:
            data = self._srtp.rtcp(data)
        messages = parse_rtcp(data)
        self._counts["rtcp"] += 1
        if self._options.rtcp == "off":
            return
        for message in messages:
            ssrcs = message.ssrcs if isinstance(message, Goodbye) else (message.ssrc,)
            for key in [key for ssrc in ssrcs for key in self._keys_of(receiver.port, sender[0], ssrc)]:
                self._control[key] = receiver, sender
                if isinstance(message, SenderReport):
                    self._streams[key].sender_report(message, now)
                else:
                    self._streams[key].leave(now, message.reason)

    def _keys_of(self, port: int, host: str, ssrc: int) -> list[Key]:
        """Find the streams that RTCP from a host may speak for; it comes from another port than they do."""
        return [key for key in self._streams if key[2] == ssrc and key[0] == port and key[1][0] == host]

    # ---- streams ----

    def _meet(self, key: Key, arrived: list[Arrived], now: float) -> RtpStream | None:
        """Open a stream for a sender that proved to be one, or let a silent one go on."""
        if len(self._streams) >= self._options.streams and not self._make_room(now):
            self._counts["refused"] += len(arrived)
            return None
        stream = self._resumed(key, arrived, now) or self._open(key, arrived)
        self._streams[key] = stream
        for packet, at in arrived:
            stream.put(packet, at)
        return stream

    def _open(self, key: Key, arrived: list[Arrived]) -> RtpStream:
        first, at = arrived[0]
        name = self._free_name(key)
        self._names.add(name)
        origin = f"{bracketed(key[1][0])}:{key[1][1]}"
        return RtpStream(
            name, origin=origin, payload_types=self._payload_types, first=first, now=at, options=self._options
        )

    def _free_name(self, key: Key) -> str:
        port, (host, _), ssrc = key
        what = host.replace("%", "-") if self._options.by == "host" else f"{ssrc:08x}"
        wanted = f"{self._name}-{port}-{what}" if self._many_ports else f"{self._name}-{what}"
        name, number = wanted, 2
        while name in self._names:  # another sender chose the same SSRC, or a host sends several at once
            name, number = f"{wanted}-{number}", number + 1
        return name

    def _resumed(self, key: Key, arrived: list[Arrived], now: float) -> RtpStream | None:
        """End what the sender sent before and has left, or where a stream is a host's, let it go on as this."""
        by_host = self._options.by == "host"
        for old_key, old in tuple(self._streams.items()):
            same = old_key[0] == key[0] and (old_key[1][0] == key[1][0] if by_host else old_key[1] == key[1])
            if not same or now - old.last_arrival < TAKEOVER_SECONDS:
                continue
            if by_host:
                self._drop(old_key)
                self._names.add(old.name)
                self._due += old.go_on_as(arrived[0][0], arrived[0][1], f"{bracketed(key[1][0])}:{key[1][1]}")
                return old
            self._due += self._end(old_key, old, f"its sender went on as {key[2]:08x}")
        return None

    def _make_room(self, now: float) -> bool:
        """End the stream that has been silent longest, if any has stalled; a port full of talkers stays as it is."""
        key, stream = min(self._streams.items(), key=lambda item: item[1].last_arrival)
        if not stream.stalled(now):
            return False
        self._due += self._end(key, stream, "silent, and another sender needed its place")
        return True

    def _take(self, stream: RtpStream, now: float) -> Iterator[Block | Status]:
        yield from stream.take(now)
        if stream.deadline(now) is None:
            self._waiting.discard(stream)
        else:
            self._waiting.add(stream)

    def _check(self, key: Key, stream: RtpStream, now: float) -> Iterator[Item]:
        reason = stream.over(now)
        if reason is not None:
            yield from self._end(key, stream, reason)
            return
        yield from self._take(stream, now)
        yield from stream.check(now)

    def _end(self, key: Key, stream: RtpStream, reason: str) -> Iterator[Item]:
        self._drop(key)
        yield from stream.finish(reason)
        counts = stream.counters()
        self._counts.update({name: int(counts[name]) for name in STREAM_COUNTS})

    def _drop(self, key: Key) -> None:
        stream = self._streams.pop(key)
        self._control.pop(key, None)
        self._names.discard(stream.name)
        self._waiting.discard(stream)

    # ---- the source as a whole ----

    def _open_control(self, now: float) -> Iterator[Status]:
        if now < self._control_at:
            return
        self._control_at = float("inf")
        complaints = self._receivers.open_control()
        if complaints:
            reason = f"RTCP only where it shares the port of RTP: {complaints[0]}"
            yield self.life.update(reason, self._detail())

    def _reply(self, now: float) -> None:
        """Send each sender a receiver report, to where its own RTCP comes from, or should (RFC 3550, RFC 5761)."""
        self._reply_at = now + REPLY_SECONDS * random.uniform(0.5, 1.5)
        for key, stream in self._streams.items():
            via = self._receivers.control_of(key[0])
            receiver, to = self._control.get(key, (None, (key[1][0], key[1][1] + (not self._options.mux))))
            used = receiver.socket if receiver is not None else via
            if used is not None:
                self._send(used, build_receiver_report(self._ssrc, [stream.report_block(now)], self._cname), to)

    def _send(self, via: socket.socket, data: bytes, to: Sender) -> None:
        try:
            via.sendto(data, to)
        except OSError:
            self._counts["errors"] += 1

    def _report(self, now: float) -> Iterator[Status]:
        if self._streams and self.life.phase == "connecting":
            yield self.life.move("live", "receiving", self._detail())
        elif not self._streams and self.life.phase == "live":
            yield self.life.move("connecting", "no stream any more", self._detail())
        if now >= self._overflow_at:
            self._overflow_at = now + OVERFLOW_SECONDS
            self._counts["overflow"] = self._receivers.overflow()
        troubles = self._troubles()
        if troubles != self._told and self._quiet.allows(now):
            self._told = troubles
            yield self.life.move("degraded", _complaint(troubles), self._detail())
        elif self.life.phase == "degraded" and self._quiet.allows(now):
            yield self.life.move("live" if self._streams else "connecting", "no wrong datagram lately", self._detail())

    def _troubles(self) -> dict[str, int]:
        streams = sum(stream.flooded for stream in self._streams.values())
        now = {**self._counts, "untrusted": self._probation.rejected, "flooded": self._counts["flooded"] + streams}
        return {name: now[name] for name in REFUSED}

    def _detail(self) -> dict[str, float | int | str]:
        return {**self._troubles(), "rtcp": self._counts["rtcp"], "streams": len(self._streams)}


def _complaint(troubles: Mapping[str, int]) -> str:
    said = [f"{count} {REFUSED[name]}" for name, count in troubles.items() if count]
    return "of the datagrams " + ", ".join(said)
