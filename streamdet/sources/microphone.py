"""A microphone, through PortAudio; it comes back by itself when the device or the sound server does."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Final, Self
from urllib.parse import unquote

import numpy as np
import structlog

from streamdet.audio.block import Block, Item, Status
from streamdet.audio.pcm import check_rate, to_mono
from streamdet.errors import SourceError
from streamdet.sources.address import Address, stream_name
from streamdet.sources.cards import Card, card_of, is_token, masked_token, read_cards, same_card
from streamdet.sources.child import Record, Sound
from streamdet.sources.cleaner import Cleaner
from streamdet.sources.drift import DriftMeter
from streamdet.sources.lifecycle import LifeCycle
from streamdet.sources.mic_child import CHUNK_SECONDS
from streamdet.sources.pace import Backoff, Quiet
from streamdet.sources.portaudio import Device, Listing, ListingError, Session, list_devices
from streamdet.sources.sample_clock import SampleClock

__all__ = ["Device", "MicrophoneSource", "find_by_name", "list_devices"]

log = structlog.get_logger(__name__)

POLL_SECONDS: Final = 0.25
SLACK_SECONDS: Final = 0.001  # by which a chunk may miss the end of a hop: its resampler rounds
FIRST_SECONDS: Final = 3.0  # PulseAudio may take two until the first callback
MOST_FIRST_SECONDS: Final = 10.0  # on a machine that has been seen to need them
RETRY_SECONDS: Final = 2.0  # a try costs 0.1 s of a processor; with the first callback it may not take five
SETTLE_SECONDS: Final = 0.4  # of a device's first sound is looked at together
STALL_SECONDS: Final = 2.0  # no callback for this long: gone, whatever PortAudio says
REPEAT_SECONDS: Final = 60.0
LOSS_SECONDS: Final = 10.0
MOST_CHANNELS: Final = 8  # more are a sound server's offer to convert, not microphones
HOSTS: Final = {"alsa": "alsa", "jack": "jack", "pulse": "pulse", "oss": "oss", "coreaudio": "core audio"}


class MicrophoneSource:
    """A microphone: ``mic:`` (the default one), ``mic:2`` (by index), ``mic:NAME`` (by name, or a part of it).

    ``mic:alsa:NAME`` looks among one host API's devices alone (``alsa``, ``jack``, ``pulse``, ``oss``, ``coreaudio``).
    ``mic:usb:1-1.2`` is what is plugged into that port, ``mic:usb:046d:0825`` or ``mic:usb:046d:0825:SERIAL`` what it
    is; see :mod:`streamdet.sources.cards`.

    Options: ``rate`` and ``channels`` (the device's own where absent), ``channel`` (counted from 0; the mean of all
    where absent), ``wait`` (1: keep trying even where other microphones are there and this one is not), ``drift`` (0:
    do not make up for a sound card's wrong clock), ``name``. Once heard, a device is known by its name, since indices
    change. Trouble of any kind is a ``recovering`` status and is retried for ever.
    """

    live = True

    def __init__(
        self,
        device: int | str | None = None,
        *,
        rate: int | None = None,
        channels: int | None = None,
        channel: int | None = None,
        wait: bool = False,
        drift: bool = True,
        name: str | None = None,
    ) -> None:
        if isinstance(device, str) and is_token(device):
            device = masked_token(device)
        self.uri = f"mic:{'' if device is None else device}"
        self.name = stream_name(name or ("mic" if device is None else f"mic-{device}"))
        self._device = device
        self._rate = None if rate is None else check_rate(rate)
        self._channels = channels
        self._channel = channel
        self._wait = wait
        self._drift = drift
        self._known: Device | None = None
        self._jack_hangs = False
        self._hearing = _Hearing(self.name, channel, drift=drift)

    @classmethod
    def from_address(cls, address: Address) -> Self:
        """Make the source from a URI taken apart."""
        options = address.options
        device = unquote(address.rest.removeprefix("//"))
        return cls(
            int(device) if device.isdecimal() else device or None,
            rate=options.integer("rate", low=4000, high=768_000),
            channels=options.integer("channels", low=1, high=255),
            channel=options.integer("channel", low=0, high=254),
            wait=options.flag("wait"),
            drift=options.flag("drift", default=True),
            name=options.text("name"),
        )

    def counters(self) -> Mapping[str, Mapping[str, float]]:
        """Counters of the microphone; see :class:`streamdet.sources.base.Counted`.

        ``drift_ppm`` is by how many millionths its clock is fast, once that is known; ``offset_ms`` by how much real
        time is ahead of media time.
        """
        return {self.name: self._hearing.counters()}

    def expect(self, seconds: float) -> None:
        """Take in sound in larger pieces until so much has come; see :class:`streamdet.sources.base.Unhurried`."""
        self._hearing.wanted = seconds

    def items(self, stop: threading.Event) -> Iterator[Item]:
        """Yield sound until stopped; see :class:`streamdet.sources.base.Source`.

        Raises:
            DependencyError: PortAudio is not installed.
            SourceError: there are microphones, but not this one (unless ``wait``).
        """
        heard = self._hearing = _Hearing(self.name, self._channel, drift=self._drift)
        yield heard.life.move("connecting", f"opening {self._described()}")
        backoff = Backoff(first=0.5, limit=RETRY_SECONDS)
        picky = not self._wait
        while not stop.is_set():
            try:
                with closing(Session(jack=self._looks_at_jack())) as session:
                    device = self._choose(session.listing, picky=picky and not self._jack_hangs)
                    picky = False
                    way = _Way(device, self._rate or check_rate(device.rate), self._channels_of(device))
                    session.open(device, rate=way.rate, channels=way.channels)
                    yield from heard.listen(session, way, stop, backoff)
            except _NotThereError:
                raise
            except ListingError as error:
                yield from heard.complain(f"{error}{self._turn_from_jack()}")
            except SourceError as error:
                yield from heard.complain(str(error))
            stop.wait(backoff.delay())

    def _choose(self, listing: Listing, *, picky: bool) -> Device:
        device = self._find(listing)
        if device is not None:
            self._known = device
            return device
        absent = f"there is no {self._described()}"
        if not listing.devices:
            raise SourceError(f"{absent}, nor any other; `streamdet devices --explain` looks for the reason")
        absent += f"; there are {_listed(listing.devices)}"
        if picky:
            raise _NotThereError(f"{absent}; to wait for it say --source '{self.uri}?wait=1'")
        raise SourceError(absent)

    def _turn_from_jack(self) -> str:
        """Leave JACK out of the next listing where it may be what hangs, or look there again; says which it is."""
        self._jack_hangs = not self._jack_hangs and self._looks_at_jack() and not self._is_of_jack()
        return "; looking without JACK, whose server may be what hangs" if self._jack_hangs else ""

    def _is_of_jack(self) -> bool:
        if self._known is not None:
            return HOSTS["jack"] in self._known.host_api.casefold()
        return str(self._device).casefold().startswith("jack:")

    def _looks_at_jack(self) -> bool:
        """Tell whether the device may be one of JACK, whose trouble shall be that of no other."""
        if self._jack_hangs:
            return False
        if self._known is not None:
            return self._is_of_jack()
        asked = str(self._device).casefold()
        return not asked.startswith(tuple(f"{host}:" for host in (*HOSTS, "usb") if host != "jack"))

    def _channels_of(self, device: Device) -> int:
        offered = device.channels if device.channels <= MOST_CHANNELS else 2
        return self._channels or max(offered, (self._channel or 0) + 1)

    def _find(self, listing: Listing) -> Device | None:
        devices, wanted = listing.devices, self._device
        if isinstance(wanted, str) and is_token(wanted):
            return find_by_token(devices, wanted, read_cards())
        if self._known is not None:
            known = self._known  # of two of one name, the one where it was before
            same = [device for device in devices if (device.name, device.host_api) == (known.name, known.host_api)]
            return min(same, key=lambda device: abs(device.index - known.index), default=None)
        if wanted is None:
            return next((d for d in devices if d.index == listing.default), devices[0] if devices else None)
        if isinstance(wanted, int):
            return next((device for device in devices if device.index == wanted), None)
        return find_by_name(devices, wanted)

    def _described(self) -> str:
        if self._known is not None:
            return f"microphone {self._known.name!r}"
        return "microphone" if self._device is None else f"microphone {self._device!r}"


@dataclass(frozen=True, slots=True)
class _Way:
    """A device, and how it is opened."""

    device: Device
    rate: int
    channels: int

    def __str__(self) -> str:
        return f"{self.device.name!r} ({self.device.host_api}) at {self.rate} Hz, {self.channels} channel(s)"

    @property
    def bytes_a_second(self) -> int:
        """Interleaved float32."""
        return 4 * self.channels * self.rate

    def frames(self, sound: Sound) -> int:
        """Count the samples of one channel."""
        return len(sound.data) // (4 * self.channels)


class _NotThereError(SourceError):
    """There are microphones, but not the one that was asked for: rather a wrong name than one that comes later."""


def find_by_token(devices: Sequence[Device], token: str, cards: Mapping[int, Card]) -> Device | None:
    """Find the first device of the card that a token means; None where there is none."""
    for device in devices:
        card = cards.get(-1 if (number := card_of(device.name)) is None else number)
        if card is not None and same_card(card, token):
            return device
    return None


def find_by_name(devices: Sequence[Device], name: str) -> Device | None:
    """Find the device of that very name, or else the one whose name contains it; None where there is none.

    A host API and a colon before the name, as in ``alsa:USB``, look among its devices alone.

    Raises:
        SourceError: several names contain it.
    """
    host, _, rest = name.partition(":")
    if rest and host.casefold() in HOSTS and not any(device.name.casefold() == name.casefold() for device in devices):
        devices = [device for device in devices if HOSTS[host.casefold()] in device.host_api.casefold()]
        name = rest
    wanted = name.casefold()
    exact = [device for device in devices if device.name.casefold() == wanted]
    found = exact or [device for device in devices if wanted in device.name.casefold()]
    if len(found) > 1 and not exact:
        raise SourceError(f"several microphones match {name!r}: {_listed(found)}; give more of the name")
    return found[0] if found else None


def _listed(devices: Sequence[Device]) -> str:
    return ", ".join(f"{device.index} {device.name!r}" for device in devices)


class _Hearing:
    """What one microphone has given so far, over all the times it was opened."""

    def __init__(self, name: str, channel: int | None, *, drift: bool) -> None:
        self.life = LifeCycle(name)
        self._channel = channel
        self._cleaner = Cleaner()
        self._last: float | None = None  # when sound last came
        self._counts = dict.fromkeys(("opened", "xruns", "dropped", "received_samples", "lost_samples", "stalls"), 0)
        self._correct = drift
        self._rate = 0
        self._clock = SampleClock(1)
        self._meter = DriftMeter(1)
        self._position = self._owed = 0
        self._patience = FIRST_SECONDS  # with a device that was opened and gave no sound yet
        self._complaint = ""
        self._quiet = Quiet(REPEAT_SECONDS)
        self._log_quiet = Quiet(REPEAT_SECONDS)
        self._loss_quiet = Quiet(LOSS_SECONDS)
        self._told = 0
        self.wanted = 0.0  # seconds of sound until a hop is complete

    def listen(self, session: Session, way: _Way, stop: threading.Event, backoff: Backoff) -> Iterator[Item]:
        """Yield sound until it stops coming.

        Raises:
            SourceError: it stopped, or never came.
        """
        self._begin(way)
        begun = since = time.monotonic()
        heard = False
        first = list[Sound]()
        while not stop.is_set():
            self._nap(way, session.room // 2, stop)
            chunks = self._sounds(session.take(POLL_SECONDS))
            now = time.monotonic()
            if chunks and not heard:
                first += chunks
                chunks = first if first[-1].at - first[0].at >= SETTLE_SECONDS else []
                since = now
            if chunks:
                missed = 0 if heard else self._missed(chunks, way)
                if not heard:
                    heard, self._complaint = True, ""
                    self._patience = min(max(FIRST_SECONDS, 2 * (chunks[0].at - begun)), MOST_FIRST_SECONDS)
                    backoff.reset()
                    yield self.life.move("live", f"hearing {way}", self._detail())
                yield from self._blocks(chunks, way, missed)
                yield from self._losses(now)
                since = now
            elif now - since > (STALL_SECONDS if heard else self._patience):
                self._counts["stalls"] += 1
                if not heard:
                    self._patience = min(1.5 * self._patience, MOST_FIRST_SECONDS)
                raise SourceError(f"no sound from {way.device.name!r}")

    def _nap(self, way: _Way, room: int, stop: threading.Event) -> None:
        """Leave sound in the pipe until just before the chunk that completes a hop, or until ``room`` bytes are in it.

        Never where we are behind: then what is wanted has come already.
        """
        chunks, self.wanted = math.ceil((self.wanted - SLACK_SECONDS) / CHUNK_SECONDS), 0.0
        waiting = time.monotonic() - self._last if self._last is not None else 0.0  # seconds of sound, in the pipe
        if (left := (chunks - 0.5) * CHUNK_SECONDS - waiting) > 0:
            stop.wait(min(left, room / way.bytes_a_second))

    def _begin(self, way: _Way) -> None:
        if way.rate == self._rate:
            self._owed += self._clock.owed
        drift = self._meter.drift if way.rate == self._rate else None
        self._rate, self._clock, self._meter = way.rate, SampleClock(way.rate), DriftMeter(way.rate, drift)
        self._position = 0
        self._counts["opened"] += 1

    def complain(self, reason: str) -> Iterator[Status]:
        """Yield a status for what failed, without repeating it; the log says that what never came is waited for."""
        if self.life.phase == "connecting" and self._log_quiet.allows(time.monotonic()):
            log.warning(f"waiting: {reason}; Ctrl-C stops waiting", stream=self.life.stream)
        if reason != self._complaint:
            self._complaint, self._quiet = reason, Quiet(REPEAT_SECONDS)
        moves = self.life.phase in ("live", "degraded")
        if self._quiet.allows(time.monotonic()) or moves:
            say = self.life.update if not moves else partial(self.life.move, "recovering")
            yield say(reason, self._detail())

    def counters(self) -> dict[str, float]:
        """Count what happened, for metrics."""
        return {**self._measures(), **self.life.counters()}

    def _sounds(self, records: list[Record]) -> list[Sound]:
        for record in records:
            if not isinstance(record, Sound) and "xruns" in record.fields:
                self._counts["xruns"] += 1
        return [record for record in records if isinstance(record, Sound)]

    def _missed(self, chunks: Sequence[Sound], way: _Way) -> int:
        """Count the samples of the time since the device was open last; being away was told already.

        A device begins with a burst of what it held until somebody listened: the least late of the first chunks tells
        when its sound really began.
        """
        if self._last is None:
            return 0
        begun = min(chunk.at - (chunk.position + way.frames(chunk)) / way.rate for chunk in chunks)
        missed = max(0, round((begun - self._last) * way.rate)) + self._owed
        self._owed = 0
        self._told += missed
        return missed

    def _blocks(self, chunks: Sequence[Sound], way: _Way, missed: int) -> Iterator[Block]:
        """Make blocks that each begin where something is missing."""
        lost, run = missed, list[Sound]()
        for chunk in chunks:
            count = way.frames(chunk)
            dropped = chunk.position - self._position  # the process beside us had no room
            found = self._clock.add(dropped + count, chunk.at)  # the device or its driver had none
            self._meter.add(dropped + found + count, chunk.at)
            self._counts["dropped"] += dropped
            self._position = chunk.position + count
            if dropped + found and run:
                yield self._block(run, way, lost)
                lost, run = 0, []
            lost += dropped + found
            run.append(chunk)
        yield self._block(run, way, lost)

    def _block(self, run: Sequence[Sound], way: _Way, lost: int) -> Block:
        samples = np.frombuffer(b"".join(chunk.data for chunk in run), np.float32).reshape(-1, way.channels)
        mono = to_mono(self._cleaner.take(samples), channel=self._channel)
        self._counts["received_samples"] += len(mono)
        self._counts["lost_samples"] += lost
        self._last = run[-1].at
        drift = self._meter.correction if self._correct else None
        return Block(self.life.stream, mono, way.rate, lost=lost, arrived=self._last, drift=drift)

    def _losses(self, now: float) -> Iterator[Status]:
        bad = self._counts["lost_samples"] + self._cleaner.bad_samples
        news = bad - self._told
        if (news or self.life.phase == "degraded") and self._loss_quiet.allows(now):
            self._told = bad
            reason = f"{1e3 * news / self._rate:.0f} ms of sound were lost or no numbers"
            yield self.life.move("degraded" if news else "live", reason, self._detail())

    def _measures(self) -> dict[str, float]:
        more = {} if self._meter.drift is None else {"drift_ppm": round(self._meter.drift, 1)}
        offset = round(1e3 * self._meter.offset, 2)
        return {**self._counts, **more, "offset_ms": offset, "bad_samples": self._cleaner.bad_samples}

    def _detail(self) -> dict[str, float | int | str]:
        return dict(self._measures())
