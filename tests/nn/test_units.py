"""The modules: their conventions are those of ``nn.Linear`` and ``nn.Conv2d``, their parameters those of the paper."""

from __future__ import annotations

import copy
import io
import itertools
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from pure import ProductUnit, ProductUnit2d
from pure.nn.complex import ComplexProductUnit, ComplexProductUnit2d
from pure.nn.functional import product_unit, product_unit2d
from pure.nn.stabilised import StabilisedProductUnit, StabilisedProductUnit2d

ACTIVATIONS = {
    "softplus": (lambda theta: math.log(1 + math.exp(theta)), math.log(2)),
    "exp": (math.exp, 1.0),
    "sigmoid": (lambda theta: 1 / (1 + math.exp(-theta)), 0.5),
    "relu": (lambda theta: max(theta, 0.0), 0.0),
}
"""Each activation in plain Python, and its value at zero, where theta starts."""

MAKERS = {
    "dense": lambda **options: ProductUnit(6, 4, **options),
    "2d": lambda **options: ProductUnit2d(6, 4, 3, **options),
}
both = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def unit_input(unit: nn.Module, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn((5, 6) if isinstance(unit, ProductUnit) else (2, 6, 5, 5), dtype=dtype)


# Parameters and threshold


@both
def test_the_parameters_are_weight_and_one_theta(make: Any) -> None:
    unit = make()
    assert {name for name, _ in unit.named_parameters()} == {"weight", "theta"}
    assert unit.theta.shape == (1,)
    assert unit.threshold.shape == ()
    assert unit.theta.item() == 0.0
    assert set(unit.state_dict()) == {"weight", "theta"}


def test_the_shape_of_the_exponents_is_that_of_the_library() -> None:
    assert ProductUnit(6, 4).weight.shape == nn.Linear(6, 4).weight.shape
    grouped = {"kernel_size": (2, 3), "groups": 2}
    assert ProductUnit2d(6, 4, **grouped).weight.shape == nn.Conv2d(6, 4, **grouped).weight.shape


@both
def test_the_threshold_starts_at_ln_2(make: Any) -> None:
    assert make(dtype=torch.float64).threshold.item() == pytest.approx(math.log(2) + 1e-7, rel=1e-15, abs=0)


@both
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_threshold_is_the_activation_of_theta_plus_eps(make: Any, activation: str) -> None:
    by_hand, at_zero = ACTIVATIONS[activation]
    unit = make(threshold=activation, eps=1e-3, dtype=torch.float64)
    assert unit.threshold.item() == pytest.approx(at_zero + 1e-3, rel=1e-14)
    for theta in (-1.5, 0.3, 2.0):
        nn.init.constant_(unit.theta, theta)
        assert unit.threshold.item() == pytest.approx(by_hand(theta) + 1e-3, rel=1e-14)


@both
def test_a_threshold_for_each_channel(make: Any) -> None:
    unit = make(granularity="channel", dtype=torch.float64)
    assert unit.theta.shape == unit.threshold.shape == (6,)
    with torch.no_grad():
        unit.theta.copy_(torch.arange(6) - 3.0)
    expected = [math.log(1 + math.exp(theta)) + 1e-7 for theta in range(-3, 3)]
    torch.testing.assert_close(unit.threshold.tolist(), expected, rtol=1e-14, atol=0)
    fixed = make(granularity="channel", threshold=0.5)
    assert fixed.threshold.tolist() == [0.5] * 6


@both
def test_a_fixed_threshold_has_no_theta_and_lives_with_the_module(make: Any) -> None:
    unit = make(threshold=0.25)
    assert unit.theta is None
    assert {name for name, _ in unit.named_parameters()} == {"weight"}
    assert unit.threshold.item() == 0.25
    assert not unit.threshold.requires_grad
    assert unit.state_dict()["fixed_threshold"].item() == 0.25
    assert unit.to(torch.float64).threshold.dtype == torch.float64
    assert unit.threshold.item() == 0.25
    other = make(threshold=0.75)
    other.load_state_dict(unit.state_dict(), strict=True)
    assert other.threshold.item() == 0.25


def test_relu_starts_at_eps_without_a_gradient_and_learns_from_a_positive_theta() -> None:
    unit = ProductUnit(2, 3, threshold="relu", dtype=torch.float64)
    assert unit.threshold.item() == 1e-7
    for theta, learns in ((0.0, False), (0.5, True)):
        nn.init.constant_(unit.theta, theta)
        unit.zero_grad()
        unit(torch.zeros(1, 2, dtype=torch.float64)).sum().backward()
        assert (unit.theta.grad.item() != 0) == learns


# Initialisation


@pytest.mark.parametrize(
    ("unit", "fan_in"),
    [
        (lambda **o: ProductUnit(400, 300, **o), 400),
        (lambda **o: ProductUnit2d(64, 128, 3, **o), 64 * 9),
        (lambda **o: ProductUnit2d(64, 128, (3, 5), groups=4, **o), 16 * 15),
    ],
)
@pytest.mark.parametrize(("options", "bound"), [({}, math.sqrt(6 / 26)), ({"init_a": math.sqrt(5)}, 1.0)])
def test_exponents_are_uniform_within_the_kaiming_bound(
    unit: Any, fan_in: int, options: dict[str, float], bound: float
) -> None:
    weight = unit(**options).weight.detach()
    bound /= math.sqrt(fan_in)
    assert weight.abs().max().item() <= bound * (1 + 1e-6)
    assert weight.abs().max().item() > 0.999 * bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    assert abs(weight.mean().item()) < 0.01 * bound


@pytest.mark.parametrize(
    ("unit", "fan_out"),
    [
        (ProductUnit(400, 300, init_a="kaiming_normal"), 300),
        (ProductUnit2d(64, 128, 3, init_a="kaiming_normal"), 128 * 9),
        (ComplexProductUnit2d(64, 128, 3, init_a="kaiming_normal"), 128 * 9),
    ],
)
def test_exponents_by_kaiming_normal_are_normal_with_the_fan_out_of_resnets(unit: Any, fan_out: int) -> None:
    weight = unit.weight.detach()
    assert weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.01)
    beyond_two_deviations = (weight.abs() > 2 * weight.std()).double().mean().item()
    assert beyond_two_deviations == pytest.approx(0.0455, abs=0.003)  # none of a uniform distribution


