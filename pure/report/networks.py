"""What the networks are, worked out from live modules: layers, stages, parameters, arithmetic, activation memory.

Nothing here is typed from the paper.  A network is copied without its data to PyTorch's meta device and observed in a
forward pass that computes no numbers: a description cannot differ from what is trained, and ResNet152 takes no longer
than ResNet18.  Tables are formatted text for :func:`pure.report.markdown`; the paper's figures in them come from
``results/paper.yaml``.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from pure.models import create_model
from pure.nn.blocks import ShortcutA
from pure.nn.inspection import kept_for_backward
from pure.nn.units import ProductUnitBase

__all__ = [
    "Costs",
    "Layer",
    "architecture_table",
    "blocks_table",
    "costs",
    "costs_table",
    "display_name",
    "kept_table",
    "multiply_adds",
    "paper_numbers",
    "parameters",
    "parameters_table",
    "receptive_fields",
    "receptive_table",
    "shortcut_of",
    "stages",
    "walk",
]

YES, NO = "✓", "✗"
TIMES = "\N{MULTIPLICATION SIGN}"


# A network's forward pass, layer by layer


@dataclass(frozen=True)
class Layer:
    """One step of a forward pass.

    Attributes:
        name: dotted name of the module; for an operation without one, such as the addition, that of the module in whose
            ``forward`` it stands.
        kind: ``"conv"``, ``"unit"`` (a product unit), ``"bn"``, ``"relu"``, ``"add"``, ``"maxpool"``, ``"avgpool"``,
            ``"flatten"``, ``"linear"``, ``"pad"`` (shortcut A) or, for anything else, the module's class.
        module: the module, without data; None for an operation.
        shape: of the output, without the batch.
        sources: where the inputs come from, as places in the list that :func:`walk` returns; -1 is the image.
    """

    name: str
    kind: str
    module: nn.Module | None
    shape: tuple[int, ...]
    sources: tuple[int, ...]

    @property
    def on_shortcut(self) -> bool:
        """Whether this stands on the shortcut of a residual block."""
        return "downsample" in self.name.split(".")


_KINDS: dict[type[nn.Module], str] = {
    nn.Conv2d: "conv",
    ProductUnitBase: "unit",
    nn.BatchNorm2d: "bn",
    nn.ReLU: "relu",
    nn.MaxPool2d: "maxpool",
    nn.AdaptiveAvgPool2d: "avgpool",
    nn.Flatten: "flatten",
    nn.Linear: "linear",
    ShortcutA: "pad",
}
_OPERATIONS = {"relu": "relu", "add": "add", "__add__": "add", "__iadd__": "add", "add_": "add", "flatten": "flatten"}


def walk(network: nn.Module, channels: int = 3, pixels: int = 32) -> list[Layer]:
    """Everything that an image passes in a network or a block, in the order of execution.

    Args:
        network: any module that takes images or feature maps; it is not changed.
        channels: channels of the input.
        pixels: height and width of the input.
    """
    network = _without_data(network).eval()
    image = torch.empty(1, channels, pixels, pixels, device="meta")
    layers: list[Layer] = []
    stack: list[tuple[nn.Module, str, tuple[int, ...]]] = []
    made = {id(image): -1}  # the layer that made a tensor
    alive = [image]  # an address must not be used twice

    def sources(inputs: Iterable[Any]) -> tuple[int, ...]:
        return tuple(made[id(tensor)] for tensor in inputs if id(tensor) in made)

    def note(name: str, kind: str, module: nn.Module | None, output: Tensor, inputs: tuple[int, ...]) -> None:
        made[id(output)] = len(layers)
        alive.append(output)
        layers.append(Layer(name, kind, module, tuple(output.shape[1:]), inputs))

    def leave(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        _, name, inputs = stack.pop()
        if _is_leaf(module) and not isinstance(module, nn.Identity):
            kind = next((kind for cls, kind in _KINDS.items() if isinstance(module, cls)), type(module).__name__)
            note(name, kind, module, output, inputs)

    class Operations(TorchFunctionMode):
        """Notes the operations in a ``forward`` that are not modules; calls within childless modules are left out."""

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            inputs = sources(args)
            output = function(*args, **(kwargs or {}))
            kind = _OPERATIONS.get(getattr(function, "__name__", ""))
            if kind and stack and not _is_leaf(stack[-1][0]):
                note(stack[-1][1], kind, None, output, inputs)
            return output

    for name, module in network.named_modules():
        module.register_forward_pre_hook(
            lambda module, inputs, name=name: stack.append((module, name, sources(inputs)))
        )
        module.register_forward_hook(leave)
    with torch.no_grad(), Operations():
        network(image)
    return layers


def stages(network: nn.Module) -> dict[str, nn.Sequential]:
    """The stages of a residual network by the paper's letters, A, B, ...; ``layer1``, ``layer2``, ... in the code."""
    found = [module for name, module in network.named_children() if re.fullmatch(r"layer\d+", name)]
    return {chr(ord("A") + i): stage for i, stage in enumerate(found) if isinstance(stage, nn.Sequential)}


