"""The product unit as a function, against products of powers written out in plain Python."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pure.nn.functional import PaddingMode, product_unit, product_unit2d
from pure.nn.fused import dispatch

TAU = 0.6931471805599453  # ln 2, where the paper's threshold starts
Size = int | tuple[int, int]


def pair(size: Size) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)


def window(
    row: int, column: int, kernel: Size, stride: Size, padding: Size | str, dilation: Size
) -> Iterator[tuple[int, int, int, int]]:
    """The window of one output: position in the kernel and pixel, which may lie outside of the image."""
    (kernel_h, kernel_w), (stride_h, stride_w), (dilation_h, dilation_w) = pair(kernel), pair(stride), pair(dilation)
    if padding == "same":
        top, left = dilation_h * (kernel_h - 1) // 2, dilation_w * (kernel_w - 1) // 2
    else:
        top, left = (0, 0) if isinstance(padding, str) else pair(padding)
    for i, j in itertools.product(range(kernel_h), range(kernel_w)):
        yield i, j, row * stride_h - top + i * dilation_h, column * stride_w - left + j * dilation_w


def explicit_product_unit2d(
    x: Tensor,
    weight: Tensor,
    taus: list[float],
    size: tuple[int, int],
    stride: Size,
    padding: Size | str,
    dilation: Size,
    groups: int,
    padding_mode: str,
) -> Tensor:
    """``prod max(x, tau) ** w`` over each window of one image, number by number, without log, exp or convolution."""
    pixels, exponents = x.tolist(), weight.tolist()
    outputs, inputs, *kernel = weight.shape
    height, width = x.shape[-2:]

    def factor(channel: int, row: int, column: int) -> float:
        if 0 <= row < height and 0 <= column < width:
            return max(pixels[channel][row][column], taus[channel])
        return 1.0 if padding_mode == "ones" else taus[channel]

    def output(k: int, row: int, column: int) -> float:
        first = k // (outputs // groups) * inputs  # the first input channel of the group of output channel k
        return math.prod(
            factor(first + c, r, s) ** exponents[k][c][i][j]
            for i, j, r, s in window(row, column, tuple(kernel), stride, padding, dilation)
            for c in range(inputs)
        )

    return torch.tensor(
        [[[output(k, row, column) for column in range(size[1])] for row in range(size[0])] for k in range(outputs)],
        dtype=torch.float64,
    )


# Values worked out by hand


def test_two_cubed_times_five_to_the_minus_one() -> None:
    x = torch.tensor([2.0, 5.0], dtype=torch.float64)
    weight = torch.tensor([[3.0, -1.0], [0.0, 2.0], [0.5, 0.0]], dtype=torch.float64)
    expected = torch.tensor([8 / 5, 25, math.sqrt(2)], dtype=torch.float64)
    torch.testing.assert_close(product_unit(x, weight, TAU), expected, rtol=1e-14, atol=0)


def test_inputs_below_the_threshold_count_as_the_threshold() -> None:
    x = torch.tensor([[-7.0, 4.0], [0.0, 4.0], [0.25, 0.1], [0.5, 4.0]], dtype=torch.float64)
    weight = torch.tensor([[2.0, 0.5]], dtype=torch.float64)
    expected = torch.tensor([[0.5], [0.5], [0.25 * math.sqrt(0.5)], [0.5]], dtype=torch.float64)
    torch.testing.assert_close(product_unit(x, weight, 0.5), expected, rtol=1e-14, atol=0)


def test_one_threshold_for_each_input() -> None:
    x = torch.tensor([0.1, 0.1, 3.0], dtype=torch.float64)
    tau = torch.tensor([2.0, 0.5, 4.0], dtype=torch.float64)
    weight = torch.tensor([[1.0, 2.0, -1.0]], dtype=torch.float64)
    torch.testing.assert_close(product_unit(x, weight, tau).item(), 2 * 0.25 / 4, rtol=1e-14, atol=0)


def test_window_of_an_image() -> None:
    x = torch.tensor([[[2.0, 3.0, 0.1], [5.0, 7.0, 4.0]]], dtype=torch.float64)
    weight = torch.tensor([[[[1.0, 2.0], [-1.0, 0.0]]]], dtype=torch.float64)
    expected = torch.tensor([[[2 * 9 / 5, 3 * 0.25 / 7]]], dtype=torch.float64)
    torch.testing.assert_close(product_unit2d(x, weight, 0.5), expected, rtol=1e-14, atol=0)


def test_padding_with_ones_against_padding_at_the_threshold() -> None:
    x = torch.full((1, 1, 1), 3.0, dtype=torch.float64)
    weight = torch.full((1, 1, 3, 3), 2.0, dtype=torch.float64)
    assert product_unit2d(x, weight, 0.5, padding=1).item() == pytest.approx(9, rel=1e-14)
    at_threshold = product_unit2d(x, weight, 0.5, padding=1, padding_mode="threshold")
    assert at_threshold.item() == pytest.approx(9 * 0.25**8, rel=1e-14)


def test_one_threshold_for_each_channel_in_the_image_and_in_the_padding() -> None:
    x = torch.tensor([[[0.1]], [[0.1]]], dtype=torch.float64)
    weight = torch.tensor([[[[1.0, 1.0]], [[1.0, -1.0]]]], dtype=torch.float64)  # one output, two channels, 1 x 2
    tau = torch.tensor([0.5, 4.0], dtype=torch.float64)
    ones = product_unit2d(x, weight, tau, padding=(0, 1))
    torch.testing.assert_close(ones.flatten().tolist(), [0.5 / 4, 0.5 * 4], rtol=1e-14, atol=0)
    at_threshold = product_unit2d(x, weight, tau, padding=(0, 1), padding_mode="threshold")
    torch.testing.assert_close(at_threshold.flatten().tolist(), [0.5**2, 0.5**2], rtol=1e-14, atol=0)


# Against the explicit product


@pytest.mark.parametrize("shape", [(5,), (1, 5), (4, 5), (2, 3, 5), (2, 1, 3, 5), (0, 5)])
def test_dense_equals_the_explicit_product(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64) * 2
    weight = torch.randn(3, 5, dtype=torch.float64) * 2
    y = product_unit(x, weight, TAU)
    assert y.shape == (*shape[:-1], 3)
    for vector, products in zip(x.reshape(-1, 5).tolist(), y.reshape(-1, 3).tolist(), strict=True):
        for exponents, product in zip(weight.tolist(), products, strict=True):
            explicit = math.prod(max(value, TAU) ** w for value, w in zip(vector, exponents, strict=True))
            assert product == pytest.approx(explicit, rel=1e-10, abs=0)


@pytest.mark.parametrize("padding_mode", ["ones", "threshold"])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("dilation", [1, (2, 1)])
@pytest.mark.parametrize(
    ("stride", "padding"),  # a convolution pads to the same size with stride 1 only
    [*itertools.product([1, 2, (2, 1)], [0, 1, (1, 2), "valid"]), (1, "same")],
)
@pytest.mark.parametrize("kernel", [1, 3, (2, 3), (3, 2)])  # "same" pads even kernels unevenly, in each direction
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # PyTorch's, about its speed
def test_image_equals_the_explicit_product(
    kernel: Size, stride: Size, padding: Size | str, dilation: Size, groups: int, padding_mode: str
) -> None:
    x = torch.randn(2, 4, 6, 5, dtype=torch.float64) * 2
    weight = torch.randn(4, 4 // groups, *pair(kernel), dtype=torch.float64)
    taus = [0.3, 0.5, 0.7, 1.2]
    settings = (stride, padding, dilation, groups)
    y = product_unit2d(x, weight, torch.tensor(taus, dtype=torch.float64), *settings, padding_mode)
    assert y.shape == F.conv2d(x, weight, None, *settings).shape
    for image, product in zip(x, y, strict=True):
        explicit = explicit_product_unit2d(image, weight, taus, tuple(y.shape[-2:]), *settings, padding_mode)
        torch.testing.assert_close(product, explicit, rtol=1e-10, atol=0)


@pytest.mark.parametrize("padding_mode", ["ones", "threshold"])
def test_depthwise_with_a_channel_multiplier_equals_the_explicit_product(padding_mode: str) -> None:
    x, weight = torch.randn(3, 5, 5, dtype=torch.float64) * 2, torch.randn(6, 1, 3, 3, dtype=torch.float64)
    y = product_unit2d(x, weight, TAU, padding=1, groups=3, padding_mode=padding_mode)
    explicit = explicit_product_unit2d(x, weight, [TAU] * 3, (5, 5), 1, 1, 1, 3, padding_mode)
    torch.testing.assert_close(y, explicit, rtol=1e-10, atol=0)


def test_single_precision_keeps_dtype_and_value() -> None:
    x, weight = torch.rand(4, 6) * 3, torch.randn(3, 6)
    y = product_unit(x, weight, TAU)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y.double(), product_unit(x.double(), weight.double(), TAU), rtol=1e-5, atol=0)


def test_the_threshold_gets_the_gradient_of_the_inputs_below_it() -> None:
    tau = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    x = torch.tensor([0.1, 2.0], dtype=torch.float64, requires_grad=True)
    product_unit(x, torch.tensor([[3.0, 1.0]], dtype=torch.float64), tau).backward()
    assert tau.grad is not None
    assert x.grad is not None
    assert tau.grad.item() == pytest.approx(3 * 0.5**2 * 2)  # d/dtau of tau**3 * 2
    torch.testing.assert_close(x.grad.tolist(), [0.0, 0.5**3])


# The algebra of products, above the threshold where nothing is clamped

exponents = st.lists(st.floats(-3, 3), min_size=4, max_size=4)
positives = st.lists(st.floats(0.01, 100), min_size=4, max_size=4)
LOWEST = 1e-4  # a threshold below every input, also after the scalings below


def unit(x: list[float], w: list[float], threshold: float = LOWEST) -> float:
    return product_unit(torch.tensor(x, dtype=torch.float64), torch.tensor([w], dtype=torch.float64), threshold).item()


def close(value: float) -> object:
    return pytest.approx(value, rel=1e-10, abs=0)


@given(positives, exponents, st.floats(0.1, 10))
def test_scaling_the_inputs_scales_by_the_power_of_the_sum(x: list[float], w: list[float], c: float) -> None:
    assert unit([c * value for value in x], w) == close(c ** math.fsum(w) * unit(x, w))


@given(positives, exponents, exponents)
def test_the_product_of_two_units_is_the_unit_of_summed_exponents(
    x: list[float], w1: list[float], w2: list[float]
) -> None:
    assert unit(x, w1) * unit(x, w2) == close(unit(x, [a + b for a, b in zip(w1, w2, strict=True)]))


@given(positives, exponents, st.floats(-2, 2))
def test_the_power_of_a_unit_is_the_unit_of_scaled_exponents(x: list[float], w: list[float], p: float) -> None:
    assert unit(x, w) ** p == close(unit(x, [p * a for a in w]))


@given(positives, exponents, st.permutations(range(4)))
def test_the_order_of_the_factors_does_not_matter(x: list[float], w: list[float], order: list[int]) -> None:
    assert unit([x[i] for i in order], [w[i] for i in order]) == close(unit(x, w))


@given(st.lists(st.floats(-100, 100), min_size=4, max_size=4), st.floats(0.01, 10))
def test_exponents_of_zero_give_one(x: list[float], threshold: float) -> None:
    assert unit(x, [0.0] * 4, threshold) == 1.0


@given(st.floats(0.01, 100), exponents)
def test_a_constant_input_gives_the_power_of_the_sum(c: float, w: list[float]) -> None:
    assert unit([c] * 4, w) == close(c ** math.fsum(w))


@given(exponents, st.floats(0.01, 10), st.floats(0, 1))
def test_inputs_below_the_threshold_give_the_power_of_the_threshold(
    w: list[float], threshold: float, below: float
) -> None:
    x = [below * threshold, -below, 0.0, threshold]
    assert unit(x, w, threshold) == close(threshold ** math.fsum(w))


@given(
    st.lists(st.floats(-5, 5), min_size=4, max_size=4),
    exponents,
    st.floats(0.01, 2),
    st.integers(0, 3),
    st.floats(0.01, 5),
)
def test_monotone_in_each_clamped_input_by_the_sign_of_its_exponent(
    x: list[float], w: list[float], threshold: float, i: int, step: float
) -> None:
    raised = [*x]
    raised[i] += step
    ratio = unit(raised, w, threshold) / unit(x, w, threshold)
    assert ratio == close((max(raised[i], threshold) / max(x[i], threshold)) ** w[i])
    assert (ratio - 1) * math.copysign(1, w[i]) >= -1e-10  # rises with a positive exponent, falls with a negative one


@given(st.floats(0.1, 10), st.integers(0, 2**31))
def test_scaling_an_image_scales_by_the_power_of_the_sum(c: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(2, 4, 4, dtype=torch.float64, generator=generator) + 0.01
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64, generator=generator)
    power = c ** weight.sum(dim=(1, 2, 3))[:, None, None]
    torch.testing.assert_close(
        product_unit2d(c * x, weight, LOWEST), power * product_unit2d(x, weight, LOWEST), rtol=1e-10, atol=0
    )


# NaN and infinities are never made into a plausible number

NOT_FINITE = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("sign", [1.0, -1.0, 0.0])
@pytest.mark.parametrize("bad", NOT_FINITE)
@pytest.mark.parametrize("threshold", [0.5, torch.tensor([0.5, 0.6, 0.7])])
def test_dense_keeps_bad_numbers_visible(bad: float, sign: float, threshold: Tensor | float) -> None:
    x, weight = torch.rand(5, 3) + 0.1, sign * (torch.rand(4, 3) + 0.1)
    clean = product_unit(x, weight, threshold)
    x[2, 1] = bad
    y = product_unit(x, weight, threshold)
    assert not y[2].isfinite().any()
    others = [0, 1, 3, 4]
    torch.testing.assert_close(y[others], clean[others], rtol=1e-6, atol=0)


@pytest.mark.parametrize("padding_mode", ["ones", "threshold"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("bad", NOT_FINITE)
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups"),
    [
        (3, 1, 1, 1, 1),
        (3, 2, 1, 1, 1),
        (3, 1, 2, 2, 2),
        ((2, 3), (2, 1), 0, 1, 16),
        (1, 1, 0, 1, 1),
        (3, 1, "same", 1, 1),
    ],
)
def test_image_keeps_bad_numbers_visible_where_the_window_holds_them(
    kernel: Size,
    stride: Size,
    padding: Size | str,
    dilation: Size,
    groups: int,
    bad: float,
    sign: float,
    padding_mode: str,
) -> None:
    channels, row, column, channel = (
        16,
        3,
        4,
        5,
    )  # as many channels as PURe20 has, so that its kernels are the ones used
    x = torch.rand(2, channels, 8, 8) + 0.1
    weight = sign * torch.rand(channels, channels // groups, *pair(kernel)) * 0.1
    settings = (stride, padding, dilation, groups, padding_mode)
    clean = product_unit2d(x, weight, 0.5, *settings)
    x[1, channel, row, column] = bad
    y = product_unit2d(x, weight, 0.5, *settings)
    holds = torch.zeros(y.shape, dtype=torch.bool)
    in_group = torch.arange(channels) // (channels // groups) == channel // (channels // groups)
    for r, s in itertools.product(range(y.shape[2]), range(y.shape[3])):
        pixels = {(i, j) for _, _, i, j in window(r, s, kernel, stride, padding, dilation)}
        holds[1, in_group, r, s] = (row, column) in pixels
    assert holds.any()
    assert not holds.all()
    assert not y[holds].isfinite().any()
    torch.testing.assert_close(y[~holds], clean[~holds], rtol=1e-6, atol=0)


def test_overflow_is_infinity() -> None:
    assert unit([10.0] * 4, [100.0] * 4) == math.inf


# Bad arguments

X, W = torch.ones(2, 3), torch.ones(4, 3)
IMAGE, KERNEL = torch.ones(2, 3, 5, 5), torch.ones(4, 3, 3, 3)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.complex64])
def test_inputs_that_are_not_real_floating_point(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=rf"product_unit: expected a real floating-point tensor, got {dtype}; convert"):
        product_unit(X.to(dtype), W, TAU)
    with pytest.raises(TypeError, match=rf"product_unit2d: expected a real floating-point tensor, got {dtype}; conv"):
        product_unit2d(IMAGE.to(dtype), KERNEL, TAU)


@pytest.mark.parametrize("shape", [(), (4,), (3, 2), (2, 3, 1)])
def test_dense_inputs_of_another_length(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"inputs of shape \(\.\.\., 3\).*weight \(4, 3\), got .*make the last dim"):
        product_unit(torch.ones(shape), W, TAU)


@pytest.mark.parametrize("shape", [(5, 5), (3,), (1, 2, 3, 5, 5)])
def test_images_of_the_wrong_rank(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"\(N, 3, H, W\) or \(3, H, W\), got .* with {len(shape)} dimensions"):
        product_unit2d(torch.ones(shape), KERNEL, TAU)


@pytest.mark.parametrize("shape", [(2, 4, 5, 5), (1, 5, 5), (2, 5, 5, 3)])
def test_images_with_the_wrong_number_of_channels(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"expected 3 input channels .*groups=1, got {shape[-3]} in .*in_channels="):
        product_unit2d(torch.ones(shape), KERNEL, TAU)


def test_exponents_of_the_wrong_rank() -> None:
    with pytest.raises(ValueError, match=r"product_unit: expected weight \(out_features, in_features\), got \(3,\)"):
        product_unit(X, torch.ones(3), TAU)
    with pytest.raises(ValueError, match=r"product_unit2d: expected weight \(K, C / groups, kH, kW\), got \(4, 3\)"):
        product_unit2d(IMAGE, W, TAU)


@pytest.mark.parametrize("threshold", [0, 0.0, -1.0, math.nan, math.inf])
def test_thresholds_that_have_no_logarithm(threshold: float) -> None:
    message = f"the threshold must be positive and finite, got {threshold}"
    with pytest.raises(ValueError, match=f"product_unit: {message}"):
        product_unit(X, W, threshold)
    with pytest.raises(ValueError, match=f"product_unit2d: {message}"):
        product_unit2d(IMAGE, KERNEL, threshold)


@pytest.mark.parametrize(
    ("dtype", "threshold", "least"),
    [(torch.float16, 1e-9, 2.0**-24), (torch.bfloat16, 1e-50, 2.0**-126), (torch.float32, 1e-50, 2.0**-126)],
)
def test_a_threshold_that_rounds_to_zero_is_the_least_positive_number(
    dtype: torch.dtype, threshold: float, least: float
) -> None:
    y = product_unit(torch.zeros(1, dtype=dtype), torch.tensor([[0.5]], dtype=dtype), threshold)
    torch.testing.assert_close(y.double(), torch.tensor([least**0.5]).double(), rtol=0.2, atol=0)


@pytest.mark.parametrize("shape", [(2,), (5,), (3, 1), (5, 5)])
def test_thresholds_that_would_be_spread_over_something_else(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"product_unit: expected one threshold.*shape \(3,\), got"):
        product_unit(X, W, torch.ones(shape))
    with pytest.raises(ValueError, match=r"product_unit2d: expected one threshold.*shape \(3,\), got"):
        product_unit2d(IMAGE, KERNEL, torch.ones(shape))


@pytest.mark.parametrize("padding_mode", ["ones", "threshold"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"padding": -1}, "padding must be at least 0, got -1"),
        ({"padding": (0, -2)}, r"padding must be .*at least 0, got \(0, -2\)"),
        ({"padding": "full"}, "unknown padding 'full'; expected pixels, 'same' or 'valid'"),
        ({"padding": "same", "stride": 2}, "padding='same' needs stride 1, got stride 2"),
        ({"padding": "same", "stride": (1, 2)}, r"padding='same' needs stride 1, got stride \(1, 2\)"),
    ],
)
def test_padding_that_a_convolution_refuses(settings: dict[str, object], message: str, padding_mode: str) -> None:
    with pytest.raises(ValueError, match=f"product_unit2d: {message}"):
        product_unit2d(IMAGE, KERNEL, TAU, padding_mode=padding_mode, **settings)


def test_an_unknown_padding_mode() -> None:
    with pytest.raises(ValueError, match="unknown padding_mode 'zeros'; expected 'ones' or 'threshold'"):
        product_unit2d(IMAGE, KERNEL, TAU, padding_mode="zeros")


@pytest.mark.parametrize("padding_mode", ["ones", "threshold"])
def test_compiled_gradients_are_those_of_the_formulas(padding_mode: PaddingMode) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 5, dtype=torch.double)
    inputs = [x, torch.randn(4, 3, 3, 3, dtype=torch.double), torch.tensor(0.5, dtype=torch.double)]
    inputs = [each.requires_grad_() for each in inputs]

    def unit(x: Tensor, weight: Tensor, threshold: Tensor) -> Tensor:
        return product_unit2d(x, weight, threshold, padding=1, padding_mode=padding_mode)

    with dispatch.disabled():
        expected = torch.autograd.grad(unit(*inputs).log().square().sum(), inputs)
    compiled = torch.compile(unit, backend="aot_eager", fullgraph=True)
    found = torch.autograd.grad(compiled(*inputs).log().square().sum(), inputs)
    assert expected[2].abs() > 1
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