@pytest.mark.parametrize(
    ("threshold", "start", "expected"),
    [("softplus", -2.0, math.log1p(math.exp(-2))), ("exp", 0.5, math.exp(0.5)), ("relu", 0.75, 0.75)],
)
@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_the_threshold_starts_where_theta_init_says(
    threshold: Any, start: float, expected: float, granularity: Any
) -> None:
    unit = ProductUnit2d(4, 3, 3, threshold=threshold, theta_init=start, granularity=granularity)
    assert unit.theta is not None
    assert unit.theta.tolist() == [start] * (1 if granularity == "layer" else 4)
    torch.testing.assert_close(unit.threshold, torch.full_like(unit.threshold, expected))
    assert f"theta_init={start}" in repr(unit)
    unit(torch.rand(2, 4, 5, 5)).sum().backward()
    assert unit.theta.grad is not None
    assert unit.theta.grad.abs().min() > 0


def test_the_paper_s_bound_in_figures() -> None:
    assert ProductUnit2d(64, 64, 3).weight.abs().max().item() == pytest.approx(0.480 / math.sqrt(576), rel=2e-3)


@both
def test_reset_parameters_draws_again(make: Any) -> None:
    unit = make()
    before = unit.weight.detach().clone()
    nn.init.constant_(unit.theta, 3.0)
    unit.reset_parameters()
    assert unit.theta.item() == 0.0
    assert (unit.weight != before).all()
    torch.manual_seed(1)
    unit.reset_parameters()
    torch.manual_seed(1)
    assert torch.equal(make().weight, unit.weight)


# What the forward pass computes


def test_dense_forward_is_the_function_of_its_parameters() -> None:
    unit = ProductUnit(2, 1, dtype=torch.float64)
    with torch.no_grad():
        unit.weight.copy_(torch.tensor([[3.0, -1.0]]))
    tau = math.log(2) + 1e-7
    y = unit(torch.tensor([[2.0, 5.0], [-4.0, 5.0]], dtype=torch.float64))
    torch.testing.assert_close(y.flatten().tolist(), [8 / 5, tau**3 / 5], rtol=1e-14, atol=0)


def test_fixed_thresholds_clamp() -> None:
    unit = ProductUnit(1, 1, threshold=3)
    nn.init.constant_(unit.weight, 2.0)
    assert unit(torch.tensor([[1.0], [4.0]])).flatten().tolist() == pytest.approx([9, 16])


