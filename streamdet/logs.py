"""Logs go to standard error: readable on a terminal, JSON where a service manager collects them."""

from __future__ import annotations

import os
import sys

import structlog


def set_up_logs() -> None:
    """Configure structlog for this process."""
    for_people = "JOURNAL_STREAM" not in os.environ
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if for_people else [structlog.processors.format_exc_info]),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
            if for_people
            else structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
