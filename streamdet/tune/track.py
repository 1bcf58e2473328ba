"""What the alarm saw of one stream, and how often it would have been raised at other thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamdet.decide.alarm import Alarm, AlarmConfig, Moment

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Track:
    """One stream without a break: float64 ``[n]`` media times (s), lengths (s), smoothed log-odds (NaN: none)."""

    name: str
    times: Array
    lengths: Array
    evidence: Array

    @property
    def seconds(self) -> float:
        """Audio heard."""
        return float(self.lengths.sum())

    @property
    def judged(self) -> float:
        """Seconds of it in which there was something to judge."""
        return float(self.lengths[~np.isnan(self.evidence)].sum())

    def alarms(self, config: AlarmConfig) -> int:
        """Count the alerts that the alarm raises, by the alarm itself.

        Steps in which it is quiet and stays so are jumped: they do not change it.
        """
        above = np.flatnonzero(self.evidence >= config.raise_at)
        alarm, raised, at = Alarm(config), 0, 0
        while True:
            place = np.searchsorted(above, at)
            if place == len(above):
                return raised
            at = int(above[place])
            while at < len(self.times):
                raised += sum(step.phase == "raised" for step in alarm.update(self._moment(at)))
                at += 1
                if alarm.state == "quiet":
                    break

    def _moment(self, at: int) -> Moment:
        value = float(self.evidence[at])
        return Moment(float(self.times[at]), float(self.lengths[at]), None if np.isnan(value) else value)


def count_alarms(tracks: Sequence[Track], config: AlarmConfig) -> int:
    """Count the alerts on all tracks."""
    return sum(track.alarms(config) for track in tracks)
