"""Data sets: readers, cached features, balanced sampling."""
