"""Several processes as one: what two real ones on the CPU give, against one that has it all."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pure
from pure.train import distributed
from pure.train.distributed import Group, part_momentum, ranks

MOMENTUM, LR = 0.1, 0.05


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    unit = pure.ProductUnit2d(4, 4, 3, padding=1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), unit, nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 16, 3)
    )


def batches() -> list[tuple[Tensor, Tensor]]:
    """Two batches of 8 and a last one of 5, of which two ranks cannot have equally much."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(21, 1, 6, 6, generator=generator)
    labels = torch.randint(3, (21,), generator=generator)
    return list(zip(images.split(8), labels.split(8), strict=True))


def train(group: Group, net: nn.Module, micro_batches: int) -> list[float]:
    """Three steps of SGD on each rank's parts; the mean loss of each global batch."""
    wrapped = group.wrap(net)
    optimiser = torch.optim.SGD(net.parameters(), LR)
    layers = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    losses = []
    for images, labels in batches():
        parts = list(
            zip(
                images.tensor_split(group.world_size * micro_batches),
                labels.tensor_split(group.world_size * micro_batches),
                strict=True,
            )
        )[group.rank :: group.world_size]
        optimiser.zero_grad()
        total = torch.zeros(())
        for number, (part, truth) in enumerate(parts):
            for layer in layers:
                layer.momentum = part_momentum(MOMENTUM, number, micro_batches)
            loss = F.cross_entropy(wrapped(part), truth, reduction="sum") / len(images)
            (loss * group.world_size).backward()  # one micro-batch on each of several ranks: DDP averages at once
            total += loss.detach()
        optimiser.step()
        losses.append(float(group.sum(total)))
    group.average_statistics(net)
    return losses


def evaluate(group: Group, net: nn.Module) -> Tensor | None:
    images = torch.cat([images for images, _ in batches()])
    net.eval()
    with torch.no_grad():
        return group.gather(net(images[group.rank :: group.world_size]))


def score(group: Group, net: nn.Module) -> tuple[float, float]:
    """Mean cross-entropy and accuracy on all 21 images, from sums over each rank's own."""
    images, labels = (torch.cat(part)[group.rank :: group.world_size] for part in zip(*batches(), strict=True))
    net.eval()
    with torch.no_grad():
        logits = net(images)
    loss = F.cross_entropy(logits, labels, reduction="sum")
    sums = group.sum(torch.stack([loss, (logits.argmax(1) == labels).sum(), torch.tensor(len(labels))]))
    return float(sums[0] / sums[2]), float(sums[1] / sums[2])


