from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib.image
import numpy as np
import psutil
import pytest
import soundfile
import torch
from torch.multiprocessing.spawn import ProcessExitedException
from typer.testing import CliRunner

from streamdet.features import FrontEndConfig
from tests.trainer import corpus
from trainer import cli
from trainer.augment import Bank, WaveAugment
from trainer.data.build import Builder
from trainer.data.cache import FeatureCache
from trainer.data.errors import DataError
from trainer.data.feed import Feed, Selection
from trainer.data.fresh import Fresh
from trainer.data.manifest import read_manifest
from trainer.fit import FitConfig, Progress, Task, fit, schedule, telephone_edge
from trainer.losses import contrastive_loss, window_loss
from trainer.models.resnet import CausalResNet, front_end_of
from trainer.place import choose_device, choose_half
from trainer.validation import Validation, limited

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
CONFIG = FitConfig(width=0.125, batch=8, steps=30, rate=3e-3, evaluate_steps=10, shortest=64, longest=96, amp="off")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus.make(tmp_path_factory.mktemp("fit") / "corpus")


@pytest.fixture(scope="module")
def cache(manifest: Path) -> Path:
    store = FeatureCache(manifest.parent / "cache")
    Builder(store, None).variant(read_manifest(manifest, "train"), 0)
    return store.folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Manifest of a corpus that a test may change."""
    return corpus.make(tmp_path / "own", clips=6)


def given(monkeypatch: pytest.MonkeyPatch, manifest: Path, *options: object) -> Task:
    """The task that the command line makes of its words; it fills the cache, and does not train."""
    tasks: list[Task] = []
    monkeypatch.setattr("trainer.fit.fit", lambda task, _: tasks.append(task))
    words = ["fit", manifest, "--steps", 1, "--width", 0.125, "--batch", 8, "--amp", "off", *options]
    CliRunner().invoke(cli.app, [str(word) for word in words], catch_exceptions=False)
    return tasks[0]


def used(task: Task) -> list[tuple[str, int]]:
    """Clips and labels that a task trains on; a clip is there once a variant."""
    feed = Feed(FeatureCache(task.cache), None, task.config.selection, size=8, seed=0, clips=task.clips)  # type: ignore[arg-type]
    feed.refresh()
    return sorted((e.clip, e.label) for e in feed.entries)


def listed(manifest: Path, split: str = "train") -> list[tuple[str, int]]:
    return sorted((c.id, c.label) for c in read_manifest(manifest, split))


def rewrite(manifest: Path, **values: dict[str, str]) -> None:
    """Replace values of a manifest, by column and clip."""
    with manifest.open(encoding="utf-8") as file:
        changed = [row | {k: v[row["id"]] for k, v in values.items() if row["id"] in v} for row in csv.DictReader(file)]
    corpus.write(manifest, changed)


def train(task: Task) -> list[Progress]:
    states: list[Progress] = []
    fit(task, states.append)
    return states


def weights(path: Path) -> dict[str, torch.Tensor]:
    stored: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["weights"]
    return stored


def assert_same(one: Path, two: Path) -> None:
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensor, weights(two)[name], rtol=0, atol=0)


def test_training_learns_unseen_clips_and_writes_its_files(manifest: Path, cache: Path, tmp_path: Path) -> None:
    states = train(Task(CONFIG, cache, tmp_path, read_manifest(manifest, "val")))
    assert [s.step for s in states] == [10, 20, 30]
    assert states[-1].loss < 0.95 * states[0].loss
    assert states[-1].val["auc"] > 0.9
    with (tmp_path / "log.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["auc"]) for r in rows] == [s.val["auc"] for s in states]
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert best["figures"]["group_eer"] == min(s.val["group_eer"] for s in states)
    assert CausalResNet.from_checkpoint(tmp_path / "average.pt").settings["width"] == 0.125


def test_seed_repeats_a_run_and_another_seed_does_not(cache: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, steps=4, dropout=0.3)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(Task(replace(config, seed=seed), cache, tmp_path / name))
    assert_same(tmp_path / "a" / "last.pt", tmp_path / "b" / "last.pt")
    a, c = weights(tmp_path / "a" / "last.pt"), weights(tmp_path / "c" / "last.pt")
    assert not torch.equal(a["head.weight"], c["head.weight"])


def command(manifest: Path, cache: Path, out: Path, *options: str) -> list[str]:
    words = f"fit {manifest} --cache {cache} --out {out} --width 0.125 --batch 8 --amp off"
    return ["-m", "trainer.cli", *words.split(), *options]


def rows(log: Path) -> list[dict[str, str]]:
    if not log.exists():
        return []
    with log.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_run_killed_and_resumed_equals_the_uninterrupted_one(manifest: Path, cache: Path, tmp_path: Path) -> None:
    options = ("--steps", "12", "--evaluate-steps", "3", "--seed", "5")
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    subprocess.run([sys.executable, *command(manifest, cache, whole, *options)], check=True, env=ONE_THREAD)
    process = subprocess.Popen([sys.executable, *command(manifest, cache, halves, *options)], env=ONE_THREAD)
    while not rows(halves / "log.csv"):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    reached = torch.load(halves / "last.pt", weights_only=True)["step"]
    assert 3 <= reached < 12
    subprocess.run([sys.executable, *command(manifest, cache, halves, *options)], check=True, env=ONE_THREAD)
    for name in ("last.pt", "average.pt"):
        assert_same(whole / name, halves / name)
    one, two = ([(row["step"], row["loss"]) for row in rows(run / "log.csv")] for run in (whole, halves))
    assert {*two} <= {*one}
    assert two[-1] == one[-1]


def test_processes_of_a_launcher_share_a_run(manifest: Path, cache: Path, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = command(manifest, cache, tmp_path / "run", "--steps", "4", "--evaluate-steps", "2")
    subprocess.run([*launcher, *words], check=True, env=ONE_THREAD, capture_output=True)
    assert [row["step"] for row in rows(tmp_path / "run" / "log.csv")] == ["2", "4"]


def test_batches_do_not_depend_on_who_draws_them(cache: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, steps=3, evaluate_steps=3)
    for workers in (0, 2):
        train(Task(replace(config, workers=workers), cache, tmp_path / str(workers)))
    assert_same(tmp_path / "0" / "last.pt", tmp_path / "2" / "last.pt")


def test_patience_ends_a_run_that_gains_nothing(manifest: Path, cache: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, rate=0.0, steps=1_000, evaluate_steps=1, patience=2)
    states = train(Task(config, cache, tmp_path, read_manifest(manifest, "val")))
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert len(states) == best["step"] + 2


@pytest.mark.parametrize("limits", [{"steps": 2}, {"minutes": 1e-6}, {"steps": 99, "patience": 1, "rate": 0.0}])
def test_run_that_is_over_stays_as_it_is(
    manifest: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], limits: dict[str, float]
) -> None:
    config = replace(CONFIG, **{"steps": 0, "evaluate_steps": 1, **limits})  # type: ignore[arg-type]
    task = Task(config, cache, tmp_path, read_manifest(manifest, "val"))
    train(task)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    capsys.readouterr()
    assert train(task) == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert "the run is over since step" in capsys.readouterr().err


def test_curves_are_drawn_at_every_evaluation(manifest: Path, cache: Path, tmp_path: Path) -> None:
    sizes: list[int] = []

    def look(_: Progress) -> None:
        sizes.append((tmp_path / "curves.png").stat().st_mtime_ns)

    fit(Task(replace(CONFIG, steps=2, evaluate_steps=1), cache, tmp_path, read_manifest(manifest, "val")), look)
    assert len(set(sizes)) == 2
    picture = matplotlib.image.imread(tmp_path / "curves.png")
    assert picture.shape[1] > 800
    assert picture.std() > 0.02


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
def test_compiled_network_learns_the_same(cache: Path, tmp_path: Path) -> None:
    # without dropout: compiled code draws other masks
    config = replace(CONFIG, steps=2, shortest=64, longest=64, dropout=0.0)
    for compiled in (False, True):
        train(Task(replace(config, compiled=compiled), cache, tmp_path / str(compiled)))
    plain, fast = (weights(tmp_path / str(compiled) / "last.pt") for compiled in (False, True))
    torch.testing.assert_close(plain["stem.conv.weight"], fast["stem.conv.weight"], rtol=1e-3, atol=1e-5)


def test_excluded_families_and_sources_are_not_drawn(cache: Path, manifest: Path) -> None:
    def used(**chosen: tuple[str, ...]) -> set[str]:
        feed = Feed(FeatureCache(cache), None, Selection(**chosen), size=8, seed=0)  # type: ignore[arg-type]
        feed.refresh()
        return {e.clip for e in feed.entries}

    clips = read_manifest(manifest, "train")
    assert used() == {c.id for c in clips}
    assert used(exclude_families=("*1",)) == {c.id for c in clips if c.family != "family1"}
    assert used(exclude_sources=("source[01]",)) == {c.id for c in clips if c.source in ("source2", "source3")}
    with pytest.raises(DataError, match="not excluded"):
        used(exclude_families=("*",))


def test_only_training_clips_of_the_manifests_are_taken_from_a_cache(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ("--out", tmp_path / "run", "--cache", tmp_path / "cache", "--variants", 1)
    assert used(given(monkeypatch, own, *cache)) == listed(own)
    moved = listed(own)[:2]
    rewrite(own, split={name: "val" for name, _ in moved})
    assert used(given(monkeypatch, own, *cache)) == listed(own)
    assert not {*moved} & {*listed(own)}


def test_balance_is_chosen_on_the_command_line(
    manifest: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--exponent", "0.3", "--cap", "7", "--matched", "0.5", "--copies", "1.5"]
    chosen = given(monkeypatch, manifest, "--out", tmp_path, "--cache", cache, *words).config.selection
    assert chosen == Selection(exponent=0.3, cap=7, matched=0.5, copies=1.5)
    assert given(monkeypatch, manifest, "--out", tmp_path, "--cache", cache).config.selection == Selection()


def test_label_that_contradicts_the_cache_is_refused(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ("--out", tmp_path / "run", "--cache", tmp_path / "cache", "--variants", 1)
    given(monkeypatch, own, *cache)
    fake = next(name for name, label in listed(own) if label == 1)
    rewrite(own, label={fake: "real"})
    with pytest.raises(DataError, match=f"{fake} was cached as synthetic, the manifests say human"):
        given(monkeypatch, own, *cache)


def test_label_that_turns_up_while_a_run_goes_on_is_refused(own: Path, tmp_path: Path) -> None:
    store = FeatureCache(tmp_path / "cache")
    clips = read_manifest(own, "train")
    feed = Feed(store, None, Selection(), size=8, seed=0, clips=clips)  # type: ignore[arg-type]
    Builder(store, None).variant(clips, 0)
    feed.refresh()
    Builder(store, None).variant([replace(clip, label=1 - clip.label) for clip in clips], 1)
    with pytest.raises(DataError, match="such clips"):
        feed.refresh()


def test_clips_that_a_cache_lacks_are_made(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureCache(tmp_path / "cache")
    Builder(store, None).variant(read_manifest(own, "train")[:5], 0)
    task = given(monkeypatch, own, "--out", tmp_path / "run", "--cache", store.folder, "--variants", 1)
    assert used(task) == listed(own)


@pytest.mark.parametrize("own_cache", [True, False])
def test_filling_that_was_killed_is_ended_by_the_next_run(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: bool
) -> None:
    def killed(builder: Builder, clips: object, number: int, progress: object = None) -> None:
        if number == 1:
            raise KeyboardInterrupt
        variant(builder, clips, number)  # type: ignore[arg-type]

    variant = Builder.variant
    options = ("--out", tmp_path / "run", "--variants", 2, *(() if own_cache else ("--cache", tmp_path / "cache")))
    with monkeypatch.context() as patch:
        patch.setattr(Builder, "variant", killed)
        with pytest.raises((KeyboardInterrupt, IndexError)):
            given(monkeypatch, own, *options)
    assert used(given(monkeypatch, own, *options)) == sorted(2 * listed(own))


def test_cache_of_a_run_keeps_its_steps(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--out", tmp_path / "run", "--variants", 1)
    given(monkeypatch, own, *options, "--without", "codec")
    with pytest.raises(DataError, match="made without codec, not without any"):
        given(monkeypatch, own, *options)


def test_cache_of_others_keeps_its_number_of_variants(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureCache(tmp_path / "cache")
    Builder(store, None).variant(read_manifest(own, "train"), 0)
    task = given(monkeypatch, own, "--out", tmp_path / "run", "--cache", store.folder, "--variants", 3)
    assert used(task) == listed(own)


def test_clips_are_added_to_a_cache_as_it_was_made(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def frames(name: str) -> dict[str, bytes]:
        store = FeatureCache(tmp_path / name)
        store.refresh()
        return {e.clip: e.frames.tobytes() for e in store.entries}

    part, several = tmp_path / "own" / "part.csv", ("--seconds", "1", "--seed", "7", "--clean", "0.5")
    with own.open(encoding="utf-8") as file:
        corpus.write(part, list(csv.DictReader(file))[:6])
    for manifest, name in ((own, "whole"), (part, "part")):
        words = ["cache", str(manifest), "--variants", "1", "--out", str(tmp_path / name), *several]
        assert CliRunner().invoke(cli.app, words).exit_code == 0
    options = ("--out", tmp_path / "run", "--cache", tmp_path / "part", "--variants", 1)
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise.csv").write_text("id,kind\n")
    with pytest.raises(DataError, match="give the same --noise"):
        given(monkeypatch, own, *options, "--noise", tmp_path / "noise")
    given(monkeypatch, own, *options)
    assert frames("part").keys() == frames("whole").keys()
    # babble is made of the clips at hand, so distorted variants may differ
    same = [name for name, content in frames("whole").items() if frames("part")[name] == content]
    assert len(same) > len(frames("whole")) / 2


def test_cache_that_lacks_clips_is_refused_where_processes_share_it(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    clips, store = read_manifest(own, "train"), FeatureCache(tmp_path / "cache")
    Builder(store, None).variant(clips[1:], 0)
    options = ("--out", tmp_path / "run", "--cache", store.folder)
    with pytest.raises(DataError, match="without 1 clips"):
        given(monkeypatch, own, *options)
    clips[0].path.write_bytes(b"broken")
    assert len(used(given(monkeypatch, own, *options))) == len(clips) - 1


def test_another_front_end_is_trained_on_and_noted(manifest: Path, tmp_path: Path) -> None:
    config = FrontEndConfig(mels=96, bands="linear")
    store = FeatureCache(tmp_path / "cache", config)
    Builder(store, None).variant(read_manifest(manifest, "train"), 0)
    train(Task(replace(CONFIG, steps=1), store.folder, tmp_path / "run", read_manifest(manifest, "val")))
    assert front_end_of(tmp_path / "run" / "average.pt") == config
    assert CausalResNet.from_checkpoint(tmp_path / "run" / "average.pt").mels == 96


def test_front_ends_agree_on_where_the_telephone_band_ends() -> None:
    assert telephone_edge(FrontEndConfig()) == pytest.approx(0.70, abs=0.03)
    assert telephone_edge(FrontEndConfig(mels=96, bands="linear")) == pytest.approx(0.42, abs=0.02)


def test_impossible_places_are_refused() -> None:
    cpu = torch.device("cpu")
    assert choose_half("auto", cpu) is torch.bfloat16
    assert choose_half("off", cpu) is None
    with pytest.raises(DataError, match="needs a GPU"):
        choose_half("fp16", cpu)
    if not torch.cuda.is_available():
        with pytest.raises(DataError, match="sees no GPU"):
            choose_device("cuda")


def test_two_processes_agree_and_learn(manifest: Path, cache: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, processes=2, steps=6, evaluate_steps=3)
    task = Task(config, cache, tmp_path, read_manifest(manifest, "val"))
    try:
        fit(task, print)
    except ProcessExitedException:  # gloo was seen to abort once; a run that is started again goes on where it stopped
        fit(task, print)
    stored = torch.load(tmp_path / "last.pt", weights_only=True)
    assert stored["step"] >= 6
    assert all(torch.isfinite(t).all() for t in stored["weights"].values())


def test_processes_end_with_their_parent_in_the_background_too(manifest: Path, cache: Path, tmp_path: Path) -> None:
    options = ("--steps", "100000", "--evaluate-steps", "2", "--processes", "2")
    background = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]  # as a shell starts what it runs in the background
    words = [*background, sys.executable, *command(manifest, cache, tmp_path, *options)]
    process = subprocess.Popen(words, env=ONE_THREAD, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not rows(tmp_path / "log.csv"):
        assert process.poll() is None
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    for child in alive:
        child.kill()
    assert len(children) >= 2
    assert not alive


def test_refusal_of_one_of_several_processes_is_one_line(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "no.npz").write_bytes(b"nothing")
    words = ["fit", manifest, "--out", tmp_path / "run", "--steps", "1", "--width", "0.125", "--processes", "2"]
    words += ["--on-the-fly", "--teacher", tmp_path / "no.npz"]
    command = [sys.executable, "-m", "trainer.cli", *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, env=ONE_THREAD, check=False)
    assert ended.returncode == DataError.exit_code
    assert "Traceback" not in ended.stderr
    assert "no.npz: not the targets of `trainer data teach`" in ended.stderr.splitlines()[-1]


def test_refusal_of_the_first_process_is_told_where_others_wait(own: Path, cache: Path, tmp_path: Path) -> None:
    val = [clip for clip in read_manifest(own, "val") if clip.label == 0]
    with pytest.raises(DataError, match="needs human and synthetic clips"):
        fit(Task(replace(CONFIG, processes=2), cache, tmp_path / "run", val), print)
    assert not list((tmp_path / "run").glob("*.refusal"))


def test_folder_of_another_network_is_refused(cache: Path, tmp_path: Path) -> None:
    train(Task(replace(CONFIG, steps=1), cache, tmp_path))
    with pytest.raises(DataError, match="another network"):
        train(Task(replace(CONFIG, steps=1, width=0.25), cache, tmp_path))


def checkpoint(folder: Path, width: float = 0.125, **front_end: int) -> tuple[Path, CausalResNet]:
    """A network that knows nothing, in a file as a run leaves it."""
    config = FrontEndConfig(**front_end)  # type: ignore[arg-type]
    torch.manual_seed(7)
    network = CausalResNet(width, config.mels)
    torch.save({**network.checkpoint(), "front_end": config.to_dict()}, folder / "start.pt")
    return folder / "start.pt", network


def test_run_begins_with_the_weights_it_is_given(cache: Path, tmp_path: Path) -> None:
    path, network = checkpoint(tmp_path)
    still = Task(replace(CONFIG, steps=1, rate=0.0), cache, tmp_path / "still", start=path)
    train(still)
    weights = torch.load(still.out / "average.pt", weights_only=True)["weights"]
    for name, weight in network.named_parameters():
        assert torch.equal(weights[name], weight), name
    path.unlink()
    longer = replace(still, config=replace(still.config, steps=2))
    assert train(longer)[-1].step == 2  # goes on with its own
    with pytest.raises(DataError, match=r"start .*start\.pt instead of nothing"):
        train(replace(longer, start=None))


def test_weights_of_another_network_or_front_end_are_refused(cache: Path, tmp_path: Path) -> None:
    task = Task(replace(CONFIG, steps=1), cache, tmp_path / "run")
    with pytest.raises(DataError, match=r"another network.*0.25.*0.125"):
        train(replace(task, start=checkpoint(tmp_path, 0.25)[0]))
    with pytest.raises(DataError, match="another front end"):
        train(replace(task, start=checkpoint(tmp_path, fft=1024)[0]))


def test_run_that_began_with_weights_goes_on_without_the_file(own: Path, tmp_path: Path) -> None:
    path, _ = checkpoint(tmp_path, 0.25, mels=96)
    words = ["fit", own, "--out", tmp_path / "run", "--start", path, "--variants", 1, "--batch", 8, "--amp", "off"]
    assert CliRunner().invoke(cli.app, [str(word) for word in (*words, "--steps", 1)]).exit_code == 0
    path.unlink()
    assert CliRunner().invoke(cli.app, [str(word) for word in (*words, "--steps", 2)]).exit_code == 0
    stored = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert (stored["step"], stored["network"]["width"]) == (2, 0.25)


def test_width_and_front_end_are_those_of_the_start(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = checkpoint(tmp_path, 0.25, mels=96)
    words = ["fit", own, "--out", tmp_path / "run", "--steps", 1, "--variants", 1, "--start", path]
    tasks: list[Task] = []
    monkeypatch.setattr("trainer.fit.fit", lambda task, _: tasks.append(task))
    CliRunner().invoke(cli.app, [str(word) for word in words], catch_exceptions=False)
    assert tasks[0].config.width == 0.25
    assert FeatureCache(tasks[0].cache).config.mels == 96  # type: ignore[arg-type]
    assert tasks[0].start == path


def test_run_does_not_go_on_with_other_options(manifest: Path, cache: Path, tmp_path: Path) -> None:
    task = Task(replace(CONFIG, steps=1), cache, tmp_path, read_manifest(manifest, "val"))
    train(task)
    others = replace(CONFIG, steps=3, rate=1.0, seed=2, selection=Selection(exclude_families=("cs-*", "x")))
    with pytest.raises(DataError, match="choose another folder") as caught:
        train(replace(task, config=others))
    text = str(caught.value)
    assert "rate 0.003 instead of 1.0" in text
    assert "seed 0 instead of 2" in text
    assert "exclude_families nothing instead of cs-* x" in text
    assert "steps" not in text
    allowed = replace(CONFIG, steps=3, workers=1, device="cpu", evaluate_steps=1, evaluate_minutes=1.0, patience=3)
    assert train(replace(task, config=allowed))[-1].step == 3


def test_run_does_not_go_on_with_features_of_another_making(manifest: Path, cache: Path, tmp_path: Path) -> None:
    clips = read_manifest(manifest, "train")
    fresh = Fresh(clips, None, FeatureCache(cache).config)
    train(Task(replace(CONFIG, steps=1), cache, tmp_path / "stored"))
    with pytest.raises(DataError, match="a cache instead of features on the fly"):
        train(Task(replace(CONFIG, steps=2), fresh, tmp_path / "stored", clips=clips))
    train(Task(replace(CONFIG, steps=1), fresh, tmp_path / "fresh", clips=clips))
    with pytest.raises(DataError, match="features on the fly instead of a cache"):
        train(Task(replace(CONFIG, steps=2), cache, tmp_path / "fresh"))


def asked(manifest: Path, out: Path, *options: object) -> None:
    """Train a step, or what ``--steps`` says, by the command line."""
    words = ["fit", manifest, "--out", out, "--width", 0.125, "--batch", 8, "--amp", "off", "--variants", 1]
    steps = () if "--steps" in options else ("--steps", 1)
    CliRunner().invoke(cli.app, [str(word) for word in (*words, *steps, *options)], catch_exceptions=False)


def noises(folder: Path) -> Path:
    """A folder of one noise."""
    folder.mkdir(parents=True)
    soundfile.write(folder / "hum.flac", 0.1 * np.sin(np.arange(32_000) / 50.0), 16_000)
    folder.with_suffix(".csv").write_text("id,kind\nhum,noise\n")
    return folder


def test_run_does_not_go_on_with_other_noise_steps_or_clips(own: Path, cache: Path, tmp_path: Path) -> None:
    run, noise = tmp_path / "run", noises(tmp_path / "noise")
    options = ("--on-the-fly", "--without", "codec", "--noise", noise)
    asked(own, run, *options)
    for others, text in (
        (("--on-the-fly", "--without", "codec"), "other noise"),
        (("--on-the-fly", "--noise", noise), "other steps of --without"),
    ):
        with pytest.raises(DataError, match=f"was trained with {text}; choose another folder"):
            asked(own, run, "--steps", 2, *others)
    moved = shutil.copytree(noise, tmp_path / "moved" / "noise")
    shutil.copy(noise.with_suffix(".csv"), moved.with_suffix(".csv"))
    asked(own.rename(own.with_name("renamed.csv")), run, "--steps", 2, *options[:-1], moved)
    assert torch.load(run / "last.pt", weights_only=True)["step"] == 2
    train_clip, val_clip = (listed(own.with_name("renamed.csv"), split)[0][0] for split in ("train", "val"))
    rewrite(own.with_name("renamed.csv"), source={train_clip: "elsewhere", val_clip: "elsewhere"})
    with pytest.raises(DataError, match="other training clips, other validation clips"):
        asked(own.with_name("renamed.csv"), run, "--steps", 3, *options)


def test_run_does_not_go_on_with_another_cache(own: Path, tmp_path: Path) -> None:
    for name, variants, seed in (("cache", "2", "0"), ("fewer", "1", "0"), ("drawn", "2", "1")):
        words = ["cache", str(own), "--out", str(tmp_path / name), "--variants", variants, "--seed", seed]
        assert CliRunner().invoke(cli.app, words).exit_code == 0
    asked(own, tmp_path / "run", "--cache", tmp_path / "cache")
    with pytest.raises(DataError, match=r"holds 8 variants .* trained on 16; give the --cache"):
        asked(own, tmp_path / "run", "--cache", tmp_path / "fewer", "--steps", 2)
    with pytest.raises(DataError, match="other seed of the cache"):
        asked(own, tmp_path / "run", "--cache", tmp_path / "drawn", "--steps", 2)
    moved = (tmp_path / "cache").rename(tmp_path / "moved")
    words = ["cache", str(own), "--out", str(moved), "--variants", "3"]
    assert CliRunner().invoke(cli.app, words).exit_code == 0
    asked(own, tmp_path / "run", "--cache", moved, "--steps", 2)
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["entries"] == 24


def test_run_does_not_go_on_from_what_is_no_checkpoint_of_one(cache: Path, tmp_path: Path) -> None:
    task = Task(replace(CONFIG, steps=2), cache, tmp_path)
    (tmp_path / "last.pt").write_bytes(b"junk" * 100)
    with pytest.raises(DataError, match="damaged, or no checkpoint") as caught:
        train(task)
    assert "weights_only" not in str(caught.value)
    checkpoint(tmp_path)[0].rename(tmp_path / "last.pt")
    with pytest.raises(DataError, match=r"last\.pt: nothing to resume a run from, as it lacks average"):
        train(task)


def test_width_is_compared_before_the_cache_is_made(own: Path, tmp_path: Path) -> None:
    path, _ = checkpoint(tmp_path, 0.25)
    with pytest.raises(DataError, match=r"another network.*0.25.*0.125"):
        asked(own, tmp_path / "run", "--start", path)
    assert not list((tmp_path / "run" / "cache").glob("*.npy"))
    path.rename(tmp_path / "run" / "last.pt")
    stored = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    rest = {name: {} for name in ("average", "optimizer")} | dict.fromkeys(("step", "elapsed", "best", "loss"), 0)
    torch.save({**stored, **rest}, tmp_path / "run" / "last.pt")
    with pytest.raises(DataError, match=r"last\.pt: holds another network.*0.25.*0.125"):
        asked(own, tmp_path / "run")
    assert not list((tmp_path / "run" / "cache").glob("*.npy"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"processes": 2, "batch": 9}, "2 processes cannot share a batch of 9"),
        ({"processes": 2, "device": "cuda"}, "share a batch on a CPU"),
        ({"patience": 2}, "patience needs validation clips"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    cache: Path, tmp_path: Path, options: dict[str, object], text: str
) -> None:
    with pytest.raises(DataError, match=text):
        train(Task(replace(CONFIG, **options), cache, tmp_path))  # type: ignore[arg-type]


def test_run_without_validation_clips_says_what_it_will_lack(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(Task(replace(CONFIG, steps=2, evaluate_steps=1), cache, tmp_path))
    assert capsys.readouterr().err.count("no best.pt will be written, average.pt is what to export") == 1
    assert not (tmp_path / "best.pt").exists()
    assert torch.load(tmp_path / "last.pt", weights_only=True)["stale"] == 0


def test_cache_of_one_class_is_refused(manifest: Path, tmp_path: Path) -> None:
    store = FeatureCache(tmp_path / "cache")
    Builder(store, None).variant([c for c in read_manifest(manifest) if c.label == 0], 0)
    with pytest.raises(DataError, match="needs human and synthetic clips"):
        train(Task(CONFIG, store.folder, tmp_path))


@pytest.mark.parametrize("command", ["fit --steps 1", "fit --steps 1 --on-the-fly"])
def test_one_class_is_refused_before_features_are_made(own: Path, tmp_path: Path, command: str) -> None:
    words = [*command.split(), str(own), "--out", str(tmp_path / "out"), "--exclude-family", "*"]
    result = CliRunner().invoke(cli.app, words)
    assert isinstance(result.exception, DataError)
    assert "training needs human and synthetic clips" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_schedule_rises_then_falls_to_nearly_nothing() -> None:
    values = [schedule(share) for share in np.linspace(0.0, 1.0, 101)]
    assert max(values) == pytest.approx(1.0, abs=0.02)
    assert values.index(max(values)) <= 5
    assert values[-1] < 0.01
    assert all(b <= a for a, b in pairwise(values[5:]))


def test_window_loss_ignores_masked_columns() -> None:
    columns = torch.tensor([[[2.0, 0.0], [-50.0, 3.0]]])
    mask, labels = torch.tensor([[True, False]]), torch.tensor([1.0])
    loss = window_loss(columns, mask, labels, smoothing=0.0, column_share=0.5)
    assert float(loss) == pytest.approx(1.5 * np.log1p(np.exp(-2.0)), rel=1e-5)


def test_contrastive_loss_prefers_classes_apart() -> None:
    mask, labels = torch.ones(4, 1, dtype=torch.bool), torch.tensor([0.0, 0.0, 1.0, 1.0])
    apart = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])[:, None]
    crossed = apart[[0, 2, 1, 3]]
    assert contrastive_loss(apart, mask, labels) < contrastive_loss(crossed, mask, labels)


def test_validation_uses_few_clips_of_large_strata_and_all_of_small_ones(manifest: Path) -> None:
    clips = read_manifest(manifest)
    many = clips[:1] * 100 + clips[1:2]
    assert len(limited(many, 10)) == 11
    assert limited(clips, 100) != []
    assert {c.id for c in limited(clips, 100)} == {c.id for c in clips}


def test_validation_scores_do_not_depend_on_the_company_in_a_batch(manifest: Path) -> None:
    network = CausalResNet(0.125).eval()
    torch.nn.init.normal_(network.head.weight)
    validation = Validation(read_manifest(manifest, "val"), FeatureCache(manifest.parent / "cache").config)
    np.testing.assert_allclose(validation.scores(network, batch=2), validation.scores(network, batch=8), atol=1e-5)


def test_validation_skips_what_cannot_be_read(
    own: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = read_manifest(own, "val")
    clips[0].path.write_bytes(b"broken")
    states = train(Task(replace(CONFIG, steps=1, evaluate_steps=1), cache, tmp_path / "run", clips))
    assert "auc" in states[-1].val
    assert f"skipped {clips[0].id}: " in capsys.readouterr().err


def test_contradicting_labels_are_found_in_validation_and_between_the_splits(
    own: Path, cache: Path, tmp_path: Path
) -> None:
    train_clips, val = (read_manifest(own, split) for split in ("train", "val"))
    contrary = {label: next(c for c in val if c.label == label) for label in (0, 1)}
    again = replace(contrary[0], id="again", label=1)
    with pytest.raises(DataError, match=f"again and {contrary[0].id} are the same audio"):
        train(Task(CONFIG, cache, tmp_path / "run", [*val, again]))
    fresh = Fresh([*train_clips, replace(contrary[1], id="other", label=0)], None, FeatureCache(cache).config)
    fresh.check()
    store = FeatureCache(tmp_path / "cache")
    Builder(store, None).variant(list(fresh.clips.values()), 0)
    for features in (fresh, store.folder):
        with pytest.raises(DataError, match=f"other and {contrary[1].id} are the same audio"):
            train(Task(CONFIG, features, tmp_path / "run", val, clips=list(fresh.clips.values())))
    assert not (tmp_path / "run" / "last.pt").exists()


def test_validation_of_one_class_is_refused_before_any_step(own: Path, cache: Path, tmp_path: Path) -> None:
    clips = read_manifest(own, "val")
    with pytest.raises(DataError, match="needs human and synthetic clips"):
        train(Task(CONFIG, cache, tmp_path / "run", [c for c in clips if c.label == 0]))
    for clip in clips:
        if clip.label == 0:
            clip.path.unlink()
    with pytest.raises(DataError, match="give a manifest with both"):
        train(Task(CONFIG, cache, tmp_path / "run", clips))
    assert not (tmp_path / "run" / "last.pt").exists()


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("fit", "--steps -3"),
        ("fit", "--minutes -1"),
        ("fit", "--steps 1 --width 0"),
        ("fit", "--steps 1 --batch 1"),
        ("fit", "--steps 1 --batch 6 --processes 4"),
        ("fit", "--steps 1 --rate -0.1"),
        ("fit", "--steps 1 --variants 0"),
        ("fit", "--steps 1 --workers -1"),
        ("fit", "--steps 1 --patience -1"),
        ("fit", "--steps 1 --seed -1"),
        ("cache", "--variants 0"),
        ("cache", "--seconds -2"),
        ("cache", "--clean 7"),
        ("cache", "--seed -1"),
    ],
)
def test_options_out_of_range_are_refused(manifest: Path, tmp_path: Path, command: str, options: str) -> None:
    words = [command, str(manifest), "--out", str(tmp_path / "out"), *options.split()]
    assert CliRunner().invoke(cli.app, words).exit_code == 2
    assert not (tmp_path / "out").exists()


def test_features_made_on_the_fly_need_no_cache_and_never_repeat(own: Path, tmp_path: Path) -> None:
    broken = read_manifest(own, "train")[0]
    broken.path.write_bytes(b"no audio")
    words = [
        "fit",
        own,
        "--on-the-fly",
        "--width",
        0.125,
        "--batch",
        8,
        "--steps",
        2,
        "--amp",
        "off",
        "--out",
        tmp_path,
    ]
    done = CliRunner().invoke(cli.app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0
    assert broken.id in done.output
    assert not (tmp_path / "cache").exists()
    assert len(weights(tmp_path / "average.pt")) > 0

    fresh = Fresh(read_manifest(own, "train")[1:], WaveAugment(Bank()), FrontEndConfig())
    assert (fresh.refresh(), fresh.refresh()) == (len(fresh.entries), 0)
    rng = np.random.default_rng(0)
    first, second = (fresh.drawn(fresh.entries[:1], rng)[0].frames for _ in range(2))
    assert len(first) > 32
    assert not np.array_equal(first[:32], second[:32])


def test_batches_on_the_fly_do_not_depend_on_who_draws_them(manifest: Path, tmp_path: Path) -> None:
    for workers in (0, 2):
        fresh = Fresh(read_manifest(manifest, "train"), WaveAugment(Bank()), FrontEndConfig())
        train(Task(replace(CONFIG, steps=2, evaluate_steps=2, workers=workers), fresh, tmp_path / str(workers)))
    assert_same(tmp_path / "0" / "last.pt", tmp_path / "2" / "last.pt")


def test_contradicting_labels_on_the_fly_are_an_error(own: Path) -> None:
    one, *others = read_manifest(own, "train")
    fresh = Fresh([one, *others, replace(one, id="again", label=1 - one.label)], None, FrontEndConfig())
    with pytest.raises(DataError, match="contradicting labels"):
        fresh.check()


def test_a_pattern_that_excludes_nothing_is_said(own: Path, tmp_path: Path) -> None:
    source = read_manifest(own, "train")[0].source
    words = ["cache", str(own), "--out", str(tmp_path / "cache"), "--variants", "1"]
    words += ["--exclude-source", source, "--exclude-family", "nosuch-*"]
    done = CliRunner().invoke(cli.app, words, catch_exceptions=False)
    assert "nothing is excluded by 'nosuch-*'" in done.output
    assert f"'{source}'" not in done.output
