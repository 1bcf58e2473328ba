"""How one entry of the chain is written down, and signed: canonical JSON, SHA-256, Ed25519 (RFC 8032).

An entry is one line of JSON with sorted keys and no spaces. Its ``digest`` is the SHA-256 of that line without
``digest`` and ``signature``; the signature is over the digest's 32 bytes. So any bit of a line that changes shows.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from streamdet.errors import ConfigError, DependencyError, EvidenceError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PUBLIC_SUFFIX: Final = ".pub"
SEALS: Final = ("digest", "signature")
Entry = dict[str, Any]


def canonical(value: Entry) -> bytes:
    """Write an object as the one line of JSON that stands for it, UTF-8, without the newline."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def digest_of(entry: Entry) -> str:
    """SHA-256 (hex) of an entry without its seals."""
    return hashlib.sha256(canonical({key: value for key, value in entry.items() if key not in SEALS})).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(entry: Entry, signer: Signer | None) -> bytes:
    """Add digest and, with a key, signature to an entry; returns its line without the newline."""
    if signer is not None:
        entry = entry | {"key": signer.public}
    entry = entry | {"digest": digest_of(entry)}
    if signer is not None:
        entry = entry | {"signature": signer.sign(entry["digest"])}
    return canonical(entry)


def unseal(line: bytes) -> Entry:
    """Read a line and check its digest; the signature is left to :func:`check_signature`.

    Raises:
        EvidenceError: it is no line of a chain, or was changed.
    """
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise EvidenceError("is not JSON") from error
    if not isinstance(entry, dict) or "digest" not in entry:
        raise EvidenceError("is no entry")
    try:
        whole = canonical(entry) == line and digest_of(entry) == entry["digest"]
    except ValueError as error:
        raise EvidenceError("is no entry") from error
    if not whole:
        raise EvidenceError("was changed: its digest does not fit")
    return entry


@dataclass(frozen=True, slots=True)
class Signer:
    """A secret key that signs entries; ``public`` is its public half in hex."""

    public: str
    _key: Ed25519PrivateKey

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a key that :func:`make_key` wrote.

        Raises:
            ConfigError: it is missing, is none, or others can read it.
            DependencyError: the library that signs is not installed.
        """
        serialization, ed25519 = _library()
        try:
            mode, data = path.stat().st_mode, path.read_bytes()
            key = serialization.load_pem_private_key(data, None)
        except OSError as error:
            raise ConfigError(f"cannot read the signing key {path}: {error.strerror}") from error
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{path} is no signing key: `streamdet evidence key make FILE` makes one") from error
        if mode & 0o077:
            raise ConfigError(f"{path} can be read by others: chmod 600 {path}")
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise ConfigError(f"{path} is no Ed25519 key")
        return cls(_hex(key.public_key()), key)

    def sign(self, digest: str) -> str:
        """Sign a digest; both in hex."""
        return self._key.sign(bytes.fromhex(digest)).hex()


def make_key(path: Path) -> str:
    """Make a signing key (0600) and its public half beside it, ``FILE.pub``; returns that in hex.

    Raises:
        ConfigError: one of the files exists or cannot be written.
        DependencyError: the library that signs is not installed.
    """
    serialization, ed25519 = _library()
    key = ed25519.Ed25519PrivateKey.generate()
    public = _hex(key.public_key())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        _write_new(path, pem, 0o600)
        _write_new(path.with_name(path.name + PUBLIC_SUFFIX), f"{public}\n".encode(), 0o644)
    except FileExistsError as error:
        raise ConfigError(f"{error.filename} exists: give another name, keys are never overwritten") from error
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
    return public


def load_public(path: Path) -> str:
    """Read a public key in hex.

    Raises:
        ConfigError: it is missing or none.
    """
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the public key {path}") from error
    if len(text) != 64 or any(letter not in "0123456789abcdef" for letter in text):
        raise ConfigError(f"{path} is no public key: give the file whose name ends in {PUBLIC_SUFFIX}")
    return text


def check_signature(entry: Entry, public: str) -> bool:
    """Whether an entry was signed with the key whose public half is given.

    Raises:
        DependencyError: the library that checks is not installed.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  an extra

    ed25519 = _library()[1]
    try:
        key = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(bytes.fromhex(entry["signature"]), bytes.fromhex(entry["digest"]))
    except (InvalidSignature, ValueError, KeyError, TypeError):
        return False
    return entry.get("key") == public


def _library() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  an extra
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise DependencyError(f"signatures need {error.name}: pip install 'streamdet[evidence]'") from error
    return serialization, ed25519


def _hex(public: Any) -> str:
    raw: bytes = public.public_bytes_raw()
    return raw.hex()


def _write_new(path: Path, data: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
