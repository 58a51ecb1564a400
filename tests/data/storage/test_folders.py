"""Trees of images: what is listed, decoded, refused and named."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch._utils import ExceptionWrapper
from torchvision.datasets import ImageFolder

from pure.data.storage import folders
from pure.data.storage.folders import FolderImages, UnreadableImageError, image_folder, verify


def picture(height: int = 6, width: int = 8, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """A smooth picture, so that JPEG keeps it."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([20 * x + seed, 25 * y, 10 * (x + y)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def write(path: Path, image: Image.Image | None = None, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or picture()).save(path, **options)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes in training and test tree, 4 + 2 and 2 + 1 images; one file is damaged by none."""
    for part, per_class in (("train", (4, 2)), ("val", (2, 1))):
        for name, number in zip(("cat", "dog"), per_class, strict=True):
            for i in range(number):
                write(tmp_path / "pets" / part / name / f"{i}.png", picture(seed=10 * i))
    return tmp_path / "pets"


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


# Listing


def test_lists_what_torchvision_lists(tree: Path) -> None:
    write(tree / "train" / "cat" / "more" / "deep" / "9.JPEG")
    write(tree / "train" / "dog" / "A.Jpg")
    ours, theirs = FolderImages(tree / "train"), ImageFolder(tree / "train")
    assert [(str(ours.path(i)), ours[i][1]) for i in range(len(ours))] == sorted(
        theirs.samples, key=lambda s: (s[1], s[0])
    )
    assert ours.classes == tuple(theirs.classes) == ("cat", "dog")
    assert ours.labels.tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert ours.relative_path(4) == "cat/more/deep/9.JPEG"
    for i, (path, _) in enumerate(sorted(theirs.samples, key=lambda s: (s[1], s[0]))):
        assert torch.equal(ours[i][0], torch.from_numpy(np.array(theirs.loader(path))).permute(2, 0, 1))


def test_hidden_and_other_files_are_no_images(tree: Path) -> None:
    for name in ("cat/._0.png", "cat/Thumbs.db", ".ipynb_checkpoints/0.png", "readme.txt"):
        (tree / "train" / name).parent.mkdir(exist_ok=True)
        (tree / "train" / name).write_bytes(b"no image")
    assert len(FolderImages(tree / "train")) == 6
    assert FolderImages(tree / "train").verify() == {}


def test_a_link_to_a_class_is_followed_and_a_circle_is_not(tree: Path, tmp_path: Path) -> None:
    (tree / "train" / "dog").rename(tmp_path / "elsewhere")
    (tree / "train" / "dog").symlink_to(tmp_path / "elsewhere")
    (tree / "train" / "cat" / "round").symlink_to(tree / "train" / "cat")
    assert FolderImages(tree / "train").labels.tolist() == [0, 0, 0, 0, 1, 1]


def test_digest_is_of_relative_paths_and_sizes(tree: Path, tmp_path: Path) -> None:
    before = FolderImages(tree / "train").digest
    tree.rename(tmp_path / "moved")
    moved = FolderImages(tmp_path / "moved" / "train")
    assert moved.digest == before
    assert moved.subset(torch.tensor([0, 1, 2])).digest != before
    moved.path(0).rename(moved.path(0).with_name("00.png"))
    renamed = FolderImages(moved.root).digest
    assert renamed != before
    with moved.path(1).open("ab") as file:
        file.write(b"\0")
    assert FolderImages(moved.root).digest not in (before, renamed)


