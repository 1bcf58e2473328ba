"""From columns to verdicts: windows, calibration, smoothing, alarm. Knows no transport."""
