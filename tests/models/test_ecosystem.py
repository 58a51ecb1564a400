"""At home in PyTorch's ecosystem: what comes out of compilers, exporters and other libraries is what the network gives.

Every test compares values with the plain network in float32.  Networks are small, or see small images.
"""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pure
from pure.models.unet import SEGMENTERS
from pure.nn.batchnorm import reestimate
from pure.nn.functional import product_unit

SIZES = {"pure20": 16, "preact_resnet110": 16, "pure18": 64, "pure34": 64}  # pixels
NAMES = ["pure20", "pure34"]
AUTOCAST = [("cpu", torch.bfloat16), ("cpu", torch.float16), ("cuda", torch.bfloat16), ("cuda", torch.float16)]


def images(name: str, n: int) -> Tensor:
    return torch.randn(n, 3, SIZES[name], SIZES[name])


def evaluated(name: str, **options: Any) -> nn.Module:
    """A network in evaluation mode whose running statistics fit its weights, so that its logits are of order one."""
    network = pure.create_model(name, **options)
    reestimate(network, [images(name, 8)])
    return network.eval()


def gradients(network: nn.Module) -> dict[str, Tensor]:
    found = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}
    assert len(found) == len(list(network.parameters()))
    return found


def assert_same_step(ours: nn.Module, theirs: Callable[[Tensor], Tensor], parameters: nn.Module, x: Tensor) -> None:
    """The same output, and the same gradient of every parameter, of two paths to one network."""
    expected, got = ours(x), theirs(x)
    torch.testing.assert_close(got, expected)
    direction = torch.randn_like(expected)
    (expected * direction).sum().backward()
    (got * direction).sum().backward()
    wanted = gradients(ours)
    for name, gradient in gradients(parameters).items():
        scale = wanted[name].abs().max().item()
        torch.testing.assert_close(
            gradient, wanted[name], rtol=1e-3, atol=1e-4 * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


def layer2d() -> pure.ProductUnit2d:
    return pure.ProductUnit2d(4, 6, 3, padding=1, granularity="channel")


# ------------------------------------------------------------------------------------------------------------ compilers


@pytest.mark.skipif(shutil.which("c++") is None and shutil.which("g++") is None, reason="no C++ compiler for inductor")
def test_inductor_compiles_the_layer_without_a_break() -> None:
    layer = layer2d()
    compiled = copy.deepcopy(layer)
    x = torch.randn(2, 4, 8, 8)
    assert_same_step(layer, torch.compile(compiled, fullgraph=True, backend="inductor"), compiled, x)


@pytest.mark.parametrize("training", [True, False])
def test_a_network_is_one_graph_forward_and_backward(training: bool) -> None:
    network = evaluated("pure20").train(training)
    compiled = copy.deepcopy(network)
    step = torch.compile(compiled, fullgraph=True, backend="aot_eager")
    assert_same_step(network, step, compiled, images("pure20", 3))
    for (name, ours), theirs in zip(network.named_buffers(), compiled.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=lambda m, n=name: f"{n}: {m}")


def any_batch() -> tuple[dict[int, Any]]:
    return ({0: torch.export.Dim("batch", min=1)},)


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_network_takes_batches_of_any_size(name: str) -> None:
    network = evaluated(name)
    program = torch.export.export(network, (images(name, 2),), dynamic_shapes=any_batch())
    for n in (1, 5):
        x = images(name, n)
        torch.testing.assert_close(program.module()(x), network(x))


@pytest.mark.parametrize("name", ["layer", *NAMES])
def test_onnxruntime_agrees(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime, of the extra test")
    pytest.importorskip("onnxscript", reason="needs onnxscript, of the extra test")
    network = layer2d().eval() if name == "layer" else evaluated(name)

    def inputs(n: int) -> Tensor:
        return torch.randn(n, 4, 8, 8) if name == "layer" else images(name, n)

    program = torch.onnx.export(network, (inputs(2),), dynamo=True, dynamic_shapes=any_batch(), verbose=False)
    assert program is not None
    program.save(tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    for n in (1, 5):
        x = inputs(n)
        (got,) = session.run(None, {entry.name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(got), network(x).detach(), rtol=1e-4, atol=1e-4)


# --------------------------------------------------------------------------------------------- memory format, precision


@contextmanager
def recorded(network: nn.Module, kind: type[nn.Module] = nn.Module) -> Iterator[list[tuple[nn.Module, Tensor]]]:
    """Every module of a kind with its output, in the order of the forward pass."""
    outputs: list[tuple[nn.Module, Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda module, _, output: outputs.append((module, output)))
        for module in network.modules()
        if isinstance(module, kind)
    ]
    yield outputs
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_channels_last_stays_and_gives_the_same(name: str, shortcut: str) -> None:
    network = pure.create_model(name, shortcut=shortcut)
    other = copy.deepcopy(network).to(memory_format=torch.channels_last)
    x = images(name, 4)
    with recorded(other) as outputs:
        got = other(x.to(memory_format=torch.channels_last))
    maps = [(module, output) for module, output in outputs if output.ndim == 4]
    assert len(maps) > 4 * len(list(pure_units(network)))
    assert [module for module, y in maps if not y.is_contiguous(memory_format=torch.channels_last)] == []
    torch.testing.assert_close(got, network(x), rtol=1e-3, atol=1e-3)


def pure_units(network: nn.Module) -> Iterator[pure.ProductUnit2d]:
    return (module for module in network.modules() if isinstance(module, pure.ProductUnit2d))


@pytest.mark.parametrize(("device", "dtype"), AUTOCAST, ids=lambda value: str(value).removeprefix("torch."))
def test_a_network_under_autocast_keeps_its_products_in_single_precision(device: str, dtype: torch.dtype) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    network = evaluated("pure20").to(device)
    x = images("pure20", 8).to(device)
    expected = network(x)
    with torch.autocast(device, dtype), recorded(network) as outputs:
        got = network(x)
    assert got.dtype == dtype, "the linear layer is lowered"
    kinds = {type(module): output.dtype for module, output in outputs}
    assert kinds[nn.Conv2d] == dtype
    assert kinds[pure.ProductUnit2d] == torch.float32
    error = (got.float() - expected).norm() / expected.norm()
    assert 0 < error < 10 * torch.finfo(dtype).eps
    F.cross_entropy(got.float(), torch.arange(8, device=device)).backward()
    assert all(gradient.isfinite().all() for gradient in gradients(network).values())


@pytest.mark.parametrize(("device", "dtype"), AUTOCAST, ids=lambda value: str(value).removeprefix("torch."))
def test_a_product_beyond_float16_survives_autocast(device: str, dtype: torch.dtype) -> None:
    """Trained networks reach exp(15.1), 3.6 million; float16 ends at 65504."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    unit = pure.ProductUnit2d(1, 1, 1, threshold=1.0).to(device)
    nn.init.constant_(unit.weight, 15.0)
    x = torch.full((1, 1, 1, 1), torch.e, device=device, dtype=dtype)  # what a lowered convolution hands on
    with torch.autocast(device, dtype):
        product = unit(x)
    assert product.item() == pytest.approx(torch.e**15, rel=20 * torch.finfo(dtype).eps)
    assert product.item() > torch.finfo(torch.float16).max


# ----------------------------------------------------------------------------------------------------- copies and files


@pytest.mark.parametrize("options", [{}, {"units": "first"}, {"unit": "stabilised"}, {"unit": "complex"}])
def test_a_network_in_bfloat16_within_autocast(options: dict[str, Any]) -> None:
    network = evaluated("pure20", blocks=[1, 1], widths=[4, 8], **options)
    x = images("pure20", 4)
    expected = network(x)
    low = copy.deepcopy(network).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        got = low(x.bfloat16())
        from_single = low(x)
    assert got.dtype == from_single.dtype == torch.bfloat16
    got.float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in low.parameters() if parameter.grad is not None)
    torch.testing.assert_close(got.float(), expected, rtol=0.1, atol=0.1 * expected.abs().max().item())
    torch.testing.assert_close(from_single.float(), expected, rtol=0.1, atol=0.1 * expected.abs().max().item())


def test_a_deep_copy_shares_nothing() -> None:
    network = evaluated("pure20")
    x = images("pure20", 2)
    expected = network(x)
    twin = copy.deepcopy(network)
    assert torch.equal(twin(x), expected)
    with torch.no_grad():
        for tensor in (*twin.parameters(), *twin.buffers()):
            tensor.zero_()
    assert torch.equal(network(x), expected)
    assert not torch.equal(twin(x), expected)


@pytest.mark.parametrize("options", [{}, {"granularity": "channel", "threshold": "exp"}, {"threshold": 0.5}])
def test_a_pickled_network_is_the_same(options: dict[str, Any]) -> None:
    network = evaluated("pure20", **options)
    x = images("pure20", 2)
    assert torch.equal(pickle.loads(pickle.dumps(network))(x), network(x))


@pytest.mark.parametrize("options", [{}, {"granularity": "channel"}, {"threshold": 0.5}])
def test_a_state_dict_is_loaded_strictly(options: dict[str, Any]) -> None:
    network, other = evaluated("pure20", **options), evaluated("pure20", **options)
    x = images("pure20", 2)
    assert not torch.equal(other(x), network(x))
    state = network.state_dict()
    other.load_state_dict(state, strict=True)
    assert torch.equal(other(x), network(x))
    threshold = next(key for key in state if key.endswith((".theta", ".fixed_threshold")))
    with pytest.raises(RuntimeError, match=rf'Missing key\(s\) in state_dict: "{threshold}"'):
        other.load_state_dict({key: value for key, value in state.items() if key != threshold})
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "tau"'):
        other.load_state_dict({**state, "tau": torch.zeros(())})


def test_safetensors_brings_every_tensor_back(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="needs safetensors, of the extra test")
    network, other = evaluated("pure20"), evaluated("pure20")
    safetensors.save_model(network, tmp_path / "weights.safetensors")
    assert safetensors.load_model(other, tmp_path / "weights.safetensors") == (set(), [])
    state = other.state_dict()
    assert state.keys() == network.state_dict().keys()
    for key, value in network.state_dict().items():
        assert value.dtype == state[key].dtype
        assert torch.equal(value, state[key]), key  # theta has no dimensions


# ---------------------------------------------------------------------------------------- many networks, many processes


def test_stacked_seeds_run_as_one() -> None:
    networks = [evaluated("pure20") for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(networks)
    skeleton = copy.deepcopy(networks[0]).to("meta")
    x = images("pure20", 4)

    def call(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(skeleton, (parameters, buffers), (x,))

    together = torch.func.vmap(call)(parameters, buffers)
    one_by_one = torch.stack([network(x) for network in networks])
    assert (one_by_one[0] - one_by_one[1]).abs().max() > 0.1, "the seeds differ"
    torch.testing.assert_close(together, one_by_one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "shape"),
    [(lambda: pure.ProductUnit(4, 3), (5, 4)), (layer2d, (2, 4, 6, 6))],
    ids=["ProductUnit", "ProductUnit2d"],
)
def test_gradients_of_stacked_layers_run_as_one(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    layers = [make() for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(layers)
    x = torch.randn(3, *shape)  # each layer its own input

    def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(layers[0], (parameters, buffers), (x,)).square().sum()

    together = torch.func.vmap(torch.func.grad(loss))(parameters, buffers, x)
    for i, layer in enumerate(layers):
        layer(x[i]).square().sum().backward()
        for name, gradient in gradients(layer).items():
            torch.testing.assert_close(together[name][i], gradient)


def ddp_gradients(rank: int, rendezvous: str, network: nn.Module, x: Tensor, labels: Tensor, out: str) -> None:
    """One of two processes: the gradient of its half of the batch, averaged with the other's."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"  # 127.0.0.1 alone
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    parallel = nn.parallel.DistributedDataParallel(network)
    half = slice(rank * 4, rank * 4 + 4)
    F.cross_entropy(parallel(x[half]), labels[half]).backward()
    torch.save(gradients(network), f"{out}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="PyTorch without gloo"
)
@pytest.mark.skipif(sys.platform == "win32", reason="the name of the loopback interface differs")
def test_two_processes_average_to_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    network = evaluated("pure20")  # fixed statistics: a process that normalises over its half computes something else
    x, labels = images("pure20", 8), torch.arange(8)
    rendezvous = (tmp_path / "rendezvous").as_uri()
    torch.multiprocessing.spawn(ddp_gradients, (rendezvous, network, x, labels, str(tmp_path)), nprocs=2)
    F.cross_entropy(network(x), labels).backward()
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        for name, gradient in gradients(network).items():
            scale = gradient.abs().max().item()
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5 * scale)


def fsdp_gradients(rank: int, rendezvous: str, network: nn.Module, x: Tensor, labels: Tensor, out: str) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"  # 127.0.0.1 alone
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    sharded = fully_shard(network, mesh=init_device_mesh("cpu", (2,)))
    half = slice(rank * 4, rank * 4 + 4)
    F.cross_entropy(sharded(x[half]), labels[half]).backward()
    whole = {name: value.grad.full_tensor() for name, value in sharded.named_parameters() if value.grad is not None}
    torch.save(whole, f"{out}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="PyTorch without gloo"
)
@pytest.mark.skipif(sys.platform == "win32", reason="the name of the loopback interface differs")
def test_two_processes_that_share_the_parameters_have_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    network = evaluated("pure20", blocks=[1, 1], widths=[4, 8])
    x, labels = images("pure20", 8), torch.arange(8)
    rendezvous = (tmp_path / "rendezvous").as_uri()
    torch.multiprocessing.spawn(fsdp_gradients, (rendezvous, network, x, labels, str(tmp_path)), nprocs=2)
    F.cross_entropy(network(x), labels).backward()
    expected = gradients(network)
    assert any(name.endswith("theta") for name in expected)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            scale = gradient.abs().max().item()
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5 * scale)


# ------------------------------------------------------------------------------------------------------------- torch.fx


UNITS: list[Callable[[], nn.Module]] = [
    lambda: pure.ProductUnit2d(4, 6, 3, padding=1),
    lambda: pure.ProductUnit2d(4, 6, 3, padding=1, threshold=0.5, granularity="channel", precision=torch.float32),
    lambda: pure.StabilisedProductUnit2d(4, 6, 3, padding=1),
    lambda: pure.ComplexProductUnit2d(4, 6, 3, padding=1),
    lambda: pure.ProductUnit(8, 3),
    lambda: pure.StabilisedProductUnit(8, 3),
    lambda: pure.ComplexProductUnit(8, 3),
]


@pytest.mark.parametrize("make", UNITS)
def test_fx_traces_every_unit(make: Callable[[], nn.Module]) -> None:
    unit, x = make(), torch.rand(2, 4, 8, 8) + 0.1
    traced = torch.fx.symbolic_trace(unit)
    assert torch.equal(traced(x), unit(x))
    assert torch.equal(pickle.loads(pickle.dumps(traced))(x), unit(x))
    with pytest.raises(ValueError, match="expected"):  # the checks are still made
        traced(torch.rand(2, 5, 8, 7))


def test_fx_traces_a_function_wherever_it_was_imported_to() -> None:
    class Squared(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return product_unit(x, torch.full((1, 2), 2.0), 0.5)

    x = torch.tensor([[2.0, 3.0]])
    assert torch.fx.symbolic_trace(Squared())(x).item() == pytest.approx(36)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pure20", {}),
        ("pure20", {"shortcut": "A", "units": "both", "granularity": "channel"}),
        ("pure34", {}),
        ("preact_resnet110", {"blocks": [1, 1, 1]}),
    ],
)
def test_fx_traces_every_family(name: str, options: dict[str, Any]) -> None:
    network = evaluated(name, **options)
    x = images(name, 2)
    traced = torch.fx.symbolic_trace(network)
    assert torch.equal(traced(x), network(x))
    with pytest.raises(ValueError, match="too small"):
        traced(x[..., :2, :2])


def test_torchvision_extracts_features_by_name() -> None:
    from torchvision.models.feature_extraction import create_feature_extractor

    network = evaluated("pure34")
    x = images("pure34", 2)
    names = ["layer1.0.conv2", "layer3", "layer4"]
    got = create_feature_extractor(network, names)(x)
    for name, expected in zip(names, feature_maps(network, x, names), strict=True):
        assert torch.equal(got[name], expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of PyTorch's own quantisation
def test_fx_prepares_a_network_for_quantisation() -> None:
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_fx

    network = evaluated("pure20", blocks=[1, 1], widths=[4, 8])
    x = images("pure20", 4)
    prepared = prepare_fx(copy.deepcopy(network), get_default_qconfig_mapping(), (x,))
    prepared(x)  # calibrates
    assert any("Observer" in type(module).__name__ for module in prepared.modules())
    torch.testing.assert_close(prepared(x), network(x), rtol=1e-3, atol=1e-3)  # with BN folded


# ---------------------------------------------------------------------------------------------------------- torchvision

STAGES = {"layer1": "0", "layer2": "1", "layer3": "2", "layer4": "3"}


def feature_maps(network: nn.Module, x: Tensor, names: list[str]) -> list[Tensor]:
    """What the named modules give within the plain network."""
    wanted = [network.get_submodule(name) for name in names]
    with recorded(network) as outputs:
        network(x)
    return [next(output for module, output in outputs if module is each) for each in wanted]


def test_torchvision_takes_intermediate_layers() -> None:
    from torchvision.models._utils import IntermediateLayerGetter

    network = evaluated("pure34")
    x = images("pure34", 2)
    expected = feature_maps(network, x, list(STAGES))
    got = IntermediateLayerGetter(network, STAGES)(x)
    assert list(got) == list(STAGES.values())
    assert [tuple(y.shape) for y in got.values()] == [(2, 64, 16, 16), (2, 128, 8, 8), (2, 256, 4, 4), (2, 512, 2, 2)]
    for one, other in zip(got.values(), expected, strict=True):
        assert torch.equal(one, other)


def pyramid(network: nn.Module) -> nn.Module:
    from torchvision.models.detection.backbone_utils import BackboneWithFPN

    backbone: nn.Module = BackboneWithFPN(network, STAGES, [64, 128, 256, 512], out_channels=32)
    return backbone


def test_a_feature_pyramid_stands_on_the_stages() -> None:
    network = evaluated("pure18")
    x = images("pure18", 2)
    expected = feature_maps(network, x, list(STAGES))
    backbone = pyramid(network)
    got = backbone(x)
    assert [tuple(y.shape) for y in got.values()] == [(2, 32, size, size) for size in (16, 8, 4, 2, 1)]
    from_features = backbone.fpn(dict(zip(STAGES.values(), expected, strict=True)))
    for name, one in got.items():
        assert torch.equal(one, from_features[name])


def test_a_detector_on_a_product_unit_backbone_takes_a_training_step() -> None:
    from torchvision.models.detection import RetinaNet

    network = pure.create_model("pure18")
    detector = RetinaNet(pyramid(network), num_classes=3, min_size=64, max_size=64)
    units = list(pure_units(network))
    optimiser = torch.optim.SGD(detector.parameters(), lr=1e-3)
    corners = torch.randint(0, 30, (2, 3, 2)).float()
    boxes = torch.cat([corners, corners + torch.randint(8, 30, (2, 3, 2))], 2)  # (images, boxes, x0 y0 x1 y1)
    targets = [{"boxes": each, "labels": torch.tensor([0, 1, 2])} for each in boxes]
    before = [unit.weight.clone() for unit in units]
    batch = list(torch.rand(2, 3, 64, 64))
    losses = detector(batch, targets)
    total = losses["classification"] + losses["bbox_regression"]
    assert total.isfinite()
    assert total > 0
    total.backward()
    optimiser.step()
    assert len(units) == 8
    for unit, weight in zip(units, before, strict=True):
        assert not torch.equal(unit.weight, weight)
        assert unit.theta != 0, "it starts at zero, and the threshold learns too"
    assert sum(detector(batch, targets).values()) < total


# ----------------------------------------------------------------------------------------------------------------- timm


@pytest.fixture
def timm() -> Any:
    module = pytest.importorskip("timm", reason="needs timm, of the extra test")
    import pure.models.timm  # noqa: F401  registers the networks

    return module


def test_only_an_explicit_import_registers() -> None:
    pytest.importorskip("timm", reason="needs timm, of the extra test")
    known = "timm.is_model('pure_networks_pure34')"
    code = f"import pure, timm; before = {known}; import pure.models.timm; print(before, {known})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False", "True"]


def test_without_timm_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['timm'] = None; import pure.models.timm"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pure.models.timm needs timm" in done.stderr
    assert "pip install timm" in done.stderr


def test_timm_knows_every_network_by_a_name_of_ours(timm: Any) -> None:
    ours = {name for name in timm.list_models() if timm.models.model_entrypoint(name).__module__ == "pure.models.timm"}
    assert ours == {f"pure_networks_{name}" for name in pure.list_models() if name not in SEGMENTERS}
    assert timm.models.model_entrypoint("resnet34").__module__ == "timm.models.resnet"


def test_timm_is_told_the_stem_and_the_stages(timm: Any) -> None:
    for name in pure.list_models():
        if name in ("pure272", "preact_resnet1001", *SEGMENTERS):  # as their families, only slower to build
            continue
        network = pure.create_model(name)
        size = timm.models.get_pretrained_cfg(f"pure_networks_{name}").input_size[1]
        assert size == (224 if network.conv1.stride == (2, 2) else 32), name
        stages = sum(child.startswith("layer") for child, _ in network.named_children())
        assert stages == (4 if size == 224 else 3), name


@pytest.mark.parametrize(("name", "classes"), [("pure20", 7), ("pure34", 5), ("preact_resnet110", 3)])
def test_timm_makes_the_same_network(timm: Any, name: str, classes: int) -> None:
    network = evaluated(name, num_classes=classes)
    other = timm.create_model(f"pure_networks_{name}", pretrained=False, num_classes=classes, drop_rate=0.2).eval()
    other.load_state_dict(network.state_dict(), strict=True)
    x = images(name, 2)
    torch.testing.assert_close(other(x), network(x))
    maps = other.forward_features(x)
    torch.testing.assert_close(other.forward_head(maps), network(x))
    pooled = other.forward_head(maps, pre_logits=True)
    torch.testing.assert_close(pooled, maps.mean((2, 3)))
    assert pooled.shape == (2, other.num_features)
    assert other.num_classes == classes
    dropped = other.train().forward_head(maps, pre_logits=True)
    assert 0 < (dropped == 0).float().mean() < 0.5


def test_timm_passes_channels_classes_and_options_on(timm: Any) -> None:
    network = timm.create_model("pure_networks_pure20", num_classes=0, in_chans=1, shortcut="A", granularity="channel")
    assert network(torch.randn(2, 1, 8, 8)).shape == (2, 64)
    assert network.layer1[0].conv2.theta.shape == (16,)
    assert not [key for key in network.state_dict() if "downsample" in key]
    assert timm.create_model("pure_networks_pure20").num_classes == pure.create_model("pure20").fc.out_features
    assert timm.data.resolve_model_data_config(network)["input_size"] == (3, 32, 32)
    with pytest.raises(RuntimeError, match="No pretrained weights exist"):
        timm.create_model("pure_networks_pure20", pretrained=True)


def test_timm_resets_the_classifier(timm: Any) -> None:
    network = timm.create_model("pure_networks_pure20").eval()
    x = images("pure20", 2)
    maps = network.forward_features(x)
    network.reset_classifier(4)
    assert network(x).shape == (2, 4)
    assert network.num_classes == 4
    torch.testing.assert_close(network(x), network.get_classifier()(maps.mean((2, 3))))
    network.reset_classifier(0)
    torch.testing.assert_close(network(x), maps.mean((2, 3)))
    network.reset_classifier(0, global_pool="")
    assert torch.equal(network(x), maps)
    network.reset_classifier(4, global_pool="avg")
    assert network(x).shape == (2, 4)
    with pytest.raises(ValueError, match=r"num_classes=4 with global_pool='max': expected .*'avg'"):
        network.reset_classifier(4, global_pool="max")
    with pytest.raises(ValueError, match="num_classes=4 with global_pool=''"):
        timm.create_model("pure_networks_pure20", num_classes=4, global_pool="")


@pytest.mark.parametrize(
    ("name", "modules", "channels", "reductions"),
    [
        ("pure20", ["act1", "layer1", "layer2", "layer3"], [16, 16, 32, 64], [1, 1, 2, 4]),
        ("pure34", ["act1", "layer1", "layer2", "layer3", "layer4"], [64, 64, 128, 256, 512], [2, 4, 8, 16, 32]),
    ],
)
def test_timm_takes_features_only(
    timm: Any, name: str, modules: list[str], channels: list[int], reductions: list[int]
) -> None:
    network = evaluated(name)
    backbone = timm.create_model(f"pure_networks_{name}", features_only=True).eval()
    missing, unexpected = backbone.load_state_dict(network.state_dict(), strict=False)
    assert missing == []
    assert unexpected == ["fc.weight", "fc.bias"]
    assert backbone.feature_info.module_name() == modules
    assert backbone.feature_info.channels() == channels
    assert backbone.feature_info.reduction() == reductions
    x = images(name, 2)
    expected = feature_maps(network, x, modules)
    for got, wanted, depth, reduction in zip(backbone(x), expected, channels, reductions, strict=True):
        assert got.shape == (2, depth, SIZES[name] // reduction, SIZES[name] // reduction)
        torch.testing.assert_close(got, wanted)
    deep = timm.create_model(f"pure_networks_{name}", features_only=True, out_indices=(-2, -1)).eval()
    assert deep.feature_info.channels() == channels[-2:]


def test_timm_computes_activations_again_to_save_memory(timm: Any) -> None:
    network = timm.create_model("pure_networks_pure20")
    other = copy.deepcopy(network)
    other.set_grad_checkpointing()
    x = images("pure20", 4)
    assert_same_step(network, other, other, x)
    groups = timm.models.group_parameters(network, network.group_matcher(coarse=True))
    layers = [{name.partition(".")[0] for name in names} for names in groups.values()]
    assert layers == [{"conv1", "bn1"}, {"layer1"}, {"layer2"}, {"layer3"}, {"fc"}]


@pytest.mark.parametrize("feature_cls", ["list", "hook", "fx", "getter"])
@pytest.mark.parametrize("name", ["pure20", "pure34"])
def test_timm_takes_features_in_every_way(timm: Any, name: str, feature_cls: str) -> None:
    network = evaluated(name)
    modules = ["act1", *(child for child, _ in network.named_children() if child.startswith("layer"))]
    places = (0, 2, 3)
    options = {"features_only": True, "feature_cls": feature_cls, "out_indices": places}
    backbone = timm.create_model(f"pure_networks_{name}", **options).eval()
    if feature_cls == "fx":
        backbone.graph_module.load_state_dict(network.state_dict(), strict=False)
    else:  # in the order of the layers: names differ
        for value, ours in zip(backbone.state_dict().values(), network.state_dict().values(), strict=False):
            value.copy_(ours)
    x = images(name, 2)
    expected = feature_maps(network, x, [modules[place] for place in places])
    assert backbone.feature_info.channels() == [y.shape[1] for y in expected]
    for got, wanted in zip(backbone(x), expected, strict=True):
        torch.testing.assert_close(got, wanted)


def test_timm_takes_intermediates(timm: Any) -> None:
    network = timm.create_model("pure_networks_pure34").eval()
    x = images("pure34", 2)
    last, maps = network.forward_intermediates(x)
    assert torch.equal(last, network.forward_features(x))
    assert [tuple(y.shape[1:]) for y in maps] == [(64, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]
    early, (one,) = network.forward_intermediates(x, indices=[1], stop_early=True)
    assert torch.equal(one, maps[1])
    assert torch.equal(early, maps[1])
    pair = network.forward_intermediates(x, indices=2, intermediates_only=True)
    assert [torch.equal(got, wanted) for got, wanted in zip(pair, maps[-2:], strict=True)] == [True, True]
    with pytest.raises(ValueError, match="output_fmt='NLC'"):
        network.forward_intermediates(x, output_fmt="NLC")
    assert network.prune_intermediate_layers([0, 2]) == [0, 2]
    assert sum(1 for _ in network.layer3.parameters()) == 0
    assert torch.equal(network(x), maps[2])
    assert network.num_features == 128
