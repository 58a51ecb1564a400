"""The networks: exact sizes, initialisation, and the forward pass against one written out from the figures."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.resnet import BasicBlock

import pure
from pure.models import ResidualNetwork
from pure.nn.blocks import ProductUnitBlock
from pure.nn.functional import product_unit2d

PURE = ["pure20", "pure32", "pure44", "pure56", "pure110", "pure272"]
RESNET = ["resnet20", "resnet32", "resnet44", "resnet56", "resnet110"]


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def units(model: nn.Module) -> list[pure.ProductUnit2d]:
    return [module for module in model.modules() if isinstance(module, pure.ProductUnit2d)]


# Parameter counts: the table of the reconstruction, computed apart from this code; the ResNets with A are He et al.'s

COUNTS = {
    ("pure20", "B"): 272_483,
    ("pure32", "B"): 466_921,
    ("pure44", "B"): 661_359,
    ("pure56", "B"): 855_797,
    ("pure110", "B"): 1_730_768,
    ("pure272", "B"): 4_355_681,
    ("pure272", "A"): 4_352_929,
    ("resnet20", "A"): 269_722,
    ("resnet20", "B"): 272_474,
    ("resnet32", "A"): 464_154,
    ("resnet44", "A"): 658_586,
    ("resnet56", "A"): 853_018,
    ("resnet110", "A"): 1_727_962,
}


@pytest.mark.parametrize(("name", "shortcut"), COUNTS)
def test_parameter_counts(name: str, shortcut: str) -> None:
    with torch.device("meta"):
        assert size(pure.create_model(name, shortcut=shortcut)) == COUNTS[name, shortcut]


@pytest.mark.parametrize("name", PURE + RESNET)
def test_parameter_counts_follow_the_formula(name: str) -> None:
    """Stem, stages, linear layer and shortcuts summed up for depth 6n + 2, any classes and channels."""
    n, classes, channels = (int(name.removeprefix("pure").removeprefix("resnet")) - 2) // 6, 7, 2
    theta = 1 if name.startswith("pure") else 0

    def convolutions(inputs: int, width: int) -> int:
        return 9 * width * (inputs + width) + 4 * width + theta  # two 3x3 convolutions, two BN

    body = sum(
        convolutions(inputs, width) + (n - 1) * convolutions(width, width)
        for inputs, width in ((16, 16), (16, 32), (32, 64))
    )
    ends = channels * 16 * 9 + 2 * 16 + 64 * classes + classes
    projections = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    for shortcut, more in (("A", 0), ("B", projections)):
        with torch.device("meta"):
            assert size(pure.create_model(name, classes, channels, shortcut=shortcut)) == body + ends + more


def test_pure20_has_one_theta_per_block_more_than_resnet20() -> None:
    pure20, resnet20 = pure.create_model("pure20"), pure.create_model("resnet20", shortcut="B")
    assert size(pure20) == size(resnet20) + 9
    assert len(units(pure20)) == 9
    assert size(pure.create_model("pure20", granularity="channel")) == size(resnet20) + 3 * (16 + 32 + 64)
    assert size(pure.create_model("pure20", threshold=0.5)) == size(resnet20)


def test_default_shortcuts_are_the_paper_s() -> None:
    with torch.device("meta"):
        for name in PURE + RESNET:
            shortcut = "B" if name.startswith("pure") else "A"
            assert size(pure.create_model(name)) == size(pure.create_model(name, shortcut=shortcut))


# Initialisation


@pytest.mark.parametrize(("options", "gain"), [({}, math.sqrt(6 / 26)), ({"init_a": math.sqrt(5)}, 1.0)])
def test_product_units_keep_their_own_initialisation(options: dict[str, float], gain: float) -> None:
    model = pure.create_model("pure20", **options)
    for unit in units(model):
        bound = gain / math.sqrt(9 * unit.in_channels)  # far below what Kaiming normal would draw
        assert 0.99 * bound < unit.weight.abs().max().item() <= bound * (1 + 1e-6)
        assert unit.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert unit.threshold.item() == pytest.approx(math.log(2) + 1e-7, rel=1e-6)


@pytest.mark.parametrize("name", ["pure20", "resnet20"])
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_convolutions_are_kaiming_normal_by_fan_out(name: str, shortcut: str) -> None:
    model = pure.create_model(name, shortcut=shortcut)
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    blocks = 9 if name == "pure20" else 18
    assert len(convolutions) == 1 + blocks + (2 if shortcut == "B" else 0)
    for convolution in convolutions:
        weight = convolution.weight.detach()
        fan_out = convolution.out_channels * convolution.kernel_size[0] ** 2
        # four standard errors of a deviation estimated from so many normal numbers
        tolerance = 4 / math.sqrt(2 * weight.numel())
        assert weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=tolerance)
        assert weight.abs().max() > 2.2 * weight.std()  # normal, not uniform, which ends at sqrt(3) deviations


@pytest.mark.parametrize("name", ["pure20", "resnet20"])
def test_batch_normalisation_starts_at_one_and_zero(name: str) -> None:
    norms = [module for module in pure.create_model(name).modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == (1 + 18 + 2 if name == "pure20" else 1 + 18)
    for norm in norms:
        assert (norm.weight == 1).all()
        assert (norm.bias == 0).all()


# The forward pass


class Operators(TorchDispatchMode):
    """Collects the names of the operators that run on maps of shape (N, C, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(isinstance(arg, Tensor) and arg.ndim == 4 for arg in args):
            self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "expected"), [("pure20", False), ("resnet20", True)])
