"""Files that a page wants scored: one at a time, in a process of their own, with a bound on everything."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import structlog

from streamdet.config import Config
from streamdet.web.uploads import Upload, make_uploads

log = structlog.get_logger(__name__)
REMEMBERED = 32  # jobs that are over and can still be asked for
IDLE_SECONDS = 60.0  # after which the process that scores is ended, which frees its memory
LEAST_SECONDS = 90.0  # of patience with one file, whatever its length
CHUNK_SECONDS = 20.0  # longest silence of a page that sends a file
LINE = 32 * 1024 * 1024  # longest line the process may answer with
Phase = Literal["receiving", "waiting", "running", "done", "failed", "cancelled"]


class ScanRefusedError(Exception):
    """A file is not taken; ``status`` is the HTTP status that says so."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(slots=True)
class Job:
    """One file on its way through."""

    name: str
    upload: Upload
    phase: Phase = "receiving"
    seconds: float = 0.0
    of: float = 0.0
    result: dict[str, Any] | None = None
    error: str | None = None
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.phase in ("done", "failed", "cancelled")

    def describe(self, ahead: int) -> dict[str, Any]:
        """Plain values for JSON; ``ahead`` is how many files come first."""
        told = {"id": self.id, "name": self.name, "phase": self.phase, "seconds": self.seconds, "of": self.of}
        return told | {"ahead": ahead, "error": self.error, "result": self.result}


class Scans:
    """Takes files, scores them one after the other, remembers the results for a while. Lives on one event loop.

    ``config`` says what configuration runs; a file is scored by the one that runs when its turn comes.
    """

    def __init__(self, config: Callable[[], Config]) -> None:
        self._running_config = config
        self._config = config()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._queue: asyncio.Queue[Job] = asyncio.Queue()
        self._uploads = make_uploads()
        self._process: Process | None = None
        self._running: Job | None = None

    @property
    def open(self) -> int:
        """Files that are on their way, wait or are being scored."""
        return sum(not job.over for job in self._jobs.values())

    @property
    def limit_bytes(self) -> int:
        """Largest file taken."""
        return self._config.web.upload_mb * 1_000_000

    async def receive(self, name: str, length: int | None, body: AsyncIterator[bytes]) -> Job:
        """Take a file in and put it in the queue.

        Raises:
            ScanRefusedError: it is too large, empty or slow, or there is no room for one more.
        """
        if length is not None and length > self.limit_bytes:
            raise self._too_large()
        if self.open > self._config.web.waiting:
            raise ScanRefusedError(503, "Too many files wait to be scored; try again in a minute.")
        try:
            job = Job(name, self._uploads.make())
        except OSError as error:
            raise _no_room(error) from error
        self._jobs[job.id] = job
        try:
            await self._store(job, body)
        except BaseException:
            self._end(job, "failed", "it never came in full")
            del self._jobs[job.id]
            raise
        job.phase = "waiting"
        self._queue.put_nowait(job)
        self._forget()
        return job

    def get(self, job_id: str) -> dict[str, Any] | None:
        """Describe a job; None where it is unknown or long over."""
        job = self._jobs.get(job_id)
        if job is None:
            return None
        before = list(self._jobs.values())
        ahead = sum(other.phase in ("waiting", "running") for other in before[: before.index(job)])
        return job.describe(ahead if job.phase == "waiting" else 0)

    async def cancel(self, job_id: str) -> bool:
        """Give up a job; False where it is unknown."""
        job = self._jobs.get(job_id)
        if job is None:
            return False
        if not job.over:
            self._end(job, "cancelled", None)
            if job is self._running:
                await self._kill()
        return True

    async def run(self) -> None:
        """Score what waits until cancelled."""
        try:
            while True:
                try:
                    job = await asyncio.wait_for(self._queue.get(), IDLE_SECONDS)
                except TimeoutError:
                    await self._kill()
                    continue
                if not job.over:
                    await self._score(job)
        finally:
            await self._kill()
            for job in self._jobs.values():
                job.upload.close()
            self._uploads.close()

    async def _store(self, job: Job, body: AsyncIterator[bytes]) -> None:
        size, chunks = 0, aiter(body)
        while True:
            try:
                chunk = await asyncio.wait_for(anext(chunks), CHUNK_SECONDS)
            except StopAsyncIteration:
                break
            except TimeoutError as error:
                raise ScanRefusedError(408, "The file came too slowly.") from error
            size += len(chunk)
            if size > self.limit_bytes:
                raise self._too_large()
            try:
                job.upload.write(chunk)
            except OSError as error:
                raise _no_room(error) from error
        if size == 0:
            raise ScanRefusedError(400, "The file is empty.")

    async def _score(self, job: Job) -> None:
        self._running, job.phase = job, "running"
        patience = max(LEAST_SECONDS, self._config.web.upload_seconds / 4)
        try:
            result = await asyncio.wait_for(self._ask(job), patience)
        except TimeoutError:
            await self._fail(job, f"Scoring took more than {patience:.0f} s and was given up.")
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            if not job.over:
                log.warning("scan_failed", error=f"{type(error).__name__}: {error}")
                await self._fail(job, "The process that scores files stopped; the file may be damaged.")
        else:
            job.result = result
            job.error = result["error"]
            self._end(job, "done" if result["verdict"] is not None else "failed", job.error)
        finally:
            self._running = None

    async def _ask(self, job: Job) -> dict[str, Any]:
        process = await self._worker()
        if job.over:  # given up meanwhile; its path may be another file's by now
            raise asyncio.IncompleteReadError(b"", None)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(str(job.upload.path)).encode() + b"\n")
        await process.stdin.drain()
        while line := await process.stdout.readline():
            answer: dict[str, Any] = json.loads(line)
            if "result" in answer:
                result: dict[str, Any] = answer["result"]
                return result
            job.seconds, job.of = answer["seconds"], answer["of"]
        raise asyncio.IncompleteReadError(b"", None)

    async def _worker(self) -> Process:
        if self._config is not (config := self._running_config()):
            self._config = config
            await self._kill()  # it judges by the one before
        if self._process is not None and self._process.returncode is None:
            return self._process
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streamdet.web.worker", stdin=PIPE, stdout=PIPE, limit=LINE
        )
        self._process = process
        settings = {
            "config": self._config.model_dump(mode="json", by_alias=True),
            "limit": self._config.web.upload_seconds,
        }
        assert process.stdin is not None
        process.stdin.write(json.dumps(settings).encode() + b"\n")
        log.debug("scan_worker_started", pid=process.pid, seconds=time.monotonic() - began)
        return process

    async def _fail(self, job: Job, text: str) -> None:
        await self._kill()
        self._end(job, "failed", text)

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _end(self, job: Job, phase: Phase, error: str | None) -> None:
        if not job.over:
            job.phase, job.error = phase, error
        job.upload.close()

    def _forget(self) -> None:
        over = [job for job in self._jobs.values() if job.over]
        for job in over[: max(0, len(over) - REMEMBERED)]:
            del self._jobs[job.id]

    def _too_large(self) -> ScanRefusedError:
        return ScanRefusedError(413, f"The file is too large: {self._config.web.upload_mb} MB are taken at most.")


def _no_room(error: OSError) -> ScanRefusedError:
    return ScanRefusedError(507, f"The file cannot be kept: {error.strerror}.")
