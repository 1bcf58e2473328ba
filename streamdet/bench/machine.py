"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

# Instructions that decide how fast integers and floats are multiplied.
TELLING = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve")
PACKAGES = ("streamdet", "numpy", "onnxruntime", "torch")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def describe_machine() -> dict[str, Any]:
    """Processor, its telling instructions, cores, load, versions, and what limits the number of threads."""
    processor, flags = _processor()
    return {
        "processor": processor,
        "instructions": [name for name in TELLING if name in flags],
        "cores": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
        "threads": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
    }


def resident_mb(process: int | str = "self") -> float:
    """Resident memory of a process in MB (10^6 bytes)."""
    return _status(process, "VmRSS")


def peak_resident_mb(process: int | str = "self") -> float:
    """Most resident memory a process ever had, in MB."""
    return _status(process, "VmHWM")


def cpu_seconds(process: int) -> float:
    """CPU seconds of a process so far, all threads, in steps of the kernel's tick (10 ms as a rule)."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    user, system = int(fields[11]), int(fields[12])
    return (user + system) / os.sysconf("SC_CLK_TCK")


def _status(process: int | str, key: str) -> float:
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    value = next(line for line in lines if line.startswith(f"{key}:"))
    return int(value.split()[1]) * 1024 / 1e6


def _processor() -> tuple[str, frozenset[str]]:
    entries: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        entries.setdefault(key.strip(), value.strip())
    flags = entries.get("flags", entries.get("Features", ""))
    return entries.get("model name", platform.machine()), frozenset(flags.split())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
