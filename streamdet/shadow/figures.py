"""How two models compare on the same hops, from running sums."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from streamdet.decide.calibrate import log_odds
from streamdet.decide.judge import Judgement

EDGE = 1e-6  # probabilities are kept off 0 and 1 by this much


@dataclass(slots=True)
class Comparison:
    """Counts and sums over hops; ``x`` are the smoothed log-odds of the model that alarms, ``y`` the shadow's."""

    hops: int = 0
    agreed: int = 0  # hops with the same verdict
    both: int = 0  # hops that both judged
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    yy: float = 0.0
    xy: float = 0.0
    alerts: int = 0
    shadow_alerts: int = 0  # that the shadow would have raised
    dropped: int = 0  # hops that it did not hear, for want of time

    def add(self, mine: Judgement, shadow: Judgement) -> None:
        """Take what both say of one hop."""
        self.hops += 1
        self.agreed += mine.verdict == shadow.verdict
        self.alerts += sum(step.phase == "raised" for step in mine.alerts)
        self.shadow_alerts += sum(step.phase == "raised" for step in shadow.alerts)
        if mine.p_fake is None or shadow.p_fake is None:
            return
        x, y = (log_odds(min(max(p, EDGE), 1 - EDGE)) for p in (mine.p_fake, shadow.p_fake))
        self.both += 1
        self.x, self.y = self.x + x, self.y + y
        self.xx, self.yy, self.xy = self.xx + x * x, self.yy + y * y, self.xy + x * y

    def __add__(self, other: Comparison) -> Comparison:
        """Add two up."""
        return Comparison(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Comparison)))

    def detail(self) -> dict[str, float | int | str]:
        """Write the figures for an event; those that cannot be had yet are left out."""
        found: dict[str, float | int | str] = {
            "hops": self.hops,
            "alerts": self.alerts,
            "shadow_alerts": self.shadow_alerts,
            "dropped": self.dropped,
        }
        if self.hops:
            found["agreement"] = round(self.agreed / self.hops, 4)
        if self.both:
            found["mean_difference"] = round((self.y - self.x) / self.both, 4)
            spread = (self.xx - self.x**2 / self.both) * (self.yy - self.y**2 / self.both)
            if spread > 1e-12:
                found["correlation"] = round((self.xy - self.x * self.y / self.both) / math.sqrt(spread), 4)
        return found
