"""Every registered network: it trains, it comes back from a file, its switches do what they say."""

from __future__ import annotations

import copy
import inspect
import io
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import BasicBlock

import pure
from pure.models import ResidualNetwork, residual
from pure.models.preact import PreActBasicBlock, PreActBottleneck, PreActResidualNetwork
from pure.models.registry import REGISTRY
from pure.models.unet import SEGMENTERS
from pure.nn.blocks import ProductUnitBlock
from pure.nn.complex import ComplexProductUnit2d
from pure.nn.stabilised import StabilisedProductUnit2d

PHOTOGRAPHS = {f"{family}{depth}" for family in ("pure", "resnet") for depth in (18, 34, 50, 101, 152)}
UNITS = {"paper": pure.ProductUnit2d, "stabilised": StabilisedProductUnit2d, "complex": ComplexProductUnit2d}


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def images(name: str, number: int = 2) -> Tensor:
    pixels = 32 if name in PHOTOGRAPHS or name in SEGMENTERS else 8
    return torch.randn(number, 3, pixels, pixels)


# All of them


@pytest.mark.parametrize("name", pure.list_models())
def test_every_network_learns_everywhere_and_comes_back_from_a_file(name: str) -> None:
    model = pure.create_model(name, num_classes=5)
    before = copy.deepcopy(model.state_dict())
    # what follows the second BN of a bottleneck is linear up to the next BN, which takes its bias out again: its
    # gradient is rounding, and nothing at all where a BN meets two pixels, as in the last stage with small images
    x = torch.randn(2, 3, 64, 64) if name in ("pure50", "pure101", "pure152") else images(name)
    logits = model(x)
    labels = torch.tensor([1, 3]) if name not in SEGMENTERS else torch.randint(5, (2, 32, 32))
    assert logits.shape == (2, 5, *labels.shape[1:])
    F.cross_entropy(logits, labels).backward()
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    for key, value in model.state_dict().items():  # parameters by their gradients, running statistics by the images
        assert value.isfinite().all(), key
        assert not torch.equal(value, before[key]), key

    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = pure.create_model(name, num_classes=5)
    assert not torch.equal(other.conv1.weight, model.conv1.weight)
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    with torch.no_grad():  # evaluation first, it leaves the running statistics alone
        torch.testing.assert_close(other.eval()(x), model.eval()(x), rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(other.train()(x), model.train()(x), rtol=0, atol=0)


def test_list_models_goes_by_family_then_depth() -> None:
    families = {
        "pure": [18, 20, 32, 34, 44, 50, 56, 101, 110, 152, 272],
        "resnet": [18, 20, 32, 34, 44, 50, 56, 101, 110, 152],
        "preact_resnet": [110, 164, 1001],
        "polynomial": [20],
        "starnet": [20],
    }
    classifiers = [f"{family}{depth}" for family, depths in families.items() for depth in depths]
    assert pure.list_models() == [*classifiers, *SEGMENTERS]


# Sizes: the table of the reconstruction; torchvision's documentation; for the pre-activation networks a sum by hand


COUNTS = {
    ("pure18", 10): 11_181_650,
    ("pure18", 1000): 11_689_520,
    ("pure34", 10): 21_289_818,
    ("pure34", 1000): 21_797_688,
    ("pure20", 10): 272_483,
    ("pure272", 10): 4_355_681,
    ("pure50", 10): 23_528_522 + 16,  # one theta for each block
    ("pure101", 1000): 44_549_160 + 33,
    ("pure152", 1000): 60_192_808 + 50,
    ("resnet18", 10): 11_181_642,
    ("resnet18", 1000): 11_689_512,
    ("resnet34", 10): 21_289_802,
    ("resnet34", 1000): 21_797_672,
    ("resnet50", 10): 23_528_522,
    ("resnet50", 1000): 25_557_032,
    ("resnet101", 10): 42_520_650,
    ("resnet101", 1000): 44_549_160,
    ("resnet152", 10): 58_164_298,
    ("resnet152", 1000): 60_192_808,
    ("preact_resnet110", 10): 1_727_962,
    ("preact_resnet164", 10): 1_703_258,
    ("preact_resnet1001", 10): 10_327_706,
}


@pytest.mark.parametrize(("name", "classes"), COUNTS)
def test_parameter_counts(name: str, classes: int) -> None:
    with torch.device("meta"):
        assert size(pure.create_model(name, classes)) == COUNTS[name, classes]


@pytest.mark.parametrize("n", [1, 18, 111])
def test_bottleneck_networks_have_the_size_of_the_formula(n: int) -> None:
    """Depth 9n + 2 of He et al. (2016b): three stages of n units with 16, 32, 64 inner and four times as many outer."""
    total, inputs = 3 * 16 * 9, 16
    for width in (16, 32, 64):
        for _ in range(n):
            total += 2 * inputs + 2 * 2 * width  # three BN, each before its convolution
            total += inputs * width + 9 * width * width + width * 4 * width
            total += inputs * 4 * width if inputs != 4 * width else 0  # the shortcut
            inputs = 4 * width
    total += 2 * 256 + 256 * 7 + 7
    with torch.device("meta"):
        assert size(pure.create_model("preact_resnet164", 7, blocks=[n, n, n])) == total


def test_preact_resnet110_has_the_size_of_what_it_rearranges() -> None:
    with torch.device("meta"):
        for shortcut, more in (("A", 0), ("B", -2 * 32 - 2 * 64)):  # its shortcuts B are without BN
            preact, resnet = (pure.create_model(f"{x}resnet110", shortcut=shortcut) for x in ("preact_", ""))
            assert size(preact) == size(resnet) + more


def test_blocks_and_widths_set_the_depth() -> None:
    for name in ("pure20", "resnet20", "preact_resnet110"):
        model = pure.create_model(name, blocks=[1, 2, 1, 3], widths=[4, 6, 8, 10])
        assert [len(model.get_submodule(f"layer{i}")) for i in (1, 2, 3, 4)] == [1, 2, 1, 3]
        assert [model.get_submodule(f"layer{i}.0.conv2").out_channels for i in (1, 2, 3, 4)] == [4, 6, 8, 10]
        assert model(torch.randn(2, 3, 16, 16)).shape == (2, 10)
    with torch.device("meta"):
        assert size(pure.create_model("pure20", blocks=[5, 5, 5])) == size(pure.create_model("pure32"))
        assert size(pure.create_model("resnet50", blocks=[3, 4, 23, 3])) == size(pure.create_model("resnet101"))


# Initialisation (section 4.1.2)


@pytest.mark.parametrize("name", ["pure18", "pure20", "resnet18", "resnet20", "preact_resnet110", "preact_resnet164"])
def test_every_parameter_is_initialised_as_the_paper_says(name: str) -> None:
    model = pure.create_model(name)
    kinds: dict[str, int] = {}
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False))
        if not own:
            continue
        kinds[type(module).__name__] = kinds.get(type(module).__name__, 0) + 1
        if isinstance(module, nn.Conv2d):
            assert set(own) == {"weight"}
            deviation = math.sqrt(2 / (module.out_channels * math.prod(module.kernel_size)))  # normal, by fan_out
            weight = module.weight.detach()
            # five standard errors of a deviation estimated from so many normal numbers
            assert weight.std().item() == pytest.approx(deviation, rel=5 / math.sqrt(2 * weight.numel()))
            assert weight.abs().max() > 2 * deviation  # a uniform distribution ends at sqrt(3) deviations
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
        elif isinstance(module, pure.ProductUnit2d):
            bound = math.sqrt(6 / 26 / (9 * module.in_channels))  # uniform, a = 5
            assert 0.99 * bound < module.weight.abs().max().item() <= bound * (1 + 1e-6)
            assert module.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
            assert module.theta is not None
            assert module.theta.item() == 0
        else:
            assert isinstance(module, nn.Linear)
            bound = 1 / math.sqrt(module.in_features)  # PyTorch's default
            for parameter in own.values():
                assert 0.7 * bound < parameter.abs().max().item() <= bound
    expected = {
        "pure18": {"Conv2d": 12, "BatchNorm2d": 20, "ProductUnit2d": 8, "Linear": 1},
        "pure20": {"Conv2d": 12, "BatchNorm2d": 21, "ProductUnit2d": 9, "Linear": 1},
        "resnet18": {"Conv2d": 20, "BatchNorm2d": 20, "Linear": 1},
        "resnet20": {"Conv2d": 19, "BatchNorm2d": 19, "Linear": 1},
        "preact_resnet110": {"Conv2d": 109, "BatchNorm2d": 109, "Linear": 1},
        "preact_resnet164": {"Conv2d": 166, "BatchNorm2d": 163, "Linear": 1},
    }
    assert kinds == expected[name]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("units", ["second", "first", "both"])
