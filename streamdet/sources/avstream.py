"""RTSP and HTTP streams, read by PyAV in a process of its own, since its demuxer may block for good."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Final, Self
from urllib.parse import quote, urlencode, urlsplit

import numpy as np

from streamdet.audio.block import Block, Item, Status
from streamdet.audio.pcm import check_rate, to_mono
from streamdet.errors import ConfigError, DependencyError, SourceError
from streamdet.sources.address import Address, masked, stream_name
from streamdet.sources.child import Child, Record, Sound
from streamdet.sources.cleaner import Cleaner
from streamdet.sources.lifecycle import LifeCycle
from streamdet.sources.pace import Backoff, Quiet

MODULE: Final = "streamdet.sources.av_child"
RETRY_SECONDS: Final = 2.0  # with the time that a process needs to start and to connect it may not take five
POLL_SECONDS: Final = 0.25
START_SECONDS: Final = 10.0  # for a process to come up on a busy machine, beside the time to connect
TOLERANCE_SECONDS: Final = 0.04  # by how much time stamps may stray from the samples; mp3 and containers round
BURST_SECONDS: Final = 2.0  # by how much they may run ahead of the clock on the wall
SHORT_SECONDS: Final = 1.0  # by how much a recording that a server plays may end before its length
REPORT_SECONDS: Final = 10.0
REPEAT_SECONDS: Final = 60.0


class AvSource:
    """A stream that a server gives: ``rtsp://HOST/PATH``, ``http://HOST/PATH``, ``https://HOST/PATH``.

    Options: ``channel`` (counted from 0; the mean of all where absent), ``open_timeout`` and ``read_timeout`` (s),
    ``transport`` (RTSP: ``tcp``, the default, or ``udp``), ``listen`` (RTSP: wait for a sender that announces itself),
    ``name``. What else the query holds belongs to the server. A user and a password before the host are sent to it and
    shown nowhere. A recording of known length ends; everything else is connected to again, for ever.
    """

    live = True

    def __init__(
        self,
        url: str,
        *,
        channel: int | None = None,
        open_timeout: float = 10.0,
        read_timeout: float = 5.0,
        transport: str = "tcp",
        listen: bool = False,
        name: str | None = None,
    ) -> None:
        parts = urlsplit(url)
        self.uri = masked(url.partition("?")[0]) + ("?***" if parts.query else "")
        self.name = stream_name(name or f"{parts.hostname}{parts.path}".replace("/", "-"))
        self._url = url
        self._secrets = [secret for secret in (parts.password, parts.query) if secret]
        self._channel = channel
        self._open_timeout = open_timeout
        self._read_timeout = read_timeout
        self._options = _ffmpeg_options(parts.scheme, transport, listen=listen, open_timeout=open_timeout)
        self._resumes = parts.scheme == "rtsp"
        self._hearing = self._new_hearing()

    @classmethod
    def from_address(cls, address: Address) -> Self:
        """Make the source from a URI taken apart.

        Raises:
            ConfigError: there is no host.
            DependencyError: PyAV is not installed.
        """
        if importlib.util.find_spec("av") is None:
            raise DependencyError(f"{address.scheme}:// needs PyAV: pip install 'streamdet[rtp]'")
        options, rtsp = address.options, address.scheme == "rtsp"
        known = {
            "channel": options.integer("channel", low=0, high=254),
            "open_timeout": options.number("open_timeout", 10, low=1, high=600),
            "read_timeout": options.number("read_timeout", 5, low=1, high=600),
            "transport": options.choice("transport", ("tcp", "udp"), "tcp") if rtsp else "tcp",
            "listen": options.flag("listen") if rtsp else False,
            "name": options.text("name"),
        }
        query = urlencode(options.rest(), quote_via=quote)
        url = f"{address.scheme}:{address.rest}{'?' + query if query else ''}"
        if not address.rest.startswith("//") or not urlsplit(url).hostname:
            raise ConfigError(f"{address.uri}: expected {address.scheme}://HOST/PATH")
        return cls(url, **known)  # type: ignore[arg-type]

    def counters(self) -> Mapping[str, Mapping[str, float]]:
        """Counters of the stream; see :class:`streamdet.sources.base.Counted`.

        ``opened`` counts connections, ``kills`` processes that hung, ``jumps`` steps of the time stamps that no clock
        supports, such as a sender's new start.
        """
        return {self.name: self._hearing.counters()}

    def items(self, stop: threading.Event) -> Iterator[Item]:
        """Yield sound until stopped, or until a recording ends; see :class:`streamdet.sources.base.Source`."""
        heard = self._hearing = self._new_hearing()
        yield heard.life.move("connecting", f"opening {self.uri}")
        backoff = Backoff(first=0.5, limit=RETRY_SECONDS)
        while not stop.is_set():
            try:
                with closing(self._start()) as child:
                    yield from self._hear(child, heard, stop, backoff)
            except SourceError as error:
                yield from heard.complain(self._clean(str(error)))
            if heard.over:
                yield heard.life.end("end of the recording")
                return
            stop.wait(backoff.delay())

    def _new_hearing(self) -> _Hearing:
        return _Hearing(self.name, self._channel, resumes=self._resumes)

    def _start(self) -> Child:
        # libavformat's own limits are the inner ones: an error that says why is worth more than a kill.
        arguments = {
            "url": self._url,
            "options": self._options,
            "open_timeout": self._open_timeout,
            "read_timeout": self._read_timeout,
        }
        return Child(MODULE, arguments)

    def _hear(self, child: Child, heard: _Hearing, stop: threading.Event, backoff: Backoff) -> Iterator[Item]:
        heard.connect()
        since, limit = time.monotonic(), START_SECONDS + self._open_timeout
        while not stop.is_set() and not heard.over:
            records = child.take(POLL_SECONDS)
            now = time.monotonic()
            for record in records:
                yield from heard.take(record)
                if isinstance(record, Sound):
                    backoff.reset()
                    limit = self._read_timeout
            if records:
                since = now
            elif child.ended:
                raise SourceError(child.farewell())
            elif now - since > limit + POLL_SECONDS:
                heard.counts["kills"] += 1
                raise SourceError(f"nothing came for {now - since:.0f} s")
            yield from heard.report(now)

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return masked(text)


def _ffmpeg_options(scheme: str, transport: str, *, listen: bool, open_timeout: float) -> dict[str, str]:
    if scheme != "rtsp":
        return {"user_agent": "streamdet"}
    options = {"rtsp_transport": transport, "allowed_media_types": "audio"}
    if listen:
        options |= {"rtsp_flags": "listen", "listen_timeout": str(round(open_timeout))}
    return options


class _Hearing:
    """What one address has given so far, over all connections."""

    def __init__(self, name: str, channel: int | None, *, resumes: bool) -> None:
        self.life = LifeCycle(name)
        self.counts = dict.fromkeys(("opened", "kills", "jumps", "damaged", "received_samples", "lost_samples"), 0)
        self.over = False
        self._channel = channel
        self._cleaner = Cleaner()
        self._rate = self._channels = 0
        self._expected: int | None = None
        self._last: float | None = None  # when sound last came
        self._codec = ""
        self._seconds: float | None = None  # that it says it lasts
        self._resumes = resumes
        self._complaint = ""
        self._quiet = Quiet(REPEAT_SECONDS)
        self._report_at = 0.0
        self._told = 0

    def connect(self) -> None:
        """Begin anew: a connection has time stamps of its own."""
        self._expected = None
        self.counts["opened"] += 1

    def take(self, record: Record) -> Iterator[Item]:
        """Yield what a record of the child means.

        Raises:
            SourceError: the child gave up, or the stream is over and has to be opened again.
        """
        if isinstance(record, Sound):
            yield from self._sound(record)
            return
        news = record.fields
        if "error" in news:
            raise SourceError(str(news["error"]))
        if "rate" in news:
            self._rate, self._channels = check_rate(news["rate"]), news["channels"]
            self._codec, self._seconds = news["codec"], news["seconds"]
        self.counts["damaged"] += "damaged" in news
        if "over" in news:
            self._finish(news["over"])

    def _finish(self, reached: float) -> None:
        """End with a recording; one that a server plays and does not finish is connected to again.

        Raises:
            SourceError: it was no recording, or not the end of it.
        """
        if self._seconds is None:
            raise SourceError("the stream ended")
        if self._resumes and self._seconds - reached > SHORT_SECONDS:
            raise SourceError(f"the stream ended after {reached:.0f} s of {self._seconds:.0f} s")
        self.over = True

    def complain(self, reason: str) -> Iterator[Status]:
        """Yield a status for what failed, without repeating it."""
        if reason != self._complaint:
            self._complaint, self._quiet = reason, Quiet(REPEAT_SECONDS)
        phase = self.life.phase
        moves = phase in ("live", "degraded")
        if self._quiet.allows(time.monotonic()) or moves:
            yield (
                self.life.move("recovering", reason, self._detail())
                if moves
                else self.life.update(reason, self._detail())
            )

    def report(self, now: float) -> Iterator[Status]:
        """Yield what was lost since the last report."""
        if now < self._report_at or self.life.phase not in ("live", "degraded"):
            return
        bad = self.counts["lost_samples"] + self.counts["damaged"] + self._cleaner.bad_samples
        if bad > self._told:
            reason = f"{1e3 * self.counts['lost_samples'] / self._rate:.0f} ms of sound were lost until now"
            yield self.life.move("degraded", reason, self._detail())
        elif self.life.phase == "degraded":
            yield self.life.move("live", "nothing was lost lately", self._detail())
        else:
            return
        self._told, self._report_at = bad, now + REPORT_SECONDS

    def counters(self) -> dict[str, float]:
        """Count what happened."""
        return {**self.counts, "bad_samples": self._cleaner.bad_samples, **self.life.counters()}

    def _sound(self, record: Sound) -> Iterator[Item]:
        samples = np.frombuffer(record.data, np.float32).reshape(-1, self._channels)
        lost = self._lost(record, len(samples))
        if self.life.phase in ("connecting", "recovering"):
            self._complaint = ""
            reason = f"hearing {self._codec} at {self._rate} Hz, {self._channels} channel(s)"
            yield self.life.move("live", reason, self._detail())
        self.counts["received_samples"] += len(samples)
        self.counts["lost_samples"] += lost
        self._last = record.at
        mono = to_mono(self._cleaner.take(samples), channel=self._channel)
        yield Block(self.life.stream, mono, self._rate, lost=lost, arrived=record.at)

    def _lost(self, record: Sound, count: int) -> int:
        """Count the samples missing before a record, by its position; after a jump or an outage by the clock."""
        expected, self._expected = self._expected, record.position + count
        away = 0 if self._last is None else max(0, round((record.at - self._last) * self._rate) - count)
        if expected is None:
            return away
        step = record.position - expected
        if abs(step) <= TOLERANCE_SECONDS * self._rate:
            self._expected = expected + count  # let small errors add up instead of following them
            return 0
        if 0 < step <= away + BURST_SECONDS * self._rate:
            return step
        self.counts["jumps"] += 1
        return away

    def _detail(self) -> dict[str, float | int | str]:
        return {**self.counts, "bad_samples": self._cleaner.bad_samples}
