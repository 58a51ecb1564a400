"""The other multiplicative networks: what their blocks compute, their sizes, what they refuse."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import nn

import pure
from pure.models.peers import PolynomialBlock, StarBlock


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_a_polynomial_block_is_of_the_second_degree() -> None:
    torch.manual_seed(0)
    block = PolynomialBlock(3, 3).eval().double()  # running statistics: BN is then an affine map
    for norm in (block.bn1, block.bn2):
        nn.init.uniform_(norm.bias)
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    along = torch.stack([block(t * x) for t in torch.arange(5, dtype=torch.float64)])
    third = along.diff(n=3, dim=0)  # of a polynomial of the second degree it is zero, and the second is not
    torch.testing.assert_close(third, torch.zeros_like(third), atol=1e-10, rtol=0)
    assert along.diff(n=2, dim=0).abs().max() > 0.1


def test_a_polynomial_block_by_hand() -> None:
    block = PolynomialBlock(1, 1).eval().double()
    nn.init.zeros_(block.conv1.weight)
    nn.init.zeros_(block.conv2.weight)
    with torch.no_grad():
        block.conv1.weight[0, 0, 1, 1] = 2.0
        block.conv2.weight[0, 0, 1, 1] = 3.0
    x = torch.tensor([[[[0.5, -1.0], [2.0, 0.0]]]], dtype=torch.float64)
    torch.testing.assert_close(block(x), 6 * x**2 + x, atol=0, rtol=1e-4)  # BN divides by sqrt(1 + 1e-5), twice


def test_a_star_block_only_changes_the_shape_where_it_must() -> None:
    assert isinstance(StarBlock(6, 6).down, nn.Identity)
    block = StarBlock(6, 8, 2)
    assert block(torch.randn(2, 6, 8, 8)).shape == (2, 8, 4, 4)
    names = {type(module).__module__ for module in block.modules()}
    assert "timm.models.starnet" in names


@pytest.mark.parametrize("name", ["polynomial20", "starnet20"])
def test_their_sizes_are_within_a_tenth_of_pure20s(name: str) -> None:
    assert size(pure.create_model(name)) == pytest.approx(size(pure.create_model("pure20")), rel=0.1)


def test_a_polynomial_network_has_no_activation() -> None:
    kinds = {type(module) for module in pure.create_model("polynomial20").modules()}
    assert not kinds & {nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.GELU}


def test_starnet_is_drawn_as_timm_draws_it() -> None:
    network = pure.create_model("starnet20")
    weights = torch.cat([m.weight.flatten() for m in network.modules() if isinstance(m, nn.Conv2d)])
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize(
    ("name", "expected"), [("polynomial20", "blocks, widths, stem, shortcut"), ("starnet20", "blocks, widths, stem")]
)
def test_unknown_options_are_named(name: str, expected: str) -> None:
    with pytest.raises(TypeError, match=f"{name} has no option units; expected {expected}$"):
        pure.create_model(name, units="first")


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("pure.extras.find_spec", lambda name: None if name == "timm" else found(name))
    with pytest.raises(ModuleNotFoundError, match=r"the network starnet20 needs timm, .*pure-networks\[timm\]"):
        pure.create_model("starnet20")