def test_no_unit_is_drawn_as_a_convolution(unit: str, units: str) -> None:
    model = pure.create_model(
        "pure20", unit=unit, units=units, init_a=1000.0
    )  # exponents within sqrt(6 / fan_in) / 1000
    drawn = [module for module in model.modules() if isinstance(module, UNITS[unit])]
    assert len(drawn) == (18 if units == "both" else 9)
    assert all(0 < module.weight.abs().max().item() < 1e-3 for module in drawn)


def test_a_new_stem_for_torchvision_s_networks_is_drawn_as_theirs() -> None:
    for options, fan_out in (({"in_channels": 5}, 49 * 64), ({"stem": "cifar"}, 9 * 64)):
        weight = pure.create_model("resnet18", **options).conv1.weight.detach()
        assert weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=5 / math.sqrt(2 * weight.numel()))


# What the networks compute


def test_resnets_of_torchvision_are_torchvision_s() -> None:
    torch.manual_seed(3)
    ours = pure.create_model("resnet18", num_classes=7)
    torch.manual_seed(3)
    theirs = resnet18(num_classes=7)
    x = torch.randn(2, 3, 32, 32)
    assert type(ours) is type(theirs)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
    assert isinstance(pure.create_model("resnet18", stem="cifar").maxpool, nn.Identity)
    assert pure.create_model("resnet18", in_channels=1, stem="cifar")(torch.randn(2, 1, 8, 8)).shape == (2, 1000)
    assert pure.create_model("resnet18", in_channels=1)(torch.randn(2, 1, 32, 32)).shape == (2, 1000)


