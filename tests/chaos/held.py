"""What a process holds, so that a long run can show that nothing grows."""

from __future__ import annotations

import gc
import threading
from typing import NamedTuple, Self

import psutil


class Held(NamedTuple):
    """Threads, descriptors, child processes and resident memory (MiB) of this process, or how many more of them."""

    threads: int
    descriptors: int
    processes: int
    megabytes: float

    @classmethod
    def now(cls) -> Self:
        """Count, after garbage is collected."""
        gc.collect()
        process = psutil.Process()
        children = len(process.children(recursive=True))
        return cls(threading.active_count(), process.num_fds(), children, process.memory_info().rss / 2**20)

    def since(self, before: Held) -> Held:
        """Say how much more this is than ``before``."""
        threads, descriptors, processes = (self[i] - before[i] for i in range(3))
        return Held(int(threads), int(descriptors), int(processes), round(self.megabytes - before.megabytes, 1))
