"""Product units in networks that exist: what stays, what changes, what is refused."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model, resnet18, resnet50, vgg11_bn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

import pure
from pure.models.conversion import ResidualBlock
from pure.nn.batchnorm import reestimate
from pure.nn.fold import fold
from pure.nn.units import ProductUnitBase

GLOO = torch.distributed.is_available() and torch.distributed.is_gloo_available()
distributed = pytest.mark.skipif(not GLOO or sys.platform == "win32", reason="no gloo, or another loopback")


def small(block: type[BasicBlock | Bottleneck] = BasicBlock, **options: Any) -> ResNet:
    """torchvision's network with one block in each stage."""
    return ResNet(block, [1, 1, 1, 1], num_classes=5, **options)


def images(n: int = 4, pixels: int = 33) -> Tensor:
    return torch.randn(n, 3, pixels, pixels)


def units(network: nn.Module) -> dict[str, ProductUnitBase]:
    return {name: module for name, module in network.named_modules() if isinstance(module, ProductUnitBase)}


def relus(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, nn.ReLU)]


def settled(network: nn.Module) -> nn.Module:
    """In evaluation mode, with statistics that fit the weights."""
    reestimate(network, [images(8)])
    return network.eval()


# What a conversion gives


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
@pytest.mark.parametrize("variant", ["v1", "v3"])
def test_a_converted_resnet_is_the_pure_of_its_depth(name: str, variant: str) -> None:
    plain = get_model(name, num_classes=7)
    converted = pure.convert(plain, variant)
    ours = pure.create_model(name.replace("resnet", "pure"), 7, variant=variant)
    shapes = {key: value.shape for key, value in ours.named_parameters()}
    assert {key: value.shape for key, value in converted.named_parameters()} == shapes
    assert list(converted.state_dict()) == list(ours.state_dict())
    ours.load_state_dict(converted.state_dict(), strict=True)
    x = images(pixels=45)
    assert torch.equal(ours(x), converted(x))
    assert torch.equal(ours.eval()(x[:1]), converted.eval()(x[:1]))


def test_new_exponents_are_drawn_as_the_seed_and_the_settings_say() -> None:
    plain = small()
    torch.manual_seed(3)
    first = pure.convert(plain, init_a=2.0)
    torch.manual_seed(3)
    reference = pure.ProductUnit2d(64, 64, 3, padding=1, init_a=2.0)
    assert torch.equal(first.layer1[0].conv2.weight, reference.weight)
    torch.manual_seed(3)
    again = pure.convert(plain, init_a=2.0)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_what_stays_keeps_its_weights_and_the_network_its_own(block: type[BasicBlock | Bottleneck]) -> None:
    plain = small(block)
    before = copy.deepcopy(plain.state_dict())
    state = pure.convert(plain).state_dict()
    replaced = {f"layer{i}.0.conv2.weight" for i in (1, 2, 3, 4)}
    assert state.keys() - before.keys() == {name.replace("weight", "theta") for name in replaced}
    for key, value in before.items():
        assert torch.equal(plain.state_dict()[key], value), "the network that was given changed"
        assert torch.equal(state[key], value) == (key not in replaced), key
        assert state[key].data_ptr() != plain.state_dict()[key].data_ptr()


@pytest.mark.parametrize(
    ("variant", "expected"),
    [("v1", []), ("v3", ["relu", *(f"layer{i}.0.act2" for i in (1, 2, 3, 4))])],
)
def test_the_variants_keep_the_relus_that_they_say(variant: str, expected: list[str]) -> None:
    network = pure.convert(small(), variant)
    assert relus(network) == expected
    outputs = {}
    for name in ("maxpool", "layer1.0.bn1", "layer1.0"):
        network.get_submodule(name).register_forward_hook(lambda m, x, y, n=name: outputs.update({n: y.detach()}))
    network(images())
    assert outputs["layer1.0.bn1"].min() < 0
    for name in ("maxpool", "layer1.0"):
        assert (outputs[name].min() >= 0).item() == (variant == "v3")


