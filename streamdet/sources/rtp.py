"""RTP over UDP: one port or many, any number of senders, one stream for each."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Self

from streamdet.audio.block import Item
from streamdet.sources.address import Address, stream_name
from streamdet.sources.payload import STATIC, PayloadTypes
from streamdet.sources.rtp_options import Ports, RtpOptions, choose_ports, read_setup
from streamdet.sources.rtp_port import RtpPort
from streamdet.sources.rtp_socket import Receivers, bracketed
from streamdet.sources.srtp import SrtpKey


class RtpSource:
    """All RTP that arrives on a UDP port or a range of them: ``rtp://HOST:PORT``, ``rtp://HOST:FIRST-LAST``.

    A stream is one sender's address and SSRC, named ``<name>-<ssrc in hex>`` (``<name>-<port>-<ssrc>`` in a range); a
    multicast group is joined. Payload types are known by RFC 3551; for the dynamic ones (96 to 127) say ``codec``
    (``pcmu``, ``pcma``, ``l16``, ``g722``, ``opus``), with ``pt`` for only one number, ``rate`` (the RTP clock) and
    ``channels``; or ``sdp=FILE``. Further options: ``srtp=FILE`` (keys), ``rtcp=receive``, ``reply`` or ``off``,
    ``mux``, ``by=ssrc`` or ``host``, ``channel`` (counted from 0; the mean of all where absent), ``jitter_min`` and
    ``jitter_max`` (ms), ``idle`` (s), ``streams`` (most at a time), ``max_rate`` (packets a second of one stream),
    ``allow`` (addresses and networks), ``max_loss`` (share that makes a stream degraded), ``conceal``, ``name``.
    """

    live = True

    def __init__(
        self,
        host: str,
        port: int,
        *,
        last_port: int | None = None,
        payload_types: PayloadTypes | None = None,
        name: str | None = None,
        options: RtpOptions | None = None,
        keys: tuple[SrtpKey, ...] = (),
    ) -> None:
        self._host = host
        self._options = options or RtpOptions()
        self._ports = choose_ports(port, last_port or port, self._options.rtcp, mux=self._options.mux)
        self._many_ports = last_port is not None and last_port != port
        self._label = f"{port}-{last_port}" if self._many_ports else str(port)
        self.name = stream_name(name or f"rtp-{self._label}")
        self._payload_types = {**STATIC, **(payload_types or {})}
        self._keys = keys
        self._port: RtpPort | None = None

    @property
    def uri(self) -> str:
        """The address, without options."""
        return f"rtp://{bracketed(self._host)}:{self._label}"

    @property
    def ports(self) -> Ports:
        """The UDP ports it receives on."""
        return self._ports

    @classmethod
    def from_address(cls, address: Address) -> Self:
        """Make the source from a URI taken apart."""
        host, first, last = address.host_ports()
        setup = read_setup(address)
        return cls(
            host,
            first,
            last_port=last,
            payload_types=setup.payload_types,
            name=address.options.text("name"),
            options=setup.options,
            keys=setup.keys,
        )

    def counters(self) -> Mapping[str, Mapping[str, float]]:
        """Counters of the source and its streams; see :class:`streamdet.sources.base.Counted`."""
        return {} if self._port is None else self._port.counters()

    def items(self, stop: threading.Event) -> Iterator[Item]:
        """Yield every stream of the ports until stopped; see :class:`streamdet.sources.base.Source`."""
        with Receivers(self._host, self._ports) as receivers:
            port = self._port = RtpPort(
                self.name, receivers, self._payload_types, self._options, self._keys, many_ports=self._many_ports
            )
            yield port.life.update(f"waiting for RTP on {self.uri}")
            while not stop.is_set():
                ready = receivers.wait(port.patience(time.monotonic()))
                if ready:
                    yield from port.receive(ready)
                yield from port.tick(time.monotonic())
