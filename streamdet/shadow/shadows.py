"""One shadow for each pipeline of the crew, seen as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from streamdet.assembly import Settings, load_engine
from streamdet.config import Config
from streamdet.engine.base import Engine
from streamdet.errors import ConfigError
from streamdet.pipeline import Pipeline
from streamdet.shadow.figures import Comparison
from streamdet.shadow.shadow import Shadow

WARM_HOPS = 32  # of a stream; the longest window is full after 10 s


class Shadows:
    """Loads the shadow's model, once for each pipeline, and lets it hear.

    Raises:
        ModelError, DependencyError, ConfigError: the model cannot be loaded, or its thresholds make no sense.
    """

    def __init__(self, config: Config, model: Path, pipelines: Sequence[Pipeline]) -> None:
        self.model = model
        self.every = config.shadow.every
        settings_of = config.model_copy(update={"model": model})
        engines = [load_engine(settings_of) for _ in pipelines]
        self.settings = Settings(settings_of, engines[0].info)
        self.info = engines[0].info
        self.digest = self.info.digest
        self._pipelines = pipelines
        self._shadows = [Shadow(engine, self.settings.judge) for engine in engines]

    def start(self) -> None:
        """Begin to hear."""
        for pipeline, shadow in zip(self._pipelines, self._shadows, strict=True):
            shadow.start()
            pipeline.add_tap(shadow.hear)

    def close(self) -> None:
        """Stop and free the engines."""
        for pipeline, shadow in zip(self._pipelines, self._shadows, strict=True):
            pipeline.remove_tap(shadow.hear)
            shadow.close()

    def comparison(self) -> Comparison:
        """Add up what all have found."""
        return sum((shadow.comparison for shadow in self._shadows), Comparison())

    def check_warm(self) -> None:
        """Refuse a swap to a model that has not heard enough yet.

        Raises:
            ConfigError: it has not.
        """
        if self.comparison().hops < WARM_HOPS:
            raise ConfigError(f"the shadow {self.digest[:12]} has heard less than 10 s: reload again in a moment")

    def swap(self) -> list[Engine]:
        """Make the shadow the model, between two hops of each pipeline; returns the engines that score from then on."""
        for pipeline, shadow in zip(self._pipelines, self._shadows, strict=True):
            pipeline.order(lambda pipeline=pipeline, shadow=shadow: self._swap(pipeline, shadow))  # type: ignore[misc]
        return [shadow.engine for shadow in self._shadows]

    def _swap(self, pipeline: Pipeline, shadow: Shadow) -> None:
        pipeline.remove_tap(shadow.hear)
        twins = shadow.hand_over()
        own = shadow.engine.info.front_end != pipeline.engine.info.front_end
        pipeline.replace_engine(
            shadow.engine,
            {name: (twin.slot, twin.judge) for name, twin in twins.items()},
            self.settings.of,
            self.settings.judge,
            shadow.front_end if own else None,
        )

    def text(self) -> str:
        """Say in one line how the two compare."""
        found = self.comparison().detail()
        return (
            f"shadow {self.digest[:12]}: {found.get('agreement', 0):.1%} of {found['hops']} verdicts agree, "
            f"{found['shadow_alerts']} alerts it would have raised beside {found['alerts']}"
        )

    def detail(self) -> dict[str, float | int | str]:
        """Write the figures for an event."""
        return {"cause": "shadow", "shadow": self.digest, **self.comparison().detail()}
