"""Batches from the device and from workers: which images, in which order, drawn by which counters, on which rank."""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pure import data
from pure.data import loaders, machine
from pure.data.augment import parse
from pure.data.images import Images, ImageSet, Joined, Subset
from pure.data.loaders import DeviceLoader, Loader, WorkerLoader, choose_kind, make_loader
from pure.data.noise import poisson

CPU = torch.device("cpu")
PLAIN = torch.zeros(1), torch.ones(1)
KINDS = ["device", "workers"]


class Lazy:
    """Images of any shapes that are not in memory, as far as anyone can tell."""

    digest = "lazy"

    def __init__(self, images: list[Tensor]) -> None:
        self.images = images
        self.labels = torch.arange(len(images))
        self.shape = tuple(images[0].shape) if len({image.shape for image in images}) == 1 else None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], index


class Files:
    """Image files, read by Pillow on demand."""

    digest = "files"
    shape = None

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.labels = torch.arange(len(paths))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[index]) as image:
            return torch.from_numpy(np.array(image.convert("RGB"))).movedim(2, 0), index

    def name(self, row: int) -> str:
        return str(self.paths[row])


def numbered(n: int) -> ImageSet:
    """Images of one pixel that say which they are; the label too."""
    return ImageSet(torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1), torch.arange(n))