def by_hand(state: dict[str, Tensor], x: Tensor, inner: bool, after: bool) -> Tensor:
    """A bottleneck block of four channels in training mode, its middle layer a product unit."""

    def norm(name: str, y: Tensor) -> Tensor:
        return F.batch_norm(y, None, None, state[f"{name}.weight"], state[f"{name}.bias"], training=True)

    def act(y: Tensor, active: bool) -> Tensor:
        return y.clamp(min=0) if active else y

    y = act(norm("bn1", F.conv2d(x, state["conv1.weight"])), inner)
    tau = F.softplus(state["conv2.theta"]) + 1e-7
    y = F.conv2d(y.maximum(tau).log(), state["conv2.weight"], padding=1).exp()
    y = norm("bn3", F.conv2d(act(norm("bn2", y), inner), state["conv3.weight"]))
    return act(y + x, after)


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_a_bottleneck_computes_what_its_formula_says(inner: bool, after: bool) -> None:
    network = nn.Sequential(Bottleneck(16, 4))
    converted = pure.convert(network, relu_in_block=inner, relu_after_sum=after)
    x = torch.randn(3, 16, 6, 5)
    state = {name.removeprefix("0."): value for name, value in converted.state_dict().items()}
    torch.testing.assert_close(converted(x), by_hand(state, x, inner, after))


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_with_every_relu_kept_the_other_layers_compute_as_before(block: type[BasicBlock | Bottleneck]) -> None:
    """The block that stands in for torchvision's is torchvision's, but for the units."""
    plain = small(block).eval()
    x = images()
    apart = pure.convert(plain, relu_in_block=True, relu_after_sum=True, relu_in_stem=True)
    for name in units(apart):
        apart.set_submodule(name, plain.get_submodule(name))
    assert isinstance(apart.layer1[0], ResidualBlock)
    torch.testing.assert_close(apart(x), plain(x), rtol=0, atol=0)


def test_sizes_groups_strides_and_dilation_are_the_convolution_s() -> None:
    plain = small(Bottleneck, groups=4, width_per_group=16, replace_stride_with_dilation=[False, True, True])
    converted = pure.convert(plain)
    names = list(units(converted))
    assert names == [f"layer{i}.0.conv2" for i in (1, 2, 3, 4)]
    for name, unit in units(converted).items():
        layer = plain.get_submodule(name)
        for attribute in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"):
            assert getattr(unit, attribute) == getattr(layer, attribute), (name, attribute)
    assert {unit.groups for unit in units(converted).values()} == {4}
    assert converted.layer2[0].conv2.stride == (2, 2)
    x = images()
    assert converted(x).isfinite().all()
    assert converted.layer4(converted.layer3(torch.randn(2, 512, 8, 8))).shape == (2, 2048, 8, 8), "no further stride"


def test_a_depthwise_convolution_becomes_products_of_one_channel_each() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 3, padding=2, dilation=2, groups=3, bias=False))
    unit = pure.convert(network, layers=["0"], threshold=0.5)[0]
    x = torch.rand(2, 3, 7, 7)
    expected = F.conv2d(x.clamp(min=0.5).log(), unit.weight, padding=2, dilation=2, groups=3).exp()
    torch.testing.assert_close(unit(x), expected)


# Own choices


def test_stages_are_chosen_from_either_end_and_the_rest_stays() -> None:
    plain = resnet50(num_classes=5)
    for stages, begins in (([3, 4], ("layer3.", "layer4.")), ([-1], ("layer4.",)), ([4, -1], ("layer4.",))):
        converted = pure.convert(plain, stages=stages)
        assert {name.partition(".")[0] + "." for name in units(converted)} == set(begins)
        assert relus(converted) == [name for name in relus(plain) if not name.startswith(begins)]
        assert type(converted.layer1[0]) is Bottleneck
    assert "relu" not in relus(pure.convert(plain, stages=[4], relu_in_stem=False))


def test_a_second_conversion_adds_to_the_first() -> None:
    both = pure.convert(pure.convert(small(), stages=[4]), stages=[3], unit="stabilised")
    assert [(name, type(unit)) for name, unit in units(both).items()] == [
        ("layer3.0.conv2", pure.StabilisedProductUnit2d),
        ("layer4.0.conv2", pure.ProductUnit2d),
    ]
    first = pure.convert(small(), layers=["layer4.0.conv1"])
    assert list(units(pure.convert(first, stages=[4]))) == ["layer4.0.conv1", "layer4.0.conv2"]