@pytest.mark.parametrize("padding_mode", ["ones", "threshold"])
@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_image_forward_hands_every_setting_on(padding_mode: str, granularity: str) -> None:
    settings = {"stride": (1, 2), "padding": (2, 1), "dilation": (2, 1), "groups": 2, "padding_mode": padding_mode}
    unit = ProductUnit2d(6, 4, (3, 2), granularity=granularity, dtype=torch.float64, **settings)
    nn.init.uniform_(unit.theta, -1, 1)
    x = unit_input(unit, torch.float64)
    torch.testing.assert_close(unit(x), product_unit2d(x, unit.weight, unit.threshold, **settings), rtol=0, atol=0)
    torch.testing.assert_close(  # an image alone, without a batch
        unit(x[0]), unit(x)[0], rtol=1e-14, atol=0
    )


def test_dense_takes_any_leading_shape() -> None:
    unit, x = ProductUnit(6, 4), torch.randn(2, 3, 5, 6)
    torch.testing.assert_close(unit(x)[1, 2, 4], unit(x[1, 2, 4]))
    torch.testing.assert_close(unit(x), product_unit(x, unit.weight, unit.threshold), rtol=0, atol=0)
    assert unit(x).shape == nn.Linear(6, 4)(x).shape


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(("stride", "padding"), [*itertools.product([1, (2, 3)], [0, (2, 1), "valid"]), (1, "same")])
@pytest.mark.parametrize("dilation", [1, (1, 2)])
@pytest.mark.parametrize("kernel_size", [1, 3, (3, 5)])
def test_image_outputs_have_the_shape_of_a_convolution(
    kernel_size: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> None:
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    x = torch.rand(2, 6, 13, 12)
    conv, unit = nn.Conv2d(6, 9, kernel_size, **settings), ProductUnit2d(6, 9, kernel_size, **settings)
    assert unit(x).shape == conv(x).shape
    assert unit(x[0]).shape == conv(x[0]).shape
    for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"):
        assert getattr(unit, name) == getattr(conv, name)


# Gradients, against finite differences


@pytest.mark.parametrize("padding_mode", ["ones", "threshold"])
@pytest.mark.parametrize("granularity", ["layer", "channel"])
@pytest.mark.parametrize("threshold", [*ACTIVATIONS, 0.8])
def test_gradients_of_inputs_exponents_and_theta(threshold: str | float, granularity: str, padding_mode: str) -> None:
    options = {"threshold": threshold, "granularity": granularity, "dtype": torch.float64}
    units = {
        (3, 4): ProductUnit(4, 3, **options),
        (2, 4, 5, 4): ProductUnit2d(
            4, 2, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2), groups=2, padding_mode=padding_mode, **options
        ),
    }
    for shape, unit in units.items():
        if unit.theta is not None:
            nn.init.uniform_(unit.theta, 0.2, 0.6)  # ReLU's own kink is at zero
        nn.init.normal_(unit.weight)
        tau = unit.threshold.detach()
        tau = tau if tau.ndim == 0 or len(shape) == 2 else tau[:, None, None]
        distance = torch.rand(shape, dtype=torch.float64) + 0.05  # away from the kink at the threshold
        below = (torch.arange(distance.numel()) % 3 == 0).reshape(shape)  # in every channel
        x = torch.where(below, tau - distance, tau + distance).requires_grad_()
        parameters = dict(unit.named_parameters())

        def forward(x: Tensor, *values: Tensor, unit: Any = unit, names: Any = tuple(parameters)) -> Tensor:
            return functional_call(unit, dict(zip(names, values, strict=True)), (x,))

        assert torch.autograd.gradcheck(forward, (x, *parameters.values()))
        unit(x).sum().backward()
        assert (x.grad[below] == 0).all()
        if unit.theta is not None:
            assert (unit.theta.grad != 0).all()


def test_gradients_agree_between_the_precisions() -> None:
    unit = ProductUnit2d(6, 4, 3, padding=1)
    double = copy.deepcopy(unit).double()
    x = unit_input(unit)
    unit(x).log().sum().backward()
    double(x.double()).log().sum().backward()
    for parameter, reference in zip(unit.parameters(), double.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad.double(), reference.grad, rtol=1e-4, atol=1e-4)


# Conventions of a module


