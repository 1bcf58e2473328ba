"""Proposes thresholds from sound in which everybody is human: whatever it raises is a false alarm."""
