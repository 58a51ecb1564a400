"""The complex product unit, against complex powers of Python, and against the ordinary product where that is real."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_functional import Size, pair, window
from torch import Tensor, nn
from torch.func import functional_call

from pure.nn.complex import ComplexProductUnit, ComplexProductUnit2d, complex_product_unit, complex_product_unit2d
from pure.nn.functional import product_unit, product_unit2d
from pure.nn.units import ProductUnit, ProductUnit2d

MAKERS = {
    "dense": lambda **options: ComplexProductUnit(6, 4, **options),
    "2d": lambda **options: ComplexProductUnit2d(6, 4, 3, **options),
}
both = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def unit_input(unit: nn.Module, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn((5, 6) if isinstance(unit, ComplexProductUnit) else (2, 6, 5, 5), dtype=dtype)


def product(factors: Iterable[tuple[float, float]]) -> complex:
    """The product of principal complex powers, base and exponent, by Python."""
    return math.prod((complex(x) ** w for x, w in factors), start=1 + 0j)


def unit(x: list[float], w: list[float], eps: float = 0.0) -> float:
    y = complex_product_unit(torch.tensor(x, dtype=torch.float64), torch.tensor([w], dtype=torch.float64), eps)
    return y.item()


def assert_real_part(y: float, powers: complex) -> None:
    """Equal to 1e-10 of the magnitude: near the imaginary axis the real part has no relative accuracy."""
    assert abs(y - powers.real) <= 1e-10 * abs(powers)


# Values worked out by hand


@pytest.mark.parametrize(
    ("x", "w", "y"),
    [
        ([-1.0], [1.0], -1.0),
        ([-1.0], [0.5], 0.0),  # the square root of -1 is i
        ([-8.0], [1 / 3], 1.0),  # the principal cube root of -8 is 1 + i * sqrt(3)
        ([-4.0, 9.0], [0.5, 0.5], 0.0),
        ([-4.0, -9.0], [0.5, 0.5], -6.0),  # 2i * 3i
        ([-4.0, -9.0], [0.5, -0.5], 2 / 3),  # 2i / 3i
        ([-2.0, 3.0], [3.0, 2.0], -72.0),
        ([-2.0, -2.0], [0.25, 0.75], -2.0),
    ],
)
def test_powers_of_negative_numbers(x: list[float], w: list[float], y: float) -> None:
    assert unit(x, w) == pytest.approx(y, rel=1e-14, abs=0)


# Against complex powers


@pytest.mark.parametrize("shape", [(5,), (1, 5), (4, 5), (2, 3, 5), (0, 5)])
def test_dense_equals_complex_powers(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64) * 2
    weight = torch.randn(3, 5, dtype=torch.float64) * 2
    y = complex_product_unit(x, weight)
    assert y.shape == (*shape[:-1], 3)
    for vector, outputs in zip(x.reshape(-1, 5).tolist(), y.reshape(-1, 3).tolist(), strict=True):
        for exponents, output in zip(weight.tolist(), outputs, strict=True):
            assert_real_part(output, product(zip(vector, exponents, strict=True)))


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("dilation", [1, (2, 1)])
@pytest.mark.parametrize(
    ("stride", "padding"), [*itertools.product([1, 2, (2, 1)], [0, 1, (1, 2), "valid"]), (1, "same")]
)
@pytest.mark.parametrize("kernel", [1, 3, (2, 3)])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # PyTorch's, about its speed
def test_image_equals_complex_powers(
    kernel: Size, stride: Size, padding: Size | str, dilation: Size, groups: int
) -> None:
    x = torch.randn(4, 6, 5, dtype=torch.float64) * 2
    weight = torch.randn(4, 4 // groups, *pair(kernel), dtype=torch.float64)
    y = complex_product_unit2d(x, weight, stride, padding, dilation, groups)
    assert y.shape == nn.Conv2d(4, 4, kernel, stride, padding, dilation, groups)(x.float()).shape
    pixels, exponents = x.tolist(), weight.tolist()

    def powers(k: int, row: int, column: int) -> complex:
        first = k // (4 // groups) * (4 // groups)
        return product(
            (pixels[first + c][r][s], exponents[k][c][i][j])
            for i, j, r, s in window(row, column, kernel, stride, padding, dilation)
            for c in range(4 // groups)
            if 0 <= r < 6 and 0 <= s < 5  # a padded pixel is a factor of one
        )

    for k, row, column in itertools.product(*map(range, y.shape)):
        assert_real_part(y[k, row, column].item(), powers(k, row, column))


# What the real part leaves alone


def test_positive_inputs_give_the_paper_s_unit_above_its_threshold() -> None:
    x, weight = torch.rand(7, 6) + 0.1, torch.randn(4, 6)
    torch.testing.assert_close(complex_product_unit(x, weight), product_unit(x, weight, 0.1), rtol=1e-6, atol=0)
    image, kernel = torch.rand(2, 6, 5, 5) + 0.1, torch.randn(4, 3, 3, 3)
    window = {"stride": (1, 2), "padding": (2, 1), "dilation": (2, 1), "groups": 2}
    ours, papers = complex_product_unit2d(image, kernel, **window), product_unit2d(image, kernel, 0.1, **window)
    torch.testing.assert_close(ours, papers, rtol=1e-6, atol=0)


bases = st.floats(-10, 10).filter(lambda value: abs(value) > 0.05)


@given(st.lists(bases, min_size=3, max_size=3), st.lists(st.integers(-4, 4), min_size=3, max_size=3))
def test_whole_exponents_give_the_ordinary_product_with_its_sign(x: list[float], w: list[int]) -> None:
    ordinary = math.prod(value**exponent for value, exponent in zip(x, w, strict=True))
    assert unit(x, list(map(float, w))) == pytest.approx(ordinary, rel=1e-12, abs=0)


@given(bases, bases)
def test_x_squared_times_y_cubed(x: float, y: float) -> None:
    assert unit([x, y], [2.0, 3.0]) == pytest.approx(x**2 * y**3, rel=1e-12, abs=0)


def test_large_whole_exponents_keep_the_sign_in_single_precision() -> None:
    weight = torch.tensor([[1e6], [1e6 + 1], [-99999.0], [3e6 + 0.5]])
    y = complex_product_unit(torch.tensor([-1.0]), weight)
    assert y.tolist() == [1.0, -1.0, -1.0, 0.0]


@given(st.lists(bases, min_size=4, max_size=4), st.lists(st.floats(-3, 3), min_size=4, max_size=4), st.floats(0.1, 10))
def test_scaling_the_inputs_scales_by_the_power_of_the_sum(x: list[float], w: list[float], c: float) -> None:
    magnitude = abs(product(zip(x, w, strict=True)))
    factor = c ** math.fsum(w)
    assert abs(unit([c * value for value in x], w) - factor * unit(x, w)) <= 1e-10 * factor * magnitude


@given(st.lists(bases, min_size=4, max_size=4), st.lists(st.floats(-3, 3), min_size=4, max_size=4))
def test_the_magnitude_is_the_largest_value(x: list[float], w: list[float]) -> None:
    assert abs(unit(x, w)) <= unit(list(map(abs, x)), w) * (1 + 1e-12)


# Zero


@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize(
    ("w", "y"),
    [
        ([2.0, 1.0], 0.0),
        ([0.1, 1.0], 0.0),
        ([0.0, 1.0], -3.0),  # 0 ** 0 is 1
        ([-0.5, 1.0], -math.inf),
        ([-2.0, 2.0], math.inf),
        ([1.0, 800.0], 0.0),  # also where the other factor overflows
    ],
)
def test_powers_of_zero(zero: float, w: list[float], y: float) -> None:
    assert unit([zero, -3.0], w) == pytest.approx(y, rel=1e-14, abs=0)


@pytest.mark.parametrize(
    ("w", "y"), [([2.0, -1.0], 0.0), ([-2.0, 1.0], math.inf), ([1.5, -1.5], 1.0), ([0.0, 0.0], 1.0)]
)
def test_several_zeros_tend_to_zero_together(w: list[float], y: float) -> None:
    assert unit([0.0, 0.0], w) == y
    tiny = unit([1e-300, 1e-300], w)
    assert tiny == pytest.approx(y, abs=1e-250, rel=1e-12) if math.isfinite(y) else tiny > 1e250


def test_a_zero_decides_only_the_windows_that_hold_it() -> None:
    x, weight = torch.rand(1, 16, 8, 8) + 0.1, torch.rand(16, 16, 3, 3) * 0.1
    clean = complex_product_unit2d(x, weight, padding=1)
    x[0, 5, 3, 4] = 0.0
    y = complex_product_unit2d(x, weight, padding=1)
    holds = torch.zeros_like(y, dtype=torch.bool)
    holds[..., 2:5, 3:6] = True
    assert (y[holds] == 0).all()
    torch.testing.assert_close(y[~holds], clean[~holds], rtol=1e-6, atol=0)


def test_zeros_leave_the_other_gradients_alone() -> None:
    x = torch.tensor([0.0, -2.0, 3.0], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([[0.0, 2.0, 1.0], [1.0, 2.0, 1.0]], dtype=torch.float64, requires_grad=True)
    complex_product_unit(x, weight).sum().backward()  # 4 * 3, and 0
    assert x.grad is not None
    assert weight.grad is not None
    torch.testing.assert_close(x.grad.tolist(), [0.0, -12.0, 4.0])
    torch.testing.assert_close(weight.grad[0, 1:].tolist(), [12 * math.log(2), 12 * math.log(3)])
    assert (weight.grad[1] == 0).all()


@pytest.mark.parametrize("x", [0.0, -0.0, 1e-4, -1e-4])
def test_magnitudes_below_eps_count_as_eps(x: float) -> None:
    negative = x < 0
    assert unit([x, 3.0], [0.5, 1.0], eps=1e-2) == pytest.approx(0.0 if negative else 0.3, rel=1e-14, abs=0)
    assert unit([x, 3.0], [-1.0, 1.0], eps=1e-2) == pytest.approx(-300 if negative else 300, rel=1e-14)
    assert unit([2.0, -3.0], [0.5, 1.0], eps=1e-2) == unit([2.0, -3.0], [0.5, 1.0])


def test_eps_that_half_precision_would_round_to_zero() -> None:
    y = complex_product_unit(torch.zeros(1, dtype=torch.float16), torch.zeros(1, 1, dtype=torch.float16), eps=1e-30)
    assert y.item() == 1.0


# Gradients


@pytest.mark.parametrize("eps", [0.0, 0.01])
def test_gradients_of_inputs_and_exponents(eps: float) -> None:
    units = {
        (3, 4): ComplexProductUnit(4, 3, eps=eps, dtype=torch.float64),
        (2, 4, 5, 4): ComplexProductUnit2d(
            4, 2, (3, 2), (2, 1), padding=1, dilation=(1, 2), groups=2, eps=eps, dtype=torch.float64
        ),
    }
    for shape, unit in units.items():
        nn.init.normal_(unit.weight)
        sign = torch.randn(shape, dtype=torch.float64).sign()
        x = (sign * (torch.rand(shape, dtype=torch.float64) + 0.1)).requires_grad_()  # away from zero

        def forward(x: Tensor, weight: Tensor, unit: Any = unit) -> Tensor:
            return functional_call(unit, {"weight": weight}, (x,))

        assert torch.autograd.gradcheck(forward, (x, unit.weight))


def test_gradients_where_the_cosine_turns() -> None:
    x = torch.tensor([-1.5], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([[0.0], [0.5], [1.0], [1.5], [2.0], [-3.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(complex_product_unit, (x, weight))


# NaN and infinities are never made into a plausible number


@pytest.mark.parametrize("eps", [0.0, 0.01])
@pytest.mark.parametrize("sign", [1.0, -1.0, 0.0])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_bad_numbers_come_out_as_nan(bad: float, sign: float, eps: float) -> None:
    x, weight = torch.randn(5, 3), sign * (torch.rand(4, 3) + 0.1)
    clean = complex_product_unit(x, weight, eps)
    x[2] = torch.tensor([0.0, bad, 1.0])
    y = complex_product_unit(x, weight, eps)
    assert y[2].isnan().all()
    others = [0, 1, 3, 4]
    torch.testing.assert_close(y[others], clean[others], rtol=1e-6, atol=1e-7)


# The modules


@both
def test_the_exponents_are_the_only_parameter_and_start_as_those_of_the_paper_s_unit(make: Any) -> None:
    unit = make()
    assert {name for name, _ in unit.named_parameters()} == set(unit.state_dict()) == {"weight"}
    assert not hasattr(unit, "theta")
    assert not hasattr(unit, "threshold")
    paper = ProductUnit(6, 4) if isinstance(unit, ComplexProductUnit) else ProductUnit2d(6, 4, 3)
    torch.manual_seed(3)
    paper.reset_parameters()
    torch.manual_seed(3)
    assert torch.equal(make().weight, paper.weight)


@both
@pytest.mark.parametrize("eps", [0.0, 0.5])
def test_the_module_is_the_function_of_its_exponents(make: Any, eps: float) -> None:
    unit = make(eps=eps)
    function = complex_product_unit if isinstance(unit, ComplexProductUnit) else complex_product_unit2d
    x = unit_input(unit)
    assert torch.equal(unit(x), function(x, unit.weight, eps=eps))
    assert not torch.equal(unit(x), function(x, unit.weight, eps=0.5 - eps))
    torch.testing.assert_close(unit(x)[0], unit(x[0]))


@pytest.mark.parametrize("padding", [0, (2, 1), "valid"])
def test_image_module_hands_every_setting_on(padding: Any) -> None:
    window = {"stride": (1, 2), "padding": padding, "dilation": (2, 1), "groups": 2}
    unit, conv = ComplexProductUnit2d(6, 4, (3, 2), **window), nn.Conv2d(6, 4, (3, 2), **window)
    x = torch.randn(2, 6, 8, 8)
    assert torch.equal(unit(x), complex_product_unit2d(x, unit.weight, **window))
    assert unit(x).shape == conv(x).shape
    for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"):
        assert getattr(unit, name) == getattr(conv, name)


@both
def test_conventions_of_a_module(make: Any) -> None:
    meta = make(device="meta")
    assert meta(unit_input(meta).to("meta")).device.type == "meta"
    unit = meta.to_empty(device="cpu")
    unit.reset_parameters()
    clone = copy.deepcopy(unit)
    x = unit_input(unit)
    assert torch.equal(clone(x), unit(x))
    assert make(dtype=torch.float64)(x.double()).dtype == torch.float64
    other = make()
    other.load_state_dict(unit.state_dict(), strict=True)
    assert torch.equal(other(x), unit(x))
    torch.compiler.reset()  # it gives up after recompiling a function for several units
    compiled = torch.compile(unit, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), unit(x))


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        (ComplexProductUnit(3, 4), "(in_features=3, out_features=4)"),
        (ComplexProductUnit(3, 4, eps=0.1, init_a=1), "(in_features=3, out_features=4, eps=0.1, init_a=1)"),
        (ComplexProductUnit2d(3, 4, 3), "(3, 4, kernel_size=(3, 3), stride=(1, 1))"),
        (
            ComplexProductUnit2d(4, 4, 3, 2, 1, groups=2, eps=0.1),
            "(4, 4, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), groups=2, eps=0.1)",
        ),
    ],
)
def test_repr(unit: nn.Module, text: str) -> None:
    assert repr(unit) == type(unit).__name__ + text


# It learns what the paper's unit cannot: a product whose sign is that of its factors


def test_it_learns_a_product_with_its_sign() -> None:
    x = torch.randn(256, 2, dtype=torch.float64)
    target = x[:, :1] * x[:, 1:] ** 2
    unit = ComplexProductUnit(2, 1, dtype=torch.float64)
    with torch.no_grad():
        unit.weight.copy_(torch.tensor([[0.8, 1.7]]))
    optimiser = torch.optim.Adam(unit.parameters(), lr=0.02)
    for _ in range(200):
        optimiser.zero_grad()
        nn.functional.mse_loss(unit(x), target).backward()
        optimiser.step()
    torch.testing.assert_close(unit.weight.tolist(), [[1.0, 2.0]], rtol=1e-3, atol=0)


# Bad arguments


@pytest.mark.parametrize("eps", [-1e-7, math.inf, math.nan])
def test_eps_out_of_range(eps: float) -> None:
    calls = {
        "ComplexProductUnit": lambda: ComplexProductUnit(3, 4, eps=eps),
        "ComplexProductUnit2d": lambda: ComplexProductUnit2d(3, 4, 3, eps=eps),
        "complex_product_unit": lambda: complex_product_unit(torch.ones(3), torch.ones(4, 3), eps),
        "complex_product_unit2d": lambda: complex_product_unit2d(torch.ones(3, 5, 5), torch.ones(4, 3, 3, 3), eps=eps),
    }
    for where, call in calls.items():
        with pytest.raises(ValueError, match=rf"^{where}: eps must be finite and not negative, got {eps}"):
            call()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 0}, "kernel_size must be at least 1, got 0"),
        ({"groups": 4}, "groups=4 must divide in_channels=6 and out_channels=4"),
        ({"padding": -1}, "padding must be at least 0, got -1"),
        ({"padding": "full"}, "unknown padding 'full'; expected pixels, 'same' or 'valid'"),
        ({"padding": "same", "stride": 2}, "padding='same' needs stride 1, got stride 2"),
    ],
)
def test_bad_sizes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^ComplexProductUnit2d: {message}"):
        ComplexProductUnit2d(**{"in_channels": 6, "out_channels": 4, "kernel_size": 3, **options})


def test_bad_inputs_are_refused_in_its_own_name() -> None:
    with pytest.raises(TypeError, match=r"^complex_product_unit: expected a real floating-point.*torch\.complex64"):
        ComplexProductUnit(3, 4)(torch.ones(3, dtype=torch.complex64))
    with pytest.raises(ValueError, match=r"^complex_product_unit: expected inputs of shape \(\.\.\., 3\)"):
        ComplexProductUnit(3, 4)(torch.ones(5))
    with pytest.raises(ValueError, match=r"^complex_product_unit2d: expected 3 input channels"):
        ComplexProductUnit2d(3, 4, 3)(torch.ones(4, 5, 5))
    with pytest.raises(ValueError, match=r"^complex_product_unit2d: padding must be at least 0, got -1"):
        complex_product_unit2d(torch.ones(3, 5, 5), torch.ones(4, 3, 3, 3), padding=-1)
    with pytest.raises(ValueError, match=r"^ComplexProductUnit: out_features must be at least 1, got 0"):
        ComplexProductUnit(3, 0)
