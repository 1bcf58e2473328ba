"""The UDP sockets of an RTP source: opened together, waited for together."""

from __future__ import annotations

import errno
import ipaddress
import os
import selectors
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from streamdet.errors import SourceError
from streamdet.sources.rtp_options import Ports

RECEIVE_BUFFER: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Receiver:
    """One socket; ``port`` is the RTP port it serves, also where it receives only the RTCP of that port."""

    socket: socket.socket
    port: int
    control: bool = False


def bracketed(host: str) -> str:
    """Write a host as in a URI."""
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
        raise SourceError(f"cannot receive on {bracketed(host)}:{port}: {_why(error)}") from error
    try:
        receiver.settimeout(0)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        _join(receiver, host)
        receiver.bind(where)
    except OSError as error:
        receiver.close()
        raise SourceError(f"cannot receive on {bracketed(host)}:{port}: {_why(error)}") from error
    return receiver


def _why(error: OSError) -> str:
    if error.errno == errno.EMFILE:
        return (
            "too many open files; a port takes one, or two with RTCP: raise the limit (ulimit -n) or narrow the range"
        )
    return error.strerror or str(error)


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


def overflow(receivers: Iterable[socket.socket]) -> int:
    """Count the datagrams the kernel dropped since nobody read them in time; 0 where it does not say (proc(5))."""
    inodes = {str(os.fstat(receiver.fileno()).st_ino) for receiver in receivers}
    dropped = 0
    for table in ("/proc/net/udp", "/proc/net/udp6"):
        with suppress(OSError), open(table, encoding="ascii") as lines:
            next(lines)
            for line in lines:
                fields = line.split()
                if fields[9] in inodes:
                    dropped += int(fields[12])
    return dropped


class Receivers:
    """All sockets of a source. Those for RTCP alone come later, and only where nobody else has their port.

    Raises:
        SourceError: a port cannot be had; none is kept then.
    """

    def __init__(self, host: str, ports: Ports) -> None:
        self.all: list[Receiver] = []
        self._host = host
        self._ports = ports
        self._selector = selectors.DefaultSelector()
        try:
            for port in ports.media:
                self._add(Receiver(bind_udp(host, port), port))
        except SourceError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open_control(self) -> list[str]:
        """Open the ports that carry RTCP alone; returns a complaint for each that cannot be had."""
        complaints = []
        for port in self._ports.control:
            try:
                self._add(Receiver(bind_udp(self._host, port), port - 1, control=True))
            except SourceError as error:
                complaints.append(str(error))
        return complaints

    def wait(self, seconds: float) -> list[Receiver]:
        """Wait for datagrams; returns the sockets that have some."""
        return [key.data for key, _ in self._selector.select(seconds)]

    def control_of(self, port: int) -> socket.socket | None:
        """Return the socket that receives RTCP for an RTP port: its own, or the shared one."""
        found = [r for r in self.all if r.port == port]
        return max(found, key=lambda r: r.control).socket if found else None

    def overflow(self) -> int:
        """Datagrams the kernel dropped on all of them."""
        return overflow(receiver.socket for receiver in self.all)

    def close(self) -> None:
        """Close all."""
        self._selector.close()
        for receiver in self.all:
            receiver.socket.close()

    def _add(self, receiver: Receiver) -> None:
        self._selector.register(receiver.socket, selectors.EVENT_READ, receiver)
        self.all.append(receiver)
