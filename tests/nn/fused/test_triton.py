"""The Triton kernels against formulas in double precision, by Triton's interpreter, and on a GPU where there is one.

The interpreter must be chosen before Triton is loaded: a separate process runs the kernels, on the CPU.
"""

from __future__ import annotations

import importlib
import itertools
import math
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="needs Triton")

HALVES = [torch.float16, torch.bfloat16]
DTYPES = [torch.float32, *HALVES]
FORMATS = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.movedim(-3, -1).contiguous().movedim(-1, -3),
}
Call = Callable[..., Any]


def call(name: str, *args: Any) -> Any:
    """Run a kernel where it is imported: in the process of the interpreter, or on the GPU."""
    return getattr(importlib.import_module("pure.nn.fused.triton"), name)(*args)


def blocks_of(size: int) -> None:
    """Let programs take few numbers, so that small tensors need many of them."""
    kernels: Any = importlib.import_module("pure.nn.fused.triton")
    kernels.BLOCK, kernels.PROGRAMS = size, 8


def unit_by_kernels(granularity: str, lowered: torch.dtype, read: torch.dtype) -> dict[str, Any]:
    """A step of a unit under autocast as on a GPU, its operators by the kernels and its convolution on the CPU."""
    from pure import ProductUnit2d
    from pure.nn.functional import product_unit2d
    from pure.nn.fused import dispatch, operators

    torch.manual_seed(0)
    operators.has_kernels = dispatch.has_kernels = lambda x: True  # type: ignore[assignment]
    unit = ProductUnit2d(4, 3, 3, padding=1, granularity=granularity)
    x = torch.randn(2, 4, 7, 6).to(read).requires_grad_()
    direction = torch.randn(2, 3, 7, 6)
    kept: list[Tensor] = []
    found: dict[str, Any] = {}
    for path, context in (("kernels", nullcontext), ("formula", dispatch.disabled)):
        keep = torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t), t)[1], lambda t: t)
        with context(), torch.autocast("cpu", lowered), keep:
            y = product_unit2d(x, unit.weight, unit.threshold, padding=1)
        gradients = torch.autograd.grad((y * direction).sum(), (x, unit.weight, unit.theta))
        found[path] = [y.detach(), *gradients]
        found[f"kept {path}"] = {(t.dtype, tuple(t.shape)) for t in kept}
        kept.clear()
    return found


@pytest.fixture(scope="module")
def interpreter() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRITON_INTERPRET", "1")  # for the process alone
            pool.submit(blocks_of, 512).result()
        yield pool


@pytest.fixture(params=["interpreter", "cuda"])
def kernel(request: pytest.FixtureRequest) -> Call:
    """Calls a kernel by its name, on and with tensors of the CPU."""
    if request.param == "interpreter":
        pool = request.getfixturevalue("interpreter")
        return lambda *args: pool.submit(call, *args).result()
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")

    def on_gpu(*args: Any) -> Any:
        result = call(*(arg.cuda() if isinstance(arg, Tensor) else arg for arg in args))
        return tuple(each.cpu() for each in result) if isinstance(result, tuple) else result.cpu()

    return on_gpu


def thresholds(granularity: str, channels: int) -> Tensor:
    return torch.tensor(0.7) if granularity == "layer" else torch.linspace(0.1, 2.0, channels)[:, None, None]


def formula(x: Tensor, tau: Tensor) -> Tensor:
    log_x = torch.maximum(x.double(), tau.double()).log()
    return torch.where(x.isfinite(), log_x, math.nan)


