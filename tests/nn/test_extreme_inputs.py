"""Every product unit on the inputs that break arithmetic: finite where the mathematics is, never silently wrong.

The reference is the unit's formula in Python's double precision, on the inputs, exponents and thresholds as the dtype
holds them.  An output must be within the dtype's rounding of the logarithms and their sum; where that sum lies beyond
the dtype's range, infinite or zero; and NaN where a NaN or an infinity went in.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pure.nn.complex import ComplexProductUnit, ComplexProductUnit2d, complex_product_unit, complex_product_unit2d
from pure.nn.functional import product_unit, product_unit2d
from pure.nn.stabilised import (
    StabilisedProductUnit,
    StabilisedProductUnit2d,
    stabilised_product_unit,
    stabilised_product_unit2d,
)
from pure.nn.units import ProductUnit, ProductUnit2d

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
EXTREMES = [0.0, -0.0, 1e-38, -1e-38, 1e-45, 6e-8, 1e-310, 1e30, -1e30, 6e4, math.inf, -math.inf, math.nan, 1.0, -1.0]
SMOOTHNESS, BOUND, EPS = 0.5, 11.0, 1e-3


class Expected(NamedTuple):
    """A product as the formula has it: its logarithm, what of it is real, and how far roundings move each."""

    log: float
    cosine: float = 1.0
    log_terms: float = 0.0  # sum of |w * log x|
    phase_terms: float = 0.0  # sum of |w| over the negative inputs


def paper(x: list[float], w: list[float], tau: float) -> Expected:
    terms = [a * math.log(max(value, tau)) for value, a in zip(x, w, strict=True)]
    return Expected(math.fsum(terms), log_terms=math.fsum(map(abs, terms)))


def stabilised(x: list[float], w: list[float], tau: float) -> Expected:
    width = SMOOTHNESS * tau
    smooth = [max(value, tau) + width * math.log1p(math.exp(-abs(value - tau) / width)) for value in x]
    z, _, terms, _ = paper(smooth, w, 0.0)
    return Expected(BOUND * math.tanh(z / BOUND), log_terms=terms)


def complex_exact(x: list[float], w: list[float], tau: float) -> Expected:
    zeros = math.fsum(a for value, a in zip(x, w, strict=True) if value == 0)
    others = [(value, a) for value, a in zip(x, w, strict=True) if value != 0]
    terms = [a * math.log(abs(value)) for value, a in others]
    limit = math.copysign(math.inf, -zeros) if zeros else 0.0
    negative = [a for value, a in others if value < 0]
    phase = math.pi * math.remainder(math.fsum(negative), 2)
    return Expected(
        math.fsum(terms) + limit, math.cos(phase), math.fsum(map(abs, terms)), math.fsum(map(abs, negative))
    )


def complex_floored(x: list[float], w: list[float], tau: float) -> Expected:
    return complex_exact([math.copysign(max(abs(value), EPS), value if value else 1.0) for value in x], w, tau)


UNITS: dict[str, tuple[Any, Any, Callable[[list[float], list[float], float], Expected]]] = {
    "paper": (product_unit, product_unit2d, paper),
    "stabilised": (stabilised_product_unit, stabilised_product_unit2d, stabilised),
    "both off": (
        lambda x, w, tau: stabilised_product_unit(x, w, tau, None, None),
        lambda x, w, tau: stabilised_product_unit2d(x, w, tau, smoothness=None, bound=None),
        paper,
    ),
    "complex": (
        lambda x, w, tau: complex_product_unit(x, w),
        lambda x, w, tau: complex_product_unit2d(x, w),
        complex_exact,
    ),
    "complex with eps": (
        lambda x, w, tau: complex_product_unit(x, w, EPS),
        lambda x, w, tau: complex_product_unit2d(x, w, eps=EPS),
        complex_floored,
    ),
}
every_unit = pytest.mark.parametrize("name", UNITS)


def assert_as_expected(y: float, x: list[float], expected: Callable[[], Expected], dtype: torch.dtype) -> None:
    """``y`` is the product of powers of ``x`` within the rounding of ``dtype``; NaN where ``x`` is not finite."""
    if not all(map(math.isfinite, x)):
        assert math.isnan(y)
        return
    log_size, cosine, log_terms, phase_terms = expected()
    info = torch.finfo(dtype)
    slack = 4 * info.eps * (1 + log_terms)  # of the logarithm: each term and their sum are rounded
    phase_slack = 4 * math.pi * info.eps * (1 + phase_terms)
    largest, smallest = math.log(info.max), math.log(info.smallest_normal) + math.log(info.eps)
    if abs(cosine) <= phase_slack:  # its sign is lost in rounding
        if log_size < largest:
            assert abs(y) <= 2 * phase_slack * math.exp(log_size + slack) + 2 * math.exp(smallest)
        return
    log = log_size + math.log(abs(cosine))
    slack += phase_slack / abs(cosine)
    if log > largest + slack:
        assert y == math.copysign(math.inf, cosine)
    elif log < largest - slack:
        size = math.copysign(math.exp(log), cosine)
        assert abs(y - size) <= abs(size) * math.expm1(slack) + 2 * math.exp(smallest)


def numbers(dtype: torch.dtype) -> st.SearchStrategy[list[float]]:
    width = {torch.float64: 64, torch.float16: 16}.get(dtype, 32)
    finite = st.floats(width=width, allow_nan=False, allow_infinity=False, allow_subnormal=True)
    return st.lists(st.sampled_from(EXTREMES) | finite | st.floats(-3, 3), min_size=3, max_size=3)


# Multiples of 1/1024, so that those that cancel do so exactly: of 1 + 1e-38 - 1 on three zeros rounding leaves nothing.
powers = st.integers(-3072, 3072).map(lambda k: k / 1024)
exponents = st.lists(powers | st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0, 0.02]), min_size=3, max_size=3)
thresholds = st.sampled_from([1e-7, 0.5, math.log(2), 3.0])


@every_unit
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(data=st.data())
@settings(max_examples=100)
def test_finite_where_the_mathematics_is(name: str, dtype: torch.dtype, data: st.DataObject) -> None:
    dense, image, formula = UNITS[name]
    x = torch.tensor(data.draw(numbers(dtype), label="x"), dtype=dtype)
    weight = torch.tensor([data.draw(exponents, label="w")], dtype=dtype)
    tau = torch.tensor(data.draw(thresholds, label="tau"), dtype=dtype)

    def expected(values: list[float]) -> Callable[[], Expected]:
        return lambda: formula(values, weight[0].tolist(), tau.item())

    y = dense(x, weight, tau)
    assert y.dtype == dtype
    assert_as_expected(y.item(), x.tolist(), expected(x.tolist()), dtype)
    # and in the windows of an image, one row that repeats them
    row = image(x.repeat(2)[None, None, :], weight[None, None], tau)
    assert row.dtype == dtype
    for i, output in enumerate(row.flatten().tolist()):
        factors = x.repeat(2)[i : i + 3].tolist()
        assert_as_expected(output, factors, expected(factors), dtype)


# The modules, with the sizes and exponents of a network

MODULES: dict[str, Callable[..., nn.Module]] = {
    "ProductUnit": lambda **options: ProductUnit(16, 4, **options),
    "ProductUnit2d": lambda **options: ProductUnit2d(16, 4, 3, padding=1, **options),
    "StabilisedProductUnit": lambda **options: StabilisedProductUnit(16, 4, **options),
    "StabilisedProductUnit2d": lambda **options: StabilisedProductUnit2d(16, 4, 3, padding=1, **options),
    "ComplexProductUnit": lambda **options: ComplexProductUnit(16, 4, eps=EPS, **options),
    "ComplexProductUnit2d": lambda **options: ComplexProductUnit2d(16, 4, 3, padding=1, eps=EPS, **options),
}
every_module = pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
FINITE = [0.0, -0.0, 1e-38, -1e-38, 1e-45, 6e-8, -6e-8, 1e-310, 6e4, -6e4, 1.0, -1.0, 0.3]


def extreme_input(unit: nn.Module, dtype: torch.dtype) -> Tensor:
    """Inputs that mix what is extreme but finite, shape ``(4, 16)`` or ``(2, 16, 8, 8)``."""
    shape = (4, 16) if unit.weight.ndim == 2 else (2, 16, 8, 8)
    choice = torch.randint(len(FINITE), shape)
    return torch.tensor(FINITE, dtype=torch.float64)[choice].to(dtype)


@every_module
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_extreme_inputs_give_finite_outputs_and_gradients(make: Callable[..., nn.Module], dtype: torch.dtype) -> None:
    unit = make(dtype=dtype)
    x = extreme_input(unit, dtype).requires_grad_()
    y = unit(x)
    torch.testing.assert_close(y.double(), make_double(unit)(x.double()), rtol=80 * torch.finfo(dtype).eps, atol=1e-3)
    y.mean().backward()
    for tensor in (x, *unit.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
    assert (unit.weight.grad != 0).all()


def make_double(unit: nn.Module) -> nn.Module:
    return copy.deepcopy(unit).double()


@every_module
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_bad_number_shows_where_it_enters_and_nowhere_else(
    make: Callable[..., nn.Module], dtype: torch.dtype, bad: float
) -> None:
    unit = make(dtype=dtype)
    x = extreme_input(unit, dtype)
    clean = unit(x)
    if x.ndim == 2:
        x[2, 5] = bad
        holds = torch.zeros_like(clean, dtype=torch.bool)
        holds[2] = True
    else:
        x[1, 5, 3, 4] = bad
        holds = torch.zeros_like(clean, dtype=torch.bool)
        holds[1, :, 2:5, 3:6] = True
    y = unit(x)
    assert y[holds].isnan().all()
    assert torch.equal(y.isnan(), holds)
    torch.testing.assert_close(y[~holds], clean[~holds])


# Autocast: the logarithm and the exponential stay in single precision, the sum between them is lowered


class Dtypes(TorchDispatchMode):
    """Notes the dtype in which each operator of interest runs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, set[torch.dtype]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("log", "exp", "sin", "mm", "addmm", "convolution"):
            self.seen.setdefault(name, set()).update(arg.dtype for arg in args if isinstance(arg, Tensor))
        return func(*args, **(kwargs or {}))