def receptive_fields(network: nn.Module, channels: int = 3, pixels: int = 32) -> list[tuple[Layer, int, int]]:
    """What each layer of :func:`walk` sees of the image, padding included.

    A window of ``k`` with dilation ``d`` on a map whose neighbours are ``step`` pixels of the image apart adds
    ``(k - 1) d step`` to the side of the field; its stride multiplies the step.  Where paths meet, the larger counts.

    Returns:
        Triples in the order of the layers, each of a layer, the side of its receptive field and the distance of two
        neighbouring outputs, both in pixels of the image.
    """
    layers = walk(network, channels, pixels)
    found: list[tuple[Layer, int, int]] = []
    for layer in layers:
        side, step = max((found[source][1:] if source >= 0 else (1, 1) for source in layer.sources), default=(1, 1))
        if layer.kind == "avgpool":  # over the whole map
            side += (layers[layer.sources[0]].shape[-1] - 1) * step
        elif layer.kind in ("conv", "unit", "maxpool"):
            kernel, dilation, stride = (_first(getattr(layer.module, n)) for n in ("kernel_size", "dilation", "stride"))
            side, step = side + (kernel - 1) * dilation * step, step * stride
        found.append((layer, side, step))
    return found


def _first(size: int | tuple[int, ...]) -> int:
    return size if isinstance(size, int) else size[0]


def receptive_table(network: nn.Module, channels: int = 3, pixels: int = 32) -> pd.DataFrame:
    """Stem, stages and pool of a network: size of the map, step and receptive field, all in pixels; formatted text."""
    rows: dict[str, dict[str, str]] = {}
    for layer, side, step in receptive_fields(network, channels, pixels):
        part = layer.name.split(".")[0]
        if layer.kind in ("linear", "flatten") or part == "":
            continue
        rows["stem" if not part.startswith(("layer", "avgpool")) else part] = {  # the last layer of each part stays
            "Map": " x ".join(map(str, layer.shape[1:])),
            "Step": str(step),
            "Receptive field": f"{side} x {side}",
            "Field / image": f"{side / pixels:.2f}",
        }
    return pd.DataFrame([{"After": name} | row for name, row in rows.items()])


