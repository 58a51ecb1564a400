"""The drawings show what the modules are, with numbers of the layer, and nothing hangs over an edge."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from torch import nn

import pure
from pure.models.preact import PreActBottleneck
from pure.nn.blocks import ProductUnitBlock, ShortcutA, shortcut_b
from pure.report import diagrams

TIMES = "\N{MULTIPLICATION SIGN}"


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def texts(figure: Figure) -> list[str]:
    """What a figure says, the multiplication sign as an x."""
    return [text.get_text().replace(TIMES, "x") for text in figure.axes[0].texts if text.get_text()]


def assert_nothing_is_cut_off(figure: Figure) -> None:
    figure.canvas.draw()
    edge = figure.bbox
    for artist in [*figure.axes[0].texts, *figure.axes[0].patches]:
        box = artist.get_window_extent()
        assert edge.x0 - 1 <= box.x0 <= box.x1 <= edge.x1 + 1, artist
        assert edge.y0 - 1 <= box.y0 <= box.y1 <= edge.y1 + 1, artist


def test_the_unit_is_drawn_with_its_own_numbers() -> None:
    window = torch.tensor([[2.0, 3.0, 1.0], [1.0, 1.0, 1.0], [1.0, -5.0, 1.0]])
    weight = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    figure = diagrams.product_unit_figure(window, weight)
    tau = torch.tensor(2.0).log().item()
    shown = texts(figure)
    assert f"{2**2 * 3 * tau:.2f}" in shown  # the clamped factor is the threshold
    assert any(f"= {tau:.2f}" in text for text in shown)
    assert "\N{MINUS SIGN}5.00" in shown
    assert_nothing_is_cut_off(figure)
    assert_boxes_stand_apart(figure)


def test_a_window_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a window and exponents of shape \(3, 3\), got \(2, 3\)"):
        diagrams.product_unit_figure(torch.ones(2, 3))


def test_the_two_blocks() -> None:
    figure = diagrams.block_figure()
    shown = texts(figure)
    assert shown.count("3x3 conv, 64") == 3
    assert shown.count("3x3 ConvPU, 64") == 1
    assert shown.count("ReLU") == 2
    assert shown.count("BN") == 4
    assert_nothing_is_cut_off(figure)


def assert_boxes_stand_apart(figure: Figure) -> None:
    """No two boxes overlap, and each text that begins in one stays in it."""
    figure.canvas.draw()
    boxes = [patch.get_window_extent() for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    for one, other in combinations(boxes, 2):
        assert not one.overlaps(other)
    for text in figure.axes[0].texts:
        extent = text.get_window_extent()
        middle = (extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2
        for box in boxes:
            if box.contains(*middle):
                assert box.x0 < extent.x0, text
                assert extent.x1 < box.x1, text


def test_many_blocks_stand_side_by_side() -> None:
    variants = {
        "B": ProductUnitBlock(64, 128, 2, shortcut_b(64, 128, 2)),
        "A": ProductUnitBlock(64, 128, 2, ShortcutA(64, 128, 2)),
        "identity": ProductUnitBlock(64, 64, relu_after_sum=True),
    }
    for blocks in (variants, {**variants, "pre-activation": PreActBottleneck(64, 16, 1, nn.Conv2d(64, 64, 1))}):
        figure = diagrams.block_figure(blocks)
        assert "zeros, /2" in texts(figure)
        assert_nothing_is_cut_off(figure)
        assert_boxes_stand_apart(figure)


def test_the_shortcut_leaves_where_the_paths_part() -> None:
    """A pre-activation block whose shortcut begins after the first BN and ReLU."""
    block = PreActBottleneck(64, 16, 1, nn.Conv2d(64, 64, 1))
    figure = diagrams.block_figure({"": block})
    height = {text.get_text().replace(TIMES, "x"): text.get_position()[1] for text in figure.axes[0].texts}
    lines = [patch.get_path().vertices for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]
    parting = next(line[0][1] for line in lines if line[0][1] == line[1][1])  # the first that sets off sideways
    assert height["1x1 conv, 16"] < parting
    relus = [text.get_position()[1] for text in figure.axes[0].texts if text.get_text() == "ReLU"]
    assert sum(relu > parting for relu in relus) == 1


def test_switches_show() -> None:
    block = ProductUnitBlock(64, 128, 2, shortcut_b(64, 128, 2), units="both", relu_after_sum=True, unit_norm="none")
    figure = diagrams.block_figure({"variant": block})
    shown = texts(figure)
    assert "3x3 ConvPU, 128, /2" in shown
    assert "1x1 conv, 128, /2" in shown
    assert shown.count("BN") == 1  # on the shortcut
    assert shown.count("ReLU") == 1
    assert_nothing_is_cut_off(figure)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("pure18", ["64 x 56 x 56", "128 x 28 x 28", "256 x 14 x 14", "512 x 7 x 7"]),
        ("resnet34", ["64 x 56 x 56", "128 x 28 x 28", "256 x 14 x 14", "512 x 7 x 7"]),
        ("pure110", ["16 x 32 x 32", "32 x 16 x 16", "64 x 8 x 8"]),
    ],
)
def test_a_network(name: str, sizes: list[str]) -> None:
    with torch.device("meta"):
        network = pure.create_model(name)
    figure = diagrams.network_figure(network, title=name)
    shown = texts(figure)
    assert [text for text in shown if " x " in text][-len(sizes) :] == sizes
    assert ("3x3 ConvPU" in shown) == name.startswith("pure")
    counts = {"pure18": ["x 2"], "resnet34": ["x 3", "x 4", "x 6"], "pure110": ["x 18"]}[name]
    for count in counts:
        assert any(text.partition(",")[0] == count for text in shown), count
    assert_nothing_is_cut_off(figure)
