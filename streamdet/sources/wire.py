"""The frame format of audio over ZeroMQ, for both ends.

A message has two parts, or three where a PUB socket puts its topic before them::

    [topic]   any bytes, ignored by the receiver once the subscription matched
    header    UTF-8 JSON object, at most 4096 bytes
    payload   the samples, at most 4 MiB and 2,097,152 samples of all channels; empty means none

The header's fields:

=============  =======  ================================================================================
``v``          1        version of this format
``stream``     text     name of the stream, 1 to 64 characters
``seq``        number   counts the messages of a stream, 0 for its first; a gap is lost sound, a step back a new start
``format``     text     ``s16le`` or ``f32le``: interleaved PCM, whole frames; ``flac``: a FLAC stream (RFC 9639) of
                        the same rate and channels; ``opus``: one packet of 2.5 to 120 ms (RFC 6716), rate 48000
``rate``       number   samples a second
``channels``   number   optional, 1
``time``       number   optional: when the last sample was captured, seconds since the epoch
``blocked``    number   optional: seconds the sender has had to wait for room until now, since its start
``end``        boolean  optional: true says that this is the stream's last message
=============  =======  ================================================================================

Fields that are not known are ignored, so that a later version 1 may add some.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from streamdet.audio.pcm import FASTEST_RATE, SLOWEST_RATE
from streamdet.errors import FormatError
from streamdet.features.logmel import FloatArray
from streamdet.sources.wire_payload import (
    FLAC_CHANNELS,
    FLAC_FASTEST,
    LARGEST_PAYLOAD,
    OPUS_RATE,
    WIRE_FORMATS,
    WireFormat,
    decode_plain,
    encode_plain,
)

VERSION: Final = 1
LARGEST_HEADER: Final = 4096
LARGEST_SECONDS: Final = 1e12
LARGEST_SEQUENCE: Final = 2**53

_T = TypeVar("_T", int, str, bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioHeader:
    """The header of one message."""

    stream: str
    seq: int
    rate: int
    format: WireFormat = "s16le"
    channels: int = 1
    time: float | None = None
    blocked: float | None = None
    end: bool = False


@dataclass(frozen=True, slots=True)
class AudioMessage:
    """One message: its header, and samples as float32 ``[n, channels]``."""

    header: AudioHeader
    samples: FloatArray


def encode_header(header: AudioHeader) -> bytes:
    """Write a header."""
    fields = {
        "v": VERSION,
        "stream": header.stream,
        "seq": header.seq,
        "format": header.format,
        "rate": header.rate,
        "channels": header.channels,
        **({} if header.time is None else {"time": header.time}),
        **({} if header.blocked is None else {"blocked": header.blocked}),
        **({"end": True} if header.end else {}),
    }
    return json.dumps(fields, separators=(",", ":")).encode()


def encode_message(header: AudioHeader, samples: FloatArray, *, topic: bytes | None = None) -> list[bytes]:
    """Write float32 samples ``[n]`` or ``[n, channels]`` as the parts of a message; not for Opus."""
    payload = encode_plain(samples, wire_format=header.format, rate=header.rate)
    return join_message(header, payload, topic=topic)


def join_message(header: AudioHeader, payload: bytes, *, topic: bytes | None = None) -> list[bytes]:
    """Put the parts of a message together."""
    parts = [encode_header(header), payload]
    return parts if topic is None else [topic, *parts]


def split_message(parts: Sequence[bytes]) -> tuple[AudioHeader, bytes]:
    """Read the header of a message, and find its payload.

    Raises:
        FormatError: it is no message of this format; the text says where it is wrong.
    """
    if len(parts) not in (2, 3):
        raise FormatError(f"{len(parts)} parts instead of [topic,] header, payload")
    payload = parts[-1]
    if len(payload) > LARGEST_PAYLOAD:
        raise FormatError(f"payload of {len(payload)} bytes, more than {LARGEST_PAYLOAD}")
    return decode_header(parts[-2]), payload


def decode_message(parts: Sequence[bytes]) -> AudioMessage:
    """Read the parts of a message that is not Opus.

    Raises:
        FormatError: it is no message of this format; the text says where it is wrong.
    """
    header, payload = split_message(parts)
    samples = decode_plain(payload, wire_format=header.format, rate=header.rate, channels=header.channels)
    return AudioMessage(header, samples)


def decode_header(data: bytes) -> AudioHeader:
    """Read and check a header.

    Raises:
        FormatError: it is no JSON object, or a field is missing, of the wrong type or out of bounds.
    """
    if len(data) > LARGEST_HEADER:
        raise FormatError(f"header of {len(data)} bytes, more than {LARGEST_HEADER}")
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise FormatError("header is no JSON") from error
    if not isinstance(fields, dict):
        raise FormatError("header is no JSON object")
    if fields.get("v") != VERSION:
        raise FormatError(f"header of version {_shown(fields.get('v'))}, not {VERSION}")
    header = AudioHeader(
        stream=_stream(fields),
        seq=_integer(fields, "seq", low=0, high=LARGEST_SEQUENCE),
        rate=_integer(fields, "rate", low=SLOWEST_RATE, high=FASTEST_RATE),
        format=_format(fields),
        channels=_integer(fields, "channels", low=1, high=255, default=1),
        time=_seconds(fields, "time"),
        blocked=_seconds(fields, "blocked"),
        end=_typed(fields, "end", bool, default=False),
    )
    _check_codec(header)
    return header


def _check_codec(header: AudioHeader) -> None:
    if header.format == "opus" and (header.rate != OPUS_RATE or header.channels > 2):
        raise FormatError(f"opus has one or two channels and the rate {OPUS_RATE}, whatever its encoder was fed")
    if header.format == "flac" and (header.rate > FLAC_FASTEST or header.channels > FLAC_CHANNELS):
        raise FormatError(f"flac has at most {FLAC_CHANNELS} channels and the rate {FLAC_FASTEST}")


def _typed(fields: dict[str, Any], key: str, kind: type[_T], *, default: _T | None = None) -> _T:
    value = fields.get(key, default)
    if type(value) is not kind:
        raise FormatError(f"header field {key} is {_shown(value)}, not of type {kind.__name__}")
    return value


def _integer(fields: dict[str, Any], key: str, *, low: int, high: int, default: int | None = None) -> int:
    value = _typed(fields, key, int, default=default)
    if not low <= value <= high:
        raise FormatError(f"header field {key} is {_shown(value)}, not from {low} to {high}")
    return value


def _stream(fields: dict[str, Any]) -> str:
    value = _typed(fields, "stream", str)
    if not 1 <= len(value) <= 64:
        raise FormatError(f"header field stream has {len(value)} characters, not 1 to 64")
    return value


def _format(fields: dict[str, Any]) -> WireFormat:
    value = fields.get("format")
    for known in WIRE_FORMATS:
        if value == known:
            return known
    raise FormatError(f"header field format is {_shown(value)}, not one of {', '.join(WIRE_FORMATS)}")


def _seconds(fields: dict[str, Any], key: str) -> float | None:
    value = fields.get(key)
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None or (known and 0 <= value < LARGEST_SECONDS):
        return value
    raise FormatError(f"header field {key} is {_shown(value)}, not a number of seconds")


def _shown(value: object) -> str:
    return repr(value)[:40]
