"""Where files that a page sends are kept until they are scored: in memory, because nobody agreed to a copy on a disk.

Best is a file without a name (memfd): the kernel frees it with the process, however that ends. Next comes a folder in
``/dev/shm``, and where neither can be had a folder for temporary files, which is said in the log. A process that is
killed leaves its folder; the next one takes it away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

import structlog

log = structlog.get_logger(__name__)
PREFIX = "streamdet-page-"
OWNER = "owner"  # locked for as long as the process lives that made the folder
SWEPT_AFTER = 60.0  # seconds; a younger folder may be one that is about to be locked
SHARED_MEMORY = Path("/dev/shm")
MOUNTS = Path("/proc/self/mounts")


@dataclass(slots=True)
class Upload:
    """One file: ``path`` is where another process of the same user finds it, until it is closed."""

    path: Path
    file: BinaryIO
    _remove: Callable[[], None] = field(default=lambda: None)

    def write(self, data: bytes) -> None:
        """Append to it; an unbuffered file may take less than it was given.

        Raises:
            OSError: there is no room for it.
        """
        rest = memoryview(data)
        while rest:
            rest = rest[self.file.write(rest) :]

    def close(self) -> None:
        """Forget the file; more than once is allowed."""
        with contextlib.suppress(OSError):  # what could not be written is of no use any more
            self.file.close()
        self._remove()


class Uploads(Protocol):
    """Makes and keeps uploads."""

    def make(self) -> Upload:
        """Make an empty one.

        Raises:
            OSError: there is no room for it.
        """
        ...

    def close(self) -> None:
        """Free what is held beside the uploads themselves."""
        ...


class NamelessUploads:
    """Files in memory that have no name; Linux only."""

    def make(self) -> Upload:
        """Make an empty one."""
        descriptor = os.memfd_create("streamdet-upload")
        # unbuffered: what has been written is there for the process that scores
        return Upload(Path(f"/proc/{os.getpid()}/fd/{descriptor}"), open(descriptor, "wb", buffering=0))

    def close(self) -> None:
        """Do nothing: there is nothing else."""


class FolderUploads:
    """Files in a folder of their own below ``root``."""

    def __init__(self, root: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
        self._owner = os.open(self.folder / OWNER, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def make(self) -> Upload:
        """Make an empty one."""
        descriptor, name = tempfile.mkstemp(dir=self.folder)
        path = Path(name)
        return Upload(path, open(descriptor, "wb", buffering=0), lambda: path.unlink(missing_ok=True))

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._owner)


def sweep(root: Path) -> None:
    """Remove this user's folders below ``root`` whose process is gone."""
    for folder in root.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another's, in use, or gone meanwhile
            if _left(folder):
                shutil.rmtree(folder)
                log.info("uploads_swept", folder=str(folder))


def _left(folder: Path) -> bool:
    about = folder.lstat()  # never through a link that somebody else may have laid
    if not folder.is_dir() or folder.is_symlink() or about.st_uid != os.geteuid():
        return False
    if time.time() - about.st_mtime < SWEPT_AFTER:
        return False
    owner = os.open(folder / OWNER, os.O_RDWR | os.O_NOFOLLOW)
    try:
        # not the process id, which says nothing where containers share a folder: the lock ends with the process
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(owner)
    return True


def make_uploads() -> Uploads:
    """Find the best place that this machine has, once what killed processes left in any of them is gone."""
    disk = Path(tempfile.gettempdir())
    for root in {SHARED_MEMORY, disk}:
        sweep(root)
    if _nameless():
        return NamelessUploads()
    if _in_memory(SHARED_MEMORY):
        with contextlib.suppress(OSError):
            return FolderUploads(SHARED_MEMORY)
    uploads = FolderUploads(disk)
    if not _in_memory(disk):
        log.warning("uploads_on_disk", folder=str(uploads.folder), reason="no memory to keep them in")
    return uploads


def _nameless() -> bool:
    """Whether files without a name can be had, and found by the process that scores."""
    try:
        upload = NamelessUploads().make()
    except (AttributeError, OSError):  # another system, or a sandbox that forbids it
        return False
    try:
        return upload.path.is_file()
    except OSError:
        return False
    finally:
        upload.close()


def _in_memory(root: Path) -> bool:
    """Whether a folder lies in a file system that is memory."""
    try:
        mounts = [line.split() for line in MOUNTS.read_text().splitlines()]
        root = root.resolve(strict=True)
    except OSError:
        return False
    above = [(len(place), kind) for _, place, kind, *_ in mounts if root.is_relative_to(place)]
    return bool(above) and max(above)[1] in ("tmpfs", "ramfs")
