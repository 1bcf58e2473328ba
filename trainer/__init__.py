"""Offline side of streamdet: makes, judges and exports the model."""
