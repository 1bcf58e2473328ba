"""Coverage-guided fuzzing of anything that takes bytes: no exception may escape, and memory must not grow.

A :class:`Target` is a function of bytes and some inputs to begin with. Two engines drive it: libFuzzer through atheris,
where that is installed (it is not for every Python), and a small one of our own, which keeps an input when it reaches a
line that none reached before (``sys.settrace`` on the modules under test) and mutates what it kept. Ours is slower and
blinder, yet needs nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import structlog

PAGE = os.sysconf("SC_PAGE_SIZE")
LONGEST = 4096
WARM_UP = 0.2  # share of the inputs after which memory should have settled
LARGEST_GROWTH = 48 << 20  # octets; allocators keep some


@dataclass(frozen=True, slots=True)
class Target:
    """What is fuzzed: ``run`` must return for any input, having caught the errors it may raise."""

    name: str
    run: Callable[[bytes], None]
    seeds: Sequence[bytes]
    modules: Sequence[str]  # whose lines guide the search


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run went; ``failure`` is the input that broke the target, in hex."""

    target: str
    engine: str
    inputs: int
    seconds: float
    grown: int
    covered: int
    failure: str | None = None
    error: str | None = None

    @property
    def good(self) -> bool:
        """True where nothing escaped and memory stayed."""
        return self.failure is None and self.error is None and self.grown <= LARGEST_GROWTH


def resident() -> int:
    """Octets of memory this process holds."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE


class Mutator:
    """Makes new inputs of old ones: bits, octets, numbers at the edges, cuts, repeats, and joins of two."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._changes = (self._flip, self._octet, self._edge, self._cut, self._repeat, self._insert)

    def __call__(self, corpus: Sequence[bytes]) -> bytes:
        """Make an input of one or two in the corpus."""
        data = bytearray(self._random.choice(corpus))
        if self._random.random() < 0.1:
            other = self._random.choice(corpus)
            data = data[: self._random.randint(0, len(data))] + other[self._random.randint(0, len(other)) :]
        for _ in range(self._random.choice((1, 1, 2, 3, 8))):
            self._random.choice(self._changes)(data)
        return bytes(data[:LONGEST])

    def _place(self, data: bytearray) -> int:
        head = self._random.random() < 0.5  # headers are where the branches are
        return self._random.randrange(min(len(data), 24) if head else len(data)) if data else 0

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._place(data)] ^= 1 << self._random.randrange(8)

    def _octet(self, data: bytearray) -> None:
        if data:
            data[self._place(data)] = self._random.randrange(256)

    def _edge(self, data: bytearray) -> None:
        at, size = self._place(data), self._random.choice((1, 2, 4))
        value = self._random.choice((0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF))
        data[at : at + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size)

    def _cut(self, data: bytearray) -> None:
        at = self._place(data)
        del data[at : at + self._random.choice((1, 2, 4, 16, 64))]

    def _repeat(self, data: bytearray) -> None:
        at = self._place(data)
        data[at:at] = data[at : at + self._random.choice((1, 4, 32))] * self._random.choice((1, 2, 8))

    def _insert(self, data: bytearray) -> None:
        at = self._place(data)
        data[at:at] = self._random.randbytes(self._random.choice((1, 2, 4, 16)))


