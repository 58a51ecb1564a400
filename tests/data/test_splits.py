"""Images in memory, joined and chosen; their division, statistics, fingerprint, and the division written down."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pure.data import images as image_sets
from pure.data import splits as module
from pure.data.images import Images, ImageSet, Joined, Subset, name_of, read, select
from pure.data.splits import Splits, grouped_split, holdout, read_split, stratified_split

LABELS = torch.tensor([0] * 100 + [1] * 40 + [2] * 20)


class Lazy:
    """Images that are not in memory, as far as anyone can tell; without ``read`` and ``name``."""

    def __init__(self, images: list[Tensor], labels: Tensor, digest: str = "lazy") -> None:
        self.images, self.labels, self.digest = images, labels, digest
        self.shape = tuple(images[0].shape) if len({image.shape for image in images}) == 1 else None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])


def random_set(n: int, seed: int = 0, classes: int = 2, shape: tuple[int, int, int] = (3, 4, 5)) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.arange(n) % classes)


# Sets of images


def test_image_set_gives_image_and_label() -> None:
    images = random_set(5)
    assert isinstance(images, Images)
    assert len(images) == 5
    assert images.shape == (3, 4, 5)
    image, label = images[3]
    assert torch.equal(image, images.images[3])
    assert label == 1
    assert type(label) is int
    assert torch.equal(images.read(torch.tensor([4, 0])), images.images[[4, 0]])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), r"got \(2, 4, 4\) torch.uint8"),
        (torch.zeros(2, 1, 4, 4), torch.zeros(3, dtype=torch.int64), r"expected labels \(2,\), int64, .*, got \(3,\)"),
        (torch.zeros(2, 1, 4, 4), torch.zeros(2), r"got \(2,\) torch.float32"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.int32), torch.zeros(2, dtype=torch.int64), "uint8 or float32, got"),
    ],
)
def test_image_set_refuses_other_shapes_and_types(images: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageSet(images, labels)


def test_digest_of_an_image_set_changes_with_one_pixel_and_with_one_label() -> None:
    one = random_set(5)
    assert ImageSet(one.images.clone(), one.labels.clone()).digest == one.digest
    pixel, label = one.images.clone(), one.labels.clone()
    pixel[4, 2, 3, 4] += 1
    label[0] = 1
    assert len({one.digest, ImageSet(pixel, one.labels).digest, ImageSet(one.images, label).digest}) == 3
    assert ImageSet(one.images.float(), one.labels).digest != one.digest


def test_joined_sets_are_read_one_behind_the_other() -> None:
    first, second = random_set(3, 1), random_set(4, 2)
    lazy = Lazy(list(second.images), second.labels)
    joined = Joined(first, lazy)
    whole = torch.cat([first.images, second.images])
    assert isinstance(joined, Images)
    assert len(joined) == 7
    assert joined.shape == (3, 4, 5)
    assert joined.labels.tolist() == [0, 1, 0, 0, 1, 0, 1]
    assert all(torch.equal(joined[row][0], whole[row]) for row in range(7))
    assert torch.equal(joined[-1][0], whole[6])
    rows = torch.tensor([6, 0, 3, 2, 0])
    assert torch.equal(read(joined, rows), whole[rows])
    for outside in (7, -8):
        with pytest.raises(IndexError, match=f"row {outside} of 7 images"):
            joined[outside]


def test_joined_sets_of_several_shapes_have_none_and_nothing_cannot_be_joined() -> None:
    joined = Joined(random_set(2), random_set(2, shape=(3, 5, 5)))
    assert joined.shape is None
    assert joined[2][0].shape == (3, 5, 5)
    with pytest.raises(ValueError, match="at least one set"):
        Joined()


def test_subset_gives_the_rows_in_their_order() -> None:
    images = random_set(6)
    rows = torch.tensor([5, 1, 1])
    chosen = Subset(Joined(images), rows)
    assert isinstance(chosen, Images)
    assert chosen.labels.tolist() == [1, 1, 1]
    assert torch.equal(chosen[0][0], images.images[5])
    assert torch.equal(chosen.read(torch.tensor([2, 0])), images.images[[1, 5]])
    assert isinstance(select(images, rows), ImageSet)
    assert isinstance(select(Joined(images), rows), Subset)
    assert torch.equal(select(images, rows).images, images.images[rows])  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [[0, 6], [-1, 2]])
def test_rows_of_another_set_are_refused(rows: list[int]) -> None:
    with pytest.raises(ValueError, match=f"rows from 0 to 5, got {rows[0]} to {rows[1]}: they belong to another set"):
        select(random_set(6), torch.tensor(rows))


def test_digests_of_joined_and_chosen_sets_depend_on_parts_rows_and_order() -> None:
    one, two = random_set(3, 1), random_set(3, 2)
    digests = [
        Joined(one, two).digest,
        Joined(two, one).digest,
        Subset(one, torch.tensor([0, 1])).digest,
        Subset(one, torch.tensor([1, 0])).digest,
        Subset(two, torch.tensor([0, 1])).digest,
    ]
    assert len(set(digests)) == 5
    assert Subset(one, torch.tensor([0, 1])).digest == digests[2]
    assert Joined(one, two).digest == digests[0]


def test_a_name_is_found_through_joined_and_chosen_sets() -> None:
    class Files(Lazy):
        def name(self, row: int) -> str:
            return f"cat{row}.jpg"

    pixels = random_set(3)
    joined = Joined(pixels, Files(list(pixels.images), pixels.labels))
    assert name_of(joined, 4) == "cat1.jpg"
    assert name_of(Subset(joined, torch.tensor([5, 0])), 0) == "cat2.jpg"
    assert name_of(joined, 1) == "image 1"


# Statistics


def numpys(images: Tensor) -> tuple[list[float], list[float]]:
    pixels = images.numpy().astype(np.float64)
    return pixels.mean((0, 2, 3)).tolist(), pixels.std((0, 2, 3)).tolist()


@pytest.mark.parametrize("make", [lambda s: s, lambda s: Joined(s), lambda s: Lazy(list(s.images), s.labels)])
@pytest.mark.parametrize("chunk", [1, 200, 10**9])
def test_statistics_are_numpys_in_chunks_of_any_size(
    make: Callable[[ImageSet], Images], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_sets, "_CHUNK_BYTES", chunk)
    images = random_set(11)
    mean, std = Splits("a", ("b", "c"), make(images), None, random_set(1)).statistics
    assert mean.dtype is torch.float32
    assert (mean.tolist(), std.tolist()) == tuple(map(lambda x: pytest.approx(x, rel=1e-6), numpys(images.images)))


def test_rows_are_read_in_pieces_of_64_megabytes_whatever_the_images() -> None:
    class Large:
        shape = (3, 1200, 1200)  # 4.32 MB each

        def __len__(self) -> int:
            return 40

    pieces = image_sets.rows_in_chunks(Large())  # type: ignore[arg-type]
    assert [len(rows) for rows in pieces] == [15, 15, 10]
    assert torch.cat(pieces).tolist() == list(range(40))
    assert [len(rows) for rows in image_sets.rows_in_chunks(random_set(11), most=4)] == [4, 4, 3]


def test_statistics_of_float_images_and_of_images_of_several_shapes() -> None:
    pixels = random_set(4).images.float() / 3
    mean, std = Splits("a", ("b",), ImageSet(pixels, torch.zeros(4, dtype=torch.int64)), None, random_set(1)).statistics
    assert (mean.tolist(), std.tolist()) == tuple(map(lambda x: pytest.approx(x, rel=1e-6), numpys(pixels)))
    mixed = Lazy(
        [torch.full((1, 1, 2), 10, dtype=torch.uint8), torch.full((1, 3, 2), 20, dtype=torch.uint8)], LABELS[:2]
    )
    mean, std = Splits("a", ("b",), mixed, None, random_set(1)).statistics
    assert mean.tolist() == [17.5]  # two pixels of 10, six of 20
    assert std.item() == pytest.approx(math.sqrt(0.25 * 7.5**2 + 0.75 * 2.5**2))


def test_statistics_of_each_channel_over_the_training_set_alone() -> None:
    images = torch.tensor([[[[0, 2]], [[10, 10]]], [[[4, 2]], [[30, 30]]]], dtype=torch.uint8)  # (2, 2, 1, 2)
    part = ImageSet(images, torch.tensor([0, 1]))
    elsewhere = ImageSet(images + 100, torch.tensor([0, 1]))
    mean, std = Splits("two", ("a", "b"), part, elsewhere, elsewhere).statistics
    assert mean.tolist() == [2.0, 20.0]
    assert std.tolist() == pytest.approx([math.sqrt(2), 10.0])


def test_a_constant_channel_has_no_deviation() -> None:
    images = ImageSet(torch.full((7, 1, 3, 3), 77, dtype=torch.uint8), torch.zeros(7, dtype=torch.int64))
    mean, std = Splits("flat", ("a",), images, None, images).statistics
    assert (mean.tolist(), std.tolist()) == ([77.0], [0.0])


def test_fixed_normalization_is_taken_and_the_training_set_not_read() -> None:
    class Unread(Lazy):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            pytest.fail("it was read")

    pixels = random_set(2)
    fixed = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0, 6.0])
    train = Unread(list(pixels.images), pixels.labels)
    assert Splits("a", ("b",), train, None, pixels, normalization=fixed).statistics is fixed


# Fingerprint


def test_fingerprint_is_over_the_pixels_in_memory_and_over_digests_otherwise() -> None:
    train, test = random_set(3, 1), random_set(2, 2)
    in_memory = Splits("a", ("b",), train, None, test)
    assert in_memory.fingerprint != Splits("a", ("b",), test, None, train).fingerprint
    assert in_memory.fingerprint != Splits("a", ("b",), train, test, test).fingerprint
    lazy = [Lazy(list(train.images), train.labels, digest) for digest in ("one", "one", "other")]
    one, again, other = (Splits("a", ("b",), part, None, test).fingerprint for part in lazy)
    assert one == again != other
    assert one != in_memory.fingerprint


def test_parts_are_those_that_there_are() -> None:
    train, test = random_set(3), random_set(2)
    assert list(Splits("a", ("b",), train, None, test).parts) == ["train", "test"]
    assert list(Splits("a", ("b",), train, test, test).parts) == ["train", "validation", "test"]


# The division written down


def divided(source: Images, seed: int = 0) -> Splits:
    rows = dict(
        zip(("train", "validation", "test"), stratified_split(source.labels, (0.6, 0.2, 0.2), seed), strict=True)
    )
    return Splits("made up", ("a", "b"), *(select(source, part) for part in rows.values()), white=99, rows=rows)


@pytest.mark.parametrize("make", [lambda s: s, lambda s: Lazy(list(s.images), s.labels)])
def test_a_written_division_is_read_as_it_was(make: Callable[[ImageSet], Images], tmp_path: Path) -> None:
    first = divided(make(random_set(40)))
    path = tmp_path / "below" / "split.json"
    first.write(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["split.json"]
    written = read_split(path)
    assert written.fingerprint == first.fingerprint
    assert written.digest == {name: part.digest for name, part in first.parts.items()}
    assert all(torch.equal(written.rows[name], first.rows[name]) for name in first.rows)  # type: ignore[index, union-attr]
    assert all(map(torch.equal, (written.mean, written.std), first.statistics))
    assert written.check(first) is first


def test_a_division_without_validation_set_or_rows_is_written_too(tmp_path: Path) -> None:
    train, test = random_set(4, 1), random_set(2, 2)
    splits = Splits("comes divided", ("a", "b"), train, None, test)
    splits.write(tmp_path / "split.json")
    written = read_split(tmp_path / "split.json")
    assert written.rows is None
    assert written.check(splits) is splits


def test_another_source_is_refused(tmp_path: Path) -> None:
    source = random_set(40)
    first = divided(source)
    first.write(tmp_path / "split.json")
    written = read_split(tmp_path / "split.json")
    pixels = source.images.clone()
    pixels[first.rows["test"][0]] += 1  # type: ignore[index]
    with pytest.raises(ValueError, match=r"'made up' is not the one that .*split.json divides: test differ"):
        written.check(divided(ImageSet(pixels, source.labels)))
    with pytest.raises(ValueError, match="train, validation, test differ"):
        written.check(divided(source, seed=1))
    with pytest.raises(ValueError, match="divides data set 'made up', not 'another'"):
        written.check(dataclasses.replace(first, name="another"))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"rows": 3}', '{"rows": {"train": ["a"]}}'])
def test_a_damaged_division_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(
        ValueError, match=r"split.json is not a written split \(.*\); move it elsewhere to divide again"
    ):
        read_split(path)


def test_a_division_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_split("nowhere.json")


def test_a_crash_leaves_the_old_division_and_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(source: str, target: Path) -> None:
        raise OSError("disk full")

    path = tmp_path / "split.json"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="disk full"):
        divided(random_set(40)).write(path)
    assert {entry.name: entry.read_text() for entry in tmp_path.iterdir()} == {"split.json": "old"}


def test_a_written_division_is_plain_json(tmp_path: Path) -> None:
    first = divided(random_set(40))
    first.write(tmp_path / "split.json")
    content = json.loads((tmp_path / "split.json").read_text())
    assert content["rows"]["test"] == first.rows["test"].tolist()  # type: ignore[index]
    assert torch.tensor(content["mean"]).equal(first.statistics[0])


# The division


def test_stratified_split_is_disjoint_complete_and_keeps_the_shares() -> None:
    labels = LABELS[torch.randperm(160)]
    split = stratified_split(labels, (0.5, 0.25, 0.25), seed=3)
    assert torch.cat(split).sort().values.tolist() == list(range(160))
    assert [labels[rows].bincount().tolist() for rows in split] == [[50, 20, 10], [25, 10, 5], [25, 10, 5]]
    for rows in split:
        assert rows.dtype is torch.int64
        assert rows.tolist() == sorted(rows.tolist())


def test_stratified_split_is_seeded() -> None:
    labels = torch.arange(2).repeat(50)
    first, again, other = (stratified_split(labels, (0.6, 0.2, 0.2), seed) for seed in (0, 0, 1))
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize(
    "fractions",
    [(0.6, 0.2, 0.1), (0.8, 0.2, 0.0), (1.2, -0.1, -0.1), (0.5, 0.5), (0.4, 0.2, 0.2, 0.2), (math.nan, 0.5, 0.5)],
)
def test_fractions_that_are_no_shares_are_refused(fractions: tuple[float, ...]) -> None:
    labels = torch.arange(2).repeat(50)
    with pytest.raises(ValueError, match="expected three positive fractions that add up to 1, got"):
        stratified_split(labels, fractions, 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected three positive fractions that add up to 1, got"):
        grouped_split(labels, torch.arange(100), fractions, 0)  # type: ignore[arg-type]


def test_a_class_of_one_image_cannot_be_divided() -> None:
    labels = torch.tensor([0] * 50 + [1])
    with pytest.raises(ValueError, match=r"1 of 2 classes have too few images to be in training.*: 1 \(1\); 5 of each"):
        stratified_split(labels, (0.6, 0.2, 0.2), 0)
    with pytest.raises(ValueError, match="class 1 lies in fewer than three groups"):
        grouped_split(labels, torch.arange(51), (0.6, 0.2, 0.2), 0)


def test_groups_stay_together_and_every_class_keeps_its_share() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = LABELS.repeat(10)
    groups = torch.arange(1600)
    pairs = torch.randperm(1600, generator=generator)[:200].view(100, 2)  # as in Galaxy10: pairs of any two classes
    groups[pairs[:, 1]] = groups[pairs[:, 0]]
    split = grouped_split(labels, groups, (0.8, 0.1, 0.1), seed=5)
    assert torch.cat(split).sort().values.tolist() == list(range(1600))
    members = [set(groups[rows].tolist()) for rows in split]
    assert not members[0] & members[1]
    assert not members[0] & members[2]
    assert not members[1] & members[2]
    for rows, share in zip(split, (0.8, 0.1, 0.1), strict=True):
        assert rows.dtype is torch.int64
        assert rows.tolist() == sorted(rows.tolist())
        assert (labels[rows].bincount() - share * labels.bincount()).abs().max() <= 2


def test_pairs_are_divided_in_proportion_too() -> None:
    labels = torch.zeros(2000, dtype=torch.int64)
    groups = torch.cat([torch.arange(200).repeat(2), torch.arange(200, 1800)])  # 200 pairs, then single rows
    split = grouped_split(labels, groups, (0.8, 0.1, 0.1), seed=0)
    assert [int((rows < 400).sum()) // 2 for rows in split] == [160, 20, 20]


@pytest.mark.parametrize("seed", range(5))
def test_large_groups_come_first_so_that_small_ones_make_up_for_them(seed: int) -> None:
    labels = torch.zeros(200, dtype=torch.int64)
    groups = torch.cat([torch.arange(110), torch.full((90,), 110)])
    split = grouped_split(labels, groups, (0.5, 0.25, 0.25), seed)
    assert [len(rows) for rows in split] == [100, 50, 50]


def test_groups_of_one_row_are_divided_as_a_stratified_split_does() -> None:
    split = grouped_split(LABELS, torch.arange(160), (0.5, 0.25, 0.25), seed=3)
    assert [LABELS[rows].bincount().tolist() for rows in split] == [[50, 20, 10], [25, 10, 5], [25, 10, 5]]


def test_every_row_is_as_likely_in_the_test_set() -> None:
    """Over 400 seeds, a row of a quarter of the set is there 100 times, give or take sqrt(400 / 4 * 3 / 4) = 8.7."""
    times = torch.zeros(160)
    for seed in range(400):
        times[grouped_split(LABELS, torch.arange(160), (0.5, 0.25, 0.25), seed)[2]] += 1
    assert float((times - 100).abs().max()) < 4.5 * 8.7
    assert times.sum() == 400 * 40


def test_large_groups_are_divided_about_by_the_fractions() -> None:
    labels = torch.arange(4).repeat(250)
    groups = torch.arange(1000) // 20  # fifty groups of twenty, each with five images of each class
    split = grouped_split(labels, groups, (0.6, 0.2, 0.2), seed=0)
    assert [len(rows) for rows in split] == [600, 200, 200]
    assert [len(set(groups[rows].tolist())) for rows in split] == [30, 10, 10]


def test_grouped_split_is_seeded() -> None:
    groups = torch.arange(160) // 2
    first, again, other = (grouped_split(LABELS, groups, (0.6, 0.2, 0.2), seed) for seed in (0, 0, 1))
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], other[0])


def test_grouped_split_wants_a_group_for_each_label() -> None:
    with pytest.raises(ValueError, match=r"a group for each of the 160 labels, got \(159,\)"):
        grouped_split(LABELS, torch.arange(159), (0.6, 0.2, 0.2), 0)


def test_holdout_is_disjoint_complete_seeded_and_keeps_the_shares() -> None:
    rest, held_out = holdout(LABELS, 16, seed=1)
    assert torch.cat([rest, held_out]).sort().values.tolist() == list(range(160))
    assert LABELS[held_out].bincount().tolist() == [10, 4, 2]
    assert held_out.tolist() == sorted(held_out.tolist())
    assert torch.equal(holdout(LABELS, 16, seed=1)[1], held_out)
    assert not torch.equal(holdout(LABELS, 16, seed=2)[1], held_out)


@pytest.mark.parametrize("number", [0, 2, 158, 1000])
def test_holdout_leaves_every_class_on_both_sides(number: int) -> None:
    with pytest.raises(ValueError, match=f"cannot hold out {number} of 160 images: 3 classes need from 3 to 157"):
        holdout(LABELS, number, 0)


def test_classes_too_small_to_be_divided_are_named_with_their_count_and_the_number_needed() -> None:
    counts = {"large": 100, "six": 6, "seven": 7, "two": 2}
    labels = torch.arange(4).repeat_interleave(torch.tensor(list(counts.values())))
    message = (
        r"3 of 4 classes have too few images to be in training, validation and test set: two \(2\), six \(6\), "
        r"seven \(7\); 10 of each are needed"
    )
    with pytest.raises(ValueError, match=message):
        stratified_split(labels, (0.8, 0.1, 0.1), 0, tuple(counts))
    with pytest.raises(ValueError, match=r"2 of 3 classes .* the other 98: two \(2\), seven \(7\); 10 of each"):
        holdout(labels[labels != 1].clone(), 11, 0, ("large", "", "seven", "two"))


@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.1), (0.6, 0.2, 0.2), (0.75, 0.15, 0.1), (0.1, 0.45, 0.45)])
def test_the_number_needed_is_enough_whatever_the_other_classes(fractions: tuple[float, float, float]) -> None:
    needed = module._enough(fractions)
    generator = torch.Generator().manual_seed(0)
    for seed in range(50):
        others = torch.randint(needed, 5 * needed, (4,), generator=generator)
        labels = torch.arange(5).repeat_interleave(torch.cat([torch.tensor([needed]), others]))
        assert all(len(labels[part].unique()) == 5 for part in stratified_split(labels, fractions, seed))
