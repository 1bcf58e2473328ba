"""Whatever is done to a folder of recordings shows, and what was done by policy is told from it."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamdet.errors import ConfigError
from streamdet.evidence.chain import CHAIN, HEAD, Chain
from streamdet.evidence.retention import Limits, Retention
from streamdet.evidence.seal import Signer, load_public, make_key, seal, unseal
from streamdet.evidence.verify import verify

from .make import record

RECORDINGS = 4


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "desk"
    make_key(path)
    return path


@pytest.fixture(scope="module", params=["plain", "signed"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, key: Path) -> Path:
    """Four recordings in all three modes, and an acknowledgement."""
    folder = tmp_path_factory.mktemp("evidence")
    signer = Signer.load(key) if request.param == "signed" else None
    for number, mode in enumerate(("full", "scores", "features", "full"), 1):
        record(folder, number, mode=mode, hops=8, signer=signer)
    Chain(folder, signer).add("acknowledged", {"alert": "1", "by": "desk", "at": "now"})
    assert verify(folder).problems == []
    return folder


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_of_any_file_is_found(folder: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(p for p in folder.iterdir() if p.stat().st_size)))
    before = path.read_bytes()
    bit = data.draw(st.integers(0, 8 * len(before) - 1))
    changed = bytearray(before)
    changed[bit // 8] ^= 1 << bit % 8
    try:
        path.write_bytes(changed)
        assert not verify(folder).intact, (path.name, bit)
    finally:
        path.write_bytes(before)


def test_any_removed_file_is_found(folder: Path) -> None:
    names = [path for path in folder.iterdir() if path.stat().st_size and path.name != CHAIN]
    assert len(names) == 1 + 3 + 1 + 3 + 3
    for path in names:
        aside = path.rename(path.parent.parent / "aside")
        assert any(problem.what == "is missing" for problem in verify(folder).problems), path.name
        aside.rename(path)
    assert verify(folder).intact


def test_any_swapped_pair_is_found(folder: Path) -> None:
    files = sorted(path for path in folder.iterdir() if path.suffix in (".flac", ".png", ".json", ".npz"))
    aside = folder.parent / "aside"

    def swap(one: Path, other: Path) -> None:
        one.rename(aside)
        other.rename(one)
        aside.rename(other)

    for one, other in itertools.pairwise(files):
        swap(one, other)
        assert len(verify(folder).problems) >= 2, (one.name, other.name)
        swap(one, other)
    assert verify(folder).intact


LINES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "last line gone": lambda lines: lines[:-1],
    "two last lines gone": lambda lines: lines[:-2],
    "first line gone": lambda lines: lines[1:],
    "one in the middle gone": lambda lines: lines[:1] + lines[2:],
    "two change places": lambda lines: [lines[1], lines[0], *lines[2:]],
    "one comes twice": lambda lines: [*lines, lines[-1]],
    "half of the last line": lambda lines: [*lines[:-1], lines[-1][:40]],
    "nothing left": lambda _lines: [],
}


@pytest.mark.parametrize("how", LINES)
def test_a_chain_that_was_cut_or_reordered_is_found(copy: Path, how: str) -> None:
    lines = (copy / CHAIN).read_bytes().splitlines(keepends=True)
    (copy / CHAIN).write_bytes(b"".join(LINES[how](lines)))
    assert verify(copy).problems


def test_a_forger_without_the_key_is_found_and_with_the_anchor_even_one_without_need_of_it(
    copy: Path, folder: Path, key: Path
) -> None:
    """He writes the whole chain anew, with digests that fit; only signature or anchor tell."""
    public = load_public(key.with_name("desk.pub"))
    before = verify(copy)
    lines, previous = (copy / CHAIN).read_bytes().splitlines(), "0" * 64
    forged = []
    for number, line in enumerate(lines[:-1], 1):
        entry = {k: v for k, v in unseal(line).items() if k not in ("digest", "signature", "key")}
        forged.append(seal(entry | {"number": number, "previous": previous, "time": "2000-01-01T00:00:00Z"}, None))
        previous = unseal(forged[-1])["digest"]
    (copy / CHAIN).write_bytes(b"".join(line + b"\n" for line in forged))
    head = {"v": 1, "kind": "head", "count": len(forged), "last": previous, "time": "2000-01-01T00:00:00Z"}
    (copy / HEAD).write_bytes(seal(head, None) + b"\n")
    assert verify(copy).intact  # documented: without key and anchor nothing can tell
    assert not verify(copy, [public]).intact
    assert not verify(copy, anchor=(before.entries, before.last)).intact
    assert verify(folder, anchor=(before.entries, before.last)).intact


def test_another_key_is_not_the_key(tmp_path: Path, key: Path) -> None:
    record(tmp_path / "a", signer=Signer.load(key))
    other = tmp_path / "other"
    make_key(other)
    assert verify(tmp_path / "a", [load_public(key.with_name("desk.pub"))]).intact
    report = verify(tmp_path / "a", [load_public(tmp_path / "other.pub")])
    assert {problem.what[:27] for problem in report.problems} == {"is signed with another key,"}


def test_signing_may_begin_later_but_not_end(tmp_path: Path, key: Path) -> None:
    record(tmp_path, 1)
    record(tmp_path, 2, signer=Signer.load(key))
    assert verify(tmp_path, [load_public(key.with_name("desk.pub"))]).intact
    record(tmp_path, 3)
    assert "is not signed" in {problem.what for problem in verify(tmp_path).problems}


def test_a_stranger_among_the_files_is_found(copy: Path) -> None:
    (copy / "20260101T000000Z-hall-x.flac").write_bytes(b"x")
    assert [problem.what for problem in verify(copy).problems] == ["is not in the chain"]


def test_a_key_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    make_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="never overwritten"):
        make_key(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        Signer.load(path)


@pytest.mark.parametrize(
    ("limits", "why", "left"),
    [
        (Limits(count=1), "count", 1),
        (Limits(most_bytes=0), "bytes", 0),
        (Limits(seconds=-1.0), "age", 0),
    ],
)
def test_what_is_pruned_by_policy_is_told_from_what_was_taken(
    tmp_path: Path, limits: Limits, why: str, left: int
) -> None:
    for number in range(1, 4):
        record(tmp_path, number, hops=4)
    assert Retention(tmp_path, limits).make_room(Chain(tmp_path)) == 3 - left
    report = verify(tmp_path)
    assert report.intact
    assert report.pruned == {why: 3 - left}
    assert len(list(tmp_path.glob("*.flac"))) == left
    if left:
        next(tmp_path.glob("*.flac")).unlink()
        assert not verify(tmp_path).intact


def test_pruning_that_was_interrupted_is_finished(tmp_path: Path) -> None:
    entry, _ = record(tmp_path, 1, hops=4)
    Chain(tmp_path).add("pruned", {"why": "age", "entries": [entry["number"]]})
    assert verify(tmp_path).intact
    Retention(tmp_path, Limits()).make_room(Chain(tmp_path))
    assert not list(tmp_path.glob("*.flac"))


def test_each_sidecar_holds_the_digest_of_the_one_before(tmp_path: Path) -> None:
    first, _ = record(tmp_path, 1, hops=4)
    second, _ = record(tmp_path, 2, hops=4)
    name = next(name for name in first["files"] if name.endswith(".json"))
    sidecar = json.loads((tmp_path / next(n for n in second["files"] if n.endswith(".json"))).read_bytes())
    assert sidecar["chain"] == {
        "number": 2,
        "previous": first["digest"],
        "sidecar_before": {name: first["files"][name]},
    }