@both
@pytest.mark.parametrize("options", [{}, {"threshold": 0.5}, {"granularity": "channel"}])
def test_device_meta_then_empty_then_reset(make: Any, options: dict[str, Any]) -> None:
    unit = make(device="meta", **options)
    tensors = unit.state_dict().values()
    assert len(tensors) == 2
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert unit(unit_input(unit).to("meta")).device.type == "meta"
    unit = unit.to_empty(device="cpu")
    for tensor in unit.state_dict().values():
        tensor.fill_(-9.0)  # what the memory happened to hold
    torch.manual_seed(2)
    unit.reset_parameters()
    torch.manual_seed(2)
    torch.testing.assert_close(dict(unit.state_dict()), dict(make(**options).state_dict()), rtol=0, atol=0)


@both
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("threshold", ["softplus", 0.5])
def test_dtype(make: Any, dtype: torch.dtype, threshold: str | float) -> None:
    unit = make(dtype=dtype, threshold=threshold)
    assert {tensor.dtype for tensor in unit.state_dict().values()} == {dtype}
    assert unit(unit_input(unit, dtype)).dtype == dtype
    moved = make(threshold=threshold).to(dtype)
    assert {tensor.dtype for tensor in moved.state_dict().values()} == {dtype}
    assert moved(unit_input(unit, dtype)).dtype == dtype


@both
def test_a_copy_has_its_own_parameters(make: Any) -> None:
    unit = make()
    x, clone = unit_input(unit), copy.deepcopy(unit)
    before = clone(x)
    assert torch.equal(before, unit(x))
    with torch.no_grad():
        unit.weight.add_(1.0)
        unit.theta.add_(1.0)
    assert torch.equal(clone(x), before)
    assert not torch.equal(unit(x), before)


@both
@pytest.mark.parametrize("options", [{}, {"threshold": 0.5}, {"granularity": "channel", "threshold": "exp"}])
def test_saved_and_loaded_it_computes_the_same(make: Any, options: dict[str, Any]) -> None:
    unit, other, file = make(**options), make(**options), io.BytesIO()
    if unit.theta is not None:
        nn.init.normal_(unit.theta)
    x = unit_input(unit)
    assert not torch.equal(other(x), unit(x))
    torch.save(unit.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert torch.equal(other(x), unit(x))


@both
def test_a_state_of_another_kind_of_threshold_is_refused(make: Any) -> None:
    for saved, loaded in ((make(), make(threshold=0.5)), (make(threshold=0.5), make())):
        with pytest.raises(RuntimeError, match=r"Missing key.*fixed_threshold|Missing key.*theta"):
            loaded.load_state_dict(saved.state_dict())
    with pytest.raises(RuntimeError, match="size mismatch for theta"):
        make().load_state_dict(make(granularity="channel").state_dict())


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        (ProductUnit(3, 4), "ProductUnit(in_features=3, out_features=4)"),
        (ProductUnit(3, 4, threshold=1), "ProductUnit(in_features=3, out_features=4, threshold=1.0)"),
        (
            ProductUnit(3, 4, threshold="exp", granularity="channel", eps=1e-5, init_a=2),
            "ProductUnit(in_features=3, out_features=4, threshold='exp', granularity='channel', eps=1e-05, init_a=2)",
        ),
        (ProductUnit2d(3, 4, 3), "ProductUnit2d(3, 4, kernel_size=(3, 3), stride=(1, 1))"),
        (ProductUnit2d(3, 4, [3, 2]), "ProductUnit2d(3, 4, kernel_size=(3, 2), stride=(1, 1))"),
        (
            ProductUnit2d(4, 4, (3, 5), (2, 1), 1, 2, 2, padding_mode="threshold", threshold=np.float32(0.5)),
            "ProductUnit2d(4, 4, kernel_size=(3, 5), stride=(2, 1), padding=(1, 1), dilation=(2, 2), groups=2, "
            "padding_mode='threshold', threshold=0.5)",
        ),
        (
            ProductUnit2d(3, 4, 3, padding="same"),
            "ProductUnit2d(3, 4, kernel_size=(3, 3), stride=(1, 1), padding='same')",
        ),
    ],
)
def test_repr(unit: nn.Module, text: str) -> None:
    assert repr(unit) == text


def test_one_step_moves_exponents_and_theta_downhill() -> None:
    unit, x = ProductUnit2d(6, 4, 3), torch.randn(2, 6, 5, 5)
    optimiser = torch.optim.SGD(unit.parameters(), lr=1e-3)
    target = torch.full((2, 4, 3, 3), 2.0)
    before = F.mse_loss(unit(x), target)
    before.backward()
    optimiser.step()
    assert F.mse_loss(unit(x), target) < before
    assert unit.theta.item() != 0.0


