"""A microphone, through PortAudio; it comes back by itself when the device or the sound server does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Final, Self
from urllib.parse import unquote

import numpy as np

from streamdet.audio.block import Block, Item, Phase, Status
from streamdet.audio.pcm import check_rate, to_mono
from streamdet.errors import SourceError
from streamdet.sources import portaudio
from streamdet.sources.address import Address, stream_name
from streamdet.sources.capture_queue import Chunk
from streamdet.sources.cleaner import Cleaner
from streamdet.sources.pace import Backoff, Quiet
from streamdet.sources.portaudio import Capture, Device, list_devices

__all__ = ["Device", "MicrophoneSource", "list_devices"]

POLL_SECONDS: Final = 0.25
FIRST_SECONDS: Final = 5.0  # PulseAudio may take two until the first callback
STALL_SECONDS: Final = 2.0  # no callback for this long: gone, whatever PortAudio says
REPEAT_SECONDS: Final = 60.0
LOSS_SECONDS: Final = 10.0
MOST_CHANNELS: Final = 8  # more are a sound server's offer to convert, not microphones


class MicrophoneSource:
    """A microphone: ``mic:`` (the default one), ``mic:2`` (by index), ``mic:NAME`` (by name, or a part of it).

    Options: ``rate`` and ``channels`` (the device's own where absent), ``channel`` (counted from 0; the mean of all
    where absent), ``wait`` (1: keep trying even where other microphones are there and this one is not), ``name``. Once
    heard, a device is known by its name, since indices change. Trouble of any kind is a ``recovering`` status and is
    retried for ever.
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
        name: str | None = None,
    ) -> None:
        self.uri = f"mic:{'' if device is None else device}"
        self.name = stream_name(name or ("mic" if device is None else f"mic-{device}"))
        self._device = device
        self._rate = None if rate is None else check_rate(rate)
        self._channels = channels
        self._channel = channel
        self._wait = wait
        self._known: Device | None = None

    @classmethod
    def from_address(cls, address: Address) -> Self:
        """Make the source from a URI taken apart.

        Raises:
            DependencyError: PortAudio is not installed.
        """
        portaudio.load()
        options = address.options
        device = unquote(address.rest.removeprefix("//"))
        return cls(
            int(device) if device.isdecimal() else device or None,
            rate=options.integer("rate", low=4000, high=768_000),
            channels=options.integer("channels", low=1, high=255),
            channel=options.integer("channel", low=0, high=254),
            wait=options.flag("wait"),
            name=options.text("name"),
        )

    def items(self, stop: threading.Event) -> Iterator[Item]:
        """Yield sound until stopped; see :class:`streamdet.sources.base.Source`.

        Raises:
            DependencyError: PortAudio is not installed.
            SourceError: there are microphones, but not this one (unless ``wait``).
        """
        self._check_known()
        yield Status(self.name, "connecting", f"opening {self._described()}")
        heard = _Hearing(self.name, self._channel)
        backoff = Backoff(first=0.5, limit=3.0)
        fresh = True
        while not stop.is_set():
            try:
                if not fresh:
                    portaudio.refresh()
                with closing(self._open()) as capture:
                    yield from heard.listen(capture, stop, backoff)
            except SourceError as error:
                yield from heard.complain(str(error))
            fresh = False
            stop.wait(backoff.delay())

    def _open(self) -> Capture:
        device = self._find(list_devices())
        if device is None:
            raise SourceError(f"there is no {self._described()}")
        self._known = device
        offered = device.channels if device.channels <= MOST_CHANNELS else 2
        channels = self._channels or max(offered, (self._channel or 0) + 1)
        return Capture(device, rate=self._rate or check_rate(device.rate), channels=channels)

    def _check_known(self) -> None:
        devices = list_devices()
        if devices and self._find(devices) is None and not self._wait:
            raise SourceError(f"there is no {self._described()}; there are {_listed(devices)}")

    def _find(self, devices: Sequence[Device]) -> Device | None:
        if self._known is not None:
            known = self._known  # of two of one name, the one where it was before
            same = [device for device in devices if (device.name, device.host_api) == (known.name, known.host_api)]
            return min(same, key=lambda device: abs(device.index - known.index), default=None)
        if self._device is None:
            default = portaudio.default_device()
            return next((device for device in devices if device.index == default), devices[0] if devices else None)
        if isinstance(self._device, int):
            return next((device for device in devices if device.index == self._device), None)
        return find_by_name(devices, self._device)

    def _described(self) -> str:
        if self._known is not None:
            return f"microphone {self._known.name!r}"
        return "microphone" if self._device is None else f"microphone {self._device!r}"