LOWERED = [
    pytest.param(device, dtype, marks=pytest.mark.skipif(missing, reason="needs a GPU that PyTorch can use"))
    for device, missing in (("cpu", False), ("cuda", not torch.cuda.is_available()))
    for dtype in (torch.bfloat16, torch.float16)
]


@every_module
@pytest.mark.parametrize("input_dtype", [torch.float32, None], ids=["single", "lowered"])
@pytest.mark.parametrize(("device", "dtype"), LOWERED)
def test_autocast_lowers_the_sum_alone(
    make: Callable[..., nn.Module], device: str, dtype: torch.dtype, input_dtype: torch.dtype | None
) -> None:
    unit = make(device=device)
    x = (torch.randn((4, 16) if unit.weight.ndim == 2 else (2, 16, 8, 8)) * 3).to(device, input_dtype or dtype)
    with torch.autocast(device, dtype=dtype), Dtypes() as dtypes:
        y = unit(x)
    assert y.dtype == torch.float32
    assert dtypes.seen.pop("log") == dtypes.seen.pop("exp") == {torch.float32}
    assert dtypes.seen.pop("sin", {torch.float32}) == {torch.float32}
    assert list(dtypes.seen.values()) == [{dtype}]
    reference = unit(x.float())
    torch.testing.assert_close(y, reference, rtol=20 * torch.finfo(dtype).eps, atol=20 * torch.finfo(dtype).eps)
    assert not torch.equal(y, reference)


