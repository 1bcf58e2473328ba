"""The frame format of audio over ZeroMQ, for both ends.

A message has two parts, or three where a PUB socket puts its topic before them::

    [topic]   any bytes, ignored by the receiver once the subscription matched
    header    UTF-8 JSON object, at most 4096 bytes
    payload   interleaved samples, whole frames, at most 4 MiB; empty is allowed

The header's fields:

=============  =======  ================================================================================
``v``          1        version of this format
``stream``     text     name of the stream, 1 to 64 characters
``seq``        number   counts the messages of a stream, 0 for its first; a gap is lost sound, a step back a new start
``format``     text     ``s16le`` or ``f32le``
``rate``       number   samples a second
``channels``   number   optional, 1
``time``       number   optional: when the last sample was captured, seconds since the epoch
``end``        boolean  optional: true says that this is the stream's last message
=============  =======  ================================================================================

Fields that are not known are ignored, so that a later version 1 may add some.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from streamdet.audio.pcm import FASTEST_RATE, SLOWEST_RATE, PcmFormat, decode_pcm, encode_pcm
from streamdet.errors import FormatError
from streamdet.features.logmel import FloatArray

VERSION: Final = 1
WIRE_FORMATS: Final[tuple[PcmFormat, ...]] = ("s16le", "f32le")
LARGEST_HEADER: Final = 4096
LARGEST_PAYLOAD: Final = 4 << 20
LARGEST_SEQUENCE: Final = 2**53

_T = TypeVar("_T", int, str, bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioHeader:
    """The header of one message."""

    stream: str
    seq: int
    rate: int
    format: PcmFormat = "s16le"
    channels: int = 1
    time: float | None = None
    end: bool = False


@dataclass(frozen=True, slots=True)
class AudioMessage:
    """One message: its header, and samples as float32 ``[n, channels]``."""

    header: AudioHeader
    samples: FloatArray


def encode_message(header: AudioHeader, samples: FloatArray, *, topic: bytes | None = None) -> list[bytes]:
    """Write float32 samples ``[n]`` or ``[n, channels]`` as the parts of a message."""
    fields = {
        "v": VERSION,
        "stream": header.stream,
        "seq": header.seq,
        "format": header.format,
        "rate": header.rate,
        "channels": header.channels,
        **({} if header.time is None else {"time": header.time}),
        **({"end": True} if header.end else {}),
    }
    parts = [json.dumps(fields, separators=(",", ":")).encode(), encode_pcm(samples, pcm_format=header.format)]
    return parts if topic is None else [topic, *parts]


def decode_message(parts: Sequence[bytes]) -> AudioMessage:
    """Read the parts of a message.

    Raises:
        FormatError: it is no message of this format; the text says where it is wrong.
    """
    if len(parts) not in (2, 3):
        raise FormatError(f"{len(parts)} parts instead of [topic,] header, payload")
    header = decode_header(parts[-2])
    payload = parts[-1]
    if len(payload) > LARGEST_PAYLOAD:
        raise FormatError(f"payload of {len(payload)} bytes, more than {LARGEST_PAYLOAD}")
    return AudioMessage(header, decode_pcm(payload, pcm_format=header.format, channels=header.channels))


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
    return AudioHeader(
        stream=_stream(fields),
        seq=_integer(fields, "seq", low=0, high=LARGEST_SEQUENCE),
        rate=_integer(fields, "rate", low=SLOWEST_RATE, high=FASTEST_RATE),
        format=_format(fields),
        channels=_integer(fields, "channels", low=1, high=255, default=1),
        time=_time(fields),
        end=_typed(fields, "end", bool, default=False),
    )


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


def _format(fields: dict[str, Any]) -> PcmFormat:
    value = fields.get("format")
    for known in WIRE_FORMATS:
        if value == known:
            return known
    raise FormatError(f"header field format is {_shown(value)}, not one of {', '.join(WIRE_FORMATS)}")


def _time(fields: dict[str, Any]) -> float | None:
    value = fields.get("time")
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12):
        return value
    raise FormatError(f"header field time is {_shown(value)}, not seconds since the epoch")


def _shown(value: object) -> str:
    return repr(value)[:40]
