"""Verdicts: when a number deserves trust, and what it then says."""

from __future__ import annotations

from dataclasses import dataclass

from streamdet.decide.calibrate import log_odds
from streamdet.decide.window import Pool
from streamdet.errors import ConfigError
from streamdet.events import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Limits of a verdict; thresholds are calibrated log-odds of spoof.

    Raises:
        ConfigError: the thresholds or the amounts of speech are the wrong way round.
    """

    silence_seconds: float = 0.2  # less speech than this is no speech
    min_speech_seconds: float = 1.5  # less speech than this is not enough to say
    max_lost: float = 0.3  # more of the audio lost than this is too much
    spoof_at: float = log_odds(0.6)  # at or above: spoof
    bona_fide_at: float = log_odds(0.4)  # at or below: bona fide; between the two: undecided

    def __post_init__(self) -> None:
        if self.bona_fide_at >= self.spoof_at:
            raise ConfigError(f"bona_fide_at {self.bona_fide_at:g} must lie below spoof_at {self.spoof_at:g}")
        if not 0 <= self.silence_seconds <= self.min_speech_seconds:
            raise ConfigError("silence_seconds must lie between 0 and min_speech_seconds")

    def speechless(self, pool: Pool) -> bool:
        """Tell whether there is nothing to judge."""
        return pool.raw is None or pool.speech_seconds < self.silence_seconds

    def trusted(self, pool: Pool) -> bool:
        """Tell whether there is enough speech, and enough of the audio, for a number that deserves trust."""
        enough = pool.raw is not None and pool.speech_seconds >= self.min_speech_seconds
        return enough and pool.lost <= self.max_lost

    def verdict(self, pool: Pool, evidence: float) -> Verdict:
        """Judge ``evidence``, the calibrated log-odds that belong to ``pool``."""
        if self.speechless(pool):
            return "no_speech"
        if not self.trusted(pool) or self.bona_fide_at < evidence < self.spoof_at:
            return "undecided"
        return "spoof" if evidence >= self.spoof_at else "bona_fide"
