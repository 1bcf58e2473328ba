from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from streamdet.errors import ModelError
from streamdet.features import FrontEndConfig
from tests.conftest import randomise
from trainer.cli import app
from trainer.models.merge import merge
from trainer.models.resnet import CausalResNet, front_end_of


def network(seed: int, width: float = 0.25, mels: int = 64) -> CausalResNet:
    torch.manual_seed(seed)
    return randomise(CausalResNet(width, mels)).eval()


@pytest.mark.parametrize("count", [2, 3])
@torch.no_grad()
def test_columns_of_the_joined_network_are_the_means(count: int) -> None:
    networks = [network(seed) for seed in range(count)]
    features = torch.rand(2, 256, 64, generator=torch.Generator().manual_seed(5)) * 4
    each = torch.stack([n(features)[0] for n in networks])
    assert each[..., 1].abs().max() < 6.0  # otherwise the bound of the log-weight would interfere
    assert (each[0] - each[1]).abs().max() > 1e-3
    joined = merge(networks)
    assert joined.settings["width"] == 0.25 * count
    torch.testing.assert_close(joined(features)[0], each.mean(0), rtol=1e-4, atol=1e-5)


def test_networks_that_differ_are_refused() -> None:
    with pytest.raises(ModelError, match="must be alike"):
        merge([network(0), network(1, mels=96)])
    with pytest.raises(ModelError, match="two networks"):
        merge([network(0)])


def test_widths_whose_channels_do_not_add_up_are_refused() -> None:
    with pytest.raises(ModelError, match=r"width 0\.3 cannot be joined: .* add up to those of width 0\.6"):
        merge([network(0, 0.3), network(1, 0.3)])


def checkpoint(path: Path, seed: int, front_end: FrontEndConfig) -> Path:
    made = network(seed, mels=front_end.mels)
    torch.save({**made.checkpoint(), "front_end": front_end.to_dict(), "config": {}, "step": 7}, path)
    return path


def test_command_writes_a_checkpoint_that_names_its_front_end(tmp_path: Path) -> None:
    linear = FrontEndConfig(mels=96, bands="linear")
    parts = [checkpoint(tmp_path / f"{seed}.pt", seed, linear) for seed in (1, 2)]
    out = tmp_path / "both.pt"
    result = CliRunner().invoke(app, ["merge", *map(str, parts), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert front_end_of(out) == linear
    assert CausalResNet.from_checkpoint(out).settings["width"] == 0.5


def test_command_refuses_other_front_ends(tmp_path: Path) -> None:
    one = checkpoint(tmp_path / "1.pt", 1, FrontEndConfig(mels=96, bands="linear"))
    other = checkpoint(tmp_path / "2.pt", 2, FrontEndConfig(mels=96))
    result = CliRunner().invoke(app, ["merge", str(one), str(other), "--out", str(tmp_path / "both.pt")])
    assert isinstance(result.exception, ModelError)
    assert "front end" in str(result.exception)
    assert not (tmp_path / "both.pt").exists()
