"""The ``trainer`` command: says which extra is missing, where ``trainer.cli`` cannot be imported."""

from __future__ import annotations

import sys

from streamdet.errors import DependencyError


def main() -> None:
    """Run the command; exits with 5 where the extra ``trainer`` is not installed."""
    try:
        from trainer.cli import main as run  # noqa: PLC0415 - only here can its failure be caught
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"streamdet", "trainer"}:
            raise
        print(f"trainer: {error.name} is not installed: pip install 'streamdet[trainer]'", file=sys.stderr)
        raise SystemExit(DependencyError.exit_code) from None
    run()
