"""From a URI to a source. A new kind of source is one new file here beside it, and one line in the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from streamdet.errors import SourceError
from streamdet.sources.address import Address, OptionValue, parse_address
from streamdet.sources.avstream import AvSource
from streamdet.sources.base import Source
from streamdet.sources.file import FileSource
from streamdet.sources.microphone import MicrophoneSource
from streamdet.sources.rtp import RtpSource
from streamdet.sources.stdin import StdinSource
from streamdet.sources.zeromq import ZmqSource

_MAKERS: Final[dict[str, Callable[[Address], Source]]] = {
    "file": FileSource.from_address,
    "http": AvSource.from_address,
    "https": AvSource.from_address,
    "mic": MicrophoneSource.from_address,
    "rtp": RtpSource.from_address,
    "rtsp": AvSource.from_address,
    "stdin": StdinSource.from_address,
    "zmq": ZmqSource.from_address,
}
SCHEMES: Final = tuple(_MAKERS)


def from_uri(uri: str, **options: OptionValue) -> Source:
    """Make a source from its URI; nothing is opened yet.

    ``mic:``, ``mic:2``, ``mic:NAME``, ``rtp://HOST:PORT``, ``rtsp://HOST/PATH``, ``http://HOST/PATH``,
    ``zmq://HOST:PORT``, ``file:PATH`` and ``-`` (standard input) take options as ``?key=value&...``; keyword arguments
    mean the same and win. All take ``name``. The classes list their options.

    Raises:
        SourceError: there is no such kind of source.
        ConfigError: an option is unknown or out of bounds.
        DependencyError: an option asks for a codec that is not installed.
    """
    address = parse_address(uri, options)
    maker = _MAKERS.get(address.scheme)
    if maker is None:
        raise SourceError(
            f"{address.uri!r}: no source is called {address.scheme!r}; there are {', '.join(SCHEMES)} and - (stdin)"
        )
    source = maker(address)
    address.options.finish()
    return source
