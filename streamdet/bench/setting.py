"""Writes one top-level setting into a TOML file and leaves everything else, comments included, as it is."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

from streamdet.bench.target import check_target
from streamdet.config import validated
from streamdet.errors import ConfigError

TABLE = re.compile(r"\s*\[")


def with_setting(text: str, key: str, value: int) -> str:
    """Return ``text`` with ``key = value`` at its top level, in the place where it was, else before the first table.

    Raises:
        ConfigError: the text is no TOML, or so unusual that the line has to be written by hand.
    """
    try:
        wanted = tomllib.loads(text) | {key: value}
        changed = _replaced(text, key, value)
        if tomllib.loads(changed) == wanted:
            return changed
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}") from error
    raise ConfigError(
        f"cannot find the place of {key}; write {key} = {value} as the first line by hand, then try again"
    )


def check_setting(path: Path, key: str) -> None:
    """Make sure, before anything is measured, that :func:`write_setting` can set ``key`` to what comes of it.

    Raises:
        ConfigError: as :func:`write_setting`.
    """
    check_target(path, in_place=False)
    _changed(path, key, 1)


def write_setting(path: Path, key: str, value: int) -> None:
    """Set ``key`` in the configuration file ``path``, in one piece; a file that is not there is made.

    Raises:
        ConfigError: see :func:`with_setting`; the file cannot be written, or is no configuration of streamdet.
    """
    changed = _changed(path, key, value)
    try:
        part = path.with_name(f".{path.name}.part")
        part.write_text(changed, encoding="utf-8")
        if path.exists():
            part.chmod(path.stat().st_mode & 0o7777)
        os.replace(part, path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


def _changed(path: Path, key: str, value: int) -> str:
    """Return what the file will say; errors as :func:`write_setting`."""
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}") from error
    changed = with_setting(text, key, value)
    validated(tomllib.loads(changed), str(path))
    return changed


def _replaced(text: str, key: str, value: int) -> str:
    lines = text.splitlines(keepends=True)
    end = next((at for at, line in enumerate(lines) if TABLE.match(line)), len(lines))
    entry = re.compile(rf"(\s*{re.escape(key)}\s*=\s*)[^\s#]+(.*)", re.DOTALL)
    for at, line in enumerate(lines[:end]):
        found = entry.fullmatch(line)
        if found:
            lines[at] = f"{found[1]}{value}{found[2]}"
            return "".join(lines)
    at = _after_settings(lines, end)
    if at and not lines[at - 1].endswith("\n"):
        lines[at - 1] += "\n"
    lines.insert(at, f"{key} = {value}\n")
    return "".join(lines)


def _after_settings(lines: list[str], end: int) -> int:
    """Find the line after the last top-level setting, so that comments on the first table stay with it."""
    settings = [at for at in range(end) if lines[at].strip() and not lines[at].lstrip().startswith("#")]
    if settings:
        return settings[-1] + 1
    return end if end == len(lines) else 0
