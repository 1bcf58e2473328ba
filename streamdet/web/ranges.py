"""Part of a recording that is in memory: byte ranges as RFC 9110, section 14, has them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from starlette.responses import Response

_RANGE = re.compile(r"^bytes=(\d*)-(\d*)$", re.ASCII)


class UnsatisfiableError(ValueError):
    """The range lies outside."""


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Read a ``Range`` header; returns ``[start, stop)``, or None where it is none we know and all is to be sent.

    Raises:
        UnsatisfiableError: the range begins at or after ``size``.
    """
    match = _RANGE.match(header.replace(" ", ""))
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        start, stop = max(0, size - int(match[2])), size
    else:
        start, stop = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
        if match[2] and int(match[2]) < start:
            return None
    if start >= size or start >= stop:
        raise UnsatisfiableError
    return start, stop


def ranged(data: bytes, headers: Mapping[str, str], media_type: str) -> Response:
    """Answer with ``data``, or with the part of it that was asked for."""
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    common = {"accept-ranges": "bytes", "etag": tag}
    wanted = headers.get("range")
    if wanted is None or headers.get("if-range", tag) != tag:
        return Response(data, media_type=media_type, headers=common)
    try:
        found = parse_range(wanted, len(data))
    except UnsatisfiableError:
        return Response(status_code=416, headers={"content-range": f"bytes */{len(data)}"})
    if found is None:
        return Response(data, media_type=media_type, headers=common)
    start, stop = found
    content = {"content-range": f"bytes {start}-{stop - 1}/{len(data)}"}
    return Response(data[start:stop], 206, media_type=media_type, headers=common | content)