def test_a_pure_network_has_no_relu(name: str, expected: bool) -> None:
    model = pure.create_model(name)
    with Operators() as operators:
        model(torch.randn(2, 3, 8, 8))
    assert "native_batch_norm" in operators.names or "_native_batch_norm_legit" in operators.names  # it does collect
    rectifiers = {"relu", "relu_", "threshold", "clamp", "clamp_", "clamp_min", "clamp_min_", "leaky_relu", "gelu"}
    assert bool(operators.names & rectifiers) == expected
    assert any(isinstance(module, nn.ReLU) for module in model.modules()) == expected


def forward_by_hand(model: nn.Module, x: Tensor, is_pure: bool, shortcut: str) -> Tensor:
    """Figure 2 and table 5 in evaluation mode, from the stored numbers alone."""
    state = model.state_dict()

    def norm(name: str, x: Tensor) -> Tensor:
        mean, var, weight, bias = (state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, weight, bias)

    rectify = (lambda x: x) if is_pure else F.relu
    x = rectify(norm("bn1", F.conv2d(x, state["conv1.weight"], padding=1)))
    for stage in (1, 2, 3):
        for i in range(3):
            block, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            y = norm(f"{block}.bn1", F.conv2d(x, state[f"{block}.conv1.weight"], stride=stride, padding=1))
            if is_pure:
                tau = F.softplus(state[f"{block}.conv2.theta"]) + 1e-7
                y = product_unit2d(y, state[f"{block}.conv2.weight"], tau, padding=1)
            else:
                y = F.conv2d(F.relu(y), state[f"{block}.conv2.weight"], padding=1)
            y = norm(f"{block}.bn2", y)
            if stride == 2 and shortcut == "A":
                zeros = torch.zeros(len(x), x.shape[1] // 2, *y.shape[2:], dtype=x.dtype)
                x = torch.cat([zeros, x[:, :, ::2, ::2], zeros], dim=1)
            elif stride == 2:
                x = norm(f"{block}.downsample.1", F.conv2d(x, state[f"{block}.downsample.0.weight"], stride=2))
            x = rectify(x + y)
    return x.mean(dim=(2, 3)) @ state["fc.weight"].T + state["fc.bias"]


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("name", ["pure20", "resnet20"])
def test_the_network_computes_what_the_figures_say(name: str, shortcut: str) -> None:
    model = pure.create_model(name, shortcut=shortcut).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:  # BN and theta: away from one and zero, so that a swap shows
                parameter.add_(0.2 * torch.randn_like(parameter))
        for _ in range(30):
            model(torch.randn(16, 3, 8, 8, dtype=torch.float64))  # running statistics that fit
    model.eval()
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(
            model(x), forward_by_hand(model, x, name == "pure20", shortcut), rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("pixels", [8, 32])
@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("name", ["pure20", "resnet20"])
def test_one_step_of_sgd_changes_every_parameter(name: str, in_channels: int, pixels: int) -> None:
    model = pure.create_model(name, num_classes=7, in_channels=in_channels)
    before = copy.deepcopy(model.state_dict())
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    logits = model(torch.randn(8, in_channels, pixels, pixels))
    assert logits.shape == (8, 7)
    F.cross_entropy(logits, torch.arange(8) % 7).backward()
    optimiser.step()
    for key, parameter in model.named_parameters():
        assert parameter.isfinite().all(), key
        assert not torch.equal(parameter, before[key]), key


@pytest.mark.parametrize(
    ("in_channels", "height", "width", "shapes"),
    [(3, 32, 32, [(32, 32), (16, 16), (8, 8)]), (1, 9, 13, [(9, 13), (5, 7), (3, 4)])],
)
def test_every_stage_but_the_first_halves_the_size(
    in_channels: int, height: int, width: int, shapes: list[tuple[int, int]]
) -> None:
    model = pure.create_model("pure20", in_channels=in_channels)
    seen = []
    for stage in model.stages:
        getattr(model, stage).register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    model(torch.randn(2, in_channels, height, width))
    assert seen == [(2, planes, *shape) for planes, shape in zip((16, 32, 64), shapes, strict=True)]


@pytest.mark.parametrize("name", ["pure20", "resnet20"])
def test_bad_pixels_reach_the_logits(name: str) -> None:
    model = pure.create_model(name).eval()
    for bad in (math.nan, math.inf, -math.inf):
        x = torch.zeros(2, 3, 8, 8)
        x[1, 0, 4, 4] = bad
        logits = model(x)
        assert not logits[1].isfinite().any()
        assert logits[0].isfinite().all()


# Options and names


def test_options_reach_every_unit() -> None:
    fixed = pure.create_model("pure20", threshold=0.5, granularity="channel", padding_mode="threshold")
    for unit in units(fixed):
        assert unit.theta is None
        assert unit.threshold.tolist() == [0.5] * unit.in_channels
        assert unit.padding_mode == "threshold"
    learned = pure.create_model("pure20", threshold="sigmoid", eps=0.25, init_a=1.0)
    for unit in units(learned):
        assert unit.threshold.item() == 0.75
        assert 0.99 < unit.weight.abs().max().item() / math.sqrt(3 / (9 * unit.in_channels)) <= 1 + 1e-6


@pytest.mark.parametrize("option", ["stride", "padding", "groups", "device", "dtype", "foo"])
def test_options_that_are_not_the_unit_s_to_choose(option: str) -> None:
    with pytest.raises(TypeError, match=rf"pure20 has no option {option}; expected .*shortcut, .* threshold, granu"):
        pure.create_model("pure20", **{option: 2})
    with pytest.raises(TypeError, match=rf"resnet20.*{option}"):
        pure.create_model("resnet20", **{option: 2})


def test_a_residual_network_has_no_threshold() -> None:
    with pytest.raises(TypeError, match=r"resnet20.*threshold"):
        pure.create_model("resnet20", threshold=0.5)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("pure21", r"did you mean .*pure20.*\? pure\.list_models\(\) names all \d+"),
        ("PURe20", r"did you mean 'pure20' or"),
        ("resnet-110", r"did you mean 'resnet110'"),
        ("vit", r"known are pure18, pure20, .*; pure\.list_models\(\) names all \d+"),
    ],
)
def test_unknown_names_answer_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=rf"unknown model '{name}'; {hint}"):
        pure.create_model(name)


