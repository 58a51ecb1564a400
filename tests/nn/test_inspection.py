"""What a forward pass keeps, and networks that are left as they were."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pure.nn.inspection import kept_for_backward, modes_restored


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_each_storage_counts_once_and_the_weights_do_not(device: str) -> None:
    layer = nn.Linear(3, 5, device=device)
    x = torch.empty(2, 3, device=device, requires_grad=True)
    result, kept = kept_for_backward(lambda: layer(x).exp() + x.square().sum(), layer.parameters(), lambda: "here")
    # Linear keeps x (24 bytes), the exponential its output (2 x 5 x 4 bytes); the square keeps x again.
    assert sorted(storage.nbytes for storage in kept.values()) == [24, 40]
    assert {storage.label for storage in kept.values()} == {"here"}
    assert result.shape == (2, 5)


def test_modes_are_as_before_even_after_an_error() -> None:
    network = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)).train()
    network[1].eval()

    def interrupted() -> None:
        with modes_restored(network):
            network.eval()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    assert [module.training for module in network.modules()] == [True, True, False]
