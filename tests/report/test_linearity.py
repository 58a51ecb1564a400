"""The midpoint defect against values worked out by hand, and on blocks whose linearity is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import pure
from pure.nn.blocks import ProductUnitBlock
from pure.report import linearity


def pairs(seed: int = 0) -> tuple[Tensor, Tensor]:
    a, b = torch.randn(2, 400_000, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return a, b


def test_an_affine_map_has_no_defect_and_scale_and_offset_change_none() -> None:
    a, b = pairs()
    assert linearity.midpoint_defect(lambda x: 3 * x - 7, a, b) < 1e-12
    squared = linearity.midpoint_defect(torch.square, a, b)
    assert linearity.midpoint_defect(lambda x: 5 - 2 * x**2, a, b) == pytest.approx(squared)


def test_defects_of_normal_pairs_by_hand() -> None:
    a, b = pairs()
    # of x^2: the miss is (a - b)^2 / 4, mean square 12 / 16; apart are (a^2 - b^2) / 2, mean square 1
    assert linearity.midpoint_defect(torch.square, a, b) == pytest.approx(math.sqrt(0.75), rel=0.01)
    # one pair across the kink of a ReLU: the middle of -1 and 1 goes to 0, not to 1/2; 1/2 is half the distance
    assert linearity.midpoint_defect(torch.relu, torch.tensor([-1.0]), torch.tensor([1.0])) == pytest.approx(1.0)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match=r"pairs of one shape, got \(2,\) and \(3,\)"):
        linearity.midpoint_defect(torch.relu, torch.ones(2), torch.ones(3))
    with pytest.raises(ValueError, match="constant here"):
        linearity.midpoint_defect(torch.zeros_like, torch.ones(2), -torch.ones(2))


@pytest.mark.parametrize("name", ["pure20", "resnet20"])
def test_blocks_are_measured_one_by_one_and_the_network_is_left_as_it_was(name: str) -> None:
    torch.manual_seed(0)
    network = pure.create_model(name, in_channels=1, blocks=(1, 1, 1), shortcut="B")
    images = torch.randn(8, 1, 8, 8)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    defects = linearity.block_defects(network, images)
    assert list(defects) == ["layer1.0", "layer2.0", "layer3.0"]
    assert network.training
    network.eval()
    stem = network.act1(network.bn1(network.conv1(images)))
    branch, whole = defects["layer1.0"]  # whose shortcut is the identity, and whose ReLU, if there is one, is last
    assert whole == pytest.approx(linearity.midpoint_defect(lambda x: network.layer1(x.clone()), *stem.chunk(2)))
    if name == "pure20":
        alone = linearity.midpoint_defect(lambda x: network.layer1(x) - x, *stem.chunk(2))
        assert branch == pytest.approx(alone, rel=1e-3)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_a_block_of_convolutions_is_linear_and_one_whose_inputs_all_pass_nearly() -> None:
    torch.manual_seed(0)
    block = ProductUnitBlock(4, 4, unit=lambda *args, **given: nn.Conv2d(*args, bias=False, **given))
    branch, whole = linearity.block_defects(nn.Sequential(block), torch.randn(8, 4, 6, 6))[("0")]
    assert max(branch, whole) < 1e-5
    with pytest.raises(ValueError, match="Linear has none"):
        linearity.block_defects(nn.Linear(2, 2), torch.ones(2, 2))


def test_the_inputs_are_those_before_a_relu_in_place() -> None:
    network = nn.Sequential(nn.BatchNorm1d(1), nn.ReLU(inplace=True))
    x = torch.tensor([[-3.0], [3.0]])
    given = linearity.inputs_of(network, nn.ReLU, x)
    torch.testing.assert_close(given["1"], x, rtol=1e-4, atol=0)


def test_the_steps_of_a_unit_are_measured_at_what_it_is_given() -> None:
    torch.manual_seed(0)
    unit = pure.ProductUnit2d(2, 3, 3, threshold=0.5)
    network = nn.Sequential(unit)
    images = torch.randn(6, 2, 5, 5)
    clamp, exponential = linearity.step_defects(network, images)["0"]
    expected = linearity.midpoint_defect(lambda x: x.clamp(min=0.5).log(), *images.chunk(2))
    assert clamp == pytest.approx(expected)
    logs = nn.functional.conv2d(images.clamp(min=0.5).log(), unit.weight)
    assert exponential == pytest.approx(linearity.midpoint_defect(torch.exp, *logs.detach().chunk(2)), rel=1e-4)
