"""Replays the decision logic over kept columns: the run time's own windows, evidence and alarm, without the network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from streamdet.decide.alarm import Alarm, AlarmConfig, Moment, Transition
from streamdet.decide.calibrate import Platt
from streamdet.decide.judge import Judge
from streamdet.decide.smooth import Cusum, CusumConfig, Evidence, Smoother
from streamdet.decide.verdict import Rules
from streamdet.decide.window import Column, Windows
from trainer.streams.hear import Heard
from trainer.streams.splice import Turn

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Track:
    """What every method shares: the log-odds of the deciding window after each hop, NaN where it deserves no trust."""

    name: str
    mixed: bool
    turns: tuple[Turn, ...]
    at: Array  # media time at the end of each hop, seconds
    llr: Array  # calibrated log-odds
    speech: Array  # share of speech of the hop
    hop_seconds: float

    @property
    def seconds(self) -> float:
        """Length of the stream."""
        return float(self.at[-1]) if len(self.at) else 0.0


@dataclass(frozen=True, slots=True)
class Alert:
    """Media times in seconds between which an alert stood."""

    raised: float
    cleared: float


class TopK:
    """Mean of the ``count`` highest log-odds among the windows of the last ``seconds`` of speech."""

    def __init__(self, seconds: float, count: int, hop_seconds: float) -> None:
        self.count = count
        self._held: deque[float] = deque(maxlen=max(count, round(seconds / hop_seconds)))

    def update(self, llr: float, hop_seconds: float, speech: float) -> float:
        """Take the next hop (see :class:`streamdet.decide.smooth.Evidence`)."""
        del hop_seconds
        if speech > 0 or not self._held:
            self._held.append(llr)
        best = sorted(self._held, reverse=True)[: self.count]
        return sum(best) / len(best)

    def reset(self) -> None:
        """Forget everything."""
        self._held.clear()


@dataclass(frozen=True, slots=True)
class Method:
    """One way to turn windows into evidence; ``make`` builds it afresh for each stream."""

    kind: str  # EMA, top-k or CUSUM
    name: str
    make: Callable[[], Evidence]
    smoothing: float = 1.0  # seconds; what p_fake shows
    cusum: CusumConfig | None = None


def ema(seconds: float) -> Method:
    """Exponential average with a time constant in seconds of speech."""
    return Method("EMA", f"EMA {seconds:g} s", partial(Smoother, seconds), smoothing=seconds)


def top_k(seconds: float, count: int, hop_seconds: float) -> Method:
    """Mean of the highest windows of the last seconds."""
    return Method("top-k", f"top {count} of {seconds:g} s", partial(TopK, seconds, count, hop_seconds))


def cusum(config: CusumConfig) -> Method:
    """Accumulated evidence."""
    name = f"CUSUM clip {config.clip:g} drift {config.drift:g} cap {config.cap:g}"
    return Method("CUSUM", name, partial(Cusum, config), cusum=config)


def prepare(heard: Heard, platt: Platt, rules: Rules, window: float, hop_seconds: float) -> Track:
    """Pool the deciding window after each hop, as :class:`streamdet.decide.judge.Judge` does."""
    windows = Windows((window,), hop_seconds)
    llr = np.full(len(heard.columns), np.nan)
    for hop, (_, logit, attention, speech, lost) in enumerate(heard.columns.tolist()):
        windows.push(Column(logit, attention, speech, lost))
        pool = windows.pools()[0]
        if rules.trusted(pool):
            llr[hop] = platt.log_odds(pool.raw or 0.0)
    at, share = heard.columns[:, 0], heard.columns[:, 3]
    return Track(heard.name, heard.mixed, heard.turns, at, llr, share, hop_seconds)


def gather(track: Track, method: Method) -> Array:
    """Evidence after each hop, NaN where there is none."""
    evidence, result = method.make(), np.full(len(track.llr), np.nan)
    heard_before = not isinstance(evidence, Smoother)  # the judge counts a smoother's first window in full
    for hop in np.flatnonzero(~np.isnan(track.llr)).tolist():
        share = float(track.speech[hop]) if heard_before else 1.0
        result[hop] = evidence.update(float(track.llr[hop]), track.hop_seconds, share)
        heard_before = True
    return result


def alerts(track: Track, evidence: Array, config: AlarmConfig) -> list[Alert]:
    """Run the alarm over a stream; while it is quiet, hops below the threshold are passed over."""
    alarm = Alarm(config, new_id=str)
    steps: list[Transition] = []
    above = np.flatnonzero(evidence >= config.raise_at)
    hop = 0
    while hop < len(evidence):
        if alarm.state == "quiet":
            place = int(np.searchsorted(above, hop))
            if place == len(above):
                break
            hop = int(above[place])
        value = float(evidence[hop])
        known = None if np.isnan(value) else value
        steps += alarm.update(Moment(float(track.at[hop]), track.hop_seconds, known))
        hop += 1
    return _pair([*steps, *alarm.close(track.seconds, "ended")])


def judged(heard: Heard, judge: Judge) -> list[Alert]:
    """Alerts of the run time's own judge over the kept columns."""
    steps: list[Transition] = []
    end = 0.0
    for end, logit, attention, speech, lost in heard.columns.tolist():
        steps += judge.update(Column(logit, attention, speech, lost), end).alerts
    return _pair([*steps, *judge.end(end)])


def _pair(steps: list[Transition]) -> list[Alert]:
    raised = [step.at for step in steps if step.phase == "raised"]
    cleared = [step.at for step in steps if step.phase == "cleared"]
    return [Alert(begin, end) for begin, end in zip(raised, cleared, strict=True)]
