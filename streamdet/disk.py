"""What a disk may refuse now and grant later, and when it is to be believed that it does."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import Final

# A full or failing disk is no reason not to listen. All other errors, such as a file where a folder should be or a
# missing permission, are for a person to put right.
PASSING: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.ETIMEDOUT}
)

# Seconds for which writing has to go well before it is said to. On a full disk what one writer gives up, such as half a
# recording, is a moment's room for another, gone within some ten hops.
STEADY_SECONDS: Final = 5.0


def may_pass(error: OSError) -> bool:
    """Whether the disk is at fault, which may be over by itself, and not what the user asked for."""
    return error.errno in PASSING


def refusal(folder: Path) -> str | None:
    """Why the disk takes no new file in ``folder``; None where it does, or where a person has to put it right."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return (error.strerror or str(error)) if may_pass(error) else None