# Bad arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 0}, "kernel_size must be at least 1, got 0"),
        ({"kernel_size": -3}, "kernel_size must be at least 1, got -3"),
        ({"kernel_size": (3, 0)}, r"kernel_size must be an integer, or \(height, width\).*at least 1, got \(3, 0\)"),
        ({"kernel_size": (3,)}, r"kernel_size must be an integer, or \(height, width\).*at least 1, got \(3,\)"),
        ({"kernel_size": 2.5}, r"kernel_size must be an integer, or \(height, width\).*at least 1, got 2\.5"),
        ({"stride": 0}, "stride must be at least 1, got 0"),
        ({"dilation": -1}, "dilation must be at least 1, got -1"),
        ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
        ({"out_channels": -1}, "out_channels must be at least 1, got -1"),
        ({"groups": 0}, "groups must be at least 1, got 0"),
        ({"groups": 4}, "groups=4 must divide in_channels=6 and out_channels=4"),
        ({"groups": 3}, "groups=3 must divide in_channels=6 and out_channels=4"),
        ({"padding": -1}, "padding must be at least 0, got -1"),
        ({"padding": (1, -1)}, r"padding must be .*at least 0, got \(1, -1\)"),
        ({"padding": "full"}, "unknown padding 'full'; expected pixels, 'same' or 'valid'"),
        ({"padding": "same", "stride": 2}, "padding='same' needs stride 1, got stride 2"),
        ({"padding_mode": "zeros"}, "unknown padding_mode 'zeros'; expected 'ones' or 'threshold'"),
    ],
)
def test_bad_sizes_of_an_image_unit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"ProductUnit2d: {message}"):
        ProductUnit2d(**{"in_channels": 6, "out_channels": 4, "kernel_size": 3, **options})


@pytest.mark.parametrize("sizes", [{"in_features": 0, "out_features": 4}, {"in_features": 6, "out_features": -2}])
def test_bad_sizes_of_a_dense_unit(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"ProductUnit: (in_features must .* got 0|out_features must .* got -2)"):
        ProductUnit(**sizes)


@both
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": "tanh"}, "unknown threshold 'tanh'; expected one of 'softplus', 'exp', 'sigmoid', 'relu', or a"),
        ({"threshold": None}, "unknown threshold None; expected one of 'softplus'"),
        ({"threshold": True}, "unknown threshold True; expected one of 'softplus'"),
        ({"threshold": 0}, r"a fixed threshold must be positive and finite, got 0\.0; the logarithm needs it"),
        ({"threshold": -0.5}, "a fixed threshold must be positive and finite, got -0.5"),
        ({"threshold": math.inf}, "a fixed threshold must be positive and finite, got inf"),
        ({"threshold": math.nan}, "a fixed threshold must be positive and finite, got nan"),
        ({"granularity": "pixel"}, "unknown granularity 'pixel'; expected 'layer' or 'channel'"),
        ({"eps": -1e-7}, "eps must be finite and not negative, got -1e-07"),
        ({"eps": math.nan}, "eps must be finite and not negative, got nan"),
        ({"eps": 0, "threshold": "relu"}, "threshold='relu' needs a positive eps"),
    ],
)
def test_bad_settings(make: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"ProductUnit(2d)?: {message}"):
        make(**options)


def test_bad_inputs_reach_the_message_of_the_function() -> None:
    with pytest.raises(ValueError, match=r"product_unit: expected inputs of shape \(\.\.\., 6\)"):
        ProductUnit(6, 4)(torch.ones(2, 5))
    with pytest.raises(ValueError, match="product_unit2d: expected 6 input channels"):
        ProductUnit2d(6, 4, 3)(torch.ones(2, 5, 5, 5))
    with pytest.raises(TypeError, match=r"product_unit2d: expected a real floating-point tensor, got torch\.int64"):
        ProductUnit2d(6, 4, 3)(torch.ones(2, 6, 5, 5, dtype=torch.int64))


# The unit's own precision