def parameters(network: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(parameter.numel() for parameter in network.parameters())


@functools.cache
def shortcut_of(model: str, **options: Any) -> str:
    """``"A"`` or ``"B"``: what a network has on its shortcuts where the shape changes, read off its modules.

    Args:
        model: one of :func:`pure.list_models`.
        **options: of :func:`pure.create_model`.
    """
    with torch.device("meta"):
        modules = create_model(model, **options).modules()
    return "A" if any(isinstance(module, ShortcutA) for module in modules) else "B"


def display_name(name: str) -> str:
    """A model's name as the paper writes it: ``pure20`` is PURe20, ``preact_resnet110`` pre-activation ResNet110."""
    families = {
        "pure": "PURe",
        "resnet": "ResNet",
        "preact_resnet": "pre-activation ResNet",
        "polynomial": "Polynomial",
        "starnet": "StarNet",
    }
    unets = {"res_unet": "residual U-Net", "pu_unet": "PU-UNet"}
    for begin, title in families.items():
        if re.fullmatch(rf"{begin}\d+", name):
            return title + name.removeprefix(begin)
    return unets.get(name, name)


# Table 1


def architecture_table(networks: Mapping[str, nn.Module], channels: int = 3, pixels: int = 224) -> pd.DataFrame:
    """Networks side by side, a row for each layer (table 1).

    Blocks carry the paper's names, A-1 to D-2.  In brackets after a residual connection stands what is on the shortcut
    if it is not the identity; the printed table leaves that out.

    Args:
        networks: the networks, by the headings of their columns.
        channels: channels of the images.
        pixels: their height and width; the table does not depend on it.
    """
    columns = {title: _cells(network, channels, pixels) for title, network in networks.items()}
    groups = list(dict.fromkeys(group for cells in columns.values() for group in cells))
    if "Output layers" in groups:  # of networks with different numbers of blocks, one has more groups before it
        groups = [*sorted(set(groups) - {"Input layers", "Output layers"}, key=_block_order), "Output layers"]
        groups = ["Input layers", *groups]
    rows = []
    for group in groups:
        lines = zip_longest(*(cells.get(group, []) for cells in columns.values()), fillvalue="")
        for i, line in enumerate(lines):
            rows.append({"Block": "" if i else group, **dict(zip(columns, line, strict=True))})
    return pd.DataFrame(rows)


def _cells(network: nn.Module, channels: int, pixels: int) -> dict[str, list[str]]:
    """The text of table 1, line by line, for the input layers, each block and the output layers."""
    cells: dict[str, list[str]] = {}
    shortcut: list[str] = []
    passed = False  # whether the stages are
    for layer in walk(network, channels, pixels):
        block = re.match(r"layer(\d+)\.(\d+)", layer.name)
        if block:
            passed = True
            group = f"Block {chr(ord('A') + int(block[1]) - 1)}-{int(block[2]) + 1}"
        else:
            group = "Output layers" if passed else "Input layers"
        lines = cells.setdefault(group, [])
        text = _TEXTS[layer.kind](layer) if layer.kind in _TEXTS else layer.kind
        if layer.on_shortcut:
            shortcut.append(text)
        elif layer.kind == "add":
            lines.append(f"{text} ({' + '.join(shortcut)})" if shortcut else text)
            shortcut = []
        elif layer.kind in _APPENDED and lines:
            lines[-1] += f" + {text}"
        else:
            lines.append(text)
    return cells


def _window_text(layer: Layer) -> str:
    module: Any = layer.module
    size, stride = module.kernel_size, module.stride
    height, width = (size, size) if isinstance(size, int) else size
    step = stride if isinstance(stride, int) else stride[0]
    name = {"conv": "Conv", "unit": "ConvPU", "maxpool": "Max Pool"}[layer.kind]
    maps = "" if layer.kind == "maxpool" else f", {layer.shape[0]}"
    return f"{height}{TIMES}{width} {name}{maps}" + (f", stride {step}" if step != 1 else "")


def _padding_text(layer: Layer) -> str:
    module: Any = layer.module
    return f"stride {module.stride}, {module.front + module.back} channels of zeros"


_APPENDED = ("bn", "relu", "flatten")  # to the line of what stands before them
_TEXTS: dict[str, Callable[[Layer], str]] = {
    "conv": _window_text,
    "unit": _window_text,
    "maxpool": _window_text,
    "bn": lambda _: "BN",
    "relu": lambda _: "ReLU",
    "add": lambda _: "Residual connection",
    "avgpool": lambda _: "Adaptive Average Pool",
    "flatten": lambda _: "Flatten layer",
    "linear": lambda _: "Fully connected layer",
    "pad": _padding_text,
}


def _block_order(group: str) -> tuple[str, int]:
    stage, _, number = group.removeprefix("Block ").partition("-")
    return stage, int(number)


# Table 5 and the parameters of tables 2, 4 and 6


def paper_numbers(path: Path | str) -> dict[str, Any]:
    """The figures that the paper prints, table by table, from ``results/paper.yaml``."""
    numbers: dict[str, Any] = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    return numbers


def blocks_table(paper: Mapping[str, Any]) -> pd.DataFrame:
    """Blocks in each stage, counted in the networks, next to those that table 5 prints."""
    rows = []
    for name, printed in paper["table5"].items():
        built = [len(stage) for stage in stages(_build(name)).values()]
        rows.append(
            {
                "Network": display_name(name),
                "Blocks built": str(built),
                "Printed in table 5": str(printed),
                "Agrees": YES if built == printed else NO,
            }
        )
    return pd.DataFrame(rows)


def parameters_table(paper: Mapping[str, Any], tables: Iterable[str] = ("table2", "table4", "table6")) -> pd.DataFrame:
    """Parameters of every network, counted, next to the millions that the paper prints.

    One row for each network of a table; a count for each shortcut that the network can be built with.  The last column
    says with which of them the count, rounded to the printed digits, is the printed one.
    """
    rows = []
    for table in tables:
        classes = paper[table]["classes"]
        for name, printed in _printed_parameters(paper[table]).items():
            counts = {shortcut: _count(name, classes, shortcut) for shortcut in ("A", "B")}
            agreeing = [shortcut for shortcut, count in counts.items() if count and _millions(count) == printed]
            rows.append(
                {
                    "Table": table.removeprefix("table"),
                    "Network": display_name(name),
                    "Classes": f"{classes:,}",
                    **{
                        f"With shortcut {shortcut}": f"{count:,}" if count else "" for shortcut, count in counts.items()
                    },
                    "Printed (M)": printed,
                    "Agrees": (f"{YES} {', '.join(agreeing)}" if agreeing else NO) if printed else "not printed",
                }
            )
    return pd.DataFrame(rows)


def _printed_parameters(table: Mapping[str, Any]) -> dict[str, str]:
    """Millions of parameters as printed, by model; empty where the paper prints none."""
    rows = table["rows"]
    if isinstance(rows, Mapping):
        place = table["columns"].index("params_m")
        figures = {name: figures[place] for name, figures in rows.items()}
    else:
        figures = {row["model"]: row.get("params_m") for row in rows}
    return {name: "" if figure is None else f"{figure:.2f}" for name, figure in figures.items()}


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f}"


