"""Says what a configuration file comes to, without opening anything that it names."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from streamdet.assembly import (
    choose_engine,
    exposed,
    for_section,
    judge_config,
    key_ring,
    make_parts,
    store_path,
)
from streamdet.bundled import find_model
from streamdet.config import Config, Section, in_words
from streamdet.decide.calibrate import probability
from streamdet.decide.judge import JudgeConfig
from streamdet.engine.modelfile import ModelInfo, read_model
from streamdet.errors import ConfigError, StreamdetError
from streamdet.settings.digest import config_digest
from streamdet.settings.place import TOML_PLACE, Key, line_of, lines_of
from streamdet.settings.sources import make_source


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that is wrong, or may be; ``line`` counts from 1 and is None where the file says nothing of it."""

    message: str
    field: str = ""
    line: int | None = None
    exit_code: int = ConfigError.exit_code


@dataclass(slots=True)
class Check:
    """What a file comes to; with ``errors`` it would not run."""

    path: str
    errors: list[Remark] = field(default_factory=list)
    warnings: list[Remark] = field(default_factory=list)
    digest: str | None = None
    model: dict[str, Any] = field(default_factory=dict)
    engine: str | None = None
    sources: list[dict[str, str]] = field(default_factory=list)
    sinks: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    settings: list[dict[str, Any]] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 where it would run, else that of the first error."""
        return self.errors[0].exit_code if self.errors else 0


class Checker:
    """Checks one file; see :func:`check`."""

    def __init__(self, path: Path) -> None:
        self.found = Check(str(path))
        self._path = path
        self._lines: dict[Key, int] = {}

    def run(self) -> Check:
        """Look at everything; one error does not hide the others."""
        config = self._read()
        if config is not None:
            self.found.digest = config_digest(config)
            self._check_sources(config)
            self._check_settings(config)
            self._check_parts(config)
            self._warn(config)
        return self.found

    def _error(self, message: str, place: Key = (), exit_code: int = ConfigError.exit_code) -> None:
        self.found.errors.append(Remark(message, _dotted(place), line_of(self._lines, place), exit_code))

    def _warning(self, message: str, place: Key = ()) -> None:
        self.found.warnings.append(Remark(message, _dotted(place), line_of(self._lines, place), 0))

    def _read(self) -> Config | None:
        try:
            text = self._path.read_text(encoding="utf-8")
            self._lines = lines_of(text)
            return Config.model_validate(tomllib.loads(text))
        except OSError as error:
            self._error(f"cannot be read: {error.strerror}")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            at = TOML_PLACE.search(str(error))
            self.found.errors.append(Remark(f"not valid TOML: {error}", "", int(at[1]) if at else None))
        except ValidationError as error:
            for problem in error.errors(include_url=False):
                self._error(in_words(problem), problem["loc"])
        return None

    def _check_sources(self, config: Config) -> None:
        names: dict[str, int] = {}
        for number, section in enumerate(config.source):
            try:
                source = make_source(section, config)
            except StreamdetError as error:
                self._error(str(error), ("source", number, "uri"), error.exit_code)
                continue
            if source.name in names:
                self._error(f"a second source is called {source.name}: give it a name", ("source", number))
            names[source.name] = number
            self.found.sources.append({"name": source.name, "uri": source.uri})
        if not config.source:
            self._warning("no [[source]]: `listen` needs --source, --device or --demo beside this file")

    def _check_settings(self, config: Config) -> None:
        try:
            info = read_model(find_model(config.model))[1]
            self.found.model = {"name": info.name, "precision": info.precision, "digest": info.digest}
        except StreamdetError as error:
            self._error(str(error), ("model",), error.exit_code)
            return
        try:
            self.found.engine = choose_engine(config).name
        except StreamdetError as error:
            self._error(str(error), ("engine",), error.exit_code)
        self._merge("*", config, info, ("alarm",))
        for number, section in enumerate(config.stream):
            self._merge(section.match, for_section(config, section), info, ("stream", number))
        if not config.stream:
            return
        for number, section in enumerate(config.stream):
            if any(before.match in (section.match, "*") for before in config.stream[:number]):
                self._warning(
                    f"never used: an earlier [[stream]] takes all that match {section.match!r}",
                    ("stream", number, "match"),
                )

    def _merge(self, match: str, config: Config, info: ModelInfo, place: Key) -> None:
        try:
            merged = judge_config(config, info)
        except ConfigError as error:
            self._error(str(error), place)
            return
        point = info.operating_points[config.operating_point]
        by = "evidence" if any(key.startswith("cusum_") for key in point) else "p_fake"
        head = {"match": match, "operating_point": config.operating_point, "by": by}
        self.found.settings.append(head | told(merged))

    def _check_parts(self, config: Config) -> None:
        self.found.sinks = list(_sinks(config))
        path = store_path(config)
        if path is not None:
            self.found.parts.append(f"event store {path}")
        try:
            key_ring(config)
        except StreamdetError as error:
            self._error(str(error), ("security", "keys"), error.exit_code)
            return
        try:
            self.found.parts += [part.name for part in make_parts(config)]
        except StreamdetError as error:
            self._error(str(error), (), error.exit_code)

    def _warn(self, config: Config) -> None:
        for endpoint in exposed(config):
            self._warning(
                f"{endpoint} is open to the whole network: set [security] keys, or insecure = true",
                ("publish",) if endpoint == config.publish else ("replay",),
            )
        for place, path in _files(config):
            if not path.exists():
                self._warning(f"there is no file {path}", place)
        store = store_path(config)
        if store is not None and not store.resolve().parent.is_dir():
            self._warning(f"there is no folder {store.resolve().parent} for the event store", ("store",))
        if config.windows.short > config.windows.long:
            self._warning("short is longer than long", ("windows", "short"))


def check(path: Path) -> Check:
    """Look at a configuration file; never raises for what is wrong with it."""
    return Checker(path).run()


def told(merged: JudgeConfig) -> dict[str, Any]:
    """How a stream is judged, with thresholds as probabilities."""
    alarm = merged.alarm
    return {
        "raise": round(probability(alarm.raise_at), 6),
        "clear": round(probability(alarm.clear_at), 6),
        "min_seconds": alarm.min_seconds,
        "cooldown": alarm.cooldown_seconds,
        "update": alarm.update_seconds,
        "windows": list(merged.windows),
        "smoothing": merged.smooth_seconds,
        "min_speech": merged.rules.min_speech_seconds,
        "max_lost": merged.rules.max_lost,
    }


def _dotted(place: Key) -> str:
    return ".".join(str(part) for part in place)


def _sinks(config: Config) -> Iterator[str]:
    if config.publish not in (None, "none"):
        yield f"ZeroMQ {config.publish}" + (" with keys" if config.security.keys is not None else "")
    for hook in config.webhook:
        yield f"webhook {urlsplit(hook.url).hostname}"  # the rest of an URL may be a secret
    if config.mqtt.host is not None:
        yield f"MQTT {config.mqtt.host}:{config.mqtt.port}"
    if config.notify.urls_file is not None:
        yield "messages through apprise"


def _files(section: Section, place: Key = ()) -> Iterator[tuple[Key, Path]]:
    """Yield the files that have to be there, with their place."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        here = (*place, name)
        if isinstance(value, Section):
            yield from _files(value, here)
        elif isinstance(value, tuple):
            for number, entry in enumerate(value):
                if isinstance(entry, Section):
                    yield from _files(entry, (*here, number))
        elif isinstance(value, Path) and (name.endswith("_file") or name in ("certificate", "key")):
            yield here, value