def rank_main(folder: Path) -> None:
    """What each of the two processes does."""
    with ranks("cpu") as group:
        found: dict[str, Any] = {"group": (group.rank, group.world_size, str(group.device), group.is_main)}
        net = network(seed=group.rank)  # rank 1 begins with other weights, and takes those of rank 0
        wrapped = group.wrap(net)
        found["wrapped"] = type(wrapped).__name__, wrapped.module is net
        found["losses"] = train(group, net, 1)
        found["weights"] = {name: value.clone() for name, value in net.state_dict().items()}
        found["logits"] = evaluate(group, net)
        found["score"] = score(group, net)

        whole = torch.tensor([1, 2**53 - 1, 5 + group.rank])
        found["sum"] = group.sum(whole)
        found["untouched"] = torch.equal(whole, torch.tensor([1, 2**53 - 1, 5 + group.rank]))
        found["any"] = [group.any(flag) for flag in (False, group.rank == 1, True)]
        rows = torch.arange(7)[group.rank :: 2]
        found["gather"] = group.gather(rows)
        found["none"] = group.gather(torch.zeros(3 * group.rank, 2, dtype=torch.uint8) + 9)
        found["empty"] = group.gather(torch.zeros(0, 4))
        found["share"] = group.share({"from": group.rank})
        try:
            group.wrap(network(), sync_batchnorm=True)
        except ValueError as error:
            found["synchronised"] = str(error)
        torch.distributed.barrier()
    found["again"] = []
    for _ in range(3):  # once more in the same process, where one is late and must not be looked for at its old place
        time.sleep(0.2 * (1 - group.rank))
        with ranks("cpu") as group:
            found["again"].append(float(group.sum(torch.ones(()))))
    (folder / f"{group.rank}.pickle").write_bytes(pickle.dumps(found))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What both ranks of one start of torchrun found."""
    folder = tmp_path_factory.mktemp("ranks")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, __file__, str(folder)],
        env={**clean_environment(), "PYTHONPATH": str(Path(pure.__file__).parents[1]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(2)]


def clean_environment() -> dict[str, str]:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    return {name: value for name, value in os.environ.items() if name not in names}


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Group]:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with ranks("cpu") as group:
        yield group


# Two processes


def test_each_process_knows_its_place(two: list[dict[str, Any]]) -> None:
    assert [found["group"] for found in two] == [(0, 2, "cpu", True), (1, 2, "cpu", False)]
    assert [found["wrapped"] for found in two] == [("DistributedDataParallel", True)] * 2
    assert [found["again"] for found in two] == [[2.0] * 3] * 2


def test_two_ranks_train_as_one_process_on_the_same_micro_batches(two: list[dict[str, Any]], alone: Group) -> None:
    net = network()
    losses = train(alone, net, micro_batches=2)
    assert [found["losses"] for found in two] == [pytest.approx(losses, rel=1e-5)] * 2
    assert losses[2] != pytest.approx(losses[0], rel=1e-2)  # it did train
    for name, value in net.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            for found in two:
                torch.testing.assert_close(found["weights"][name], value, rtol=1e-4, atol=1e-6)
    assert not torch.equal(net[1].running_var, torch.ones(4))


def test_both_ranks_end_with_the_same_weights_to_the_last_bit(two: list[dict[str, Any]]) -> None:
    first, second = (found["weights"] for found in two)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_evaluation_of_a_set_that_the_ranks_do_not_divide(two: list[dict[str, Any]], alone: Group) -> None:
    net = network()
    train(alone, net, micro_batches=2)
    logits = evaluate(alone, net)
    assert logits is not None
    assert logits.shape == (21, 3)
    torch.testing.assert_close(two[0]["logits"], logits, rtol=1e-4, atol=1e-5)  # every image once, in its place
    assert two[1]["logits"] is None
    expected = score(alone, net)
    labels = torch.cat([labels for _, labels in batches()])
    assert expected[1] == pytest.approx(float((logits.argmax(1) == labels).double().mean()))
    assert [found["score"] for found in two] == [pytest.approx(expected, rel=1e-5)] * 2


def test_sums_are_exact_where_counts_are(two: list[dict[str, Any]]) -> None:
    for found in two:
        assert found["sum"].dtype == torch.float64
        assert found["sum"].tolist() == [2, 2**54 - 2, 11]
        assert found["untouched"]


def test_a_flag_on_one_rank_counts_on_all(two: list[dict[str, Any]]) -> None:
    assert [found["any"] for found in two] == [[False, True, True]] * 2


def test_gather_deals_rows_of_unequal_number_back(two: list[dict[str, Any]]) -> None:
    assert two[0]["gather"].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert two[0]["gather"].dtype == torch.int64
    assert two[0]["none"].tolist() == [[9, 9]] * 3  # all of them from rank 1
    assert two[0]["none"].dtype == torch.uint8
    assert two[0]["empty"].shape == (0, 4)
    assert [two[1][name] for name in ("gather", "none", "empty")] == [None] * 3


def test_what_rank_0_gives_is_shared(two: list[dict[str, Any]]) -> None:
    assert [found["share"] for found in two] == [{"from": 0}] * 2


def test_synchronised_batch_normalisation_is_refused_off_cuda(two: list[dict[str, Any]]) -> None:
    message = "batch normalisation is synchronised on CUDA only, and this runs on cpu; set sync_batchnorm=False"
    assert [found["synchronised"] for found in two] == [message] * 2


# One process


def test_one_process_needs_no_group(alone: Group) -> None:
    assert (alone.rank, alone.world_size, alone.device, alone.is_main) == (0, 1, torch.device("cpu"), True)
    net = network()
    assert alone.wrap(net, sync_batchnorm=True) is net
    assert alone.sum(torch.tensor([3], dtype=torch.int32)).tolist() == [3.0]
    assert [alone.any(False), alone.any(True)] == [False, True]
    rows = torch.arange(3)
    assert alone.gather(rows) is rows
    assert alone.share("it") == "it"
    assert not torch.distributed.is_initialized()


def test_parts_of_a_step_move_a_running_average_once() -> None:
    values, momentum, running = torch.tensor([3.0, 5.0, 10.0]), 0.1, torch.tensor(2.0)
    for number, value in enumerate(values):
        share = part_momentum(momentum, number, 3)
        running = (1 - share) * running + share * value
    assert float(running) == pytest.approx(0.9 * 2 + 0.1 * 6)  # the mean of the three is 6
    assert part_momentum(0.1, 0, 1) == 0.1


def test_size_of_a_part() -> None:
    group = Group(1, 4, torch.device("cpu"))
    assert group.part_size(128) == 32
    assert group.part_size(128, micro_batches=2) == 16
    message = r"a batch of 128 cannot be cut into 4 ranks x 3 micro-batches .* whose product divides 128"
    with pytest.raises(ValueError, match=message):
        group.part_size(128, micro_batches=3)


# The environment


COMPLETE = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def test_place_in_the_environment() -> None:
    assert distributed._place({}) == (0, 1, 0)
    assert distributed._place({"MASTER_ADDR": "somewhere"}) == (0, 1, 0)
    assert distributed._place({**COMPLETE, "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}) == (5, 8, 1)


@pytest.mark.parametrize("missing", sorted(COMPLETE))
def test_an_incomplete_environment_is_refused(missing: str) -> None:
    environment = {name: value for name, value in COMPLETE.items() if name != missing}
    with pytest.raises(ValueError, match=rf"but no {missing}; start with torchrun, which sets them all, or unset"):
        distributed._place(environment)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"RANK": "2"}, "RANK=2 is not below WORLD_SIZE=2; ranks count from 0"),
        ({"WORLD_SIZE": "0", "RANK": "0"}, "RANK=0 is not below WORLD_SIZE=0"),
        ({"WORLD_SIZE": "two"}, "expected whole numbers in the environment, got RANK=1, WORLD_SIZE=two, LOCAL_RANK=0"),
    ],
)
def test_an_impossible_place_is_refused(change: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distributed._place({**COMPLETE, **change})


@pytest.mark.parametrize(
    ("device", "world_size", "message"),
    [
        ("gpu", 1, "cannot use device 'gpu'; give cpu, or cuda on a GPU"),
        ("cuda:1", 2, r"cannot use device 'cuda:1'.*one GPU for 2 processes; give cuda, and each takes its own"),
        ("cuda", 2, r"cannot use device 'cuda'.*local rank 99, but \d+ GPUs; start as many processes"),
        ("meta", 2, r"cannot use device 'meta'.*several processes compute on cpu or cuda"),
    ],
)
def test_a_device_that_cannot_be_is_refused(device: str, world_size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distributed._device(device, world_size, 99)


if __name__ == "__main__":
    torch.set_num_threads(1)
    rank_main(Path(sys.argv[1]))
