"""Session descriptions (SDP, RFC 8866) as far as a receiver of sound needs them: payload types and SRTP keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streamdet.audio.codecs import Encoding
from streamdet.errors import FormatError, SourceError
from streamdet.sources.payload import STATIC, PayloadTypes, make_encoding
from streamdet.sources.srtp import SrtpKey, parse_crypto

LARGEST_SDP: Final = 1 << 20
MOST_KEYS: Final = 16

_RTPMAP: Final = re.compile(r"(\d{1,3})\s+([A-Za-z0-9._-]+)/(\d{1,7})(?:/(\d{1,4}))?\s*")
_MEDIA: Final = re.compile(r"audio\s+(\d{1,5})(?:/\d+)?\s+(\S+)((?:\s+\d{1,3})+)\s*")
_PLAIN: Final = frozenset({"RTP/AVP", "RTP/AVPF"})
_SECURE: Final = frozenset({"RTP/SAVP", "RTP/SAVPF"})


@dataclass(frozen=True, slots=True)
class Description:
    """What an SDP says of sound; ``encrypted`` where one of its parts asks for SRTP."""

    payload_types: PayloadTypes
    keys: tuple[SrtpKey, ...] = ()
    encrypted: bool = False


def read_sdp(path: Path) -> Description:
    """Read an SDP file.

    Raises:
        SourceError: the file cannot be read.
        FormatError: it is no SDP, or describes no sound over RTP.
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


def parse_sdp(text: str) -> Description:
    """Read all ``m=audio`` parts of an SDP.

    Raises:
        FormatError: there is none, its keys are agreed on elsewhere (DTLS), or one of its lines is malformed. No
            message shows a key.
    """
    found: dict[int, Encoding] = {}
    keys: list[SrtpKey] = []
    refused: FormatError | None = None
    in_audio = encrypted = False
    for line in text.splitlines():
        kind, _, value = line.strip().partition("=")
        if kind == "m":
            in_audio = value.startswith("audio")
            if in_audio:
                secure, types = _media(value)
                encrypted |= secure
                found.update(types)
        elif in_audio and kind == "a" and value.startswith("rtpmap:"):
            number, encoding = _rtpmap(value.removeprefix("rtpmap:"))
            found[number] = encoding
        elif in_audio and kind == "a" and value.startswith("crypto:") and len(keys) < MOST_KEYS:
            try:
                keys.append(parse_crypto(value.removeprefix("crypto:")))
            except FormatError as error:  # an offer lists suites that nobody has to know; one that fits is enough
                refused = error
    if not found:
        raise FormatError("the SDP describes no sound: no m=audio line with a known payload type, no a=rtpmap line")
    if refused is not None and not keys:
        raise refused
    return Description(found, tuple(keys), encrypted or bool(keys))


def _media(value: str) -> tuple[bool, Iterator[tuple[int, Encoding]]]:
    match = _MEDIA.fullmatch(value)
    if match is None:
        raise FormatError(f"malformed SDP line m={value[:80]}")
    profile = match[2].upper()
    if profile not in _PLAIN | _SECURE:
        raise FormatError(
            f"the SDP asks for {match[2][:40]}; RTP/AVP and, with a=crypto keys, RTP/SAVP can be received"
        )
    numbers = [int(number) for number in match[3].split()]
    return profile in _SECURE, ((number, STATIC[number]) for number in numbers if number in STATIC)


def _rtpmap(value: str) -> tuple[int, Encoding]:
    match = _RTPMAP.fullmatch(value)
    if match is None or int(match[1]) > 127:
        raise FormatError(f"malformed SDP line a=rtpmap:{value[:80]}")
    return int(match[1]), make_encoding(match[2], int(match[3]), int(match[4] or 1))