class Lines:
    """Counts the lines of some modules that were reached, by tracing this thread."""

    def __init__(self, modules: Sequence[str]) -> None:
        self.seen: set[tuple[CodeType, int]] = set()
        self._files = {str(sys.modules[name].__file__) for name in modules}

    def watch(self, run: Callable[[bytes], None], data: bytes) -> bool:
        """Run once; tell whether a line was reached for the first time."""
        before = len(self.seen)
        sys.settrace(self._call)
        try:
            run(data)
        finally:
            sys.settrace(None)
        return len(self.seen) > before

    def _call(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        return self._line if frame.f_code.co_filename in self._files else None

    def _line(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        self.seen.add((frame.f_code, frame.f_lineno))
        return self._line


def fuzz(target: Target, inputs: int, seed: int = 0, traced: float = 0.02) -> Outcome:
    """Run our own engine; the share ``traced`` of the inputs looks for new lines, the others run at full speed."""
    mutate, lines, chance = Mutator(seed), Lines(target.modules), random.Random(seed)
    corpus = [bytes(one) for one in target.seeds]
    began, settled = time.monotonic(), 0
    for number in range(inputs):
        data = corpus[number] if number < len(corpus) else mutate(corpus)
        try:
            if number < 200 or chance.random() < traced:
                if lines.watch(target.run, data):
                    corpus.append(data)
            else:
                target.run(data)
        except Exception as error:  # noqa: BLE001  whatever it is, it is the finding
            return Outcome(target.name, "own", number + 1, _since(began), 0, len(lines.seen), data.hex(), repr(error))
        if number == int(WARM_UP * inputs):
            settled = _settle()
    return Outcome(target.name, "own", inputs, _since(began), max(0, _settle() - settled), len(lines.seen))


def fuzz_with_atheris(module: str, target: Target, inputs: int, seed: int = 0) -> Outcome:
    """Run libFuzzer in a process of its own, since it ends the process it runs in."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for number, one in enumerate(target.seeds):
            (corpus / f"seed-{number}").write_bytes(one)
        flags = [f"-runs={inputs}", f"-seed={seed + 1}", f"-max_len={LONGEST}", "-rss_limit_mb=2048", "-timeout=20"]
        flags += ["-verbosity=0", "-print_final_stats=1", f"-artifact_prefix={folder}/", str(corpus)]
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", module, "--atheris", target.name, "--report", str(report), "--", *flags]
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "PYTHONHASHSEED": "0"})
        broke = [path for path in Path(folder).iterdir() if path.name.startswith(("crash", "timeout", "oom"))]
        failure = broke[0].read_bytes().hex() if broke else None
        told = json.loads(report.read_text()) if report.exists() else {}
        kept = len(list(corpus.iterdir()))
    error = None if done.returncode == 0 and told else done.stderr.decode(errors="replace")[-2000:]
    return Outcome(
        target.name, "atheris", told.get("inputs", 0), _since(began), told.get("grown", 0), kept, failure, error
    )


def _under_atheris(target: Target, report: Path, flags: Sequence[str]) -> None:
    import atheris  # noqa: PLC0415  not there for every Python

    count, settled = 0, 0
    planned = next(int(flag.partition("=")[2]) for flag in flags if flag.startswith("-runs="))
    last = {int(WARM_UP * planned), planned}

    def one(data: bytes) -> None:
        nonlocal count, settled
        target.run(data)
        count += 1
        if count in last or count % 50_000 == 0:
            held = _settle()
            settled = settled or (held if count >= WARM_UP * planned else 0)
            grown = max(0, held - settled) if settled else 0
            report.write_text(json.dumps({"inputs": count, "grown": grown}))

    for function in _functions(target.modules):
        atheris.instrument_func(function)
    atheris.Setup([sys.argv[0], *flags], one)
    atheris.Fuzz()


def _functions(modules: Sequence[str]) -> list[FunctionType]:
    """List the functions and methods that modules define."""
    found = [value for name in modules for value in vars(sys.modules[name]).values()]
    found += [value for kind in found if isinstance(kind, type) for value in vars(kind).values()]
    functions = [one for one in found if isinstance(one, FunctionType) and one.__module__ in modules]
    return list(dict.fromkeys(functions))


def _settle() -> int:
    gc.collect()
    return resident()


def _since(began: float) -> float:
    return round(time.monotonic() - began, 1)


def has_atheris() -> bool:
    """Tell whether libFuzzer can be used here."""
    try:
        import atheris  # noqa: F401, PLC0415
    except ImportError:
        return False
    return True


def main(module: str, targets: Mapping[str, Callable[[], Target]], arguments: Sequence[str] | None = None) -> int:
    """``python -m MODULE --inputs N [--target NAME] [--engine own|atheris]``: a JSON line a target; 1 on a finding."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=main.__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="over all targets")
    parser.add_argument("--target", choices=sorted(targets), action="append")
    parser.add_argument("--engine", choices=("own", "atheris"), default="atheris" if has_atheris() else "own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", help=argparse.SUPPRESS)
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("flags", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if given.atheris:
        _under_atheris(targets[given.atheris](), given.report, given.flags)
        return 0
    bad = 0
    chosen = given.target or sorted(targets)
    for name in chosen:
        target, share = targets[name](), given.inputs // len(chosen)
        if given.engine == "own":
            outcome = fuzz(target, share, given.seed)
        else:
            outcome = fuzz_with_atheris(module, target, share, given.seed)
        print(json.dumps(asdict(outcome)), flush=True)
        bad |= not outcome.good
    return int(bad)
