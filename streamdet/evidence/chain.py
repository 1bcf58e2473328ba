"""The chain of a folder: ``chain.jsonl``, one sealed line for everything that ever happened to it.

::

    DIR/chain.jsonl    entries 1, 2, 3 ...; each holds the digest of the one before
    DIR/head.json      how many there are and the digest of the last, sealed alike: shows that the tail was cut off
    DIR/lock           held while an entry is added, by whoever adds it
    DIR/NAME.*         recordings; ``NAME.open`` is one under way

An entry is of one ``kind``: ``alert`` (with the digests of its files), ``pruned`` (files that were deleted by policy),
``acknowledged`` (who has seen to an alert). Readers need no lock.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

from streamdet.errors import EvidenceError
from streamdet.events import utc
from streamdet.evidence.seal import Entry, Signer, seal, unseal

log = structlog.get_logger(__name__)
CHAIN: Final = "chain.jsonl"
HEAD: Final = "head.json"
LOCK: Final = "lock"
OWNER: Final = "owner"
OPEN: Final = ".open"
PART: Final = ".part"
BEFORE_FIRST: Final = "0" * 64
TAIL: Final = 1 << 16  # bytes read to find the last line; no entry is longer
MODE: Final = 0o640


class Chain:
    """Adds entries; several processes may, one after the other."""

    def __init__(self, folder: Path, signer: Signer | None = None) -> None:
        self.folder = folder
        self._signer = signer

    def prepare(self) -> None:
        """Make what is missing, and put right what a crash left: a line cut short, a head that lags behind.

        Raises:
            OSError: the folder cannot be written.
            EvidenceError: the last entry was changed; nothing may be added to such a chain.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        with self._locked() as file:
            _cut_torn_line(file)
            number, digest = _last(file)
            self._write_head(number, digest)

    def add(self, kind: str, content: Entry) -> Entry:
        """Write an entry to the disk and return it.

        Raises:
            OSError: it was not written.
            EvidenceError: the last entry was changed.
        """
        with self._locked() as file:
            return self._append(file, kind, content)

    @contextmanager
    def adding(self) -> Iterator[Adder]:
        """Hold the chain still while something is made that tells its own place in it.

        Raises:
            OSError, EvidenceError: as :meth:`add`.
        """
        with self._locked() as file:
            yield Adder(self, file)

    def _append(self, file: int, kind: str, content: Entry) -> Entry:
        _cut_torn_line(file)
        number, previous = _last(file)
        entry = {"v": 1, "number": number + 1, "previous": previous, "kind": kind, "time": utc(time.time())} | content
        line = seal(entry, self._signer)
        length = os.fstat(file).st_size
        try:
            _write_all(file, line + b"\n")
            os.fsync(file)
        except OSError:
            os.ftruncate(file, length)  # half a line is none
            raise
        sealed = unseal(line)
        try:
            self._write_head(number + 1, sealed["digest"])
        except OSError as error:  # the entry stands all the same; the next one writes the head again
            log.warning("evidence_head_not_written", folder=str(self.folder), reason=error.strerror)
        return sealed

    def _write_head(self, count: int, digest: str) -> None:
        head = {"v": 1, "kind": "head", "count": count, "last": digest, "time": utc(time.time())}
        write_whole(self.folder / HEAD, seal(head, self._signer) + b"\n")

    @contextmanager
    def _locked(self) -> Iterator[int]:
        lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, MODE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            file = os.open(self.folder / CHAIN, os.O_RDWR | os.O_CREAT | os.O_APPEND, MODE)
            try:
                yield file
            finally:
                os.close(file)
        finally:
            os.close(lock)


class Adder:
    """A chain that nobody else can add to just now."""

    def __init__(self, chain: Chain, file: int) -> None:
        self._chain = chain
        self._file = file
        self.number, self.previous = _last(file)
        self.number += 1

    def sidecar_before(self, suffix: str) -> dict[str, str] | None:
        """Name and digest of the sidecar chained last; None where there is none among the latest entries."""
        for line in reversed(_tail(self._file).splitlines()):
            try:
                files = unseal(line).get("files", {})
            except EvidenceError:  # the tail begins in the middle of a line
                return None
            found = {name: digest for name, digest in files.items() if name.endswith(suffix)}
            if found:
                return found
        return None

    def add(self, kind: str, content: Entry) -> Entry:
        """Write the entry; raises as :meth:`Chain.add`."""
        return self._chain._append(self._file, kind, content)


def read_lines(folder: Path) -> tuple[list[bytes], bytes]:
    """Return the lines of a chain, and what follows the last newline.

    Raises:
        EvidenceError: there is no chain or it cannot be read.
    """
    try:
        data = (folder / CHAIN).read_bytes()
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise EvidenceError(f"no recordings of alerts in {folder}: name their folder with --dir") from error
        raise EvidenceError(f"cannot read {folder / CHAIN}: {error.strerror}") from error
    *lines, rest = data.split(b"\n")
    return lines, rest


def read_entries(folder: Path) -> list[Entry]:
    """Return all entries; those that were changed are left out, which is for ``verify`` to tell.

    Raises:
        EvidenceError: there is no chain or it cannot be read.
    """
    entries = []
    for line in read_lines(folder)[0]:
        try:
            entries.append(unseal(line))
        except EvidenceError:
            continue
    return entries


def own(folder: Path) -> int:
    """Become the one process that records into a folder; the handle holds it.

    Raises:
        EvidenceError: another process does.
        OSError: the folder cannot be written.
    """
    handle = os.open(folder / OWNER, os.O_RDWR | os.O_CREAT, MODE)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise EvidenceError(f"another streamdet records into {folder}: give each a folder of its own") from error
    return handle


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that there is the old one or the new one, never half of it.

    Raises:
        OSError: it was not written.
    """
    part = path.with_name(path.name + PART)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, MODE), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, last.

    Raises:
        OSError: the disk refused.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _cut_torn_line(file: int) -> None:
    """Cut off what a crash or a full disk left of a line."""
    tail = _tail(file)
    rest = len(tail) - (tail.rfind(b"\n") + 1)
    if rest:
        log.warning("evidence_torn_line", bytes=rest)
        os.ftruncate(file, os.fstat(file).st_size - rest)


def _last(file: int) -> tuple[int, str]:
    """Return number and digest of the last entry; 0 and zeros where there is none."""
    lines = _tail(file).rstrip(b"\n").rsplit(b"\n", 1)
    if not lines[-1]:
        return 0, BEFORE_FIRST
    try:
        entry = unseal(lines[-1])
        return int(entry["number"]), str(entry["digest"])
    except (EvidenceError, KeyError) as error:
        raise EvidenceError(f"the last entry of {CHAIN} {error}: move the folder away and begin a new one") from error


def _tail(file: int) -> bytes:
    size = os.fstat(file).st_size
    return os.pread(file, TAIL, max(0, size - TAIL))
