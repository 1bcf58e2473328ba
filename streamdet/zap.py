"""Lets in who has a known key: the ZeroMQ authentication protocol (ZAP, https://rfc.zeromq.org/spec/27/)."""

from __future__ import annotations

import threading
from typing import Final, Self

import structlog
import zmq
from zmq.utils.monitor import recv_monitor_message

from streamdet.errors import ConfigError
from streamdet.keys import KeyRing

log = structlog.get_logger(__name__)
DOMAIN: Final = b"streamdet"
WHERE: Final = "inproc://zeromq.zap.01"
POLL_MS: Final = 200
FAILURES: Final = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


class Doorkeeper:
    """Guards all sockets of one context that are handed to :meth:`guard`, in a thread of its own.

    ``refused`` counts handshakes that failed: by a key that is not known, by none at all, or by one meant for another
    server. Keys that are added to or taken from the directory count at once for whoever connects from then on.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], ring: KeyRing) -> None:
        self.refused = 0
        self._ring = ring
        self._socket = context.socket(zmq.REP)
        self._socket.set(zmq.LINGER, 0)
        self._socket.bind(WHERE)
        self._monitors: list[zmq.Socket[bytes]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="doorkeeper", daemon=True)

    def guard(self, socket: zmq.Socket[bytes], *, watch: bool = True) -> None:
        """Let only known keys in; call it before :meth:`start` and before the socket is bound.

        A socket has one monitor: who has it already says ``watch=False`` and counts failed handshakes itself.
        """
        socket.curve_server = True
        socket.curve_secretkey = self._ring.server.secret
        socket.zap_domain = DOMAIN  # without one, libzmq asks nobody and lets everyone in
        if watch:
            self._monitors.append(socket.get_monitor_socket(FAILURES))

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop; call it before the context is terminated."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()
        for socket in (self._socket, *self._monitors):
            socket.close(linger=0)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        poller = zmq.Poller()
        for socket in (self._socket, *self._monitors):
            poller.register(socket, zmq.POLLIN)
        while not self._stopped.is_set():
            for socket, _ in poller.poll(POLL_MS):
                if socket is self._socket:
                    self._judge(self._socket.recv_multipart())
                else:
                    event = recv_monitor_message(socket)
                    self._refuse("no CURVE, or the key of another server", str(event["endpoint"].decode()))

    def _judge(self, frames: list[bytes]) -> None:
        version, request, domain, address, _, mechanism, *credentials = frames
        name = None
        if version == b"1.0" and domain == DOMAIN and mechanism == b"CURVE" and len(credentials) == 1:
            name = self._find(zmq.utils.z85.encode(credentials[0]))
        if name is None:
            self._refuse("unknown key", address.decode(errors="replace"))
            self._socket.send_multipart([b"1.0", request, b"400", b"unknown key", b"", b""])
        else:
            self._socket.send_multipart([b"1.0", request, b"200", b"OK", name.encode(), b""])

    def _find(self, key: bytes) -> str | None:
        try:
            return self._ring.allowed().get(key)
        except (ConfigError, OSError) as error:  # when in doubt, nobody comes in
            log.error("keys_unreadable", reason=str(error))
            return None

    def _refuse(self, why: str, address: str) -> None:
        self.refused += 1
        if self.refused & (self.refused - 1) == 0:  # a client that tries again and again must not flood the log
            log.warning("connection_refused", why=why, address=address, refused=self.refused)
