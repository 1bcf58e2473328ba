"""The process that scores files for the page: ``python -m streamdet.web.worker``.

A process of its own because it must not share a lock with the scoring of live sound, because it runs with less
priority, and because whatever a strange file does to a decoder, it does it there.

First line on standard input: JSON ``{"config": {...}, "limit": SECONDS}``. Then one JSON string a line, a path. Lines
on standard output: ``{"seconds": S, "of": T}`` as it goes on, then ``{"result": {...}}`` (a scan's result, a picture).
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from streamdet.assembly import judge_config
from streamdet.config import Config
from streamdet.errors import FormatError, SourceError
from streamdet.logs import set_up_logs
from streamdet.scan import Result, Scanner
from streamdet.sources.file import open_sound
from streamdet.tap import Heard
from streamdet.web.picture import COLUMNS, quantise
from streamdet.web.rules import describe_rules

NICE = 10
WIDEST = 1600  # columns of a picture; a longer file gets fewer a hop
REPORT_SECONDS = 0.2


class PictureScanner(Scanner):
    """Scores a file as ``streamdet scan`` does, and draws it."""

    def __init__(self, config: Config, limit: float) -> None:
        super().__init__(config)
        self._limit = limit
        self._columns: list[bytes] = []
        self._mels = self._engine.info.front_end.mels
        self._rules = describe_rules(judge_config(config, self._engine.info))
        self._hop_seconds = self._engine.info.front_end.hop_seconds
        self._done = self._of = self._reported = 0.0

    def judge(self, path: Path) -> dict[str, Any]:
        """Score one file; returns the result, the picture, the hop in seconds, and how it was judged."""
        self._columns, self._done, self._reported = [], 0.0, 0.0
        try:
            self._of = self._length(path)
            result = self.scan(path, self._progress)
        except SourceError as error:
            result = Result(path.name, None, None, error=str(error))
        values = result.to_dict() | {"path": path.name, "error": _plain(result.error, path)}
        return values | {"picture": self._picture(), "hop": self._hop_seconds, "rules": self._rules}

    def _length(self, path: Path) -> float:
        with open_sound(path) as file:
            seconds = float(file.frames / file.samplerate)
        self._check(seconds)
        return seconds

    def _check(self, seconds: float) -> None:
        if seconds > self._limit + self._hop_seconds:
            raise FormatError(f"the recording is too long: {seconds:.0f} s, and {self._limit:.0f} s are taken at most")

    def _progress(self, seconds: float) -> None:
        self._done += seconds
        self._check(self._done)  # a header may promise less than there is
        if time.monotonic() - self._reported >= REPORT_SECONDS:
            self._reported = time.monotonic()
            say({"seconds": round(self._done, 2), "of": round(max(self._of, self._done), 2)})

    def _observe(self, heard: Heard) -> None:
        super()._observe(heard)
        blank = bytes(COLUMNS * self._mels)
        self._columns.append(blank if heard.features is None else quantise(heard.features))

    def _picture(self) -> dict[str, Any]:
        """Draw the whole file, ``COLUMNS`` columns a hop or, for a long one, a power of two less."""
        pixels = np.frombuffer(b"".join(self._columns), np.uint8).reshape(len(self._columns), COLUMNS, self._mels)
        columns = COLUMNS
        while columns > 1 and len(pixels) * columns > WIDEST:
            columns //= 2
        pooled = pixels.reshape(len(pixels), columns, COLUMNS // columns, self._mels).max(axis=2, initial=0)
        return {"columns": columns, "mels": self._mels, "pixels": base64.b64encode(pooled.tobytes()).decode()}


def _plain(error: str | None, path: Path) -> str | None:
    """Take the path of the temporary file out of a message that a stranger reads."""
    return None if error is None else error.replace(str(path), "the file")


def say(value: dict[str, Any]) -> None:
    """Write one line for the process that asked."""
    sys.stdout.write(json.dumps(value, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Score the files that are named on standard input until it is closed."""
    set_up_logs()  # to standard error; standard output belongs to the answers
    os.nice(NICE)
    settings = json.loads(sys.stdin.readline())
    scanner = PictureScanner(Config.model_validate(settings["config"]), settings["limit"])
    for line in sys.stdin:
        say({"result": scanner.judge(Path(json.loads(line)))})


if __name__ == "__main__":
    main()
