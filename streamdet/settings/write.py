"""Sets keys of one table of a TOML file and leaves everything else, comments included, as it is."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from streamdet.config import validated
from streamdet.errors import ConfigError

TABLE = re.compile(r"\s*\[")


def with_keys(text: str, table: str, values: Mapping[str, float]) -> str:
    """Return ``text`` with the keys of ``[table]`` set, in their place or at its end; a new table goes to the end.

    Raises:
        ConfigError: the text is no TOML, or so unusual that it has to be edited by hand.
    """
    try:
        wanted = tomllib.loads(text)
        wanted[table] = wanted.get(table, {}) | dict(values)
        changed = _changed(text, table, values)
        if tomllib.loads(changed) == wanted:
            return changed
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}") from error
    raise ConfigError(f"cannot find the place of [{table}]: write by hand what was printed")


def write_keys(path: Path, table: str, values: Mapping[str, float]) -> None:
    """Set keys in the configuration file, in one piece.

    Raises:
        ConfigError: see :func:`with_keys`; the file cannot be read or written.
    """
    try:
        changed = with_keys(path.read_text(encoding="utf-8"), table, values)
        validated(tomllib.loads(changed), str(path))
        part = path.with_name(f".{path.name}.part")
        part.write_text(changed, encoding="utf-8")
        part.chmod(path.stat().st_mode & 0o7777)
        os.replace(part, path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


def _changed(text: str, table: str, values: Mapping[str, float]) -> str:
    lines = text.splitlines()
    header = re.compile(rf"\s*\[\s*{re.escape(table)}\s*\]\s*(#.*)?$")
    begin = next((at for at, line in enumerate(lines) if header.match(line)), None)
    if begin is None:
        return "\n".join([*lines, "", f"[{table}]", *(f"{key} = {value:g}" for key, value in values.items())]) + "\n"
    end = next((at for at in range(begin + 1, len(lines)) if TABLE.match(lines[at])), len(lines))
    for key, value in values.items():
        entry = re.compile(rf"(\s*{re.escape(key)}\s*=\s*)[^\s#]+(.*)")
        found = next(((at, m) for at in range(begin + 1, end) if (m := entry.fullmatch(lines[at]))), None)
        if found is None:
            lines.insert(begin + 1, f"{key} = {value:g}")
            end += 1
        else:
            lines[found[0]] = f"{found[1][1]}{value:g}{found[1][2]}"
    return "\n".join(lines) + "\n"