def test_the_body_with_ordinary_blocks_is_torchvision_s_resnet18() -> None:
    body = ResidualNetwork(BasicBlock, [2, 2, 2, 2], (64, 128, 256, 512), 7, stem="imagenet", activation=nn.ReLU)
    theirs = resnet18(num_classes=7)
    body.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 3, 45, 61)
    torch.testing.assert_close(body.eval()(x), theirs.eval()(x), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "counterpart"), [("pure18", "resnet18"), ("pure34", "resnet34")])
def test_the_keys_of_pure_are_a_resnet_s_and_theta(name: str, counterpart: str) -> None:
    with torch.device("meta"):
        keys, others = (list(pure.create_model(each).state_dict()) for each in (name, counterpart))
    assert [key for key in keys if not key.endswith("theta")] == others
    assert (
        sum(key.endswith("conv2.theta") for key in keys) == len(keys) - len(others) == (8 if name == "pure18" else 16)
    )


@pytest.mark.parametrize(("relu_in_stem", "relu_after_sum"), [(False, False), (True, False), (False, True)])
def test_the_relus_of_pure_stand_where_they_are_asked_for(relu_in_stem: bool, relu_after_sum: bool) -> None:
    model = pure.create_model("pure20", blocks=[1, 1, 1], relu_in_stem=relu_in_stem, relu_after_sum=relu_after_sum)
    seen: dict[str, Tensor] = {}
    for name in ("bn1", "act1", "layer1", "layer2", "layer3"):
        model.get_submodule(name).register_forward_hook(lambda module, x, y, name=name: seen.update({name: y.detach()}))
    model(torch.randn(4, 3, 8, 8))
    assert torch.equal(seen["act1"], seen["bn1"].clamp(min=0) if relu_in_stem else seen["bn1"])
    for stage in ("layer1", "layer2", "layer3"):
        assert (seen[stage].min().item() < 0) != relu_after_sum
    if relu_after_sum:
        assert seen["layer1"].min().item() == 0