def coloured(n: int) -> ImageSet:
    images = torch.randint(0, 256, (n, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    return ImageSet(images, torch.arange(n))


def plain(images: Images, batch_size: int, **options: Any) -> Loader:
    channels = 1 if images.shape is None else images.shape[0]
    options = {"workers": 0, **options}
    return make_loader(images, (torch.zeros(channels), torch.ones(channels)), batch_size, CPU, **options)


def labels_of(loader: Loader) -> list[list[int]]:
    return [labels.tolist() for _, labels in loader]


def flat(lists: list[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(lists))


def assert_same(left: list[tuple[Tensor, Tensor]], right: list[tuple[Tensor, Tensor]]) -> None:
    assert len(left) == len(right) > 0
    for ours, theirs in zip(left, right, strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])


# Which images, in which order


@pytest.mark.parametrize("kind", KINDS)
def test_each_image_once_an_epoch_and_a_smaller_last_batch(kind: Any) -> None:
    loader = plain(numbered(10), 4, shuffle=True, kind=kind)
    assert loader.kind == kind
    assert (len(loader), loader.batches) == (3, 3)
    assert [loader.batch_length(batch) for batch in range(3)] == [4, 4, 2]
    orders = []
    for epoch in range(2):
        loader.set_epoch(epoch)
        batches = list(loader)
        assert [len(labels) for _, labels in batches] == [4, 4, 2]
        labels = torch.cat([labels for _, labels in batches])
        assert sorted(labels.tolist()) == list(range(10))
        assert torch.cat([images for images, _ in batches]).flatten().tolist() == labels.tolist()  # still its label
        orders.append(labels.tolist())
    assert orders[0] != orders[1]  # another order in each epoch
    assert len(plain(numbered(8), 4, kind=kind)) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_order_of_the_set_without_shuffling(kind: Any) -> None:
    loader = plain(numbered(5), 2, kind=kind, augmentation="shift(1)")
    for epoch in (0, 7):
        loader.set_epoch(epoch)
        assert labels_of(loader) == [[0, 1], [2, 3], [4]]


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int, kind: Any, batch_size: int = 6) -> list[int]:
        loader = plain(numbered(20), batch_size, shuffle=True, seed=seed, kind=kind)
        loader.set_epoch(epoch)
        return flat(labels_of(loader))

    first = order(5, 3, "device")
    torch.manual_seed(99)
    assert order(5, 3, "workers", batch_size=7) == first
    assert order(5, 4, "device") != first
    assert order(6, 3, "device") != first
    assert order(3, 5, "device") != first


@pytest.mark.parametrize("kind", KINDS)
def test_each_iteration_is_the_next_epoch(kind: Any) -> None:
    def epoch(number: int) -> list[tuple[Tensor, Tensor]]:
        loader = plain(coloured(20), 8, shuffle=True, kind=kind, augmentation="pad-crop(2)+flip")
        loader.set_epoch(number)
        return list(loader)

    loader = plain(coloured(20), 8, shuffle=True, kind=kind, augmentation="pad-crop(2)+flip")
    for number in range(2):
        assert_same(list(loader), epoch(number))
    loader.set_epoch(7, first_batch=1)  # as a resumed training does
    assert_same(list(loader), epoch(7)[1:])
    assert_same(list(loader), epoch(8))
    assert labels_of(loader) != [labels.tolist() for _, labels in epoch(8)]


def test_the_numbers_drawn_are_the_same_in_every_release() -> None:
    """Pinned: another order means that a training cannot be continued, or repeated, by another release."""
    loader = plain(numbered(10), 10, shuffle=True, seed=1)
    loader.set_epoch(2)
    assert labels_of(loader) == [[0, 2, 9, 8, 4, 3, 1, 6, 7, 5]]


# Continuing


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", [0, 1, 3, 5])
def test_an_epoch_goes_on_at_any_batch(kind: Any, first: int) -> None:
    options: dict[str, Any] = {"shuffle": True, "seed": 3, "kind": kind, "augmentation": "pad-crop(2)+flip"}
    whole, rest = plain(coloured(33), 8, **options), plain(coloured(33), 8, **options)
    whole.set_epoch(2)
    rest.set_epoch(2, first_batch=first)
    assert len(rest) == len(whole) == 5
    if first == 5:
        assert list(rest) == []
    else:
        assert_same(list(rest), list(whole)[first:])


@pytest.mark.parametrize(("epoch", "first"), [(-1, 0), (0, -1), (0, 6)])
def test_an_epoch_or_batch_that_is_not_there_is_refused(epoch: int, first: int) -> None:
    with pytest.raises(ValueError, match=f"a first batch from 0 to 5, got {epoch} and {first}"):
        plain(numbered(33), 8).set_epoch(epoch, first)


# Workers


def test_the_number_of_workers_changes_nothing() -> None:
    epochs = []
    for workers in (0, 1, 2):
        loader = plain(coloured(30), 8, shuffle=True, kind="workers", workers=workers, augmentation="pad-crop(2)+flip")
        loader.set_epoch(1)
        epochs.append(list(loader))
    assert_same(epochs[0], epochs[1])
    assert_same(epochs[0], epochs[2])


def test_workers_stay_and_follow_the_epoch_even_if_the_last_one_was_broken_off() -> None:
    loader = plain(coloured(40), 4, shuffle=True, kind="workers", workers=1, augmentation="flip")
    reference = plain(coloured(40), 4, shuffle=True, kind="workers", workers=0, augmentation="flip")
    for epoch, first in ((0, 0), (1, 0), (1, 7), (2, 0)):
        for each in (loader, reference):
            each.set_epoch(epoch, first)
        assert_same(list(loader), list(reference))
        assert len(list(itertools.islice(loader, 2))) == 2
    assert isinstance(loader, WorkerLoader)
    assert loader._loader.persistent_workers


def test_an_image_is_augmented_by_its_own_counter_whatever_its_batch() -> None:
    def by_row(batch_size: int) -> Tensor:
        loader = plain(coloured(20), batch_size, shuffle=True, kind="workers", augmentation="pad-crop(2)+flip")
        loader.set_epoch(3)
        images, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
        return images[labels.argsort()]

    assert torch.equal(by_row(4), by_row(7))


def test_an_image_is_augmented_after_its_own_seed() -> None:
    images = coloured(6)
    transform = parse("pad-crop(2)+flip").transform()
    loader = plain(images, 6, kind="workers", seed=8, augmentation="pad-crop(2)+flip")
    loader.set_epoch(2)
    ((batch, _),) = loader
    for row in range(6):
        torch.manual_seed(loaders._counter(loaders._IMAGE, 8, 2, row))
        assert torch.equal(batch[row], transform(images.images[row]).float())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("workers", [0, 1])
def test_torchs_own_generator_is_left_alone(kind: Any, workers: int) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    loader = plain(coloured(10), 4, shuffle=True, kind=kind, workers=workers, augmentation="resized-crop(8)+flip")
    list(loader)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_a_worker_gets_can_be_pickled() -> None:
    loader = plain(Joined(coloured(4)), 2, kind="workers", augmentation="rotate(10)+flip+resized-crop(8)")
    assert isinstance(loader, WorkerLoader)
    batches = pickle.loads(pickle.dumps(loader._loader.dataset))
    assert batches[0, torch.tensor([2, 3])][1].tolist() == [2, 3]


# Augmentation on the device


def test_each_batch_is_augmented_by_its_own_counter() -> None:
    images = coloured(20)
    augmentation = parse("pad-crop(2)+flip")
    loader = plain(images, 8, shuffle=True, seed=4, augmentation="pad-crop(2)+flip")
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        for number, (batch, labels) in enumerate(loader):
            generator = loaders._generator(loaders._BATCH, 4, epoch, number)
            parameters = augmentation.draw(len(labels), (3, 12, 12), generator)
            assert torch.equal(batch, augmentation.apply(images.images[labels], parameters).float())


def test_epochs_batches_and_seeds_draw_other_augmentations() -> None:
    same = ImageSet(coloured(1).images.expand(8, -1, -1, -1), torch.arange(8))

    def batches(seed: int, epoch: int) -> list[bytes]:
        loader = plain(same, 4, seed=seed, augmentation="pad-crop(4)")
        loader.set_epoch(epoch)
        return [images.numpy().tobytes() for images, _ in loader]

    assert len({*batches(0, 0), *batches(0, 1), *batches(1, 0)}) == 6


# Ranks and micro-batches


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [32, 37])
def test_micro_batches_are_what_ranks_see_and_add_up_to_the_batch(kind: Any, n: int) -> None:
    def make(**options: Any) -> Loader:
        options = {"shuffle": True, "seed": 2, "kind": kind, "augmentation": "pad-crop(2)+flip", **options}
        loader = plain(coloured(n), 8, **options)
        loader.set_epoch(1, first_batch=1)
        return loader

    whole = list(make())
    single = list(make(micro_batches=4))
    assert len(make(micro_batches=4)) == 4 * make().batches
    for number, (images, labels) in enumerate(whole):
        parts = single[4 * number : 4 * number + 4]
        assert torch.equal(torch.cat([part for part, _ in parts]), images)
        assert torch.equal(torch.cat([part for _, part in parts]), labels)
        assert max(len(part) for part, _ in parts) - min(len(part) for part, _ in parts) <= 1
    for world_size in (2, 4):
        ranks = [make(micro_batches=4 // world_size, world_size=world_size, rank=rank) for rank in range(world_size)]
        assert {len(rank) for rank in ranks} == {4 // world_size * ranks[0].batches}
        interleaved = [part for parts in zip(*ranks, strict=True) for part in parts]
        assert_same(interleaved, single)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 7, 8, 21, 24])
@pytest.mark.parametrize(("world_size", "micro_batches"), [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2)])
def test_in_an_evaluation_every_image_is_on_one_rank_once(
    kind: Any, n: int, world_size: int, micro_batches: int
) -> None:
    seen = []
    for rank in range(world_size):
        loader = plain(numbered(n), 8, kind=kind, rank=rank, world_size=world_size, micro_batches=micro_batches)
        batches = labels_of(loader)
        assert len(loader) == len(batches)
        assert flat(batches) == list(range(rank, n, world_size))
        assert all(len(batch) == 8 // (world_size * micro_batches) for batch in batches[:-1])
        seen += flat(batches)
    assert sorted(seen) == list(range(n))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"batch_size": 10, "world_size": 4},
            "batch size 10 is not divided by 4 ranks x 1 micro-batches; take a multiple of 4",
        ),
        (
            {"batch_size": 8, "world_size": 2, "micro_batches": 3},
            "not divided by 2 ranks x 3 micro-batches; take a multiple of 6",
        ),
        ({"batch_size": 8, "micro_batches": 0}, "1 ranks x 0 micro-batches"),
        ({"batch_size": 8, "world_size": 2, "rank": 2}, "a rank from 0 to world_size - 1, got rank 2 of 2"),
        ({"batch_size": 8, "rank": -1}, "got rank -1 of 1"),
        ({"batch_size": 0}, "a batch size of at least 1, got 33 and 0"),
        (
            {"batch_size": 8, "shuffle": True, "micro_batches": 2},
            "the last batch of 1 of 33 images cannot be cut into 2 parts (1 ranks x 2 micro-batches); take another",
        ),
        ({"batch_size": 8, "workers": -1}, "a number of workers from 0, got -1"),
        ({"batch_size": 8, "kind": "gpu"}, "unknown kind of loader 'gpu'; known are auto, device, workers"),
        ({"batch_size": 8, "augmentation": "flop"}, "unknown augmentation 'flop'"),
        (
            {"batch_size": 8, "augmentation": "center-crop(2)"},
            "center-crop(2) is larger than the images of 1 x 1 pixels",
        ),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_is_refused_when_the_loader_is_made(kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        make_loader(numbered(33), PLAIN, device=CPU, **{"kind": kind, **options})
    assert message in str(error.value)


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(ValueError, match="expected images and a batch size of at least 1, got 0 and 4"):
        plain(numbered(0), 4)


# Normalisation


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_normalized_channel_by_channel(kind: Any) -> None:
    images = torch.tensor([[[[0, 8]], [[5, 7]], [[3, 3]]]], dtype=torch.uint8)  # (1, 3, 1, 2), the last one constant
    statistics = torch.tensor([4.0, 6.0, 3.0]), torch.tensor([2.0, 0.5, 0.0])
    loader = make_loader(ImageSet(images, torch.tensor([0])), statistics, 1, "cpu", kind=kind, workers=0)
    for _ in range(2):  # the second time from the same, unchanged set
        ((batch, labels),) = loader
        assert batch.dtype is torch.float32
        assert labels.dtype is torch.int64
        assert batch.tolist() == [[[[-2.0, 2.0]], [[-2.0, 2.0]], [[0.0, 0.0]]]]


def test_normalized_training_set_has_mean_0_and_deviation_1() -> None:
    digits = data.digits()
    pixels = torch.cat([images for images, _ in make_loader(digits.train, digits.statistics, 100, CPU)]).double()
    assert float(pixels.mean()) == pytest.approx(0, abs=1e-6)
    assert float(pixels.std(correction=0)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_noisy_float_images_stay_what_they_are(kind: Any) -> None:
    noisy = poisson(coloured(9), scale=0.3)
    assert noisy.images.dtype is torch.float32
    before = noisy.images.clone()
    for _ in range(2):
        batches = list(make_loader(noisy, (torch.full((3,), 8.0), torch.full((3,), 2.0)), 4, CPU, kind=kind, workers=0))
        assert torch.equal(torch.cat([images for images, _ in batches]), (before - 8) / 2)
    assert torch.equal(noisy.images, before)
    flipped = torch.cat([images for images, _ in plain(noisy, 4, kind=kind, augmentation="flip")])
    assert all(
        any(torch.equal(image, other) for other in (original, original.flip(2)))
        for image, original in zip(flipped, noisy.images, strict=True)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_of_another_number_of_channels_are_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match=r"mean and deviation of 3 channels, got \(1,\) and \(1,\)"):
        make_loader(coloured(4), PLAIN, 2, CPU, kind=kind)


def test_training_batches_of_the_digits_are_shifted_anew_in_each_epoch() -> None:
    digits = data.digits()
    loader = make_loader(digits.train, PLAIN, 2000, CPU, augmentation="shift(1)", shuffle=True)
    seen = []
    for epoch in range(2):
        loader.set_epoch(epoch)
        ((images, labels),) = loader
        order = loaders._generator(loaders._ORDER, 0, epoch)
        rows = torch.randperm(1078, generator=order)
        assert torch.equal(labels, digits.train.labels[rows])
        seen.append(images[rows.argsort()])  # back in the order of the set
    assert not torch.equal(seen[0], seen[1])
    assert (seen[0] != digits.train.images.float()).flatten(1).any(1).float().mean() > 0.8  # 8 of 9 are moved


# Images that are read, of one shape or of several


def test_the_device_loader_reads_a_set_once_by_workers_or_not() -> None:
    images = coloured(600)
    for workers in (0, 2):
        lazy = Lazy(list(images.images))
        loader = plain(lazy, 100, kind="device", workers=workers)
        assert isinstance(loader, DeviceLoader)
        assert torch.equal(loader.images, images.images)
        lazy.images = []
        assert flat(labels_of(loader)) == list(range(600))


def test_many_images_are_read_at_once_where_the_set_can() -> None:
    images = coloured(10)

    class Slabs(Lazy):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            pytest.fail("read one by one")

        def read(self, rows: Tensor) -> Tensor:
            return images.images[rows]

    for kind, augmentation in itertools.product(KINDS, ("none", "flip")):
        loader = plain(Slabs(list(images.images)), 4, kind=kind, augmentation=augmentation)  # type: ignore[arg-type]
        assert flat(labels_of(loader)) == list(range(10))


def mixed() -> Lazy:
    sizes = [(20, 30), (30, 20), (25, 25), (40, 20)]
    return Lazy([torch.full((1, *size), number, dtype=torch.uint8) for number, size in enumerate(sizes)])


def test_images_of_several_shapes_are_made_alike_by_workers() -> None:
    for text, shape in (("resize(16)+center-crop(12)", (12, 12)), ("resized-crop(8)+flip", (8, 8))):
        loader = plain(mixed(), 2, augmentation=text)
        assert loader.kind == "workers"
        images, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
        assert images.shape == (4, 1, *shape)
        assert torch.equal(images, labels.float().view(4, 1, 1, 1).expand(4, 1, *shape))


def test_images_of_several_shapes_are_refused_on_the_device_and_in_one_batch() -> None:
    with pytest.raises(
        ValueError, match="no common shape and cannot be kept on the device; take kind='workers' and an"
    ):
        plain(mixed(), 2, kind="device")
    message = r"image 1 cannot be used: it has shape \(1, 30, 20\), others in its batch have \(1, 20, 30\); add an aug"
    for workers in (0, 1):
        with pytest.raises(ValueError, match=message):
            list(plain(mixed(), 2, workers=workers))
    with pytest.raises(
        ValueError, match=r"image 0 cannot be used: center-crop\(25\) is larger than the images of 20 x 30"
    ):
        list(plain(mixed(), 2, augmentation="center-crop(25)"))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_an_unreadable_file_is_named(workers: int, suffix: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"cat{number}.{suffix}" for number in range(4)]
    for path in paths:
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    assert len(list(plain_files(paths, workers))) == 2
    content = paths[2].read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"no image"):
        paths[2].write_bytes(damaged)
        images = Subset(Joined(Files(paths)), torch.tensor([3, 2, 1, 0]))
        with pytest.raises(ValueError, match=rf"cat2\.{suffix}") as error:
            list(plain_files(images, workers))
        assert "\n" not in str(error.value)
        assert str(error.value).count("cat2") == 1


def plain_files(images: Any, workers: int) -> Loader:
    images = Files(images) if isinstance(images, list) else images
    return make_loader(images, (torch.zeros(3), torch.ones(3)), 2, CPU, workers=workers)


def test_a_fault_of_the_code_keeps_its_kind() -> None:
    class Faulty(Lazy):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            raise AttributeError("misspelled")

    with pytest.raises(AttributeError, match="misspelled"):
        list(plain(Faulty(list(coloured(2).images)), 2, kind="workers"))


# The choice


def test_the_choice_goes_by_shape_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    images = coloured(100)  # 43,200 bytes
    lazy = Lazy(list(images.images))
    monkeypatch.setattr(loaders, "memory", lambda: 4 * 43_200)
    assert choose_kind(lazy, CPU) == "device"
    monkeypatch.setattr(loaders, "memory", lambda: 4 * 43_200 - 4)
    assert choose_kind(lazy, CPU) == "workers"
    assert choose_kind(images, CPU) == "device"  # it is in memory already
    assert choose_kind(mixed(), CPU) == "workers"
    cuda = torch.device("cuda")
    free: Callable[[int], Callable[[Any], tuple[int, int]]] = lambda size: lambda device: (size, 10 * size)  # noqa: E731
    monkeypatch.setattr(torch.cuda, "mem_get_info", free(2 * 43_200))
    assert choose_kind(images, cuda) == choose_kind(lazy, cuda) == "device"
    monkeypatch.setattr(torch.cuda, "mem_get_info", free(2 * 43_200 - 2))
    assert choose_kind(images, cuda) == choose_kind(lazy, cuda) == "workers"


def test_the_choice_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "memory", lambda: 0)
    lazy = Lazy(list(coloured(4).images))
    assert [plain(lazy, 2, kind=kind).kind for kind in ("auto", "device", "workers")] == [
        "workers",
        "device",
        "workers",
    ]


def test_the_memory_is_what_the_system_says() -> None:
    there = machine.memory()
    assert there is not None
    assert 2**27 < there < 2**50


def test_workers_are_as_many_as_cores_for_a_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: set(range(6)), raising=False)
    assert [loaders._worker_count(None, ranks) for ranks in (1, 2, 3, 100)] == [6, 3, 2, 1]
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    assert loaders._worker_count(None, 1) == 8
    assert loaders._worker_count(0, 1) == 0


def test_streams_of_numbers_are_apart() -> None:
    numbers = [loaders._counter(*key) for key in itertools.product(range(3), range(3), range(3), range(3))]
    assert len(set(numbers)) == 81
    assert all(0 <= number < 2**63 for number in numbers)
    bits = np.array([[number >> bit & 1 for bit in range(63)] for number in numbers])
    assert abs(float(bits.mean()) - 0.5) < 4 * math.sqrt(0.25 / bits.size)