def test_layers_are_chosen_by_pattern_in_any_network() -> None:
    converted = pure.convert(small(), layers=["layer[34].*.conv1"])
    assert list(units(converted)) == ["layer3.0.conv1", "layer4.0.conv1"]
    assert relus(converted) == ["relu", "layer1.0.relu", "layer2.0.relu"]
    plain = vgg11_bn(num_classes=5)
    for layer in plain.features:
        if isinstance(layer, nn.Conv2d):
            layer.bias = None
    assert list(units(pure.convert(plain, layers=["features.*"]))) == [
        f"features.{i}" for i in (0, 4, 8, 11, 15, 18, 22, 25)
    ]


@pytest.mark.parametrize(
    ("unit", "settings", "kind"),
    [
        ("paper", {"threshold": 0.5, "granularity": "channel", "padding_mode": "threshold"}, pure.ProductUnit2d),
        ("stabilised", {"smoothness": 0.3, "bound": 5.0}, pure.StabilisedProductUnit2d),
        ("complex", {"eps": 0.5}, pure.ComplexProductUnit2d),
    ],
)
def test_every_unit_with_its_settings(unit: str, settings: dict[str, Any], kind: type[nn.Module]) -> None:
    converted = pure.convert(small(), unit=unit, **settings)
    for module in units(converted).values():
        assert type(module) is kind
        for name, value in settings.items():
            assert getattr(module, "threshold_setting" if name == "threshold" else name) == value
    F.cross_entropy(converted(images()), torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in converted.parameters())
    assert pure.convert(small(), unit="complex").layer1[0].conv2.eps == pytest.approx(0.6931, abs=1e-4)


def test_a_layer_that_stands_in_two_places_becomes_one_unit() -> None:
    shared = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    converted = pure.convert(nn.Sequential(shared, nn.ReLU(), shared), layers=["0"])
    assert isinstance(converted[0], pure.ProductUnit2d)
    assert converted[0] is converted[2]


@pytest.mark.parametrize("name", ["preact_resnet110", "preact_resnet164"])
@pytest.mark.parametrize(("variant", "left"), [("v1", set()), ("v3", {"act1"})])
def test_a_pre_activation_network_keeps_the_relus_of_its_sums_or_none(name: str, variant: str, left: set[str]) -> None:
    plain = pure.create_model(name, blocks=[1, 1, 1], widths=[4, 8, 16])
    converted = pure.convert(plain, variant)
    assert {each.rpartition(".")[2] for each in relus(converted)} == left
    assert len(relus(converted)) == (4 if left else 0), "one in each block, and the last"
    assert list(units(converted)) == [f"layer{i}.0.conv2" for i in (1, 2, 3)]
    assert converted(torch.randn(2, 3, 9, 9)).isfinite().all()


def test_mode_device_dtype_and_format_are_the_network_s() -> None:
    plain = small().double().to(memory_format=torch.channels_last).eval()
    plain.requires_grad_(False)
    converted = pure.convert(plain)
    unit = converted.layer2[0].conv2
    assert not any(module.training for module in converted.modules())
    assert unit.weight.dtype == unit.theta.dtype == torch.float64
    assert unit.weight.is_contiguous(memory_format=torch.channels_last)
    assert unit.weight.requires_grad, "exponents that are drawn anew must learn"
    assert not converted.layer2[0].conv1.weight.requires_grad
    with torch.device("meta"):
        assert pure.convert(small()).layer2[0].conv2.weight.device.type == "meta"


# Its state


@pytest.mark.parametrize("unit", ["paper", "stabilised", "complex"])
def test_a_state_dict_says_which_network_it_is_of(unit: str) -> None:
    plain, converted = small(), pure.convert(small(), unit=unit)
    other = pure.convert(small(), unit=unit)
    other.load_state_dict(converted.state_dict(), strict=True)
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), converted.parameters(), strict=True))
    message = r"layer1\.0\.conv2\.weight is a convolution's .* convert that by pure\.convert"
    for strict in (True, False):  # the shapes fit: it would take weights for exponents
        with pytest.raises(RuntimeError, match=message):
            converted.load_state_dict(plain.state_dict(), strict=strict)
    if unit != "complex":
        with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "layer1.0.conv2.theta"'):
            plain.load_state_dict(converted.state_dict())