@pytest.mark.parametrize("name", ["pure20", "resnet20"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes=0 and in_channels=3 must both be integers of at least 1"),
        ({"in_channels": -1}, "num_classes=10 and in_channels=-1 must both be integers of at least 1"),
        (
            {"shortcut": "C"},
            r"unknown shortcut 'C'; expected 'A' \(zero padding\) or 'B' \(1x1 convolution\), or 'none'",
        ),
    ],
)
def test_bad_sizes_and_shortcuts(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pure.create_model(name, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": -1}, "a fixed threshold must be positive"),
        ({"granularity": "pixel"}, "unknown granularity 'pixel'"),
        ({"padding_mode": "zeros"}, "unknown padding_mode 'zeros'"),
    ],
)
def test_bad_settings_of_the_unit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pure.create_model("pure20", **options)


@pytest.mark.parametrize("block", [BasicBlock, ProductUnitBlock])
@pytest.mark.parametrize("blocks", [[1, 1], [1, 0, 1], []])
def test_stages_and_widths_must_agree(block: Any, blocks: list[int]) -> None:
    with pytest.raises(ValueError, match="expected one positive number of blocks for each of the 3 stages, got"):
        ResidualNetwork(block, blocks)


@pytest.mark.parametrize("name", ["pure20", "resnet20"])
def test_images_with_the_wrong_number_of_channels(name: str) -> None:
    with pytest.raises(RuntimeError, match="to have 3 channels, but got 1 channels instead"):
        pure.create_model(name)(torch.ones(2, 1, 8, 8))
