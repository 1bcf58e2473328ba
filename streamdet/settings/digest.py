"""One name for a whole configuration: its digest."""

from __future__ import annotations

import hashlib
import json

from streamdet.config import Config


def config_digest(config: Config) -> str:
    """SHA-256 of the configuration with all its defaults, the same however the file is laid out."""
    values = config.model_dump(mode="json", by_alias=True)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