def find_by_name(devices: Sequence[Device], name: str) -> Device | None:
    """Find the device of that very name, or else the one whose name contains it; None where there is none.

    Raises:
        SourceError: several names contain it.
    """
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

    def __init__(self, name: str, channel: int | None) -> None:
        self._name = name
        self._channel = channel
        self._cleaner = Cleaner(name)
        self._phase: Phase = "connecting"
        self._last: float | None = None  # when sound last came
        self._counters = {"opened": 0, "xruns": 0, "dropped": 0, "lost_samples": 0}
        self._complaint = ""
        self._quiet = Quiet(REPEAT_SECONDS)
        self._loss_quiet = Quiet(LOSS_SECONDS)
        self._loss_told = 0

    def listen(self, capture: Capture, stop: threading.Event, backoff: Backoff) -> Iterator[Item]:
        """Yield sound until it stops coming."""
        self._counters["opened"] += 1
        heard = False
        while not stop.is_set():
            chunks = capture.queue.take(POLL_SECONDS)
            if chunks and not heard:
                heard = True
                backoff.reset()
                self._complaint = ""
                chunks[0] = self._after_outage(chunks[0], capture.rate)
                yield self._move("live", f"hearing {capture}")
            yield from self._blocks(chunks, capture.rate)
            yield from self._losses(capture, time.monotonic())
            if not chunks and self._is_gone(capture, heard=heard):
                yield self._move("recovering", f"no sound from {capture.device.name!r}")
                return

    def complain(self, reason: str) -> Iterator[Status]:
        """Yield a status for what failed, without repeating it."""
        if reason != self._complaint:
            self._complaint, self._quiet = reason, Quiet(REPEAT_SECONDS)
        if self._quiet.allows(time.monotonic()):
            yield self._move("connecting" if self._last is None else "recovering", reason)

    def _is_gone(self, capture: Capture, *, heard: bool) -> bool:
        limit = STALL_SECONDS if heard else FIRST_SECONDS
        return capture.stopped or capture.silent(time.monotonic()) > limit

    def _after_outage(self, chunk: Chunk, rate: int) -> Chunk:
        """Mark what was missed since the device was open last."""
        if self._last is None:
            return chunk
        missed = max(0, round((chunk.at - self._last) * rate) - len(chunk.samples))
        self._loss_told += missed  # being away was told already
        return replace(chunk, lost=chunk.lost + missed)

    def _blocks(self, chunks: Sequence[Chunk], rate: int) -> Iterator[Item]:
        begin = 0
        for i, chunk in enumerate(chunks):
            if chunk.lost and i > begin:
                yield self._block(chunks[begin:i], rate)
                begin = i
        if chunks:
            yield self._block(chunks[begin:], rate)
            yield from self._cleaner.report()

    def _block(self, chunks: Sequence[Chunk], rate: int) -> Block:
        samples = self._cleaner.take(np.concatenate([chunk.samples for chunk in chunks]))
        self._counters["lost_samples"] += chunks[0].lost
        self._last = chunks[-1].at
        mono = to_mono(samples, channel=self._channel)
        return Block(self._name, mono, rate, lost=chunks[0].lost, arrived=self._last)

    def _losses(self, capture: Capture, now: float) -> Iterator[Status]:
        self._counters["xruns"] += capture.take_xruns()
        self._counters["dropped"] += capture.queue.take_dropped()
        lost = self._counters["lost_samples"] - self._loss_told
        if (lost or self._phase == "degraded") and self._loss_quiet.allows(now):
            self._loss_told += lost
            phase: Phase = "degraded" if lost else "live"
            yield self._move(phase, f"{1e3 * lost / capture.rate:.0f} ms of sound were lost")

    def _move(self, phase: Phase, reason: str) -> Status:
        self._phase = phase
        detail = {**self._counters, "bad_samples": self._cleaner.bad_samples}
        return Status(self._name, phase, reason, dict(detail))
