"""Recordings of alerts: written while they last, chained, signed where a key is given, checked and pruned."""
