from __future__ import annotations

import copy
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from streamdet.errors import ModelError
from tests.conftest import randomise
from trainer.models.resnet import MAX_LOG_WEIGHT, CausalResNet, front_end_of, pool

HOPS = 8


@pytest.fixture(scope="module")
def exact(network: CausalResNet) -> CausalResNet:
    return copy.deepcopy(network).double()


@pytest.fixture(scope="module")
def features() -> Tensor:
    return torch.rand(1, HOPS * 32, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 4


@settings(max_examples=12, deadline=None)
@given(cuts=st.sets(st.integers(1, HOPS - 1)))
@torch.no_grad()
def test_chunked_equals_whole_however_it_is_cut(exact: CausalResNet, features: Tensor, cuts: set[int]) -> None:
    whole, _ = exact(features)
    states, parts = exact.initial_states(1), []
    edges = [0, *sorted(cuts), HOPS]
    for begin, end in itertools.pairwise(edges):
        columns, states = exact.stream(features[:, begin * 32 : end * 32], states)
        parts.append(columns)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_the_future_does_not_change_the_past(exact: CausalResNet, features: Tensor) -> None:
    changed = features.clone()
    changed[:, 5 * 32 :] += 1.0
    before, after = exact(features)[0], exact(changed)[0]
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.isclose(before[:, 5], after[:, 5]).any()


@torch.no_grad()
def test_without_causality_the_future_matters(features: Tensor) -> None:
    torch.manual_seed(3)
    network = randomise(CausalResNet(0.25, causal=False)).double()
    changed = features.clone()
    changed[:, 5 * 32 :] += 1.0
    assert not torch.isclose(network(features)[0][:, 4], network(changed)[0][:, 4]).any()
    with pytest.raises(ValueError, match="causal"):
        network.stream(features, [])


@torch.no_grad()
def test_a_column_sees_the_last_435_frames(exact: CausalResNet) -> None:
    x = torch.zeros(1, 480, 64, dtype=torch.float64)
    reference = exact(x)[0][0, -1]
    for age, matters in ((435, True), (436, False)):
        touched = x.clone()
        touched[0, -age] = 50.0
        assert torch.equal(exact(touched)[0][0, -1], reference) is not matters


def test_size_of_network_and_state_at_full_width() -> None:
    network = CausalResNet()
    assert sum(state.numel() for state in network.initial_states(1)) == 32_064
    assert sum(weight.numel() for weight in network.parameters()) == pytest.approx(11.2e6, rel=0.01)
    assert network.embedding_size == 512


def test_shapes_and_types_under_autocast(network: CausalResNet) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        columns, embedding = network(torch.rand(3, 64, 64))
    assert columns.shape == (3, 2, 2)
    assert embedding.shape == (3, 2, 128)
    assert columns.dtype == embedding.dtype == torch.float32


def test_channels_last_gives_the_same(network: CausalResNet) -> None:
    x = torch.rand(2, 96, 64)
    other = copy.deepcopy(network).to(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(other(x)[0], network(x)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("frames", [31, 33])
def test_refuses_parts_of_a_hop(network: CausalResNet, frames: int) -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        network(torch.rand(1, frames, 64))


def test_refuses_bands_that_do_not_halve() -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        CausalResNet(0.25, mels=80)


def test_log_weights_are_bounded(network: CausalResNet) -> None:
    steep = copy.deepcopy(network)
    with torch.no_grad():
        steep.head.weight.mul_(1000.0)
        log_weights = steep(torch.rand(4, 320, 64) * 4)[0][..., 1]
    assert log_weights.abs().max() == MAX_LOG_WEIGHT


def test_a_step_of_training_moves_every_weight() -> None:
    torch.manual_seed(5)
    network = randomise(CausalResNet(0.25, dropout=0.1)).train()
    columns, _ = network(torch.rand(4, 64, 64) * 4)
    pool(columns).square().mean().backward()
    still = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert still == []


def test_pool_is_the_weighted_mean() -> None:
    columns = torch.tensor([[[1.0, 0.0], [4.0, np.log(2.0)], [100.0, 6.0]]])
    assert pool(columns[:, :2]).item() == pytest.approx((1 + 2 * 4) / 3)
    mask = torch.tensor([[True, True, False]])
    assert pool(columns, mask).item() == pytest.approx(3.0)
    assert pool(columns).item() > 90


def test_checkpoint_rebuilds_the_network(network: CausalResNet, checkpoint: Path) -> None:
    rebuilt = CausalResNet.from_checkpoint(checkpoint)
    x = torch.rand(1, 64, 64)
    with torch.no_grad():
        assert torch.equal(rebuilt(x)[0], network(x)[0])
    assert rebuilt.settings == network.settings
    assert not rebuilt.training


def test_bad_checkpoints_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"missing\.pt"):
        CausalResNet.from_checkpoint(tmp_path / "missing.pt")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    with pytest.raises(ModelError, match=r"text\.pt"):
        CausalResNet.from_checkpoint(tmp_path / "text.pt")
    torch.save({"weights": {}}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="network"):
        CausalResNet.from_checkpoint(tmp_path / "other.pt")


def test_advice_of_torch_is_not_passed_on(checkpoint: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "array.npz", clips=np.zeros(3))
    whole = checkpoint.read_bytes()
    junk = (b"", b"junk" * 100, b"\x80\x02h\xff.", b"\x08\x08\x12\x07pytorch")
    for content in (*junk, whole[:-100], whole[: len(whole) // 2], (tmp_path / "array.npz").read_bytes()):
        (tmp_path / "bad.pt").write_bytes(content)
        with pytest.raises(ModelError) as caught:
            front_end_of(tmp_path / "bad.pt")
        text = f"cannot read the checkpoint {tmp_path}/bad.pt: damaged, or no checkpoint of the trainer"
        assert str(caught.value) == text
