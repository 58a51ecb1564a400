"""Every network that the page *Use the module* lists: tried here as it is there."""

from __future__ import annotations

import importlib.util

import pytest

from pure.report import conversions

NEEDS_TIMM = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs timm, of the extra test")
NETWORKS = [
    pytest.param(name, marks=[NEEDS_TIMM] if name.startswith("timm/") else []) for name in conversions.CONVERTED
]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("variant", ["v1", "v3"])
def test_a_listed_network_converts_learns_everywhere_and_is_exported(network: str, variant: str) -> None:
    got = conversions.attempt(network, variant)  # type: ignore[arg-type]
    assert (got.forward, got.backward, got.unchanged, got.exported) == (True, True, (), True)
    assert got.units == got.more > 0, "one theta for each unit, and nothing else"
    (row,) = conversions.conversions_table([got]).to_dict("records")
    assert row["Product units"] == str(got.units)
    assert [row[each] for each in ("Forward", "Backward", "Step", "Export")] == ["✓"] * 4


def test_the_list_is_as_long_as_promised() -> None:
    assert len(conversions.CONVERTED) >= 12


@NEEDS_TIMM
def test_a_refused_network_is_named_with_what_to_do() -> None:
    table = conversions.refusals_table().set_index("Network")["Message"]
    assert list(table.index) == [f"`{name}`" for name in conversions.REFUSED]
    assert table["`timm/resnetv2_50x1_bit`"].startswith(
        "stages.0.blocks.0.conv2 cannot become a product unit: it is a StdConv2d"
    )
    assert table["`timm/hrnet_w18_small`"].startswith("transition1.0.2 is an activation between the blocks")
    assert table["`timm/res2net50_26w_4s`"].startswith("layer1.0 is a timm.models.res2net.Bottle2neck")
    assert all("layers" in message for message in table)


def test_making_a_network_leaves_no_branch_at_zero() -> None:
    network = conversions.make("torchvision/resnet18")
    assert network.fc.out_features == 10
    assert network.layer1[0].bn2.weight.min() == 1