def test_a_state_without_the_units_may_still_be_loaded_in_part() -> None:
    plain, converted = small(), pure.convert(small())
    rest = {key: value for key, value in plain.state_dict().items() if "conv2" not in key}
    missing, unexpected = converted.load_state_dict(rest, strict=False)
    assert {key.partition(".conv2")[0] for key in missing} == {f"layer{i}.0" for i in (1, 2, 3, 4)}
    assert unexpected == []
    assert torch.equal(converted.fc.weight, plain.fc.weight)


# What is refused


class Weighted(nn.Conv2d):
    """More than a convolution."""


def changed(layer: nn.Module | None = None, **attributes: Any) -> nn.Module:
    network = small()
    if layer is not None:
        network.layer2[0].conv2 = layer
    for name, value in attributes.items():
        setattr(network.layer2[0].conv2, name, value)
    return network


def hooked(name: str) -> nn.Module:
    network = small()
    network.get_submodule(name).register_forward_hook(lambda *_: None)
    return network


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (
            lambda: changed(Weighted(128, 128, 3)),
            {},
            r"^layer2\.0\.conv2 cannot .* is a Weighted, .*nn\.Conv2d",
        ),
        (lambda: changed(nn.Conv2d(128, 128, 3)), {}, r"^layer2\.0\.conv2 cannot .* has a bias, .*\.bias = None first"),
        (lambda: changed(padding_mode="reflect"), {}, r"^layer2\.0\.conv2 cannot .*padding_mode='reflect'"),
        (lambda: pure.convert(small()), {}, r"^layer1\.0\.conv2 cannot .* is one already; choose other"),
        (lambda: pure.create_model("pure20"), {}, "^ResidualNetwork has product units already, and no other block"),
        (lambda: hooked("layer2.0.conv2"), {}, r"^layer2\.0\.conv2 has hooks, .* take them off"),
        (lambda: hooked("layer3.0"), {}, r"^layer3\.0 has hooks"),
        (vgg11_bn, {}, r"^VGG has no residual blocks: name the convolutions .* layers="),
        (lambda: get_model("densenet121"), {}, r"^features\.denseblock1 is a torchvision\S+_DenseBlock, .* not know"),
        (vgg11_bn, {"layers": ["features.0"]}, r"^features\.0 cannot .* has a bias"),
        (small, {"layers": ["fc"]}, r"^fc cannot .*: it is a Linear, which is not"),
        (small, {"layers": ["layer1.0.conv3"]}, r"'layer1\.0\.conv3' names no convolution of ResNet; did you mean"),
        (small, {"layers": "layer1.0.conv1"}, r"layers='layer1\.0\.conv1': expected a list"),
        (small, {"layers": ["conv1"], "stages": [1]}, "stages or layers, not both"),
        (small, {"stages": [5]}, r"stages=\[5\]: expected .*: 1 \(layer1\), 2 \(layer2\), 3 \(layer3\), 4 \(layer4\)"),
        (small, {"stages": []}, r"stages=\[\]: expected"),
        (small, {"stages": 3}, "stages=3: expected a list of stages"),
        (small, {"stages": [0]}, r"stages=\[0\]: expected"),
        (small, {"variant": "v2"}, "unknown variant 'v2'; expected 'v1' or 'v3'"),
        (small, {"relu_in_stem": "no"}, "unknown relu_in_stem 'no'; expected False or True"),
        (small, {"unit": "real"}, "unknown unit 'real'; expected 'paper'"),
        (lambda: BasicBlock(4, 4), {}, r"^BasicBlock is a block, not a network: convert torch\.nn\.Sequential"),
        (lambda: nn.DataParallel(small()), {}, "^the network is wrapped in DataParallel, .* convert first"),
    ],
)
def test_what_is_not_converted_is_named(make: Callable[[], nn.Module], options: dict[str, Any], message: str) -> None:
    network = make()
    before = {name: type(module) for name, module in network.named_modules()}
    with pytest.raises(ValueError, match=message):
        pure.convert(network, **options)
    assert {name: type(module) for name, module in network.named_modules()} == before, "left as it was"


