"""What the payload types of RTP packets mean by RFC 3551, and what else they may be said to mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from streamdet.audio.codecs import Encoding
from streamdet.audio.pcm import check_rate
from streamdet.errors import FormatError

PayloadTypes = Mapping[int, Encoding]

# RFC 3551 table 4, as far as there is a decoder, and comfort noise, which is known but makes no sound.
STATIC: Final[PayloadTypes] = {
    0: Encoding("pcmu", 8000),
    8: Encoding("pcma", 8000),
    9: Encoding("g722", 8000),
    10: Encoding("l16", 44100, 2),
    11: Encoding("l16", 44100),
    13: Encoding("cn", 8000),
}
SOUNDLESS: Final = frozenset({"cn", "telephone-event"})


def make_encoding(codec: str, clock: int, channels: int = 1) -> Encoding:
    """Check and normalise what a payload type is said to be.

    Raises:
        FormatError: the clock or the channels cannot be.
    """
    if not 1 <= channels <= 255:
        raise FormatError(f"{channels} channels of {codec}")
    if codec.lower() == "opus" and clock != 48000:
        raise FormatError(f"Opus at an RTP clock of {clock} Hz; it is always 48000 (RFC 7587)")
    return Encoding(codec.lower(), check_rate(clock), channels)
