"""Alerts and states to a web service: signed, tried again until it takes them, set aside when that is hopeless."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import SplitResult, urlsplit

from streamdet.config import WebhookSection
from streamdet.delivery.courier import Courier, NotDelivered
from streamdet.delivery.outbox import Outbox, Parcel
from streamdet.errors import ConfigError
from streamdet.events import Event

LATER = (408, 409, 425, 429)  # answers below 500 after which the same request may succeed
MOST_REST = 3600.0


def sign(secret: bytes, timestamp: int, body: bytes) -> str:
    """Signature of a body, the way receivers check it: HMAC-SHA256 (RFC 2104) of ``<timestamp>.<body>``, in hex.

    The time inside stops an old request from being sent again.
    """
    return hmac.new(secret, f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


class WebhookSink:
    """Posts events as JSON, one a request, in order; at least once, with a key by which repeats are known.

    Headers: ``Idempotency-Key`` (stream and ``seq``), and with a secret ``Streamdet-Signature: t=SECONDS,v1=HEX``.

    Args:
        config: where to and how.
        outbox: keeps what is to be posted.
        number: which of the webhooks to this host it is, for its name. The path would tell them apart too, but it is
            often a secret, and names are in metrics and logs.
        clock: seconds since the epoch.

    Raises:
        ConfigError: the address is none, or the secret cannot be read.
        SinkError: the outbox cannot be opened.
    """

    def __init__(
        self, config: WebhookSection, outbox: Outbox, *, number: int = 1, clock: Callable[[], float] = time.time
    ) -> None:
        self._url = _checked(config.url)
        self._secret = _secret(config)
        self._kinds = frozenset(config.events)
        self._timeout = config.timeout
        self._clock = clock
        self.name = f"webhook-{self._url.hostname}" + (f"-{number}" if number > 1 else "")
        self.courier = Courier(
            self.name, outbox, self._post, patience=3600.0 * config.keep_hours, longest_rest=config.longest_rest
        )
        self.courier.start()

    def emit(self, event: Event, payload: bytes) -> None:
        """Keep one event for delivery, if it is of a kind that is wanted."""
        if event.type in self._kinds:
            self.courier.outbox.put(f"{event.stream}/{event.seq}", payload)

    def close(self) -> None:
        """Deliver what a healthy service takes at once; the rest waits on disk."""
        self.courier.close()

    def _post(self, parcel: Parcel) -> None:
        connection = self._connect()
        try:
            connection.request("POST", self._path, parcel.payload, self._headers(parcel))
            answer = connection.getresponse()
            answer.read(4096)
        except (OSError, HTTPException) as error:
            raise NotDelivered(f"{self._url.hostname}: {error or type(error).__name__}") from error
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            hopeless = answer.status < 500 and answer.status not in LATER
            rest = _rest(answer.headers.get("Retry-After"), self._clock())
            raise NotDelivered(f"{self._url.hostname} says {answer.status}", hopeless=hopeless, rest=rest)

    def _connect(self) -> HTTPConnection:
        kind = HTTPSConnection if self._url.scheme == "https" else HTTPConnection
        return kind(self._url.hostname or "", self._url.port, timeout=self._timeout)

    @property
    def _path(self) -> str:
        return (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")

    def _headers(self, parcel: Parcel) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": "streamdet", "Idempotency-Key": parcel.key}
        if self._secret is not None:
            now = int(self._clock())
            headers["Streamdet-Signature"] = f"t={now},v1={sign(self._secret, now, parcel.payload)}"
        return {name: value.encode("latin-1", "replace").decode("latin-1") for name, value in headers.items()}


def _checked(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"webhook: {url!r} is no http:// or https:// address")
    return parts


def _secret(config: WebhookSection) -> bytes | None:
    if config.secret_file is None:
        return None
    try:
        secret = config.secret_file.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"webhook: cannot read the secret in {config.secret_file}: {error.strerror}") from error
    if len(secret) < 16:
        raise ConfigError(f"webhook: the secret in {config.secret_file} is shorter than 16 bytes; make a longer one")
    return secret


def _rest(value: str | None, now: float) -> float:
    """Seconds that a Retry-After header (RFC 9110, section 10.2.3) asks for, an hour at most."""
    if value is None:
        return 0.0
    try:
        seconds = float(value) if value.strip().isdigit() else parsedate_to_datetime(value).timestamp() - now
    except (TypeError, ValueError):
        return 0.0
    return min(max(0.0, seconds), MOST_REST)