@every_unit
@pytest.mark.parametrize(("device", "dtype"), LOWERED)
def test_exp_15_is_finite_under_autocast_where_float16_overflows(name: str, device: str, dtype: torch.dtype) -> None:
    dense, image, formula = UNITS[name]
    x, weight = torch.full((1,), math.e, device=device), torch.full((1, 1), 15.1, device=device, requires_grad=True)
    rounding = 3 * 15.1 * torch.finfo(dtype).eps / 2  # of the logarithm, of the exponent, of their product
    with torch.autocast(device, dtype=dtype):
        outputs = dense(x, weight, 0.5), image(x[:, None, None], weight[:, :, None, None], 0.5)
    for y in outputs:
        assert y.dtype == torch.float32
        assert math.log(y.item()) == pytest.approx(formula([math.e], [15.1], 0.5).log, abs=rounding)
        (gradient,) = torch.autograd.grad(y.log(), weight, retain_graph=True)
        assert gradient.isfinite().all()
        # the gradient of the sum is y times that of y, and is lowered with the sum: what a GradScaler looks for
        (gradient,) = torch.autograd.grad(y, weight)
        assert gradient.isfinite().all() == (name == "stabilised" or dtype == torch.bfloat16)
    if name != "stabilised":
        assert outputs[0].item() > torch.finfo(torch.float16).max
        half = dense(x.half(), weight.half(), torch.tensor(0.5, dtype=torch.float16, device=device))
        assert half.item() == math.inf  # what a network wholly in float16 makes of it


def test_autocast_leaves_double_precision_alone() -> None:
    unit = ProductUnit(16, 4, dtype=torch.float64)
    x = torch.randn(4, 16, dtype=torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = unit(x)
    assert torch.equal(y, unit(x))


@every_module
def test_half_precision_without_autocast_stays_half(make: Callable[..., nn.Module]) -> None:
    unit = make(dtype=torch.bfloat16)
    assert unit(extreme_input(unit, torch.bfloat16)).dtype == torch.bfloat16
    with pytest.raises(RuntimeError, match=r"same dtype|should be the same"):
        make()(extreme_input(unit, torch.bfloat16))


@every_module
def test_autocast_compiles_without_a_break(make: Callable[..., nn.Module]) -> None:
    unit = make()
    x = extreme_input(unit, torch.bfloat16)
    torch.compiler.reset()  # it gives up after recompiling a function for several units
    compiled = torch.compile(unit, fullgraph=True, backend="eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(compiled(x), unit(x))