SHAPES = [(2, 6, 5, 7), (6, 5, 7), (3, 6, 17, 13), (1, 1, 1, 1), (2, 130, 3, 1), (0, 6, 3, 3)]
FROM_TO = [*((dtype, dtype) for dtype in DTYPES), (torch.float32, torch.bfloat16), (torch.float16, torch.float32)]


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("granularity", ["layer", "channel"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_logarithm_and_its_gradients(kernel: Call, shape: tuple[int, ...], granularity: str, layout: str) -> None:
    tau = thresholds(granularity, shape[-3])
    for read, written in FROM_TO:
        x = FORMATS[layout]((torch.randn(shape) * 2).to(read))
        log_x = kernel("log", x, tau, written)
        assert log_x.dtype == written
        assert log_x.stride() == x.stride()
        eps = torch.finfo(written).eps
        torch.testing.assert_close(log_x.double(), formula(x, tau), rtol=2 * eps, atol=1e-7)
        below = x.float() <= tau
        assert torch.equal(log_x == kernel("log", torch.zeros_like(x), tau, written), below)
        grad = torch.randn(shape).to(written)  # contiguous, whatever the layout of x
        grad_x, grad_tau = kernel("log_backward", grad, log_x, tau, read)
        assert grad_x.dtype == read
        assert grad_x.stride() == x.stride()
        assert grad_tau.dtype == torch.float32
        expected = torch.where(below, 0.0, grad.double() / x.double())
        rounding = torch.finfo(read).eps + eps * (1 + log_x.double().abs())  # of 1 / x = exp(-l), and of the gradient
        assert ((grad_x.double() - expected).abs() <= expected.abs() * rounding).all()
        expected = (torch.where(below, grad.double(), 0.0) / tau.double()).sum_to_size(tau.shape)
        torch.testing.assert_close(grad_tau.double(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tau", [1e-7, 0.1, 0.5, math.log(2), 0.9999, 1.0, 1.0001, 3.0, 1000.0])
def test_the_logarithm_tells_the_clamped_from_their_neighbours(kernel: Call, dtype: torch.dtype, tau: float) -> None:
    """Numbers next to the threshold have the same logarithm, rounded; the mask must still be that of the inputs."""
    threshold = torch.tensor(tau).to(dtype).float()
    x = threshold.to(dtype).repeat(41)
    for i in range(20):
        x[i + 1 :][:20] = torch.nextafter(x[i + 1 :][:20], torch.tensor(math.inf, dtype=dtype))
    x[21:] = torch.linspace(0, 1, 20) * threshold
    x[-1] = threshold
    log_x = kernel("log", x, threshold, dtype)
    above = x.float() > threshold
    assert 19 <= above.sum() <= 20
    torch.testing.assert_close(
        log_x.double(), formula(x, threshold), rtol=2 * torch.finfo(dtype).eps, atol=torch.finfo(dtype).smallest_normal
    )
    grad_x, grad_tau = kernel("log_backward", torch.ones_like(x), log_x, threshold, dtype)
    assert torch.equal(grad_x > 0, above)
    assert grad_tau.item() == pytest.approx((~above).sum().item() / threshold.item(), rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_is_nan(kernel: Call, dtype: torch.dtype) -> None:
    x = torch.tensor([1.0, math.inf, -math.inf, math.nan, -3.0], dtype=dtype)
    log_x = kernel("log", x, torch.tensor(0.5), dtype)
    assert log_x.isnan().tolist() == [False, True, True, True, False]
    grad_x, grad_tau = kernel("log_backward", torch.ones_like(x), log_x, torch.tensor(0.5), dtype)
    assert grad_x.isnan().tolist() == [False, True, True, True, False]
    assert grad_tau.item() == 2


@pytest.mark.parametrize("layout", FORMATS)
def test_the_exponential_and_its_gradient(kernel: Call, layout: str) -> None:
    for (narrow, wide), shape in itertools.product([*((half, torch.float32) for half in HALVES)], SHAPES):
        z = FORMATS[layout](torch.randn(shape).mul(4).to(narrow))
        y = kernel("exp", z, wide)
        assert (y.dtype, y.stride()) == (wide, z.stride())
        torch.testing.assert_close(y.double(), z.double().exp(), rtol=1e-6, atol=0)
        grad = torch.randn(shape)
        grad_z = kernel("exp_backward", grad, y, narrow)
        assert (grad_z.dtype, grad_z.stride()) == (narrow, z.stride())
        torch.testing.assert_close(grad_z, (grad * y).to(narrow), rtol=torch.finfo(narrow).eps, atol=0)


def test_any_strides_and_an_expanded_gradient(kernel: Call) -> None:
    x = torch.randn(4, 6, 5, 8)[:, :, ::2, 1:-1]
    tau = thresholds("channel", 6)
    log_x = kernel("log", x, tau, torch.float32)
    torch.testing.assert_close(log_x.double(), formula(x, tau), rtol=1e-6, atol=1e-7)
    grad_x, grad_tau = kernel("log_backward", torch.ones(()).expand(x.shape), log_x, tau, torch.float32)
    torch.testing.assert_close(grad_x, torch.where(x > tau, 1 / x, 0.0))
    torch.testing.assert_close(grad_tau, ((x <= tau) / tau).sum_to_size(tau.shape))


def test_a_dense_unit_has_one_threshold_for_each_feature(kernel: Call) -> None:
    x, tau = torch.randn(70, 3), torch.tensor([0.2, 0.5, 1.0])
    log_x = kernel("log", x, tau, torch.float32)
    torch.testing.assert_close(log_x.double(), formula(x, tau), rtol=1e-6, atol=1e-7)
    grad = torch.randn(70, 3)
    grad_x, grad_tau = kernel("log_backward", grad, log_x, tau, torch.float32)
    torch.testing.assert_close(grad_x, torch.where(x > tau, grad / x, 0.0))
    torch.testing.assert_close(grad_tau, (torch.where(x > tau, 0.0, grad) / tau).sum(0))


def test_the_gradient_of_the_threshold_is_the_same_in_every_run(kernel: Call) -> None:
    x, grad = torch.randn(3, 6, 17, 13), torch.randn(3, 6, 17, 13)
    for granularity in ("layer", "channel"):
        tau = thresholds(granularity, 6)
        log_x = kernel("log", x, tau, torch.float32)
        first, again = (kernel("log_backward", grad, log_x, tau, torch.float32)[1] for _ in range(2))
        assert torch.equal(first, again)


@pytest.mark.parametrize("read", [torch.float32, None], ids=["single", "lowered"])
@pytest.mark.parametrize("lowered", HALVES, ids=str)
@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_a_unit_under_autocast(
    interpreter: ProcessPoolExecutor, granularity: str, lowered: torch.dtype, read: torch.dtype | None
) -> None:
    """As on a GPU: the logarithm is written lowered, and kept so; the exponential reads that and writes float32."""
    found = interpreter.submit(unit_by_kernels, granularity, lowered, read or lowered).result()
    for got, expected in zip(found["kernels"], found["formula"], strict=True):
        assert got.dtype == expected.dtype
        scale = expected.abs().max().item()
        torch.testing.assert_close(
            got, expected, rtol=8 * torch.finfo(lowered).eps, atol=4 * torch.finfo(lowered).eps * scale
        )
    if lowered == torch.float16:  # where the interpreter rounds as a GPU does: to bfloat16 it cuts off
        torch.testing.assert_close(found["kernels"][0], found["formula"][0], rtol=1e-6, atol=0)
    assert (lowered, (2, 4, 7, 6)) in found["kept kernels"]
    assert (torch.float32, (2, 4, 7, 6)) not in found["kept kernels"]
    assert (torch.float32, (2, 4, 7, 6)) in found["kept formula"]


# ---------------------------------------------------------------------------------- compiled for GPUs that are absent


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing")
@pytest.mark.skipif(sys.platform != "linux", reason="Triton comes with a compiler for GPUs on Linux")
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("per_channel", [False, True])
def test_the_kernels_compile_and_move_several_numbers_at_once(capability: int, per_channel: bool) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from pure.nn.fused import triton as kernels

    def compiled(kernel: Any, pointers: str, integers: int, *constants: Any) -> str:
        names = kernel.arg_names
        types = [{"h": "*bf16", "f": "*fp32"}[kind] for kind in pointers] + ["i32"] * integers
        source = ASTSource(
            kernel,
            dict(zip(names, [*types, *["constexpr"] * len(constants)], strict=True)),
            dict(zip(names[len(types) :], constants, strict=True)),
            {(i,): [["tt.divisibility", 16]] for i in range(len(types))},
        )
        return str(triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["ptx"])

    tile = (per_channel, *((16, 128) if per_channel else (1, 2048)))
    step = kernels._NEXT[torch.bfloat16]
    texts = [
        compiled(kernels._log_kernel, "hfh", 3, *step, *tile),
        compiled(kernels._log_backward_kernel, "hhfhf", 4, *tile),
        compiled(kernels._exp_kernel, "hf", 1, 2048),
        compiled(kernels._exp_backward_kernel, "ffh", 1, 2048),
    ]
    assert "cvt.rn.bf16" in texts[0], "rounded to the nearest"
    for text in texts:
        assert "ld.global.v4.b32" in text, "a thread reads 16 bytes at once"
        assert "st.global.v4.b32" in text
