"""The stabilised product unit, against its formula in plain Python and against the paper's unit where they meet."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_functional import Size, pair, window
from torch import Tensor, nn
from torch.func import functional_call

from pure.nn.functional import product_unit, product_unit2d
from pure.nn.stabilised import (
    StabilisedProductUnit,
    StabilisedProductUnit2d,
    stabilised_product_unit,
    stabilised_product_unit2d,
)
from pure.nn.units import ProductUnit, ProductUnit2d

TAU = 0.7
OFF: dict[str, Any] = {"smoothness": None, "bound": None}
MAKERS = {
    "dense": lambda **options: StabilisedProductUnit(6, 4, **options),
    "2d": lambda **options: StabilisedProductUnit2d(6, 4, 3, **options),
}
both = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def unit_input(unit: nn.Module, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn((5, 6) if isinstance(unit, ProductUnit) else (2, 6, 5, 5), dtype=dtype)


def smooth_maximum(x: float, tau: float, smoothness: float) -> float:
    width = smoothness * tau
    softplus = math.log1p(math.exp((x - tau) / width)) if x < tau + 700 * width else (x - tau) / width
    return tau + width * softplus


def positive_part(x: list[float], smoothness: float = 0.5, tau: float = TAU) -> Tensor:
    """What the unit makes of single inputs, with the exponent 1 and without a bound."""
    y = stabilised_product_unit(torch.tensor(x).double()[:, None], torch.ones(1, 1).double(), tau, smoothness, None)
    return y[:, 0]


# Values worked out by hand


def test_at_the_threshold_and_far_from_it() -> None:
    at, above, below = positive_part([TAU, 40.0, -40.0], smoothness=0.5).tolist()
    assert at == pytest.approx(TAU * (1 + 0.5 * math.log(2)), rel=1e-7)  # the input is of single precision
    assert above == pytest.approx(40.0, rel=1e-14)
    assert below == pytest.approx(TAU, rel=1e-14)


def test_the_bound_is_a_hyperbolic_tangent_of_the_exponent() -> None:
    x = torch.full((1,), math.e, dtype=torch.float64)
    weight = torch.tensor([[0.1], [5.0], [-5.0], [1e6]], dtype=torch.float64)
    y = stabilised_product_unit(x, weight, TAU, smoothness=None, bound=4.0)
    expected = [math.exp(4 * math.tanh(z / 4)) for z in (0.1, 5.0, -5.0)]
    torch.testing.assert_close(y.tolist(), [*expected, math.exp(4)], rtol=1e-14, atol=0)


def test_each_setting_is_switched_off_on_its_own() -> None:
    x, weight = torch.randn(50, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    paper = product_unit(x, weight, TAU)
    bounded = stabilised_product_unit(x, weight, TAU, smoothness=None, bound=3.0)
    torch.testing.assert_close(bounded, (3 * (paper.log() / 3).tanh()).exp(), rtol=1e-12, atol=0)
    smooth = stabilised_product_unit(x, weight, TAU, smoothness=0.5, bound=None)
    x_plus = positive_part(x.flatten().tolist()).reshape(x.shape)
    torch.testing.assert_close(smooth, product_unit(x_plus, weight, TAU), rtol=1e-5, atol=0)


# Against the formula, number by number


@pytest.mark.parametrize("padding_mode", ["ones", "threshold"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dilation", [1, (2, 1)])
@pytest.mark.parametrize(("stride", "padding"), [*itertools.product([1, (2, 1)], [0, (1, 2), "valid"]), (1, "same")])
@pytest.mark.parametrize("kernel", [1, 3, (2, 3)])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # PyTorch's, about its speed
def test_image_equals_the_formula(
    kernel: Size, stride: Size, padding: Size | str, dilation: Size, groups: int, padding_mode: str
) -> None:
    x = torch.randn(1, 4, 6, 5, dtype=torch.float64) * 2
    weight = torch.randn(2, 4 // groups, *pair(kernel), dtype=torch.float64)
    taus, smoothness, bound = [0.3, 0.5, 0.7, 1.2], 0.4, 6.0
    y = stabilised_product_unit2d(
        x,
        weight,
        torch.tensor(taus, dtype=torch.float64),
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        smoothness,
        bound,
    )
    pixels, exponents = x[0].tolist(), weight.tolist()

    def log_factor(channel: int, row: int, column: int) -> float:
        inside = 0 <= row < 6 and 0 <= column < 5
        if not inside and padding_mode == "ones":
            return 0.0
        return math.log(smooth_maximum(pixels[channel][row][column] if inside else 0.0, taus[channel], smoothness))

    def output(k: int, row: int, column: int) -> float:
        first = k // (2 // groups) * (4 // groups)
        z = math.fsum(
            exponents[k][c][i][j] * log_factor(first + c, r, s)
            for i, j, r, s in window(row, column, kernel, stride, padding, dilation)
            for c in range(4 // groups)
        )
        return math.exp(bound * math.tanh(z / bound))

    for k, row, column in itertools.product(*map(range, y.shape[1:])):
        assert y[0, k, row, column].item() == pytest.approx(output(k, row, column), rel=1e-10, abs=0)


@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5), (0, 5)])
def test_dense_equals_the_formula(shape: tuple[int, ...]) -> None:
    x, weight = torch.randn(shape, dtype=torch.float64) * 2, torch.randn(3, 5, dtype=torch.float64) * 2
    y = stabilised_product_unit(x, weight, TAU)
    assert y.shape == (*shape[:-1], 3)
    for vector, products in zip(x.reshape(-1, 5).tolist(), y.reshape(-1, 3).tolist(), strict=True):
        for exponents, product in zip(weight.tolist(), products, strict=True):
            logs = [math.log(smooth_maximum(value, TAU, 0.5)) for value in vector]
            z = math.fsum(w * log for w, log in zip(exponents, logs, strict=True))
            assert product == pytest.approx(math.exp(11 * math.tanh(z / 11)), rel=1e-10, abs=0)


# Where it meets the paper's unit


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_with_both_settings_off_it_is_the_paper_s_unit(dtype: torch.dtype) -> None:
    x, weight = torch.randn(7, 6, dtype=dtype), torch.randn(4, 6, dtype=dtype)
    taus = torch.rand(6, dtype=dtype) + 0.1
    assert torch.equal(stabilised_product_unit(x, weight, taus, **OFF), product_unit(x, weight, taus))
    image, kernel = torch.randn(2, 6, 5, 5, dtype=dtype), torch.randn(4, 3, 3, 3, dtype=dtype)
    window = {"stride": (1, 2), "padding": (2, 1), "dilation": (2, 1), "groups": 2, "padding_mode": "threshold"}
    assert torch.equal(
        stabilised_product_unit2d(image, kernel, taus, **window, **OFF), product_unit2d(image, kernel, taus, **window)
    )


@given(st.floats(-50, 50), st.floats(0.01, 10), st.floats(1e-3, 2))
def test_the_smooth_maximum_lies_above_the_hard_one_by_at_most_its_width_times_ln_2(
    x: float, tau: float, smoothness: float
) -> None:
    unit = torch.ones(1, 1).double()
    y = stabilised_product_unit(torch.tensor([x]).double(), unit, tau, smoothness, None).item()
    hard = max(torch.tensor(x).item(), tau)
    assert hard * (1 - 1e-14) <= y <= (hard + smoothness * tau * math.log(2)) * (1 + 1e-14)


def test_it_tends_to_the_paper_s_unit() -> None:
    x, weight = torch.randn(100, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    paper = product_unit(x, weight, TAU)

    def distance(smoothness: float, bound: float) -> float:
        return (stabilised_product_unit(x, weight, TAU, smoothness, bound) / paper).log().abs().max().item()

    distances = [distance(10.0**-k, 10.0**k) for k in range(1, 7)]
    assert all(after < 0.5 * before for before, after in itertools.pairwise(distances))
    assert distances[-1] < 1e-5


@given(
    st.lists(st.floats(-5, 5), min_size=4, max_size=4),
    st.lists(st.floats(-3, 3), min_size=4, max_size=4),
    st.floats(0.05, 20),
)
def test_scaling_inputs_and_threshold_scales_by_the_power_of_the_sum(x: list[float], w: list[float], c: float) -> None:
    inputs, weight = torch.tensor(x, dtype=torch.float64), torch.tensor([w], dtype=torch.float64)
    scaled = stabilised_product_unit(c * inputs, weight, c * TAU, bound=None).item()
    y = stabilised_product_unit(inputs, weight, TAU, bound=None).item()
    assert scaled == pytest.approx(c ** math.fsum(w) * y, rel=1e-10, abs=0)


@given(st.lists(st.floats(-100, 100), min_size=4, max_size=4), st.lists(st.floats(-30, 30), min_size=4, max_size=4))
def test_a_product_and_its_reciprocal_are_bounded_alike(x: list[float], w: list[float]) -> None:
    inputs, weight = torch.tensor(x, dtype=torch.float64), torch.tensor([w], dtype=torch.float64)
    y = stabilised_product_unit(inputs, weight, TAU).item()
    assert y * stabilised_product_unit(inputs, -weight, TAU).item() == pytest.approx(1, rel=1e-10)
    assert math.exp(-11) * (1 - 1e-14) <= y <= math.exp(11) * (1 + 1e-14)


# Gradients


@pytest.mark.parametrize("padding_mode", ["ones", "threshold"])
@pytest.mark.parametrize("granularity", ["layer", "channel"])
@pytest.mark.parametrize("settings", [{}, {"smoothness": 0.1, "bound": 2.0}, {"bound": None}])
def test_gradients_of_inputs_exponents_and_theta(settings: Any, granularity: str, padding_mode: str) -> None:
    options = {"granularity": granularity, "dtype": torch.float64, **settings}
    units = {
        (3, 4): StabilisedProductUnit(4, 3, **options),
        (2, 4, 5, 4): StabilisedProductUnit2d(
            4, 2, (3, 2), (2, 1), padding=1, dilation=(1, 2), groups=2, padding_mode=padding_mode, **options
        ),
    }
    for shape, unit in units.items():
        nn.init.normal_(unit.weight)
        x = torch.randn(shape, dtype=torch.float64)  # on both sides of the threshold, as near to it as it comes
        x[0, 0] = unit.threshold.detach().flatten()[0]
        x.requires_grad_()
        parameters = dict(unit.named_parameters())

        def forward(x: Tensor, *values: Tensor, unit: Any = unit, names: Any = tuple(parameters)) -> Tensor:
            return functional_call(unit, dict(zip(names, values, strict=True)), (x,))

        assert torch.autograd.gradcheck(forward, (x, *parameters.values()))


@pytest.mark.parametrize("x", [-3.0, 0.0, TAU, 5.0])
def test_the_gradient_of_the_smooth_maximum_is_a_sigmoid(x: float) -> None:
    inputs = torch.tensor([x], dtype=torch.float64, requires_grad=True)
    stabilised_product_unit(inputs, torch.ones(1, 1, dtype=torch.float64), TAU, 0.5, None).backward()
    assert inputs.grad is not None
    assert inputs.grad.item() == pytest.approx(1 / (1 + math.exp(-(x - TAU) / (0.5 * TAU))), rel=1e-12)


def test_inputs_below_the_threshold_get_a_gradient_that_the_paper_s_unit_denies_them() -> None:
    for unit, alive in ((StabilisedProductUnit(6, 4), True), (ProductUnit(6, 4), False)):
        x = torch.linspace(-3, 0, 30).reshape(5, 6).requires_grad_()
        unit(x).sum().backward()
        assert x.grad is not None
        assert (x.grad != 0).all() == alive
        assert (x.grad == 0).all() != alive


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_no_overflow_forward_or_backward_where_the_paper_s_unit_has_one(dtype: torch.dtype, sign: float) -> None:
    x = torch.full((3, 2, 4, 4), 60.0, dtype=dtype, requires_grad=True)
    unit = StabilisedProductUnit2d(2, 5, 3, padding=1, dtype=dtype)
    nn.init.constant_(unit.weight, sign * 2.0)  # a sum of 2 * 18 * log(60) = 147
    y = unit(x)
    assert y.isfinite().all()
    assert (y > 0).all()
    y.sum().backward()
    for tensor in (x, unit.weight, unit.theta):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
    paper = product_unit2d(x, unit.weight, unit.threshold, padding=1)
    assert (paper.isinf() if sign > 0 else paper == 0).any()


def test_wide_inputs_in_half_precision_leave_the_gradient_of_the_threshold_finite() -> None:
    tau = torch.tensor(1e-3, dtype=torch.float16, requires_grad=True)
    x = torch.tensor([6e4, -6e4, 1e-3], dtype=torch.float16, requires_grad=True)
    stabilised_product_unit(x, torch.full((1, 3), 0.1, dtype=torch.float16), tau).backward()
    for tensor in (x, tau):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


# NaN and infinities are never made into a plausible number


@pytest.mark.parametrize("settings", [{}, {"smoothness": None}, {"bound": None}])
@pytest.mark.parametrize("sign", [1.0, -1.0, 0.0])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_bad_numbers_come_out_as_nan(bad: float, sign: float, settings: Any) -> None:
    x, weight = torch.rand(5, 3), sign * (torch.rand(4, 3) + 0.1)
    clean = stabilised_product_unit(x, weight, TAU, **settings)
    x[2, 1] = bad
    y = stabilised_product_unit(x, weight, TAU, **settings)
    assert y[2].isnan().all()
    others = [0, 1, 3, 4]
    torch.testing.assert_close(y[others], clean[others], rtol=1e-6, atol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_bad_exponents_come_out_as_nan(bad: float) -> None:
    weight = torch.ones(4, 3)
    weight[1, 2] = bad
    y = stabilised_product_unit(torch.full((3,), 2.0), weight, TAU)
    assert y.isnan().tolist() == [False, True, False, False]


# The modules


@both
def test_it_takes_the_place_of_the_paper_s_unit(make: Any) -> None:
    unit, paper = make(**OFF), ProductUnit(6, 4) if isinstance(make(), ProductUnit) else ProductUnit2d(6, 4, 3)
    assert isinstance(unit, type(paper))
    unit.load_state_dict(paper.state_dict(), strict=True)
    x = unit_input(unit)
    assert torch.equal(unit(x), paper(x))
    torch.manual_seed(5)
    paper.reset_parameters()
    torch.manual_seed(5)
    assert torch.equal(make().weight, paper.weight)


@both
def test_the_module_is_the_function_of_its_parameters(make: Any) -> None:
    settings = {"smoothness": 0.3, "bound": 5.0}
    unit = make(granularity="channel", threshold="exp", dtype=torch.float64, **settings)
    nn.init.uniform_(unit.theta, -1, 1)
    nn.init.normal_(unit.weight)
    x = unit_input(unit, torch.float64)
    function = stabilised_product_unit if isinstance(unit, ProductUnit) else stabilised_product_unit2d
    expected = function(x, unit.weight, unit.threshold, **settings)
    assert torch.equal(unit(x), expected)
    assert not torch.allclose(expected, function(x, unit.weight, unit.threshold), rtol=1e-3)


def test_image_module_hands_every_setting_on() -> None:
    window = {"stride": (1, 2), "padding": (2, 1), "dilation": (2, 1), "groups": 2, "padding_mode": "threshold"}
    unit = StabilisedProductUnit2d(6, 4, (3, 2), threshold=0.4, smoothness=0.2, bound=2.0, **window)
    x = unit_input(unit)
    expected = stabilised_product_unit2d(x, unit.weight, 0.4, **window, smoothness=0.2, bound=2.0)
    assert torch.equal(unit(x), expected)
    assert StabilisedProductUnit2d(6, 4, 3, 2, 1)(x).shape == nn.Conv2d(6, 4, 3, 2, 1)(x).shape  # by position


@both
def test_compiled_without_a_break_it_computes_the_same(make: Any) -> None:
    unit = make()
    x = unit_input(unit)
    torch.compiler.reset()  # it gives up after recompiling a function for several units
    compiled = torch.compile(unit, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), unit(x), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        (StabilisedProductUnit(3, 4), "(in_features=3, out_features=4, smoothness=0.5, bound=11.0)"),
        (
            StabilisedProductUnit2d(3, 4, 3, padding=1, threshold=0.5, smoothness=None),
            "(3, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), threshold=0.5, smoothness=None, bound=11.0)",
        ),
    ],
)
def test_repr(unit: nn.Module, text: str) -> None:
    assert repr(unit) == type(unit).__name__ + text


# Bad arguments


@pytest.mark.parametrize("value", [0, -1.0, math.inf, math.nan])
@pytest.mark.parametrize("name", ["smoothness", "bound"])
def test_settings_out_of_range(name: str, value: float) -> None:
    calls = {
        "StabilisedProductUnit": lambda **s: StabilisedProductUnit(3, 4, **s),
        "StabilisedProductUnit2d": lambda **s: StabilisedProductUnit2d(3, 4, 3, **s),
        "stabilised_product_unit": lambda **s: stabilised_product_unit(torch.ones(3), torch.ones(4, 3), TAU, **s),
        "stabilised_product_unit2d": lambda **s: stabilised_product_unit2d(
            torch.ones(3, 5, 5), torch.ones(4, 3, 3, 3), TAU, **s
        ),
    }
    for where, call in calls.items():
        with pytest.raises(ValueError, match=rf"^{where}: {name} must be positive and finite, or None .*, got {value}"):
            call(**{name: value})


def test_what_it_shares_with_the_paper_s_unit_is_refused_in_its_own_name() -> None:
    with pytest.raises(ValueError, match=r"^StabilisedProductUnit2d: kernel_size must be at least 1, got 0"):
        StabilisedProductUnit2d(3, 4, 0)
    with pytest.raises(ValueError, match=r"^StabilisedProductUnit: in_features must be at least 1, got 0"):
        StabilisedProductUnit(0, 4)
    with pytest.raises(ValueError, match=r"^StabilisedProductUnit2d: unknown padding_mode 'zeros'"):
        StabilisedProductUnit2d(3, 4, 3, padding_mode="zeros")
    with pytest.raises(TypeError, match=r"^stabilised_product_unit: expected a real floating-point tensor"):
        StabilisedProductUnit(3, 4)(torch.ones(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"^stabilised_product_unit2d: .*use stabilised_product_unit for vectors"):
        StabilisedProductUnit2d(3, 4, 3)(torch.ones(5, 5))
    with pytest.raises(ValueError, match=r"^stabilised_product_unit2d: expected one threshold"):
        stabilised_product_unit2d(torch.ones(3, 5, 5), torch.ones(4, 3, 3, 3), torch.ones(5))
