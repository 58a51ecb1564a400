"""What a forward pass keeps, and networks that are left as they were."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pure.nn.inspection import Signal, kept_for_backward, modes_restored, signals


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


def chain() -> nn.Sequential:
    """Two layers that multiply by 2 and by -3."""
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Identity(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        network[0].weight.copy_(2 * torch.eye(2))
        network[2].weight.copy_(-3 * torch.eye(2))
    return network


def test_signals_are_root_mean_squares_in_the_order_of_the_calls() -> None:
    network, x = chain(), torch.tensor([[1.0, 7.0]])
    found = signals(network, lambda: network(x).sum(), nn.Linear)
    # (2, 14) and (-6, -42); the gradient of the sum is (1, 1) at the end, and -3 as large before
    expected = [Signal("0", 10.0, 3.0), Signal("2", 30.0, 1.0)]
    for one, other in zip(found, expected, strict=True):
        assert one.layer == other.layer
        assert one[1:] == pytest.approx(other[1:])


def test_signals_leave_gradients_and_hooks_as_they_were_even_after_an_error() -> None:
    network = chain()

    def fails() -> torch.Tensor:
        network(torch.ones(1, 2))
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        signals(network, fails, nn.Linear)
    signals(network, lambda: network(torch.ones(1, 2)).sum(), nn.Linear)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


def test_signals_beyond_the_range_of_the_square_are_measured() -> None:
    network = nn.Sequential(nn.Identity())
    x = torch.full((3,), 1e30, requires_grad=True)
    (found,) = signals(network, lambda: network(x).sum(), nn.Identity)
    assert found.output == pytest.approx(1e30)


def test_a_kind_of_layer_that_is_not_there_is_named() -> None:
    network = chain()
    with pytest.raises(ValueError, match=r"no Conv2d was called in Sequential; name a kind of layer that it has"):
        signals(network, lambda: network(torch.ones(1, 2)).sum(), nn.Conv2d)
