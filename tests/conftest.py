"""What every test starts from: one thread, a known seed, properties that are tried on the same examples each time."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import hypothesis
import pytest
import torch

# Derandomised: a red test then comes from the change at hand.  No deadline: the first call of an operator is slow.
hypothesis.settings.register_profile("pure", derandomize=True, deadline=None, max_examples=50, database=None)
hypothesis.settings.load_profile("pure")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="module")
def graphs() -> Iterator[None]:
    """PyTorch compiles one function a limited number of times: a file's graphs do not count against another's."""
    yield
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
