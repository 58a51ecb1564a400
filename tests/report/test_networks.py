"""What the networks are: the paper's tables from live modules, and costs worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

import pure
from pure.nn.blocks import ProductUnitBlock
from pure.report import networks

PAPER = networks.paper_numbers(Path(__file__).parents[2] / "results" / "paper.yaml")

# Table 1 of the paper, PURe18; of ResNet18 it is the same with ConvPU as Conv and with the ReLUs in their places.
STEM = ["7x7 Conv, 64, stride 2 + BN", "3x3 Max Pool, stride 2"]
HEAD = ["Adaptive Average Pool + Flatten layer", "Fully connected layer"]


def meta(name: str, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return pure.create_model(name, **options)


def printed_block(width: int, stride: str, pure_block: bool) -> list[str]:
    relu = "" if pure_block else " + ReLU"
    second = "ConvPU" if pure_block else "Conv"
    projection = f" (1x1 Conv, {width}, stride 2 + BN)" if stride else ""
    return [
        f"3x3 Conv, {width}{stride} + BN{relu}",
        f"3x3 {second}, {width} + BN",
        f"Residual connection{projection}{relu}",
    ]


@pytest.mark.parametrize("family", ["pure", "resnet"])
def test_table_1_line_by_line(family: str) -> None:
    ours = family == "pure"
    table = networks.architecture_table({"network": meta(f"{family}18")})
    expected = [STEM[0] + ("" if ours else " + ReLU"), STEM[1]]
    for number, width in enumerate([64, 128, 256, 512]):
        expected += printed_block(width, ", stride 2" if number else "", ours)
        expected += printed_block(width, "", ours)
    assert [text.replace(networks.TIMES, "x") for text in table["network"]] == expected + HEAD
    blocks = [f"Block {letter}-{number}" for letter in "ABCD" for number in (1, 2)]
    assert [name for name in table["Block"] if name] == ["Input layers", *blocks, "Output layers"]


def test_table_1_of_networks_of_different_depth() -> None:
    table = networks.architecture_table({"short": meta("pure18"), "long": meta("pure34")})
    blocks = [name for name in table["Block"] if name][1:-1]
    counts = [sum(name.startswith(f"Block {letter}-") for name in blocks) for letter in "ABCD"]
    assert counts == [3, 4, 6, 3]
    missing = table[table["Block"] == "Block C-6"]["short"].tolist()
    assert missing == [""]


def test_switches_of_the_block_show() -> None:
    table = networks.architecture_table({"network": meta("pure20", units="both", relu_after_sum=True)}, pixels=32)
    text = "\n".join(table["network"])
    assert text.count("ConvPU") == 18
    assert text.count("ReLU") == 9


def test_shortcut_a_shows() -> None:
    table = networks.architecture_table({"network": meta("pure20", shortcut="A")}, pixels=32)
    sums = [line for line in table["network"] if "zeros" in line]
    assert sums == [f"Residual connection (stride 2, {width} channels of zeros)" for width in (16, 32)]


def test_walk_follows_the_image_and_changes_nothing() -> None:
    block = ProductUnitBlock(4, 4)
    hooks = [len(module._forward_hooks) for module in block.modules()]
    layers = networks.walk(block, channels=4, pixels=8)
    assert [layer.kind for layer in layers] == ["conv", "bn", "unit", "bn", "add"]
    assert [layer.sources for layer in layers] == [(-1,), (0,), (1,), (2,), (3, -1)]
    assert {layer.shape for layer in layers} == {(4, 8, 8)}
    assert [len(module._forward_hooks) for module in block.modules()] == hooks
    assert block.training
    assert next(block.parameters()).device.type == "cpu"


def test_table_5_agrees() -> None:
    table = networks.blocks_table(PAPER)
    assert list(table["Network"]) == ["PURe20", "PURe32", "PURe44", "PURe56", "PURe110", "PURe272"]
    assert list(table["Blocks built"])[-1] == "[45, 45, 45]"
    assert set(table["Agrees"]) == {networks.YES}


def test_table_5_shows_a_disagreement() -> None:
    table = networks.blocks_table({"table5": {"pure20": [3, 3, 4]}})
    assert list(table["Agrees"]) == [networks.NO]


def test_parameters_beside_the_printed_ones() -> None:
    table = networks.parameters_table(PAPER).set_index(["Table", "Network"])
    printed = sum(len(PAPER[name]["rows"]) for name in ("table2", "table4", "table6"))
    assert len(table) == printed - 1  # PURe110 stands twice in table 6, under two schedules
    assert table.loc[("2", "PURe34"), "With shortcut B"] == "21,289,818"
    assert table.loc[("4", "PURe34"), "With shortcut B"] == "21,797,688"
    assert table.loc[("6", "PURe272"), ["With shortcut A", "With shortcut B", "Printed (M)", "Agrees"]].tolist() == [
        "4,352,929",
        "4,355,681",
        "4.36",
        f"{networks.YES} B",
    ]
    assert table.loc[("6", "ResNet32"), "Agrees"] == f"{networks.YES} A"
    assert table.loc[("6", "ResNet20"), "Agrees"] == f"{networks.YES} A, B"
    assert table.loc[("6", "pre-activation ResNet110"), "Agrees"] == "not printed"
    differing = [network for (_, network), agrees in table["Agrees"].items() if agrees == networks.NO]
    assert differing == ["pre-activation ResNet164", "pre-activation ResNet1001"]


def test_costs_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),  # 8 * 3 * 9 multiply-adds a pixel; keeps the image
        pure.ProductUnit2d(8, 8, 1),  # 8 * 8 a pixel; 8 logarithms and 8 exponentials
    )
    costs = networks.costs(network, channels=3, pixels=10)
    assert costs.parameters == 8 * 3 * 9 + 8 * 8 + 1
    assert costs.multiply_adds == 100 * (8 * 3 * 9 + 8 * 8)
    assert costs.transcendentals == 100 * (8 + 8)


def test_memory_by_hand() -> None:
    image, maps = 4 * 3 * 100, 4 * 8 * 100  # bytes in single precision, 10 x 10 pixels
    convolutions = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.Conv2d(8, 8, 1, bias=False))
    assert networks.costs(convolutions, channels=3, pixels=10).kept_bytes == image + maps  # the input of each
    rectified = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.ReLU())
    assert networks.costs(rectified, channels=3, pixels=10).kept_bytes == image + maps  # the output of the ReLU


@pytest.mark.parametrize("name", ["pure20", "resnet20"])
def test_memory_on_the_meta_device_is_that_on_the_cpu(name: str) -> None:
    network = pure.create_model(name)
    own = {tensor.untyped_storage().data_ptr() for tensor in [*network.parameters(), *network.buffers()]}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    image = torch.rand(1, 3, 32, 32)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = network(image)
    measured = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert output.requires_grad
    assert networks.costs(network, pixels=32).kept_bytes == measured


def test_resnet18_has_its_published_arithmetic() -> None:
    assert round(networks.costs(meta("resnet18", num_classes=1000)).multiply_adds / 1e9, 2) == 1.81  # torchvision: 1.81


def test_pure_and_resnet_differ_in_memory_and_not_in_arithmetic() -> None:
    ours, theirs = (networks.costs(meta(name)) for name in ("pure18", "resnet18"))
    assert ours.multiply_adds == theirs.multiply_adds
    assert theirs.transcendentals == 0
    planes = [64, 64, 128, 128, 256, 256, 512, 512]
    pixels = [56, 56, 28, 28, 14, 14, 7, 7]
    assert ours.transcendentals == sum(2 * c * p**2 for c, p in zip(planes, pixels, strict=True))
    table = networks.costs_table(["pure18", "resnet18"], num_classes=10)
    assert list(table["Kept, against ResNet"]) == [f"{networks.TIMES} {ours.kept_bytes / theirs.kept_bytes:.2f}", ""]


def test_kept_table_adds_up() -> None:
    table = networks.kept_table({"a": BasicBlock(8, 8), "b": ProductUnitBlock(8, 8)}, 8, 16).set_index("Layer")
    assert list(table.index) == ["conv1", "bn1", "relu", "conv2", "bn2", "together"]
    assert table["a"].tolist() == [
        "1.00",
        "1.01",
        "1.00",
        "",
        "1.01",
        "4.02",
    ]  # BN: also mean and deviation, 16 numbers
    assert table.loc["conv2", "b"] == "2.00"  # the unit: the logarithm and the output
    for column in "ab":
        parts = [float(text) for text in table[column].iloc[:-1] if text]
        assert sum(parts) == pytest.approx(float(table[column].iloc[-1]), abs=0.03)


def test_names_as_the_paper_writes_them() -> None:
    names = ["pure20", "resnet152", "preact_resnet110", "other"]
    assert list(map(networks.display_name, names)) == ["PURe20", "ResNet152", "pre-activation ResNet110", "other"]


# Receptive fields


def test_receptive_fields_by_hand() -> None:
    """ResNet18's are in the literature; PURe20's last map: 3, then 12 at 1, 2 + 5 x 2 at 2, and so on."""
    table = networks.receptive_table(meta("pure18"), pixels=224).set_index("After")
    assert table.loc["layer4", ["Map", "Step", "Receptive field"]].tolist() == ["7 x 7", "32", "435 x 435"]
    assert table.loc["stem", "Receptive field"] == "11 x 11"
    fields = {layer.name: (side, step) for layer, side, step in networks.receptive_fields(meta("pure20"))}
    assert fields["layer1.2"] == (3 + 3 * 4, 1)
    assert fields["layer2.0.conv1"] == (17, 2)
    assert fields["layer2.2"] == (15 + 2 + 5 * 4, 2)
    assert fields["layer3.2"] == (37 + 4 + 5 * 8, 4)


def test_a_receptive_field_is_what_a_gradient_reaches() -> None:
    """With a threshold that clamps nothing, every pixel of the field has a gradient, and none outside."""
    torch.manual_seed(0)
    unit = pure.ProductUnit2d(1, 1, 3, dilation=2, threshold=1e-3)  # sees 5, 3 of which it uses
    network = nn.Sequential(unit, nn.Conv2d(1, 1, 2, 2), nn.Conv2d(1, 1, 3, 2))
    *_, (_, side, step) = networks.receptive_fields(network, channels=1, pixels=24)
    image = torch.rand(1, 1, 24, 24, dtype=torch.float64, requires_grad=True)
    network.double()(image)[0, 0, 0, 0].backward()
    assert image.grad is not None
    assert int((image.grad[0, 0].abs().sum(0) > 0).nonzero().max()) + 1 == side == 10
    assert step == 4
