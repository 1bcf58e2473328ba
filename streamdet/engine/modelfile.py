"""The model file: an ONNX network that carries its own description and a digest of itself.

Two ``metadata_props`` entries are appended to the serialized network (appending to a protocol buffer adds elements
to its repeated fields): ``streamdet``, a JSON object (:class:`ModelInfo`), and last, at a fixed distance from the
end, ``streamdet.digest``, the SHA-256 of every byte before that entry. Reading needs nothing but this module.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamdet.bundled import BUNDLED
from streamdet.errors import ModelError
from streamdet.features import FrontEndConfig

SCHEMA = 1
MOST_BANDS = 128
NARROWEST = 1_000.0  # Hz from the lowest band to the highest
INFO_KEY = b"streamdet"
DIGEST_KEY = b"streamdet.digest"
METADATA_TAG = 14 << 3 | 2  # ModelProto.metadata_props in onnx.proto, length-delimited
KEY_TAG, VALUE_TAG = 1 << 3 | 2, 2 << 3 | 2  # StringStringEntryProto
DIGEST_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Calibration:
    """Platt scaling: calibrated log-odds are ``scale * raw + offset``."""

    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a model file says of itself.

    ``precision`` is ``fp32`` or ``int8``; ``operating_points`` maps names (``default`` always exists) to thresholds;
    ``figures`` holds the measured results of the model card; ``digest`` is the file's, known once it is written.
    """

    name: str
    created: str
    width: float
    precision: str
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)
    calibration: Calibration = field(default_factory=Calibration)
    operating_points: dict[str, dict[str, float]] = field(default_factory=lambda: {"default": {}})
    figures: dict[str, Any] = field(default_factory=dict)
    digest: str = ""

    def to_json(self) -> str:
        """Text of the ``streamdet`` entry; the digest is not part of it."""
        stored = {"schema": SCHEMA, **dataclasses.asdict(self), "front_end": self.front_end.to_dict()}
        del stored["digest"]
        return json.dumps(stored, sort_keys=True)


def seal(network: bytes, info: ModelInfo) -> bytes:
    """Append ``info`` and the digest to a serialized ONNX ``network``."""
    described = network + _entry(INFO_KEY, info.to_json().encode())
    return described + _entry(DIGEST_KEY, _digest(described))


def read_model(path: Path | str) -> tuple[bytes, ModelInfo]:
    """Read and check a model file.

    Returns:
        The whole file, which ONNX Runtime and other engines load as it is, and its description.

    Raises:
        ModelError: the file is missing, not a model of streamdet, damaged, newer than this version understands, or
            made for other features than this version computes.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        *names, last = BUNDLED
        raise ModelError(
            f"cannot read the model {path}: {error.strerror or error}; "
            f"name a model file, or {', '.join(names)} or {last} from the package"
        ) from error
    try:
        digest = _verified_digest(content)
        return content, _parse_info(content, digest)
    except ModelError as error:
        raise ModelError(f"model {path}: {error}") from error


def _verified_digest(content: bytes) -> str:
    size = len(_entry(DIGEST_KEY, bytes(DIGEST_LENGTH)))
    body, trailer = content[:-size], content[-size:]
    stored = trailer[-DIGEST_LENGTH:]
    if trailer != _entry(DIGEST_KEY, stored):
        raise ModelError("not a streamdet model, or its end is missing; fetch it again")
    if stored != _digest(body):
        raise ModelError("damaged, its digest does not match; fetch it again")
    return stored.decode()


def _parse_info(content: bytes, digest: str) -> ModelInfo:
    try:
        entries = dict(_metadata(content))
        stored = json.loads(entries[INFO_KEY])
        if stored["schema"] != SCHEMA:
            raise ModelError(f"has schema {stored['schema']}, this version reads {SCHEMA}; upgrade streamdet")
        _check_front_end(stored["front_end"])
        return ModelInfo(
            name=stored["name"],
            created=stored["created"],
            width=float(stored["width"]),
            precision=stored["precision"],
            front_end=FrontEndConfig(**stored["front_end"]),
            calibration=Calibration(**stored["calibration"]),
            operating_points=stored["operating_points"],
            figures=stored["figures"],
            digest=digest,
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelError(f"its description cannot be read ({type(error).__name__}: {error})") from error


def _check_front_end(stored: dict[str, Any]) -> None:
    """Refuse features that cannot be made: hop, voice activity and windows are all built on one grid of frames."""
    ours = FrontEndConfig()
    grid = {"rate": ours.rate, "window": ours.window, "hop": ours.hop, "hop_frames": ours.hop_frames, "fft": ours.fft}
    wrong = [f"{key} {stored.get(key)} (here {value})" for key, value in grid.items() if stored.get(key) != value]
    known = {field.name for field in dataclasses.fields(FrontEndConfig)}
    wrong += [f"{key} {stored[key]} (here None)" for key in sorted(stored.keys() - known)]
    if stored.get("bands", "mel") not in ("mel", "linear"):
        wrong.append(f"bands {stored['bands']} (here mel or linear)")
    for key in ("spectrum", "powers"):
        if not isinstance(stored.get(key, False), bool):
            wrong.append(f"{key} {stored[key]} (here true or false)")
    if not (isinstance(stored.get("mels"), int) and 0 < stored["mels"] <= MOST_BANDS and stored["mels"] % 32 == 0):
        wrong.append(f"mels {stored.get('mels')} (here a multiple of 32 up to {MOST_BANDS})")
    wrong += _wrong_numbers(stored)
    if wrong:
        raise ModelError(f"made for another front end: {', '.join(wrong)}; use a model of this version of streamdet")


def _wrong_numbers(stored: dict[str, Any]) -> list[str]:
    limits = {
        "low": (0.0, stored["high"] - NARROWEST),
        "high": (NARROWEST, stored["rate"] / 2),
        "level_seconds": (0.01, 600.0),
        "floor": (0.1, 100.0),
        "scale": (0.01, 100.0),
    }
    return [
        f"{key} {stored[key]} (here {least:g} to {most:g})"
        for key, (least, most) in limits.items()
        if not least <= stored[key] <= most  # true of NaN, too
    ]


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _entry(key: bytes, value: bytes) -> bytes:
    inner = b"".join((_varint(KEY_TAG), _varint(len(key)), key, _varint(VALUE_TAG), _varint(len(value)), value))
    return _varint(METADATA_TAG) + _varint(len(inner)) + inner


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = content[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at


def _fields(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Tags and payloads of a message's length-delimited fields; integers are skipped."""
    at = 0
    while at < len(content):
        tag, at = _read_varint(content, at)
        number, at = _read_varint(content, at)
        if tag & 7 == 2:
            yield tag, content[at : at + number]
            at += number
        elif tag & 7:
            raise ValueError(f"unexpected wire type {tag & 7}")


def _metadata(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    for tag, payload in _fields(content):
        if tag == METADATA_TAG:
            entry = dict(_fields(payload))
            yield entry[KEY_TAG], entry[VALUE_TAG]