@pytest.mark.parametrize("precision", [None, torch.float32, torch.bfloat16])
def test_precision_survives_copies_and_is_not_in_the_state(precision: torch.dtype | None) -> None:
    torch.manual_seed(0)
    unit = ProductUnit2d(3, 5, 3, precision=precision)
    assert list(unit.state_dict()) == list(ProductUnit2d(3, 5, 3).state_dict())
    assert ("precision=torch.bfloat16" in repr(unit)) == (precision == torch.bfloat16)
    x = torch.rand(2, 3, 6, 6)
    with torch.autocast("cpu", precision, enabled=precision == torch.bfloat16):
        expected = product_unit2d(x, unit.weight, unit.threshold)
    for each in (unit, copy.deepcopy(unit), pickle.loads(pickle.dumps(unit))):
        assert torch.equal(each(x), expected)
        with torch.autocast("cpu", torch.float16):  # follows what is around it only where it has none of its own
            assert torch.equal(each(x), expected) == (precision is not None)
    copied = copy.deepcopy(unit)
    copied.precision = torch.float16
    assert unit.precision is precision  # a copy is another unit


def test_unknown_precision_is_refused() -> None:
    message = r"ProductUnit: precision must be torch.float32, .* or None to follow autocast, got torch.float64"
    with pytest.raises(ValueError, match=message):
        ProductUnit(3, 5, precision=torch.float64)


# Where a convolution would go


KINDS = [ProductUnit, StabilisedProductUnit, ComplexProductUnit]
KINDS2D = [ProductUnit2d, StabilisedProductUnit2d, ComplexProductUnit2d]


@pytest.mark.parametrize("kind", [*KINDS, *KINDS2D])
def test_no_bias_is_what_a_unit_has(kind: Any) -> None:
    sizes = (4, 2, 3) if kind in KINDS2D else (4, 2)
    unit = kind(*sizes, bias=False)
    assert unit.bias is None
    assert "bias" not in unit.state_dict()
    with pytest.raises(ValueError, match=rf"^{kind.__name__}: a product unit has no bias, got bias=True: .*bias=False"):
        kind(*sizes, bias=True)


@pytest.mark.parametrize("kind", KINDS2D)
def test_sizes_as_numpy_and_pytorch_give_them(kind: Any) -> None:
    n = np.int64
    unit = kind(n(4), n(6), n(3), n(1), (1,), [n(1), n(1)], n(2))
    assert repr(unit) == repr(kind(4, 6, 3, 1, 1, 1, 2))
    for size in (unit.in_channels, unit.groups, *unit.kernel_size, *unit.stride, *unit.padding, *unit.dilation):
        assert type(size) is int
    assert unit(torch.rand(1, 4, 5, 5)).shape == (1, 6, 5, 5)
    with pytest.raises(ValueError, match=r"groups must be an integer, .*got True"):
        kind(4, 6, 3, groups=True)


@pytest.mark.parametrize("kind", KINDS)
def test_features_as_numpy_counts_them(kind: Any) -> None:
    unit = kind(np.int32(4), np.int64(2))
    assert (unit.in_features, unit.out_features, unit.weight.shape) == (4, 2, (2, 4))
    assert type(unit.in_features) is int


@pytest.mark.parametrize("settings", [([1, 1], "same"), (1, (1,)), (np.int64(1), np.int64(1)), ([1], [1, 1])])
def test_windows_of_the_function_as_conv2d_takes_them(settings: tuple[Any, Any]) -> None:
    x, weight = torch.rand(1, 2, 5, 5), torch.randn(3, 2, 3, 3)
    assert torch.equal(product_unit2d(x, weight, 0.5, *settings), product_unit2d(x, weight, 0.5, 1, 1))


@pytest.mark.parametrize("kind", KINDS2D)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_precision_on_the_device_meta(kind: Any, precision: torch.dtype) -> None:
    unit = kind(4, 6, 3, precision=precision, device="meta")
    y = unit(torch.empty(2, 4, 8, 8, device="meta"))
    assert (y.shape, y.dtype, y.device.type) == ((2, 6, 6, 6), torch.float32, "meta")
    y.sum().backward()


@both
@pytest.mark.parametrize("threshold", ["softplus", 0.3])
def test_a_threshold_without_dimensions_is_read(make: Any, threshold: Any) -> None:
    unit = make(threshold=threshold)
    state = {name: value.reshape(()) if name == "theta" else value for name, value in make().state_dict().items()}
    if threshold == "softplus":
        state["theta"] = torch.tensor(0.7)
        unit.load_state_dict(state)
        assert unit.theta.tolist() == [pytest.approx(0.7)]
        assert state["theta"].ndim == 0  # it is the caller's
        with pytest.raises(RuntimeError, match="size mismatch for theta"):
            make(granularity="channel").load_state_dict(state)
    else:
        assert unit.threshold.shape == ()
        with pytest.raises(RuntimeError, match="theta"):
            unit.load_state_dict(state)