def test_listing_is_kept_until_a_folder_changes(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = FolderImages(tree / "train", cache=tmp_path / "cache")
    (cache,) = (tmp_path / "cache").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(folders, "_files", lambda *_: pytest.fail("listed again"))
        again = FolderImages(tree / "train", cache=tmp_path / "cache")
    assert (again.digest, again.classes, again.labels.tolist()) == (first.digest, first.classes, first.labels.tolist())
    write(tree / "train" / "dog" / "deeper" / "7.png")
    assert len(FolderImages(tree / "train", cache=tmp_path / "cache")) == 7
    write(tree / "train" / "dog" / "deeper" / "8.png")
    os.utime(tree / "train" / "dog" / "deeper", ns=(1, 1))  # whatever the clock's grain
    assert len(FolderImages(tree / "train", cache=tmp_path / "cache")) == 8
    write(tree / "train" / "emu" / "0.png")
    assert FolderImages(tree / "train", cache=tmp_path / "cache").classes == ("cat", "dog", "emu")
    cache.write_bytes(cache.read_bytes()[:100])  # a broken listing is made again
    assert len(FolderImages(tree / "train", cache=tmp_path / "cache")) == 9


def test_many_images_are_small_to_send(tree: Path) -> None:
    images = FolderImages(tree / "train")
    copy = pickle.loads(pickle.dumps(images.subset(torch.arange(6).repeat(1000))))
    assert (len(copy), copy.name(5999)) == (6000, str(tree / "train" / "dog" / "1.png"))
    assert len(pickle.dumps(copy)) < 6000 * 40


# An unreadable image among good ones


def test_unreadable_image_is_named_when_asked_for(tree: Path) -> None:
    damage(tree / "train" / "cat" / "2.png")
    images = FolderImages(tree / "train")
    assert images[1][0].shape == (3, 6, 8)
    with pytest.raises(UnreadableImageError, match=rf"cannot read {tree}/train/cat/2\.png: .*unreadable='skip'"):
        images[2]
    (tree / "train" / "cat" / "3.png").unlink()
    with pytest.raises(UnreadableImageError, match=r"cat/3\.png: No such file or directory; replace the file"):
        images[3]


def test_unreadable_image_is_named_by_a_worker(tree: Path) -> None:
    damage(tree / "train" / "cat" / "2.png")
    try:
        FolderImages(tree / "train")[2]
    except UnreadableImageError:
        sent = pickle.dumps(ExceptionWrapper(where="in a worker"))  # as DataLoader does, whose workers take 5 s to die
    with pytest.raises(UnreadableImageError, match=r"train/cat/2\.png"):
        pickle.loads(sent).reraise()


def test_all_unreadable_images_are_counted(tree: Path) -> None:
    for name in ("cat/2.png", "dog/0.png"):
        damage(tree / "train" / name)
    (tree / "val" / "cat" / "0.png").write_bytes(b"")
    faults = FolderImages(tree / "train").verify()
    assert list(faults) == ["cat/2.png", "dog/0.png"]
    assert all(faults.values())
    (tree / "train" / "dog" / "0.png").write_bytes(b"hello")
    assert FolderImages(tree / "train").verify()["dog/0.png"] == "it is not an image (5 bytes)"
    with pytest.raises(UnreadableImageError, match=r"cannot read 2 of 6 images: .*cat/2\.png \(.*dog/0\.png \("):
        FolderImages(tree / "train").in_memory()
    with pytest.raises(
        UnreadableImageError, match=r"cannot read 3 of 9 images: .*cat/2\.png .*dog/0\.png .*cat/0\.png"
    ):
        verify(tree)


def test_sound_trees_are_said_to_be(tree: Path) -> None:
    assert verify(tree) == f"{tree}/train, {tree}/val: 9 images, every image decoded"


def test_unreadable_images_are_skipped_when_told_to(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(tree / "train" / "cat" / "2.png")
    splits = image_folder(tree, unreadable="skip", cache=tmp_path / "cache")
    assert splits.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert splits.train[2][0][0, 0, 0] == 30  # the fourth of the files
    assert len(splits.test) == 3
    assert f"{tree}/train: left out 1 of 6 images that cannot be read: cat/2.png (" in capsys.readouterr().err
    monkeypatch.setattr(FolderImages, "verify", lambda *_: pytest.fail("tried again"))
    assert len(image_folder(tree, unreadable="skip", cache=tmp_path / "cache").train) == 5


def test_class_without_a_readable_image_is_an_error(tree: Path) -> None:
    damage(tree / "val" / "dog" / "0.png")
    with pytest.raises(ValueError, match=rf"no image can be read of class dog in {tree}/val"):
        image_folder(tree, unreadable="skip")


# In memory


def test_images_of_one_size_are_kept_as_they_are(tree: Path) -> None:
    images = FolderImages(tree / "train")
    assert images.shape == (3, 6, 8)
    memory = images.in_memory()
    assert memory.images.shape == (6, 3, 6, 8)
    assert all(torch.equal(memory.images[i], images[i][0]) for i in range(6))
    assert torch.equal(memory.labels, images.labels)


def test_images_of_several_sizes_need_one(tree: Path) -> None:
    write(tree / "train" / "dog" / "wide.png", picture(16, 40))
    images = FolderImages(tree / "train")
    assert images.shape is None
    with pytest.raises(ValueError, match=r"differ in size; give the side in pixels, as size=224"):
        images.in_memory()
    memory = images.in_memory(4)
    assert memory.images.shape == (7, 3, 4, 4)


def test_size_scales_the_shorter_side_and_keeps_the_centre(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.arange(40, dtype=np.uint8)[None, :, None] * 4, (16, 40, 3))
    write(tmp_path / "cat" / "0.png", Image.fromarray(ramp))
    # To 4 x 10: each pixel stands for four, whose mean it is (of a ramp, also under the wider antialiasing filter):
    # 4 * (4 * column + 1.5).  Columns 3 to 6 are the centre.
    expected = torch.tensor([4 * (4 * column + 1.5) for column in (3, 4, 5, 6)])
    image = FolderImages(tmp_path).in_memory(4).images[0]
    assert torch.allclose(image.float(), expected.expand(3, 4, 4), atol=1)


def test_too_large_for_the_memory(tree: Path) -> None:
    with pytest.raises(MemoryError, match=r"6 images of 1000000 x 1000000 pixels take 16763\.8 GiB, the machine has"):
        FolderImages(tree / "train").in_memory(1_000_000)


# Trees as a data set


def test_train_and_val_are_training_and_test_set(tree: Path) -> None:
    splits = image_folder(tree)
    assert (splits.name, splits.classes) == ("pets", ("cat", "dog"))
    assert (len(splits.train), splits.validation, len(splits.test)) == (6, None, 3)
    assert image_folder(tree, data_name="zoo").name == "zoo"


def test_val_beside_test_is_the_validation_set(tree: Path) -> None:
    for name in ("cat", "dog"):
        write(tree / "test" / name / "0.png")
    splits = image_folder(tree)
    assert [len(part) for part in splits.parts.values()] == [6, 3, 2]
    splits = image_folder(tree, test="val")
    assert (splits.validation, len(splits.test)) == (None, 3)


def test_held_out_images_are_no_longer_trained_on(tree: Path) -> None:
    splits = image_folder(tree, holdout=3, split_seed=1)
    assert splits.rows is not None
    assert sorted([*splits.rows["train"].tolist(), *splits.rows["validation"].tolist()]) == list(range(6))
    assert sorted(splits.validation.labels.tolist()) == [0, 0, 1]
    source = FolderImages(tree / "train")
    for part, rows in ((splits.train, splits.rows["train"]), (splits.validation, splits.rows["validation"])):
        assert [part.name(i) for i in range(len(part))] == [source.name(row) for row in rows.tolist()]
    assert image_folder(tree, holdout=3, split_seed=1).fingerprint == splits.fingerprint
    assert image_folder(tree, holdout=3, split_seed=2).fingerprint != splits.fingerprint


def test_size_reads_into_memory_and_is_part_of_the_name(tree: Path) -> None:
    splits = image_folder(tree, size=4, holdout=2)
    assert splits.name == "pets-4px"
    assert [tuple(part.images.shape) for part in splits.parts.values()] == [(4, 3, 4, 4), (2, 3, 4, 4), (3, 3, 4, 4)]


def test_statistics_are_of_the_training_tree(tree: Path) -> None:
    mean, _ = image_folder(tree).statistics
    expected = torch.stack([FolderImages(tree / "train")[i][0].double() for i in range(6)]).mean((0, 2, 3))
    assert torch.allclose(mean.double(), expected)


# What is refused


def test_missing_trees_are_errors(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=rf"no folder {tmp_path}/nowhere; expected one that holds train/<class>/"
    ):
        image_folder(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match=r"0\.png is a file"):
        image_folder(tree / "train" / "cat" / "0.png")
    with pytest.raises(FileNotFoundError, match=r"pets/training; .* holds train, val\. .* the train tree by train="):
        image_folder(tree, train="training")
    (tree / "val").rename(tree / "held")
    with pytest.raises(FileNotFoundError, match=r"pets/test; .* holds held, train\. .* the test tree by test="):
        image_folder(tree)
    assert len(image_folder(tree, test="held").test) == 3
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere; expected one with a folder of images"):
        FolderImages(tree / "nowhere")


def test_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"holds no images and no folders; expected a folder of images for each"
    ):
        FolderImages(tmp_path)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("none")
    with pytest.raises(FileNotFoundError, match=rf"no images below {tmp_path}; expected .*<class>/\*, ending in \.jpg"):
        FolderImages(tmp_path)


def test_images_without_folders_for_their_classes(tmp_path: Path) -> None:
    write(tmp_path / "0.png")
    with pytest.raises(ValueError, match=r"holds 1 images and no folders; expected a folder of images for each class"):
        FolderImages(tmp_path)


def test_classes_have_to_agree(tree: Path) -> None:
    write(tree / "val" / "emu" / "0.png")
    with pytest.raises(ValueError, match=r"val are not .*: it has 1 that the training tree lacks \(emu\)"):
        image_folder(tree)
    (tree / "val" / "cat").rename(tree / "kept")
    with pytest.raises(ValueError, match=r"lacks 1 of the training tree \(cat\) and has 1 .* \(emu\)"):
        image_folder(tree)
    (tree / "val" / "emu").rename(tree / "gone")
    with pytest.raises(ValueError, match=r"val are not .*: it lacks 1 of the training tree \(cat\); both trees need"):
        image_folder(tree)


def test_empty_classes_are_named(tree: Path) -> None:
    (tree / "train" / "emu").mkdir()
    with pytest.raises(ValueError, match=r"1 of the 3 classes of .*train have no images: emu; remove the empty"):
        image_folder(tree)


def test_long_lists_are_cut(tree: Path) -> None:
    for i in range(8):
        (tree / "train" / f"empty{i}").mkdir()
    with pytest.raises(ValueError, match=r"no images: empty0, empty1, empty2, empty3, empty4 and 3 more; remove"):
        image_folder(tree)


def test_wrong_options(tree: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown unreadable='ignore'; expected 'error' \(stop\) or 'skip'"):
        image_folder(tree, unreadable="ignore")
    with pytest.raises(ValueError, match=r"split_seed=3 divides nothing here: pets comes divided; give holdout too"):
        image_folder(tree, split_seed=3)
    for name in ("cat", "dog"):
        write(tree / "test" / name / "0.png")
    with pytest.raises(ValueError, match=r"both a validation tree \(.*val\) and holdout=2; choose one"):
        image_folder(tree, holdout=2)