@pytest.mark.parametrize("name", ["pure20", "pure18", "pure50"])
def test_the_third_version_is_a_variant_by_name(name: str) -> None:
    def relus(**options: Any) -> list[str]:
        blocks = [1, 1, 1] if name == "pure20" else [1, 1, 1, 1]
        seen: list[str] = []
        model = pure.create_model(name, blocks=blocks, **options)
        for key, module in model.named_modules():
            if isinstance(module, nn.ReLU) or getattr(module, "relu_after_sum", False):
                seen.append(key.rpartition(".")[0] or "stem")
        return seen

    assert relus() == relus(variant="v1") == []
    assert len(relus(variant="v3")) == 1 + (3 if name == "pure20" else 4)
    assert relus(variant="v3") == relus(relu_after_sum=True, relu_in_stem=True)
    assert len(relus(variant="v3", relu_after_sum=False)) == 1


def norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    mean, var, weight, bias = (state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, mean, var, weight, bias)


def randomise(model: nn.Module) -> None:
    """Away from ones and zeros, so that a swap or a loss shows; variances stay positive."""
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                value.uniform_(0.5, 1.5) if key.endswith("running_var") else value.add_(0.2 * torch.randn_like(value))


@pytest.mark.parametrize("unit_norm", ["both", "before", "after", "none"])
@pytest.mark.parametrize("units", ["second", "first", "both"])
def test_switches_of_the_block(units: Any, unit_norm: Any) -> None:
    block = ProductUnitBlock(3, 5, 2, nn.Conv2d(3, 5, 1, 2), units=units, unit_norm=unit_norm, relu_after_sum=True)
    block = block.double().eval()
    randomise(block)
    state = block.state_dict()
    norms = {  # by what stands on which side of each BN
        ("second", "both"): {1, 2},
        ("second", "before"): {1},
        ("second", "after"): {2},
        ("second", "none"): set(),
        ("first", "both"): {1, 2},
        ("first", "before"): {2},
        ("first", "after"): {1, 2},
        ("first", "none"): {2},
        ("both", "both"): {1, 2},
        ("both", "before"): {1},
        ("both", "after"): {1, 2},
        ("both", "none"): set(),
    }[units, unit_norm]
    theta = 2 if units == "both" else 1
    assert size(block) == 9 * 5 * (3 + 5) + (3 * 5 + 5) + theta + 10 * len(norms)
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    y = x
    for i, stride in ((1, 2), (2, 1)):
        weight = state[f"conv{i}.weight"]
        if units == "both" or units == ("first", "second")[i - 1]:
            tau = F.softplus(state[f"conv{i}.theta"]) + 1e-7
            y = F.conv2d(y.clamp(min=tau.item()).log(), weight, stride=stride, padding=1).exp()
        else:
            y = F.conv2d(y, weight, stride=stride, padding=1)
        y = norm(state, f"bn{i}", y) if i in norms else y
    y = y + F.conv2d(x, state["downsample.weight"], state["downsample.bias"], stride=2)
    assert y.min() < 0
    torch.testing.assert_close(block(x), y.clamp(min=0), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("block", [PreActBasicBlock, PreActBottleneck])
def test_preactivation_networks_compute_what_he_et_al_describe(block: Any, shortcut: Any) -> None:
    model = PreActResidualNetwork(block, [2, 2], (4, 8), 3, shortcut=shortcut).double().eval()
    randomise(model)
    state = model.state_dict()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    y = F.conv2d(x, state["conv1.weight"], padding=1)
    for stage in (1, 2):
        for i in (0, 1):
            name, stride = f"layer{stage}.{i}", 2 if stage == 2 and i == 0 else 1
            shared = F.relu(norm(state, f"{name}.bn1", y))
            identity = shared if i == 0 else y  # the first unit of a stage activates before the paths part
            if f"{name}.downsample.weight" in state:
                identity = F.conv2d(identity, state[f"{name}.downsample.weight"], stride=stride)
            elif i == 0:
                new = state[f"{name}.conv{3 if block is PreActBottleneck else 2}.weight"].shape[0] - y.shape[1]
                identity = F.pad(identity[:, :, ::stride, ::stride], (0, 0, 0, 0, new // 2, new // 2))
            y = shared
            for j in (1, 2, 3) if block is PreActBottleneck else (1, 2):
                if j > 1:
                    y = F.relu(norm(state, f"{name}.bn{j}", y))
                weight = state[f"{name}.conv{j}.weight"]
                y = F.conv2d(y, weight, stride=stride if j == 1 else 1, padding=weight.shape[-1] // 2)
            y = y + identity
    y = F.relu(norm(state, "bn1", y)).mean(dim=(2, 3)) @ state["fc.weight"].T + state["fc.bias"]
    torch.testing.assert_close(model(x), y, rtol=1e-10, atol=1e-10)


# Options


@pytest.mark.parametrize("unit", UNITS)
def test_the_settings_of_each_unit_are_those_of_its_module(unit: str) -> None:
    """Every keyword of the constructor can be set, but for what belongs to the network or to how fast it is trained."""
    module, settings = residual.UNITS[unit]
    assert module is UNITS[unit]
    keywords: set[str] = set()
    for each in module.__mro__:
        parameters = inspect.signature(each.__init__).parameters.values()  # type: ignore[misc]
        keywords |= {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    assert set(settings) == keywords - {"device", "dtype", "precision"}


@pytest.mark.parametrize(
    ("unit", "settings"),
    [
        (
            "paper",
            {"threshold": "exp", "granularity": "channel", "eps": 0.5, "init_a": 2.0, "padding_mode": "threshold"},
        ),
        ("stabilised", {"threshold": 0.3, "smoothness": 0.25, "bound": 7.0}),
        ("complex", {"eps": 0.125, "init_a": 2.0}),
    ],
)
def test_options_reach_every_unit(unit: str, settings: dict[str, Any]) -> None:
    model = pure.create_model("pure20", blocks=[1, 1, 1], unit=unit, units="both", **settings)
    reached = [module for module in model.modules() if isinstance(module, UNITS[unit])]
    assert len(reached) == 6
    for module in reached:
        for name, value in settings.items():
            assert getattr(module, "threshold_setting" if name == "threshold" else name) == value
    logits = model(torch.randn(4, 3, 8, 8))
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


BODY = "blocks, widths, stem, shortcut"
SWITCHES = f"{BODY}, variant, relu_in_stem, relu_after_sum, units, unit_norm, unit"
PAPER = "threshold, granularity, eps, init_a, theta_init, padding_mode"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pure18", {"stride": 2}, f"stride; expected {SWITCHES}, {PAPER}$"),
        ("pure20", {"bound": 3.0}, f"bound; expected {SWITCHES}, {PAPER}$"),
        ("pure20", {"unit": "stabilised", "foo": 1}, "foo; expected .* padding_mode, smoothness, bound$"),
        ("pure20", {"unit": "complex", "threshold": 1.0}, f"threshold; expected {SWITCHES}, eps, init_a$"),
        ("resnet20", {"unit": "paper", "foo": 1}, f"unit, foo; expected {BODY}$"),
        ("resnet50", {"shortcut": "A"}, "shortcut; expected blocks, stem$"),
        (
            "pure50",
            {"units": "first"},
            "units; expected blocks, stem, variant, relu_in_stem, relu_after_sum, unit, ",
        ),
        ("preact_resnet110", {"stem": "cifar"}, "stem; expected blocks, widths, shortcut$"),
    ],
)
def test_unknown_options_name_the_known(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=f"^{name} has no option {message}"):
        pure.create_model(name, **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pure20", {"unit": "real"}, "unknown unit 'real'; expected 'paper' or 'stabilised' or 'complex'"),
        ("pure20", {"units": "third"}, "unknown units 'third'; expected 'second' or 'first' or 'both'"),
        ("pure20", {"unit_norm": True}, "unknown unit_norm True; expected 'both' or 'before' or 'after' or 'none'"),
        ("pure20", {"relu_after_sum": "yes"}, "unknown relu_after_sum 'yes'; expected False or True"),
        ("pure20", {"relu_in_stem": "no"}, "unknown relu_in_stem 'no'; expected False or True"),
        ("pure20", {"variant": "v2"}, "unknown variant 'v2'; expected 'v1' or 'v3'"),
        ("pure50", {"variant": "v2"}, "unknown variant 'v2'; expected 'v1' or 'v3'"),
        ("pure18", {"stem": "mnist"}, "unknown stem 'mnist'; expected 'cifar' or 'imagenet'"),
        ("resnet18", {"stem": "mnist"}, "unknown stem 'mnist'; expected 'cifar' or 'imagenet'"),
        ("pure18", {"shortcut": "C"}, "unknown shortcut 'C'; expected 'A' .* or 'B'"),
        ("preact_resnet164", {"shortcut": "C"}, "unknown shortcut 'C'; expected 'A' or 'B'"),
        ("pure34", {"num_classes": 0}, "num_classes=0 and in_channels=3 must both be integers of at least 1"),
        ("resnet152", {"num_classes": 0}, "num_classes=0 and in_channels=3 must both be integers of at least 1"),
        ("preact_resnet1001", {"in_channels": 0}, "in_channels=0 must both be integers of at least 1"),
        ("pure20", {"num_classes": "10"}, "num_classes='10' and in_channels=3 must both be integers of at least 1"),
        ("pure20", {"blocks": [True, 1, 1]}, r"blocks for each of the 3 stages, got \[True, 1, 1\]"),
        ("pure20", {"shortcut": ["A"]}, r"unknown shortcut \['A'\]"),
        ("pure20", {"eps": "a"}, "eps must be finite and not negative, got 'a'"),
        ("pure20", {"init_a": "normal"}, "init_a must be finite, got 'normal'; .*'kaiming_normal'"),
        ("pure20", {"theta_init": float("inf")}, "theta_init must be finite"),
        ("pure20", {"theta_init": 1.0, "threshold": 0.5}, "theta_init=1 has no effect on a fixed threshold"),
        ("pure20", {"init_a": float("nan")}, "init_a must be finite, got nan"),
        ("pure34", {"blocks": [1, 1, 1]}, r"blocks for each of the 4 stages, got \[1, 1, 1\]; .* as many widths"),
        ("resnet50", {"blocks": [1, 1, 1]}, r"blocks for each of the 4 stages, got \[1, 1, 1\]"),
        ("pure20", {"blocks": 3}, "blocks for each of the 3 stages, got 3"),
        ("pure20", {"blocks": [1, 2.0, 1]}, "blocks for each of the 3 stages, got"),
        ("preact_resnet164", {"blocks": [1, 1]}, "blocks for each of the 3 stages, got"),
        ("pure20", {"widths": [16, 0, 64]}, r"positive integers for widths, one for each stage, got \[16, 0, 64\]"),
        ("pure20", {"widths": 16}, "positive integers for widths, one for each stage, got 16"),
    ],
)
def test_wrong_values_name_the_right(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pure.create_model(name, **options)


@pytest.mark.parametrize(
    ("name", "options", "least"),
    [
        ("pure18", {}, 17),
        ("pure18", {"stem": "cifar"}, 5),
        ("pure20", {}, 3),
        ("pure20", {"stem": "imagenet"}, 9),
        ("resnet20", {}, 3),
        ("pure20", {"blocks": [1], "widths": [4]}, 1),
        ("preact_resnet110", {}, 3),
        ("preact_resnet110", {"blocks": [1], "widths": [4]}, 1),
    ],
)
def test_images_below_the_least_size_are_refused(name: str, options: dict[str, Any], least: int) -> None:
    """At the least size every layer of stride 2 still meets two pixels, at one less one of them meets one."""
    if "blocks" not in options:
        options = {**options, "blocks": [1, 1, 1, 1] if name == "pure18" else [1, 1, 1]}
    model = pure.create_model(name, **options)
    met = []
    for module in model.modules():
        if getattr(module, "stride", 1) in (2, (2, 2)):
            module.register_forward_hook(lambda module, x, y: met.append(min(x[0].shape[-2:])))
    assert model(torch.randn(2, 3, least, least)).shape == (2, 1000 if name in PHOTOGRAPHS else 10)
    assert min(met, default=2) == 2
    if least > 1:
        for shape in ((least - 1, 64), (64, least - 1)):
            message = f"images of {shape[0]} x {shape[1]} pixels are too small .* at least {least} x {least}: enlarge"
            with pytest.raises(ValueError, match=message):
                model(torch.randn(2, 3, *shape))


def test_a_stem_for_photographs_refuses_three_pixels() -> None:
    with pytest.raises(ValueError, match=r"images of 3 x 3 pixels .* at least 17 x 17: .* stem='cifar'"):
        pure.create_model("pure34", blocks=[1, 1, 1, 1])(torch.randn(2, 3, 3, 3))


# In PyTorch's ecosystem


SMALL: list[tuple[str, dict[str, Any]]] = [
    ("pure20", {"blocks": [1, 1, 1]}),
    ("pure18", {"blocks": [1, 1, 1, 1], "relu_after_sum": True, "relu_in_stem": True, "unit_norm": "before"}),
    ("pure20", {"blocks": [1, 1, 1], "unit": "stabilised", "units": "first", "shortcut": "A"}),
    ("pure20", {"blocks": [1, 1, 1], "unit": "complex", "units": "both"}),
    ("preact_resnet164", {"blocks": [1, 1, 1]}),
]


@pytest.mark.parametrize(("name", "options"), SMALL)
def test_compiles_without_a_graph_break(name: str, options: dict[str, Any]) -> None:
    torch.compiler.reset()  # numbers that another test compiled with would become symbols
    model = pure.create_model(name, **options)
    x = images(name, 4)
    expected = copy.deepcopy(model)(x)
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="eager")(x), expected)


@pytest.mark.parametrize(("name", "options"), SMALL)
def test_exports(name: str, options: dict[str, Any]) -> None:
    model = pure.create_model(name, **options)
    x = images(name, 4)
    for _ in range(30):
        model(x)  # running statistics that fit
    model.eval()
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(model, (x,), dynamic_shapes={"x": {0: batch}})
    more = images(name, 7)
    torch.testing.assert_close(program.module()(more), model(more))


@pytest.mark.parametrize(("name", "options"), SMALL)
def test_stages_can_be_taken_as_a_backbone(name: str, options: dict[str, Any]) -> None:
    model = pure.create_model(name, **options)
    x = images(name, 4)
    expected: dict[str, Tensor] = {}
    for stage in model.stages:
        model.get_submodule(stage).register_forward_hook(lambda module, x, y, stage=stage: expected.update({stage: y}))
    backbone = copy.deepcopy(model)
    model(x)
    features = IntermediateLayerGetter(backbone, {stage: stage for stage in model.stages})(x)
    assert list(features) == list(expected) == model.stages
    for stage, feature in features.items():
        torch.testing.assert_close(feature, expected[stage])


def test_networks_for_photographs_have_a_thousand_classes() -> None:
    defaults = {name: inspect.signature(REGISTRY[name]).parameters["num_classes"].default for name in REGISTRY}
    assert {name for name, classes in defaults.items() if classes == 1000} == PHOTOGRAPHS
    assert {defaults[name] for name in SEGMENTERS} == {2}
    assert {defaults[name] for name in defaults if name not in PHOTOGRAPHS and name not in SEGMENTERS} == {10}
    with torch.device("meta"):
        assert pure.create_model("pure18").fc.out_features == 1000
        assert pure.create_model("pure20").fc.out_features == 10
        assert pure.create_model("pure18", np.int64(7), np.int64(2)).fc.out_features == 7


def test_a_network_of_one_s_own_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pure.models.registry.REGISTRY", dict(REGISTRY))

    @pure.register_model
    def pure12(num_classes: int = 4, in_channels: int = 3, **options: Any) -> nn.Module:
        return pure.create_model("pure20", num_classes, in_channels, blocks=[1, 2, 2], widths=[2, 2, 2], **options)

    assert pure.list_models()[0] == "pure12"
    assert pure.create_model("pure12", in_channels=1)(torch.rand(2, 1, 8, 8)).shape == (2, 4)
    assert pure.register_model(pure12) is pure12  # the same once more

    def pure20(**options: Any) -> nn.Module:
        raise AssertionError

    with pytest.raises(ValueError, match=r"'pure20' is registered already, by pure\.models\.residual; choose another"):
        pure.register_model(pure20)