def test_what_is_no_network_or_no_setting_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module to convert, got str"):
        pure.convert("resnet18")  # type: ignore[type-var]
    with pytest.raises(TypeError, match=r"^convert has no option bound; expected stages, layers, .* padding_mode$"):
        pure.convert(small(), bound=3.0)


# Compiled, shared, exported


def test_conversion_and_compilation_go_in_either_order() -> None:
    torch.compiler.reset()
    seen = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        seen.append(graph)
        return graph.forward

    plain, x = small().eval(), images(2)
    torch.manual_seed(0)
    expected = settled(pure.convert(plain))
    torch.manual_seed(0)
    before = pure.convert(torch.compile(plain, backend=backend, fullgraph=True))
    assert type(before) is torch._dynamo.OptimizedModule
    before.load_state_dict({f"_orig_mod.{key}": value for key, value in expected.state_dict().items()}, strict=True)
    torch.testing.assert_close(before(x), expected(x))
    assert len(seen) == 1, "compiled as the network was"
    torch.compiler.reset()  # it would take the other's code
    after = torch.compile(copy.deepcopy(expected), backend=backend, fullgraph=True)
    torch.testing.assert_close(after(x), expected(x))
    assert len(seen) == 2


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_channels_last_gives_the_same_and_stays(block: type[BasicBlock | Bottleneck]) -> None:
    network = pure.convert(small(block))
    other = pure.convert(small(block).to(memory_format=torch.channels_last))
    other.load_state_dict(network.state_dict())
    x = images()
    kept: list[bool] = []
    for module in units(other).values():
        module.register_forward_hook(lambda m, i, y: kept.append(y.is_contiguous(memory_format=torch.channels_last)))
    torch.testing.assert_close(other(x.to(memory_format=torch.channels_last)), network(x), rtol=1e-3, atol=1e-3)
    assert kept == [True] * 4


