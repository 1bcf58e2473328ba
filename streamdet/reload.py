"""Takes over a changed configuration while sound is heard and scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from streamdet.assembly import Settings
from streamdet.config import Config
from streamdet.engine.modelfile import ModelInfo
from streamdet.errors import ConfigError, StreamdetError
from streamdet.events import StatePhase
from streamdet.pipeline import Pipeline
from streamdet.settings.changes import LIVE, Changes, changes, running
from streamdet.settings.digest import config_digest
from streamdet.settings.sources import check_names, check_stdin, make_source
from streamdet.shadow.shadows import Shadows
from streamdet.sources.base import Source

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the configuration comes from; ``read`` reads it anew, with the command line's options over it.

    ``speed`` is the pace of files.
    """

    read: Callable[[], Config]
    speed: str | None = None


class Host(Protocol):
    """What a reload asks of the daemon."""

    @property
    def model(self) -> ModelInfo:
        """What the model file that scores says of itself."""
        ...

    @property
    def patient(self) -> bool:
        """Whether scoring holds the sources up, since none sets its own pace."""
        ...

    def tell(self, phase: StatePhase, reason: str, detail: dict[str, float | int | str] | None = None) -> None:
        """Publish a state event of the daemon itself."""
        ...

    def retune(self, settings: Settings, max_streams: int | None) -> None:
        """Judge like this from the next hop on."""
        ...

    @property
    def shadows(self) -> Shadows | None:
        """The second model that is compared, if there is one."""
        ...

    def pipelines(self) -> Sequence[Pipeline]:
        """List the pipelines that score."""
        ...

    def replace_shadows(self, shadows: Shadows | None) -> None:
        """Compare with these from now on, or with none."""
        ...

    def swap(self, settings: Settings) -> None:
        """Make the shadow the model, and have no shadow any more."""
        ...

    def source_names(self) -> Sequence[str]:
        """List the sources that run, or ran and ended."""
        ...

    def replace_sources(self, removed: Sequence[str], added: Sequence[Source]) -> None:
        """Stop sources, by name, and end their streams; then start others. All the rest goes on untouched."""
        ...


class Reloader:
    """Knows what runs, and makes it what the file says now.

    A file that cannot be taken over is refused as a whole: one log line, one state event, and nothing changes.
    """

    def __init__(self, config: Config, origin: Origin) -> None:
        self._config = config
        self._origin = origin

    @property
    def config(self) -> Config:
        """What runs now."""
        return self._config

    def reload(self, host: Host) -> None:
        """Read the configuration anew and apply it; never raises for what is wrong with it."""
        try:
            done = self._apply(host)
        except StreamdetError as error:
            log.error("reload_refused", reason=str(error))
            host.tell(
                "degraded",
                f"configuration refused, the old one goes on: {error}",
                {"cause": "reload", "config": config_digest(self._config)},
            )
            return
        digest = config_digest(self._config)
        log.info("reloaded", config=digest[:12], changes=done.text())
        if done.restart:
            log.warning("reload_needs_restart", keys=", ".join(done.restart))
        host.tell("live", f"configuration reloaded: {done.text()}", _detail(done, digest))

    def _apply(self, host: Host) -> Changes:
        after = self._origin.read()
        swapped = self._swapped(host.shadows, after)
        live = LIVE | {"model"} if swapped is not None else LIVE
        done = changes(self._config, after, live)
        after = running(self._config, after, live)
        settings = Settings(after, host.model if swapped is None else swapped.info)
        shadows = None if swapped is not None else self._shadows(host, after)
        removed = [make_source(section, self._config).name for section in done.removed]
        added = [make_source(section, after, speed=self._origin.speed) for section in done.added]
        self._check_sources(host, removed, added)
        check_stdin([section.uri for section in after.source])
        # Nothing can be refused from here on.
        if after.shadow.model != self._config.shadow.model and swapped is None:
            host.replace_shadows(shadows)
        self._config = after
        if swapped is not None:
            host.swap(settings)
        host.retune(settings, after.max_streams)
        host.replace_sources(removed, added)
        return done

    def _swapped(self, shadows: Shadows | None, after: Config) -> Shadows | None:
        """Return the shadow that is to become the model, if that is what the file says."""
        if after.model == self._config.model or shadows is None or shadows.model != after.model:
            return None
        shadows.check_warm()
        return shadows

    def _shadows(self, host: Host, after: Config) -> Shadows | None:
        """Load another shadow, if the file names one."""
        wanted = after.shadow.model
        if wanted is None or wanted == self._config.shadow.model:
            return None
        return Shadows(after, wanted, host.pipelines())

    def _check_sources(self, host: Host, removed: Sequence[str], added: Sequence[Source]) -> None:
        left = [name for name in host.source_names() if name not in removed]
        if not left and not added:
            raise ConfigError("no source would be left: stop the daemon instead")
        check_names([*left, *(source.name for source in added)])
        if host.patient and any(source.live for source in added):
            raise ConfigError("a daemon that was started on files alone takes live sources only after a restart")


def _detail(done: Changes, digest: str) -> dict[str, float | int | str]:
    return {
        "cause": "reload",
        "config": digest,
        "changed": "; ".join(done.applied),
        "sources_added": len(done.added),
        "sources_removed": len(done.removed),
        "restart": ", ".join(done.restart),
    }
