"""The event store: what was published stays on disk, can be asked for, and can be replayed."""
