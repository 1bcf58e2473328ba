"""Makes the sources that the configuration and the command line name; nothing is opened yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from streamdet.config import Config, SourceSection
from streamdet.errors import ConfigError
from streamdet.sources.base import Source
from streamdet.sources.stdin import StdinSource
from streamdet.sources.uri import from_uri
from streamdet.sources.zeromq import ZmqSource


def make_source(section: SourceSection, settings: Config, *, speed: str | None = None) -> Source:
    """Make one source.

    Raises:
        SourceError, ConfigError, DependencyError: as :func:`streamdet.sources.uri.from_uri`.
    """
    named = {} if section.name is None else {"name": section.name}
    paced = {"speed": speed} if speed is not None and section.uri.startswith("file:") else {}
    source = from_uri(section.uri, **named, **paced)
    if settings.security.keys is not None and isinstance(source, ZmqSource):
        source.guard_by_default(settings.security.keys)
    return source


def make_sources(settings: Config, uris: Sequence[str] = (), *, speed: str | None = None) -> list[Source]:
    """Make the sources of ``uris``, then those of the configuration.

    Raises:
        ConfigError: there is none, two have the same name, or two are standard input; and as :func:`make_source`.
    """
    sections = [*(SourceSection(uri=uri) for uri in uris), *settings.source]
    made = [make_source(section, settings, speed=speed) for section in sections]
    if not made:
        raise ConfigError("nothing to listen to: give --source, --device, --demo or a --config with [[source]]")
    check_names([source.name for source in made])
    check_stdin([section.uri for section in sections])
    return made


def check_names(names: Sequence[str]) -> None:
    """Refuse two sources of one name.

    Raises:
        ConfigError: there are two.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"two sources are called {', '.join(twice)}: add ?name=... to their URIs")


def check_stdin(uris: Iterable[str]) -> None:
    """Refuse to hear standard input twice: each of the two would get pieces of its sound.

    Raises:
        ConfigError: two of the URIs mean it.
    """
    if sum(uri.partition("?")[0] == StdinSource.uri for uri in uris) > 1:
        raise ConfigError("standard input can be one source only: leave the other - out")
