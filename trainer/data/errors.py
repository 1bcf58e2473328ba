"""What can be wrong with training data."""

from __future__ import annotations

from streamdet.errors import StreamdetError


class DataError(StreamdetError):
    """A manifest or a feature cache cannot be used; the text says which and why."""

    exit_code = 7
