"""Who may look at the page: nobody but this machine, holders of a token, or a user with a password."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from streamdet.config import WebSection
from streamdet.errors import ConfigError
from streamdet.web.address import Address

SHORTEST_TOKEN = 16  # characters of a token that somebody chose
SHORTEST_PASSWORD = 8


@dataclass(frozen=True, slots=True)
class Access:
    """What a request must carry: a token (in a cookie or as a bearer), a user's password, or nothing at all."""

    token: str | None = None
    user: str | None = None
    password: str | None = None

    @property
    def open(self) -> bool:
        """Whether everybody who reaches the port may look."""
        return self.token is None and self.password is None

    @property
    def session(self) -> str:
        """What the cookie holds: made from the token, and not the token itself."""
        return hmac.new((self.token or "").encode(), b"streamdet page", hashlib.sha256).hexdigest()

    def right_token(self, offered: str) -> bool:
        """Tell whether ``offered`` is the token, in constant time."""
        return self.token is not None and _same(offered, self.token)

    def admits(self, headers: Mapping[str, str], cookie: str | None) -> str | None:
        """Tell who asks: a user's name, an empty string for somebody allowed but unnamed, None for a stranger."""
        if self.open:
            return ""
        if self.token is not None and cookie is not None and _same(cookie, self.session):
            return ""
        kind, _, value = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.right_token(value.strip()):
            return ""
        return self._named(value) if kind.lower() == "basic" and self.password is not None else None

    def _named(self, value: str) -> str | None:
        try:
            user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        right = _same(user, self.user or "") & _same(password, self.password or "")
        return user if right else None


def make_access(section: WebSection, address: Address) -> Access:
    """Decide how the page is guarded.

    Raises:
        ConfigError: others could reach the page unasked, or the token or password is missing or too weak.
    """
    if section.auth == "basic":
        return Access(None, *_password(section.password_file))
    if section.auth == "none":
        if not address.loopback:
            raise ConfigError(
                f"web: {address.host} can be reached from other machines, so auth = none is refused; "
                "use auth = token or basic, or listen on 127.0.0.1"
            )
        return Access()
    if section.auth == "auto" and address.loopback and section.token_file is None:
        return Access()
    return Access(secrets.token_urlsafe(24) if section.token_file is None else _token(section.token_file))


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _line(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"web: cannot read {what} {path}: {error}") from error


def _token(path: Path) -> str:
    token = _line(path, "token_file")
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"web: {path} must hold one token of {SHORTEST_TOKEN} or more characters without spaces")
    return token


def _password(path: Path | None) -> tuple[str, str]:
    if path is None:
        raise ConfigError("web: auth = basic needs password_file, a file with one line USER:PASSWORD")
    user, _, password = _line(path, "password_file").partition(":")
    if not user or len(password) < SHORTEST_PASSWORD or "\n" in password:
        raise ConfigError(
            f"web: {path} must hold one line USER:PASSWORD with {SHORTEST_PASSWORD} or more characters of password"
        )
    return user, password
