"""What every test starts from: one thread, a known seed, properties that are tried on the same examples each time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

# Derandomised: a red test then comes from the current change.  No deadline: the first call of an operator is slow.
hypothesis.settings.register_profile("pure", derandomize=True, deadline=None, max_examples=50, database=None)
hypothesis.settings.load_profile("pure")
torch.set_num_threads(1)


TESTS = Path(__file__).parent
SLOW = {
    "stored": "executes notebooks",
    "train": "trains",
    "models/test_ecosystem.py": "exports and compiles networks",
    "models/test_hub.py": "starts a Python of its own",
    "models/test_registry.py::test_every_network_learns_everywhere_and_comes_back_from_a_file": "takes a step of each",
    "nn/fused": "compiles",
    "report/test_conversions.py::test_a_listed_network_converts_learns_everywhere_and_is_exported": "exports networks",
    "test_book.py": "reads the book",
    "test_installation.py": "makes environments",
    "test_notebooks.py": "executes notebooks",
    "test_workflow.py": "executes notebooks",
}
"""Folders, files and single tests that `make check` leaves out, and why."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the book or a training, or takes as long."""
    for item in items:
        place = item.path.relative_to(TESTS)
        name = f"{place.as_posix()}::{getattr(item, 'originalname', item.name)}"
        if not SLOW.keys().isdisjoint([name, *(each.as_posix() for each in (place, *place.parents))]):
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="module")
def graphs() -> Iterator[None]:
    """PyTorch compiles one function a limited number of times: a file's graphs do not count against another's."""
    yield
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