def test_normalisation_folds_into_the_layers_of_a_converted_block() -> None:
    network = settled(pure.convert(small(Bottleneck)))
    folded = fold(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    x = images(2)
    torch.testing.assert_close(folded(x), network(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", ["v1", "v3"])
def test_onnxruntime_and_an_exported_program_agree(variant: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime, of the extra test")
    pytest.importorskip("onnxscript", reason="needs onnxscript, of the extra test")
    network = settled(pure.convert(small(Bottleneck, groups=2, width_per_group=8), variant))
    dynamic = ({0: torch.export.Dim("batch", min=1)},)
    exported = torch.export.export(network, (images(2),), dynamic_shapes=dynamic)
    program = torch.onnx.export(network, (images(2),), dynamo=True, dynamic_shapes=dynamic, verbose=False)
    assert program is not None
    program.save(tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    for n in (1, 3):
        x = images(n)
        torch.testing.assert_close(exported.module()(x), network(x))
        (got,) = session.run(None, {entry.name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(got), network(x).detach(), rtol=1e-4, atol=1e-4)


def ranks(rank: int, rendezvous: str, network: nn.Module, x: Tensor, out: str) -> None:
    """One of two processes: its half's gradients, by DDP and by FSDP, and what convert says of both."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"  # 127.0.0.1 alone
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    half = slice(rank * 2, rank * 2 + 2)
    replicated = nn.parallel.DistributedDataParallel(copy.deepcopy(network))
    divided = fully_shard(copy.deepcopy(network), mesh=init_device_mesh("cpu", (2,)))
    found: dict[str, Any] = {"messages": []}
    for parallel in (replicated, divided):
        F.cross_entropy(parallel(x[half]), torch.arange(4)[half]).backward()
        try:
            pure.convert(parallel)
        except ValueError as error:
            found["messages"].append(str(error))
    found["ddp"] = {name: value.grad for name, value in replicated.module.named_parameters()}
    found["fsdp"] = {name: value.grad.full_tensor() for name, value in divided.named_parameters()}
    torch.save(found, f"{out}/{rank}.pt")
    torch.distributed.destroy_process_group()


@distributed
def test_two_processes_have_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    network = settled(pure.convert(small(Bottleneck, groups=2, width_per_group=8), stages=[3, 4]))
    x = images(4)
    torch.multiprocessing.spawn(ranks, ((tmp_path / "rendezvous").as_uri(), network, x, str(tmp_path)), nprocs=2)
    F.cross_entropy(network(x), torch.arange(4)).backward()
    found = torch.load(tmp_path / "0.pt")
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        scale = parameter.grad.abs().max().item()
        for way in ("ddp", "fsdp"):
            torch.testing.assert_close(found[way][name], parameter.grad, rtol=1e-3, atol=1e-4 * scale)
    assert any(name.endswith("theta") for name in found["fsdp"])
    wrapped, sharded = found["messages"]
    assert wrapped.startswith("the network is wrapped in DistributedDataParallel"), "it would not see the units"
    assert sharded == "conv1.weight is divided among processes: convert the network before fully_shard"


# In other libraries


def test_timm_s_interface_stays() -> None:
    timm = pytest.importorskip("timm", reason="needs timm, of the extra test")
    network = settled(pure.convert(timm.create_model("resnet10t", num_classes=3)))
    x = images(2, 64)
    last, maps = network.forward_intermediates(x)
    assert [tuple(each.shape[1:]) for each in maps] == [
        (64, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)
    ]  # fmt: skip
    torch.testing.assert_close(network.forward_head(last), network(x))
    features = timm.create_model("resnet10t", features_only=True, out_indices=(2, 4))
    converted = pure.convert(features)
    assert [tuple(each.shape[1:]) for each in converted(x)] == [(128, 8, 8), (512, 2, 2)]
    assert len(units(converted)) == 4


def test_a_detector_with_a_converted_backbone_takes_a_step() -> None:
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5)
    detector = pure.convert(FasterRCNN(backbone, num_classes=3, min_size=64, max_size=64))
    assert list(units(detector)) == [f"backbone.body.layer{i}.{j}.conv2" for i in (1, 2, 3, 4) for j in (0, 1)]
    assert not [name for name in relus(detector) if name.startswith("backbone")]
    assert [name for name in relus(detector) if name.startswith("rpn")], "the heads are not the network's body"
    corners = torch.randint(0, 30, (2, 3, 2)).float()
    boxes = torch.cat([corners, corners + torch.randint(8, 30, (2, 3, 2))], 2)
    targets = [{"boxes": each, "labels": torch.tensor([1, 2, 1])} for each in boxes]
    batch = list(torch.rand(2, 3, 64, 64))
    before = {name: unit.weight.clone() for name, unit in units(detector).items()}
    losses = detector(batch, targets)
    assert sorted(losses) == ["loss_box_reg", "loss_classifier", "loss_objectness", "loss_rpn_box_reg"]
    total = sum(losses.values())
    assert total.isfinite()
    total.backward()
    torch.optim.SGD(detector.parameters(), lr=1e-3).step()
    for name, unit in units(detector).items():
        assert not torch.equal(unit.weight, before[name]), name
        assert unit.theta != 0


def test_a_segmentation_network_is_converted_but_its_head() -> None:
    plain = get_model("fcn_resnet50", weights=None, weights_backbone=None, num_classes=3)
    converted = pure.convert(plain, stages=[3, 4], unit="stabilised")
    assert len(units(converted)) == 9
    assert all(name.startswith(("backbone.layer3", "backbone.layer4")) for name in units(converted))
    assert converted.classifier[2] is not plain.classifier[2]
    assert isinstance(converted.classifier[2], nn.ReLU)
    assert converted(images(2, 64))["out"].shape == (2, 3, 64, 64)


def test_deeper_pure_is_the_converted_resnet() -> None:
    ours = pure.create_model("pure50", 5, variant="v3")
    converted = pure.convert(resnet50(num_classes=5), "v3")
    ours.load_state_dict(converted.state_dict(), strict=True)
    x = images(2, 40)
    torch.testing.assert_close(ours(x), converted(x))
    assert isinstance(resnet18().relu, nn.ReLU)
