"""A source's URI taken apart: scheme, the rest, and options that are each taken once and checked."""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from streamdet.errors import ConfigError, SourceError

_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*):(.*)", re.IGNORECASE | re.DOTALL)
_YES: Final = frozenset({"1", "true", "yes", "on", ""})
_NO: Final = frozenset({"0", "false", "no", "off"})

SECRET: Final = ("srtp", "key", "srtp_key", "secret", "token", "password", "passwd", "inline")

OptionValue = str | int | float | bool | None


class Options:
    """The options of one source, as text from a URI or as values from a program.

    Each reader takes one option away; :meth:`finish` then refuses what nobody took, so a typo is never ignored.
    """

    def __init__(self, owner: str, values: Mapping[str, OptionValue]) -> None:
        self._owner = owner
        self._left = {key: value for key, value in values.items() if value is not None}
        self._known: list[str] = []

    def text(self, name: str, default: str | None = None) -> str | None:
        """Take an option as text."""
        self._known.append(name)
        value = self._left.pop(name, default)
        return None if value is None else str(value)

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        """Take one of a few words.

        Raises:
            ConfigError: it is none of them.
        """
        value = self.text(name) or default
        if value not in choices:
            raise self._wrong(name, value, "one of " + ", ".join(choices))
        return value

    def number(self, name: str, default: float, *, low: float, high: float) -> float:
        """Take a number in ``[low, high]``.

        Raises:
            ConfigError: it is no number, or out of bounds.
        """
        value = self.text(name, str(default))
        try:
            number = float(value or "")
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise self._wrong(name, value, f"a number from {low:g} to {high:g}")
        return number

    def integer(self, name: str, *, low: int, high: int, default: int | None = None) -> int | None:
        """Take a whole number in ``[low, high]``, or ``default`` where absent.

        Raises:
            ConfigError: it is no whole number, or out of bounds.
        """
        value = self.text(name)
        if value is None:
            return default
        if not re.fullmatch(r"-?\d{1,18}", value) or not low <= int(value) <= high:
            raise self._wrong(name, value, f"a whole number from {low} to {high}")
        return int(value)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Take a yes or no; a bare name means yes.

        Raises:
            ConfigError: it is neither.
        """
        value = (self.text(name) or "") if name in self._left else str(int(default))
        self._known.append(name)
        if value.lower() in _YES:
            return True
        if value.lower() in _NO:
            return False
        raise self._wrong(name, value, "1 or 0")

    def rest(self) -> dict[str, str]:
        """Take what is left, for a URI whose query belongs to somebody else as well."""
        left, self._left = self._left, {}
        return {key: str(value) for key, value in left.items()}

    def finish(self) -> None:
        """Refuse options that nobody took.

        Raises:
            ConfigError: there are some.
        """
        if self._left:
            known = ", ".join(sorted(set(self._known)))
            raise ConfigError(f"{self._owner} has no option {next(iter(self._left))!r}; it has {known}")

    def _wrong(self, name: str, value: str | None, wanted: str) -> ConfigError:
        shown = "***" if name in SECRET else value
        return ConfigError(f"{self._owner} option {name}={shown} must be {wanted}")


@dataclass(frozen=True, slots=True)
class Address:
    """``scheme:rest?options`` taken apart."""

    uri: str
    scheme: str
    rest: str
    options: Options

    def host_port(self) -> tuple[str, int]:
        """Read ``//HOST:PORT``; ``[::1]`` is a host, and an empty one is ``0.0.0.0``.

        Raises:
            ConfigError: there is no port, or it is out of bounds.
        """
        try:
            parts = urlsplit(f"{self.scheme}:{self.rest}")
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"{self.uri}: {error}") from error
        if not self.rest.startswith("//") or not port or parts.path.strip("/"):
            raise ConfigError(f"{self.uri}: expected {self.scheme}://HOST:PORT")
        return parts.hostname or "0.0.0.0", port

    def host_ports(self) -> tuple[str, int, int]:
        """Read ``//HOST:PORT`` or ``//HOST:FIRST-LAST`` as :meth:`host_port` does; one port is first and last.

        Raises:
            ConfigError: there is no port, or they are out of bounds or the wrong way round.
        """
        match = re.fullmatch(r"(//.*:)(\d{1,5})-(\d{1,5})(/?)", self.rest)
        if match is None:
            host, port = self.host_port()
            return host, port, port
        host, first = replace(self, rest=match[1] + match[2] + match[4]).host_port()
        _, last = replace(self, rest=match[1] + match[3] + match[4]).host_port()
        if last < first:
            raise ConfigError(f"{self.uri}: the range of ports begins at {first} and ends at {last}")
        return host, first, last


def masked(uri: str) -> str:
    """Hide what may be a secret in a URI: a password, and the values of options that hold keys or tokens."""
    uri = re.sub(r"(?<=//)([^/?#@\s]*):([^/?#@\s]*)@", r"\1:***@", uri)
    return re.sub(rf"(?i)([?&](?:{'|'.join(SECRET)})=)[^&#\s]*", r"\1***", uri)


def parse_address(uri: str, options: Mapping[str, OptionValue]) -> Address:
    """Take a URI apart; ``options`` win over those in its query.

    Raises:
        SourceError: there is no scheme.
    """
    if uri == "-" or uri.startswith("-?"):
        uri = "stdin:" + uri[1:]
    match = _SCHEME.fullmatch(uri)
    if match is None:
        hint = f"; for a file write file:{uri}" if os.path.exists(uri) else ""
        raise SourceError(f"{masked(uri)!r} is not a source: it has no scheme such as rtp:// or file:{hint}")
    scheme = match[1].lower()
    rest, query = _split_query(scheme, match[2])
    merged: dict[str, OptionValue] = {**dict(parse_qsl(query, keep_blank_values=True)), **options}
    return Address(masked(uri), scheme, rest, Options(f"{scheme}:", merged))


def _split_query(scheme: str, rest: str) -> tuple[str, str]:
    if scheme != "file":
        rest, _, query = rest.partition("?")
        return rest, query
    if os.path.exists(rest):  # a question mark may be part of a file's name
        return rest, ""
    path, _, query = rest.rpartition("?") if "?" in rest else (rest, "", "")
    return _local_path(path), query


def _local_path(path: str) -> str:
    # RFC 8089: file:///a%20b and file://localhost/a%20b are escaped; file:a b is the plain name of a file.
    for prefix in ("//localhost/", "///"):
        if path.startswith(prefix):
            return "/" + unquote(path.removeprefix(prefix))
    return path


def stream_name(text: str, *, fallback: str = "stream") -> str:
    """Make a name fit for topics and file names: letters, digits, ``_ . : -``, at most 64 of them."""
    return re.sub(r"[^\w.:-]+", "-", text).strip("-.:")[:64] or fallback
