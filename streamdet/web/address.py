"""Where the page is served, and the socket for it."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import Self

from streamdet.errors import ConfigError, SinkError

STUCK_MS = 30_000  # after this long without an answer from the other side, the kernel gives a connection up


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a TCP port; port 0 means any that is free."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``HOST:PORT`` or ``[IPV6]:PORT``.

        Raises:
            ConfigError: the text is none of them.
        """
        host, _, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        host = host[1:-1] if bracketed else host
        if not host or host == "*" or not port.isascii() or not port.isdigit() or int(port) > 65_535:
            raise ConfigError(f"web: {text!r} is no HOST:PORT; try 127.0.0.1:8765, or 0.0.0.0:8765 for all interfaces")
        if ":" in host and not (bracketed and is_address(host)):
            raise ConfigError(f"web: {text!r} is no HOST:PORT; an IPv6 address goes in brackets, such as [::1]:8765")
        return cls(host, int(port))

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if is_address(self.host):
            return ipaddress.ip_address(self.host).is_loopback
        return self.host.lower() == "localhost"

    def url(self, scheme: str = "http") -> str:
        """Write the address as a URL that a browser on this machine can open."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}/"

    def bind(self) -> socket.socket:
        """Open the listening socket.

        Raises:
            SinkError: the address is taken, not ours, or unknown.
        """
        try:
            family, kind, protocol, _, where = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listening = socket.socket(family, kind, protocol)
        except OSError as error:
            raise SinkError(f"web: cannot use {self.host}:{self.port}: {error.strerror}") from error
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STUCK_MS)
            listening.bind(where)
            listening.listen(128)
        except OSError as error:
            listening.close()
            raise SinkError(
                f"web: cannot serve on {self.host}:{self.port}: {error.strerror}; try another port"
            ) from error
        return listening


def is_address(host: str) -> bool:
    """Tell whether ``host`` is an IP address and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
