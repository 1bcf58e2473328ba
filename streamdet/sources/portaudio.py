"""PortAudio, each use of it in a process of its own, and never trusted to answer.

PortAudio reads the list of devices once, must be started anew to see what came or went, which stops every stream of its
process, and may hang in any call when a sound server dies (closing a stream after jackd was killed never returns). In a
process of its own a microphone harms no other, always sees the devices of now, and can be killed.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from streamdet.errors import DependencyError, SourceError
from streamdet.sources.child import Child, News, Record

MODULE: Final = "streamdet.sources.mic_child"
LIST_SECONDS: Final = 15.0  # to start a process and list devices, on a busy machine
POLL_SECONDS: Final = 0.1
MISSING: Final = {
    "PortAudio": (
        "microphones need PortAudio: apt install libportaudio2 libasound2-plugins (Debian, Ubuntu), "
        "dnf install portaudio (Fedora), pacman -S portaudio (Arch) or brew install portaudio (macOS)"
    ),
    "sounddevice": "microphones need the package sounddevice: pip install sounddevice",
}


@dataclass(frozen=True, slots=True)
class Device:
    """A microphone as PortAudio lists it; the index changes when devices come or go, the name does not."""

    index: int
    name: str
    host_api: str
    channels: int
    rate: int


@dataclass(frozen=True, slots=True)
class Listing:
    """The microphones of now, and the index of the one that the system records from by default."""

    devices: list[Device]
    default: int | None


class ListingError(SourceError):
    """PortAudio hangs while it looks for devices; a sound server that does not answer may be why."""


class Session:
    """A process with PortAudio that has listed the devices and may open one; use it with ``contextlib.closing``.

    Args:
        jack: whether to look for devices of JACK. To look for them is to wait for its server, which may hang.

    Raises:
        DependencyError: PortAudio is not installed; the text says how to install it.
        ListingError: it does not answer.
        SourceError: its process ended.
    """

    def __init__(self, *, jack: bool = True) -> None:
        self._child = Child(MODULE, {"jack": jack})
        try:
            self.listing = self._list()
        except BaseException:
            self._child.close()
            raise

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._child.pid

    @property
    def room(self) -> int:
        """Bytes that can wait to be taken; 0 where the system does not say."""
        return self._child.room

    def open(self, device: Device, *, rate: int, channels: int) -> None:
        """Begin to open a device; what comes of it comes from :meth:`take`."""
        self._child.tell({"index": device.index, "rate": rate, "channels": channels})

    def take(self, timeout: float) -> list[Record]:
        """Take what came, in order; wait up to ``timeout`` seconds where there is nothing yet.

        Raises:
            SourceError: the device could not be opened, the stream ended or the process did.
        """
        records = self._child.take(timeout)
        if not records and self._child.ended:
            raise SourceError(self._child.farewell())
        for record in records:
            if isinstance(record, News):
                _check(record.fields)
        return records

    def close(self) -> None:
        """End it at once, whatever it is doing."""
        self._child.close()

    def _list(self) -> Listing:
        until = time.monotonic() + LIST_SECONDS
        while time.monotonic() < until:
            for record in self.take(POLL_SECONDS):
                if isinstance(record, News) and "devices" in record.fields:
                    return _listing(record.fields)
        raise ListingError(f"PortAudio did not list the microphones within {LIST_SECONDS:g} s")


def list_devices() -> list[Device]:
    """List everything that can record, in PortAudio's order.

    Raises:
        DependencyError: PortAudio is not installed.
        SourceError: PortAudio does not answer.
    """
    with closing(Session()) as session:
        return session.listing.devices


def _check(news: dict[str, Any]) -> None:
    if "missing" in news:
        raise DependencyError(MISSING[news["missing"]])
    if "error" in news:
        raise SourceError(str(news["error"]))


def _listing(news: dict[str, Any]) -> Listing:
    return Listing([Device(**device) for device in news["devices"]], news["default"])
