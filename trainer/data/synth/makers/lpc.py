"""Linear prediction with pulses and noise as excitation."""

from __future__ import annotations

import numpy as np
from scipy import linalg, signal

from streamdet.features.logmel import FloatArray
from trainer.data.synth.base import RATE, Made, Rng

WINDOW, HOP = 480, 160
LOWEST, HIGHEST = 60.0, 400.0  # Hz, of the pitch
VOICED = 0.45  # normalised autocorrelation above which a frame has a pitch


class Lpc:
    """An LPC-10 in spirit (T. Tremain, 1982): filter, gain, pitch and voicing of 10 ms frames, nothing else."""

    name, family, licence, default = "lpc", "cs-lpc", "own code", True

    def missing(self) -> str:
        """See :class:`trainer.data.synth.base.Copier`."""
        return ""

    def copy(self, samples: FloatArray, rng: Rng) -> Made:
        """See :class:`trainer.data.synth.base.Copier`."""
        order = int(rng.choice((10, 16, 20)))
        taper, memory, next_pulse = np.hanning(WINDOW), np.zeros(order), 0.0
        result = np.zeros(len(samples) + WINDOW)
        for begin in range(0, len(samples) - WINDOW, HOP):
            correlation = np.correlate(*(2 * (samples[begin : begin + WINDOW] * taper,)), "full")[WINDOW - 1 :]
            correlation[0] = correlation[0] * 1.0001 + 1e-9
            filter_ = linalg.solve_toeplitz(correlation[:order], correlation[1 : order + 1])
            gain = np.sqrt(max(correlation[0] - filter_ @ correlation[1 : order + 1], 1e-12) / np.sum(taper**2))
            excitation, next_pulse = excite(period(correlation), next_pulse, rng)
            out, memory = signal.lfilter([gain], np.r_[1.0, -filter_], excitation, zi=memory)
            middle = begin + (WINDOW - HOP) // 2
            result[middle : middle + HOP] = out
        return Made(np.asarray(result[: len(samples)], np.float32), RATE, f"lpc-{order}", settings={"order": order})


def period(correlation: np.ndarray) -> float:
    """Find the samples between pulses, 0 for a frame without a pitch."""
    shortest, longest = int(RATE / HIGHEST), int(RATE / LOWEST)
    lag = shortest + int(correlation[shortest:longest].argmax())
    # A window of 30 ms tapers the autocorrelation; undone for the comparison.
    likeness = correlation[lag] / correlation[0] / (1.0 - lag / WINDOW)
    return float(lag) if likeness > VOICED else 0.0


def excite(pulse_period: float, next_pulse: float, rng: Rng) -> tuple[np.ndarray, float]:
    """Give one hop of pulses with a little noise, or of noise, and where the next pulse falls in the hop after."""
    if not pulse_period:
        return rng.standard_normal(HOP), 0.0
    pulses = 0.05 * rng.standard_normal(HOP)
    while next_pulse < HOP:
        pulses[int(next_pulse)] += np.sqrt(pulse_period)
        next_pulse += pulse_period
    return pulses, next_pulse - HOP