def _count(name: str, classes: int, shortcut: str) -> int | None:
    """The parameters of a model with this shortcut, None if it has no such option."""
    try:
        return parameters(_build(name, num_classes=classes, shortcut=shortcut))
    except TypeError:
        return parameters(_build(name, num_classes=classes)) if shortcut == "B" else None


# Arithmetic and memory


@dataclass(frozen=True)
class Costs:
    """What one image costs in a network.

    Attributes:
        parameters: trainable numbers.
        multiply_adds: of convolutions, product units and linear layers in a forward pass; one multiplication and one
            addition count as one, border pixels like all others, and BN, ReLU, pooling and additions not at all.
        transcendentals: logarithms and exponentials in a forward pass.
        kept_bytes: what a forward pass in training mode keeps for the backward pass, in single precision: every storage
            that is saved, once, without the parameters and with the image.
    """

    parameters: int
    multiply_adds: int
    transcendentals: int
    kept_bytes: int


def multiply_adds(network: nn.Module, channels: int = 3, pixels: int = 224) -> int:
    """Those of one image alone, as :class:`Costs` counts them; the network is not changed."""
    network, counter = _without_data(network), FlopCounterMode(display=False)
    for module in [*network.modules()]:
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):  # counts as nothing, and takes half of the time
                setattr(module, name, nn.Identity())
    with torch.no_grad(), counter:
        network.eval()(_images(channels, pixels))
    return int(counter.get_total_flops()) // 2  # it counts multiplications and additions apart


def costs(network: nn.Module, channels: int = 3, pixels: int = 224) -> Costs:
    """Measure :class:`Costs` on the meta device; the network is not changed.

    BN also keeps two numbers for each channel, whatever the number of images: they are in ``kept_bytes`` as for a batch
    of one.
    """
    network, pointwise = _without_data(network), _Transcendentals()
    with torch.no_grad(), pointwise:
        network.eval()(_images(channels, pixels))
    return Costs(
        parameters=parameters(network),
        multiply_adds=multiply_adds(network, channels, pixels),
        transcendentals=pointwise.count,
        kept_bytes=sum(kept for _, kept in _kept(network, channels, pixels)),
    )


