"""Who may connect: CURVE key pairs (https://rfc.zeromq.org/spec/26/) in a directory, as pyzmq and czmq write them.

::

    DIR/                     nobody else can look into it (0700)
      server.key             public key of the server; everyone who connects needs it
      server.key_secret      stays on the server (0600)
      clients/NAME.key       public keys of who may connect; deleting the file locks NAME out
      NAME.key_secret        for NAME to take away, together with server.key
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import zmq
import zmq.auth

from streamdet.errors import ConfigError

SERVER: Final = "server"
FORBIDDEN: Final = 0o077  # what group and others must not be allowed
NAME: Final = re.compile(r"[\w.-]{1,64}")
PUBLIC_TEXT: Final = '# ZeroMQ CURVE public key of "{name}"\nmetadata\ncurve\n    public-key = "{public}"\n'
SECRET_TEXT: Final = (
    '# ZeroMQ CURVE SECRET key of "{name}": show it to nobody\n'
    'metadata\ncurve\n    public-key = "{public}"\n    secret-key = "{secret}"\n'
)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Public and secret key, in Z85 (40 characters)."""

    public: bytes
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Curve:
    """What a client needs: its own keys and the server's public one."""

    own: KeyPair
    server: bytes

    @classmethod
    def load(cls, secret: Path, server: Path) -> Self:
        """Read the client's ``NAME.key_secret`` and the server's ``server.key``.

        Raises:
            ConfigError: a file is missing or no key, or others can read the secret one.
        """
        return cls(load_pair(secret), load_public(server))

    def apply(self, socket: zmq.Socket[bytes]) -> None:
        """Make a socket that connects use the keys; call it before it connects."""
        socket.curve_serverkey = self.server
        socket.curve_publickey = self.own.public
        socket.curve_secretkey = self.own.secret


def curve_from(key: Path | None, server_key: Path | None) -> Curve | None:
    """Load a client's keys; None where neither is given.

    Raises:
        ConfigError: only one is given, or one cannot be read.
    """
    if key is None and server_key is None:
        return None
    if key is None or server_key is None:
        raise ConfigError("keys come in twos: give --key NAME.key_secret and --server-key server.key")
    return Curve.load(key, server_key)


class KeyRing:
    """The server's side of a key directory.

    Raises:
        ConfigError: it is missing or incomplete, or others can read it.
    """

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise ConfigError(f"there is no key directory {directory}: `streamdet keys make NAME --dir {directory}`")
        _check_private(directory, "700")
        self.directory = directory
        self.server = load_pair(directory / f"{SERVER}.key_secret")
        self._seen: tuple[int, ...] = ()
        self._allowed: dict[bytes, str] = {}

    def allowed(self) -> dict[bytes, str]:
        """Names of who may connect by public key, as the files are now.

        Raises:
            ConfigError: one of the files is no key.
        """
        files = sorted((self.directory / "clients").glob("*.key"))
        seen = tuple(part for file in files for part in (file.stat().st_mtime_ns, file.stat().st_ino))
        if seen != self._seen:
            self._allowed = {load_public(file): file.stem for file in files}
            self._seen = seen
        return self._allowed


def make_keys(directory: Path, name: str) -> KeyPair:
    """Make the keys of a client and allow it in; the directory and the server's keys are made where there are none.

    Raises:
        ConfigError: the name is no file name, it is taken, or the directory cannot be written.
    """
    if not NAME.fullmatch(name) or name == SERVER or name.startswith("."):
        raise ConfigError(f"{name!r} cannot name a key: letters, digits, dots and dashes, and not {SERVER!r}")
    try:
        (directory / "clients").mkdir(mode=0o700, parents=True, exist_ok=True)
        if not any(directory.glob(f"{SERVER}.*")):
            directory.chmod(0o700)
            _write_pair(directory / f"{SERVER}.key_secret", directory / f"{SERVER}.key", SERVER)
        _check_private(directory, "700")
        return _write_pair(directory / f"{name}.key_secret", directory / "clients" / f"{name}.key", name)
    except FileExistsError as error:
        raise ConfigError(f"{error.filename} exists: delete it to make new keys for {name!r}") from error
    except OSError as error:
        raise ConfigError(f"cannot write keys to {directory}: {error.strerror}") from error


def load_pair(path: Path) -> KeyPair:
    """Read a secret key file.

    Raises:
        ConfigError: it is missing, is none, or others can read it.
    """
    public, secret = _load(path)
    _check_private(path, "600")
    if secret is None:
        raise ConfigError(f"{path} has no secret key: give the file whose name ends in .key_secret")
    return KeyPair(public, secret)


def load_public(path: Path) -> bytes:
    """Read a public key.

    Raises:
        ConfigError: the file is missing or none.
    """
    return _load(path)[0]


def _load(path: Path) -> tuple[bytes, bytes | None]:
    try:
        public, secret = zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"cannot read the key {path}: {why}") from error
    if any(key is not None and len(key) != 40 for key in (public, secret)):
        raise ConfigError(f"cannot read the key {path}: a key has 40 characters")
    return public, secret


def _check_private(path: Path, mode: str) -> None:
    if path.stat().st_mode & FORBIDDEN:
        raise ConfigError(f"{path} can be read by others: chmod {mode} {path}")


def _write_pair(secret: Path, public: Path, name: str) -> KeyPair:
    own, hidden = zmq.curve_keypair()
    texts = {"name": name, "public": own.decode(), "secret": hidden.decode()}
    _write(secret, SECRET_TEXT.format(**texts), 0o600)
    _write(public, PUBLIC_TEXT.format(**texts), 0o644)
    return KeyPair(own, hidden)


def _write(path: Path, text: str, mode: int) -> None:
    """Make a file that is never open to others, not even for a moment, and never replaces another."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
