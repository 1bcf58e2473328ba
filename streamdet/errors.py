"""Every error streamdet raises on purpose.

::

    StreamdetError            exit code 1
    ├── ConfigError           2   an option or a line of the configuration makes no sense
    ├── SourceError           3   a source cannot be opened or read
    │   └── FormatError       3   audio or a frame in a format that is not understood
    ├── ModelError            4   a model file is missing, damaged, or does not fit the front end
    ├── DependencyError       5   an optional part needs a package or library that is not installed
    ├── SinkError             6   an event sink cannot be opened or takes no event
    │   └── SinkEndedError    6   the reader of a sink has gone for good, such as ``| head``
    ├── StoreError            7   the event store cannot be opened or read
    └── EvidenceError         8   recordings of alerts cannot be kept or read, or were changed
"""

from __future__ import annotations


class StreamdetError(Exception):
    """Base class; its text is one line that says what is wrong and what to do."""

    exit_code = 1


class ConfigError(StreamdetError):
    """An option or a line of the configuration makes no sense."""

    exit_code = 2


class SourceError(StreamdetError):
    """A source cannot be opened or read."""

    exit_code = 3


class FormatError(SourceError):
    """Audio or a frame comes in a format that is not understood."""


class ModelError(StreamdetError):
    """A model file is missing, damaged, or does not fit the front end."""

    exit_code = 4


class DependencyError(StreamdetError):
    """An optional part needs a package or library that is not installed."""

    exit_code = 5


class SinkError(StreamdetError):
    """An event sink cannot be opened or takes no event."""

    exit_code = 6


class SinkEndedError(SinkError):
    """The reader of a sink has gone for good, such as ``| head``."""


class StoreError(StreamdetError):
    """The event store cannot be opened or read."""

    exit_code = 7


class EvidenceError(StreamdetError):
    """Recordings of alerts cannot be kept or read, or were changed."""

    exit_code = 8
