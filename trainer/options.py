"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

# scikit-learn takes no seed of more than 32 bits, NumPy and torch none below zero.
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Another one gives other random draws.")]