def costs_table(
    names: Sequence[str], num_classes: int = 1000, channels: int = 3, pixels: int = 224, against: str = "resnet"
) -> pd.DataFrame:
    """The costs of networks for one image, and those of each PURe against the ResNet of its depth.

    Args:
        names: models; a ``pureN`` is compared with ``resnetN`` if that is among them.
        num_classes: length of their outputs.
        channels: channels of the image.
        pixels: its height and width.
        against: the family that PURe is compared with, by the beginning of its names.
    """
    measured = {
        name: costs(_build(name, num_classes=num_classes, in_channels=channels), channels, pixels) for name in names
    }
    rows = []
    for name, cost in measured.items():
        other = measured.get(name.replace("pure", against)) if name.startswith("pure") else None
        rows.append(
            {
                "Network": display_name(name),
                "Parameters": f"{cost.parameters:,}",
                "Multiply-adds (G)": f"{cost.multiply_adds / 1e9:.3f}",
                "log and exp (M)": f"{cost.transcendentals / 1e6:.2f}",
                "Kept for backward (MB)": f"{cost.kept_bytes / 1e6:.2f}",
                "Kept, against ResNet": f"{TIMES} {cost.kept_bytes / other.kept_bytes:.2f}" if other else "",
            }
        )
    return pd.DataFrame(rows)


def kept_table(blocks: Mapping[str, nn.Module], channels: int, pixels: int) -> pd.DataFrame:
    """What each layer of a block keeps for the backward pass that no layer before it has kept already.

    The block's output is left out: it is the input of the next block, which counts it there.

    Args:
        blocks: blocks that keep the shape of their input, by the headings of their columns.
        channels: channels of the input.
        pixels: its height and width.

    Returns:
        Formatted text; the unit is one feature map of the block's input in single precision.
    """
    one = 4 * channels * pixels**2
    kept = {title: _kept(block, channels, pixels, with_output=False) for title, block in blocks.items()}
    rows: dict[str, dict[str, str]] = {}
    for title, layers in kept.items():
        for layer in dict.fromkeys(layer for layer, _ in layers):
            share = sum(size for name, size in layers if name == layer) / one
            rows.setdefault(layer or "the block itself", {})[title] = f"{share:.2f}"
        rows.setdefault("together", {})[title] = f"{sum(size for _, size in layers) / one:.2f}"
    order = dict.fromkeys(name or "the block itself" for block in blocks.values() for name, _ in block.named_modules())
    rows = {name: rows[name] for name in [*order, "together"] if name in rows}
    return pd.DataFrame(
        [{"Layer": layer, **{title: row.get(title, "") for title in blocks}} for layer, row in rows.items()]
    )


def _kept(network: nn.Module, channels: int, pixels: int, with_output: bool = True) -> list[tuple[str, int]]:
    """Storages kept for the backward pass of one image: the innermost module that kept it first, and bytes."""
    network = _without_data(network).train()
    stack: list[str] = []
    for name, module in network.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: stack.append(name))
        module.register_forward_hook(lambda *_: stack.__delitem__(-1))  # a hook's value would replace the output
    output, kept = kept_for_backward(
        lambda: network(_images(channels, pixels)),
        [*network.parameters(), *network.buffers()],
        lambda: stack[-1] if stack else "",
    )
    if not with_output:
        kept.pop(output.untyped_storage()._cdata, None)
    return [(storage.label, storage.nbytes) for storage in kept.values()]


class _Transcendentals(TorchDispatchMode):
    """Counts the elements that pass a logarithm or an exponential."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        if function in (torch.ops.aten.log.default, torch.ops.aten.exp.default, torch.ops.pure.log.default):
            self.count += output.numel()
        return output


def _build(name: str, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return create_model(name, **options)


def _is_leaf(module: nn.Module) -> bool:
    return next(module.children(), None) is None


def _without_data(network: nn.Module) -> nn.Module:
    """A copy of a network whose parameters and buffers have shapes and no values."""
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
    for buffer in network.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(network, memo)


def _images(channels: int, pixels: int) -> Tensor:
    return torch.empty(1, channels, pixels, pixels, device="meta")
