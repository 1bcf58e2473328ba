"""What the payload types of RTP packets mean: by RFC 3551, by options, or by an SDP file (RFC 8866)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from streamdet.audio.codecs import Encoding
from streamdet.audio.pcm import check_rate
from streamdet.errors import FormatError, SourceError

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
LARGEST_SDP: Final = 1 << 20

_RTPMAP: Final = re.compile(r"(\d{1,3})\s+([A-Za-z0-9._-]+)/(\d{1,7})(?:/(\d{1,4}))?\s*")
_MEDIA: Final = re.compile(r"audio\s+(\d{1,5})(?:/\d+)?\s+(\S+)((?:\s+\d{1,3})+)\s*")


def read_sdp(path: Path) -> PayloadTypes:
    """Read the payload types of an SDP file.

    Raises:
        SourceError: the file cannot be read.
        FormatError: it is no SDP, or describes no sound over plain RTP.
    """
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_SDP).decode()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is no SDP: not UTF-8") from error
    try:
        return parse_sdp(text)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error


def parse_sdp(text: str) -> PayloadTypes:
    """Read the payload types of all ``m=audio`` parts of an SDP.

    Raises:
        FormatError: there is none, it is encrypted, or one of its lines is malformed.
    """
    found: dict[int, Encoding] = {}
    in_audio = False
    for line in text.splitlines():
        kind, _, value = line.strip().partition("=")
        if kind == "m":
            in_audio = value.startswith("audio")
            found.update(_media(value) if in_audio else ())
        elif in_audio and kind == "a" and value.startswith("rtpmap:"):
            number, encoding = _rtpmap(value.removeprefix("rtpmap:"))
            found[number] = encoding
    if not found:
        raise FormatError("the SDP describes no sound: no m=audio line with a known payload type, no a=rtpmap line")
    return found


def _media(value: str) -> Iterator[tuple[int, Encoding]]:
    match = _MEDIA.fullmatch(value)
    if match is None:
        raise FormatError(f"malformed SDP line m={value[:80]}")
    if not match[2].upper().startswith("RTP/AVP"):
        raise FormatError(f"the SDP asks for {match[2][:40]}; only plain RTP (RTP/AVP) can be received")
    for number in map(int, match[3].split()):
        if number in STATIC:
            yield number, STATIC[number]


def _rtpmap(value: str) -> tuple[int, Encoding]:
    match = _RTPMAP.fullmatch(value)
    if match is None or int(match[1]) > 127:
        raise FormatError(f"malformed SDP line a=rtpmap:{value[:80]}")
    return int(match[1]), make_encoding(match[2], int(match[3]), int(match[4] or 1))


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
