"""The HTTP server in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from streamdet.errors import ConfigError, SinkError
from streamdet.web.address import Address

START_SECONDS = 10.0
STOP_SECONDS = 3.0


class Server:
    """Serves ``app`` on a socket that is open already.

    Raises:
        SinkError: the address cannot be used.
        ConfigError: certificate or key cannot be read.
    """

    def __init__(self, address: Address, certificate: Path | None, key: Path | None, *, limit: int) -> None:
        check_certificate(certificate, key)
        self._socket = address.bind()
        self.address = Address(address.host, self._socket.getsockname()[1])
        self._certificate, self._key = certificate, key
        self._limit = limit
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return self._certificate is not None

    def start(self, app: ASGIApp) -> None:
        """Begin to serve; returns once requests are answered.

        Raises:
            SinkError: the server does not come up.
        """
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # the application logs its own errors
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=self._limit,
            timeout_graceful_shutdown=1,
            ssl_certfile=self._certificate,
            ssl_keyfile=self._key,
        )
        self._server = server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, args=(server,), name="page", daemon=True)
        up = threading.Event()
        self._up = up
        self._thread.start()
        if not up.wait(START_SECONDS):
            raise SinkError("web: the page's server did not start")

    def _run(self, server: uvicorn.Server) -> None:
        asyncio.run(self._serve(server))

    async def _serve(self, server: uvicorn.Server) -> None:
        self._loop = asyncio.get_running_loop()
        told = asyncio.create_task(self._tell(server))
        await server.serve(sockets=[self._socket])
        told.cancel()

    async def _tell(self, server: uvicorn.Server) -> None:
        while not server.started:
            await asyncio.sleep(0.01)
        self._up.set()

    def call(self, work: Callable[[], None]) -> None:
        """Have ``work`` done on the server's thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(work)

    def close(self) -> None:
        """Stop serving; what is being sent has a second to get there."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(STOP_SECONDS)
        self._socket.close()


def check_certificate(certificate: Path | None, key: Path | None) -> None:
    """Try whether certificate and key can be used.

    Raises:
        ConfigError: they cannot.
    """
    if certificate is None:
        if key is not None:
            raise ConfigError("web: key is given without certificate")
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"web: cannot use certificate {certificate} with key {key}: {error}") from error
