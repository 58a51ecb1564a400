"""Trees with one folder of image files per class, as torchvision's ``ImageFolder`` reads them.

Listed quickly, checked, decoded on demand or all at once.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from pure.data import splits
from pure.data.images import ImageSet, square
from pure.data.machine import processors, require_memory
from pure.data.splits import Splits
from pure.data.storage.decoding import decode, image_size
from pure.data.storage.files import write_atomically
from pure.wording import some

__all__ = ["FolderImages", "Unreadable", "UnreadableImageError", "image_folder", "verify"]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What counts as an image, in small or capital letters: torchvision's list."""

Unreadable = Literal["error", "skip"]

_CHUNK = 64  # images that a thread takes at a time: 20,000 tasks for ImageNet in place of 1.28 million

T = TypeVar("T")


class UnreadableImageError(OSError):
    """A file that should hold an image does not, or is damaged.  One argument, so that it passes between processes."""


class FolderImages:
    """The images of a tree ``root/<class>/.../<file>``, read and decoded on demand.

    They are listed by class and then by name, both in the order of their characters.  Hidden files and folders (a dot
    in front) and files without an image's extension are left out, as copies of trees often have them.  The
    object is small enough to be sent to worker processes: a million images are a few arrays.

    Args:
        root: the folder that holds the folders of the classes.
        classes: the names of the classes in the order of the labels, such as those of the training tree; by default
            the folders that are there, sorted.
        cache: a folder where the listing is kept.  It is used again while no folder of the tree has changed, which
            asks the file system about the folders in place of each of the files.
        progress: whether to show a bar; by default only on a terminal.

    Attributes:
        root: as given.
        classes: names of the classes.
        labels: shape ``(N,)``, int64.

    Raises:
        FileNotFoundError: there is no such folder, or no image in it.
        NotADirectoryError: it is a file.
        ValueError: images lie in it without folders for their classes, a class is empty, or its classes are others
            than ``classes``.
    """

    def __init__(
        self,
        root: Path | str,
        classes: Sequence[str] | None = None,
        *,
        cache: Path | str | None = None,
        progress: bool | None = None,
    ) -> None:
        self.root = Path(root)
        self._cache = None if cache is None else Path(cache) / f"listing-{_key(self.root)}.npz"
        found, labels, self._names, self._sizes = _list_cached(self.root, self._cache, progress)
        _require_classes(self.root, found, labels, classes)
        self.classes = tuple(found)
        self.labels = torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """An image ``(3, H, W)``, uint8, and its label.

        Raises:
            UnreadableImageError: the file is gone or damaged; it is named.
        """
        try:
            return self._decode(index), int(self.labels[index])
        except OSError as error:
            raise UnreadableImageError(
                f"cannot read {self.path(index)}: {_reason(error)}; replace the file, or go on without it by "
                "unreadable='skip' (.verify() finds all such files)"
            ) from None

    def path(self, index: int) -> Path:
        """Where an image lies."""
        return self.root / self.relative_path(index)

    def name(self, row: int) -> str:
        """What an image is called in an error: its path."""
        return str(self.path(row))

    def relative_path(self, index: int) -> str:
        """Class folder and file, with slashes."""
        return f"{self.classes[int(self.labels[index])]}/{os.fsdecode(self._names[index])}"

    def subset(self, rows: Tensor) -> Self:
        """The images of some rows, in their order, with the same classes."""
        part = object.__new__(type(self))
        part.root, part.classes, part._cache = self.root, self.classes, self._cache
        part.labels = self.labels[rows]
        part._names, part._sizes = self._names[rows.numpy()], self._sizes[rows.numpy()]
        return part

    @cached_property
    def digest(self) -> str:
        """SHA-256 over relative path and size in bytes of each file in order, the same on every machine.

        Quick: a file that was changed without changing its size goes unnoticed; :meth:`verify` finds damaged ones.
        """
        sha = hashlib.sha256()
        for index, size in enumerate(self._sizes.tolist()):
            sha.update(f"{self.relative_path(index)}\0{size}\n".encode(errors="surrogateescape"))
        return sha.hexdigest()

    @cached_property
    def shape(self) -> tuple[int, int, int] | None:
        """``(3, H, W)`` if all images are of one size, else None.  Reads headers until one differs: few, or all."""
        first: tuple[int, int] | None = None
        for size in _parallel(self._size, range(len(self)), "sizes of the images", None, None):
            first = first or size
            if size != first:
                return None
        return None if first is None else (3, *first)

    def verify(self, workers: int | None = None, progress: bool | None = None) -> dict[str, str]:
        """Read and decode every image.

        Args:
            workers: threads; by default one for each processor.
            progress: whether to show a bar; by default only on a terminal.

        Returns:
            The relative path of each image that cannot be read, with the reason; empty if all are sound.
        """
        reasons = _parallel(self._fault, range(len(self)), f"verify {self.root.name}", workers, progress)
        return {self.relative_path(i): reason for i, reason in enumerate(reasons) if reason is not None}

    def readable(self, workers: int | None = None, progress: bool | None = None) -> tuple[FolderImages, dict[str, str]]:
        """The images that can be read, and what :meth:`verify` says of the others.

        With a cache the answer is kept next to the listing, and holds as long as paths and sizes stay.

        Raises:
            ValueError: a class has no image left.
        """
        file = None if self._cache is None else self._cache.with_suffix(f".{self.digest[:16]}.json")
        if file is not None and file.is_file():
            faults: dict[str, str] = json.loads(file.read_text())
        else:
            faults = self.verify(workers, progress)
            if file is not None:
                write_atomically(file, json.dumps(faults, indent=1).encode())
        if not faults:
            return self, faults
        rows = torch.tensor([i for i in range(len(self)) if self.relative_path(i) not in faults], dtype=torch.int64)
        rest = self.subset(rows)
        if empty := sorted(set(self.labels.tolist()) - set(rest.labels.tolist())):
            raise ValueError(f"no image can be read of class {some(self.classes[i] for i in empty)} in {self.root}")
        return rest, faults

    def in_memory(self, size: int | None = None, workers: int | None = None, progress: bool | None = None) -> ImageSet:
        """All images, decoded by threads.

        Args:
            size: the side in pixels to which each image is brought, shorter side first (bilinear, antialiased), then
                the centre cut out; images of that size are left as they are.  None: they have one size already.
            workers: threads; by default one for each processor.
            progress: whether to show a bar; by default only on a terminal.

        Raises:
            ValueError: no size is given and the images differ in theirs.
            MemoryError: they take more memory than the machine has.
            UnreadableImageError: some cannot be read; they are counted and named.
        """
        try:
            shape = self.shape if size is None else (3, size, size)
        except UnreadableImageError:  # of one header: all that cannot be read are to be named
            _require_none({self.root / path: why for path, why in self.verify(workers, progress).items()}, len(self))
            raise
        if shape is None:
            raise ValueError(f"the images of {self.root} differ in size; give the side in pixels, as size=224")
        require_memory(len(self), shape)
        images = torch.empty((len(self), *shape), dtype=torch.uint8)

        def load(index: int) -> str | None:
            try:
                image = self._decode(index)
            except OSError as error:
                return _reason(error)
            images[index] = image if image.shape == shape else square(image, shape[1])
            return None

        reasons = _parallel(load, range(len(self)), f"read {self.root.name}", workers, progress)
        _require_none({self.path(i): reason for i, reason in enumerate(reasons) if reason is not None}, len(self))
        return ImageSet(images, self.labels)

    def _decode(self, index: int) -> Tensor:
        return decode(np.fromfile(self.path(index), dtype=np.uint8))

    def _size(self, index: int) -> tuple[int, int]:
        """Height and width, from the header where Pillow knows it."""
        if (size := image_size(str(self.path(index)))) is not None:
            return size
        _, height, width = self[index][0].shape  # or the error that names the file
        return height, width

    def _fault(self, index: int) -> str | None:
        try:
            self._decode(index)
        except OSError as error:
            return _reason(error)
        return None


def image_folder(
    root: Path | str,
    *,
    data_name: str | None = None,
    train: str = "train",
    validation: str | None = None,
    test: str | None = None,
    holdout: int = 0,
    split_seed: int = 0,
    size: int | None = None,
    unreadable: Unreadable = "error",
    cache: Path | str | None = None,
    progress: bool | None = None,
) -> Splits:
    """A data set that lies as class-per-folder trees: ``root/train/<class>/...`` and ``root/val`` or ``root/test``.

    Args:
        root: the folder of the trees.
        data_name: what the data set is called in records; by default the folder's name.
        train: folder of the training tree.
        validation: folder of a validation tree, for what may be looked at while training; by default none, or ``val``
            where there is a ``test`` beside it.
        test: folder of what is looked at once, at the end; by default ``test``, or ``val`` where there is no ``test``,
            as in ImageNet and Imagenette.
        holdout: number of training images to hold out as validation set, stratified, in place of a validation tree.
        split_seed: fixes which are held out.
        size: read all images into memory at this side in pixels (see :meth:`FolderImages.in_memory`), which is then
            part of the name; by default they stay on the disk and are read on demand.
        unreadable: ``"error"``, an image that cannot be read stops the run and is named; ``"skip"``, each image is
            tried once, those that cannot be read are left out from the beginning, and are counted and named.
        cache: folder where listings, and what is unreadable, are kept for the next time.
        progress: whether to show bars; by default only on a terminal.

    Raises:
        FileNotFoundError: there is no such folder, no training or test tree, or no image.
        ValueError: a class of one tree is missing in another, or has no images; two sources of a validation set; a seed
            without anything to divide.
    """
    root = Path(root)
    validation, test = _trees(root, train, validation, test)
    if holdout and validation is not None:
        raise ValueError(
            f"both a validation tree ({root / validation}) and holdout={holdout}; choose one: holdout=0, or name the "
            f"test tree alone, as test={validation!r}"
        )

    def tree(folder: str, classes: Sequence[str] | None = None) -> FolderImages:
        return FolderImages(root / folder, classes, cache=cache, progress=progress)

    training = tree(train)
    return divide(
        data_name or root.resolve().name,
        training,
        None if validation is None else tree(validation, training.classes),
        tree(test, training.classes),
        holdout=holdout,
        split_seed=split_seed,
        unreadable=unreadable,
        size=size,
        progress=progress,
    )


def verify(root: Path | str, progress: bool | None = None, **options: Any) -> str:
    """Read and decode every image of :func:`image_folder`.

    Args:
        root: as there.
        progress: whether to show bars; by default only on a terminal.
        **options: ``train``, ``validation`` and ``test`` as there.

    Returns:
        What was checked, in words.

    Raises:
        FileNotFoundError: there is no such folder, no training or test tree, or no image.
        ValueError: a class of one tree is missing in another, or has no images.
        UnreadableImageError: some images cannot be read; they are counted and named.
    """
    splits = image_folder(root, progress=progress, **options)
    return require_readable([cast(FolderImages, part) for part in splits.parts.values()], progress)


def require_readable(trees: Sequence[FolderImages], progress: bool | None = None) -> str:
    """Decode every image of some trees.  Returns what was checked, in words.

    Raises:
        UnreadableImageError: some cannot be read; they are counted and named.
    """
    faults = {tree.root / path: reason for tree in trees for path, reason in tree.verify(progress=progress).items()}
    total = sum(len(tree) for tree in trees)
    _require_none(faults, total)
    return f"{', '.join(str(tree.root) for tree in trees)}: {total:,} images, every image decoded"


def divide(
    name: str,
    train: FolderImages,
    validation: FolderImages | None,
    test: FolderImages,
    *,
    holdout: int,
    split_seed: int,
    unreadable: Unreadable,
    size: int | None,
    progress: bool | None,
    **fields: Any,
) -> Splits:
    """Trees as :class:`Splits`.

    Args:
        name: of the data set.
        train: the training tree.
        validation: a validation tree, if there is one.
        test: the test tree.
        holdout: number of images to hold out of the training tree.
        split_seed: fixes which.
        unreadable: ``"error"`` or ``"skip"``.
        size: read all into memory at this side in pixels.
        progress: whether to show bars.
        **fields: further ones of :class:`Splits`.
    """
    classes = train.classes
    rows = None
    if unreadable not in ("error", "skip"):
        raise ValueError(f"unknown unreadable={unreadable!r}; expected 'error' (stop) or 'skip' (leave them out)")
    if split_seed and not holdout:
        raise ValueError(f"split_seed={split_seed} divides nothing here: {name} comes divided; give holdout too")
    if unreadable == "skip":
        train, test = skip_unreadable(train, progress), skip_unreadable(test, progress)
        validation = None if validation is None else skip_unreadable(validation, progress)
    if holdout:
        rest, held_out = splits.holdout(train.labels, holdout, split_seed, classes)
        rows = {"train": rest, "validation": held_out, "test": torch.arange(len(test))}
        train, validation = train.subset(rest), train.subset(held_out)
    if size is None:
        return Splits(name, classes, train, validation, test, rows=rows, **fields)
    parts = (None if part is None else part.in_memory(size, progress=progress) for part in (train, validation, test))
    return Splits(f"{name}-{size}px", classes, *parts, rows=rows, **fields)  # type: ignore[arg-type, misc]


def _trees(root: Path, train: str, validation: str | None, test: str | None) -> tuple[str | None, str]:
    """The folders of the validation and of the test tree, or an error that says what is missing."""
    if not root.exists():
        raise FileNotFoundError(f"no folder {root}; expected one that holds {train}/<class>/ and test/<class>/ or val/")
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is a file; expected a folder that holds {train}/<class>/")
    there = {each for each in ("val", "test") if (root / each).is_dir()}
    if test is None:
        candidates = [each for each in ("test", "val") if each in there and each != validation]
        test = candidates[0] if candidates else "test"
        if validation is None and test == "test" and "val" in there:
            validation = "val"
    for use, folder in (("train", train), ("validation", validation), ("test", test)):
        if folder is not None and not (root / folder).is_dir():
            entries = some(sorted(each.name for each in root.iterdir()))
            raise FileNotFoundError(
                f"no folder {root / folder}; {root} holds {entries or 'nothing'}. Name the folder of the {use} tree by "
                f"{use}=..."
            )
    return validation, test


def skip_unreadable(images: FolderImages, progress: bool | None = None) -> FolderImages:
    """The images that can be read; how many cannot, and the first few by name, is said on standard error."""
    readable, faults = images.readable(progress=progress)
    if faults:
        named = some(f"{path} ({reason})" for path, reason in faults.items())
        message = f"{images.root}: left out {len(faults)} of {len(images)} images that cannot be read: {named}"
        tqdm.write(message, file=sys.stderr)  # not among what a command prints for programs
    return readable


def _require_classes(
    root: Path, found: Sequence[str], labels: NDArray[np.int64], expected: Sequence[str] | None
) -> None:
    counts = np.bincount(labels, minlength=len(found))
    if expected is not None and list(expected) != list(found):
        missing, extra = (sorted(set(a) - set(b)) for a, b in ((expected, found), (found, expected)))
        complaints = [f"lacks {len(missing)} of the training tree ({some(missing)})"] if missing else []
        complaints += [f"has {len(extra)} that the training tree lacks ({some(extra)})"] if extra else []
        raise ValueError(
            f"the classes of {root} are not those of the training tree: it {' and '.join(complaints) or 'sorts them'}; "
            "both trees need a folder for each class"
        )
    if not counts.all():
        empty = [found[i] for i in np.flatnonzero(counts == 0).tolist()]
        raise ValueError(
            f"{len(empty)} of the {len(found)} classes of {root} have no images: {some(empty)}; remove the empty "
            f"folders, or fill them (images end in {', '.join(EXTENSIONS)})"
        )


def _list_cached(
    root: Path, cache: Path | None, progress: bool | None
) -> tuple[list[str], NDArray[np.int64], NDArray[np.bytes_], NDArray[np.int64]]:
    """Classes, and label, name below the class and size of each image; from the cache while no folder has changed."""
    if cache is not None and (listing := _read_listing(root, cache)):
        return listing
    classes = _class_folders(root)
    names: list[bytes] = []
    sizes: list[int] = []
    counts: list[int] = []
    bar = tqdm(classes, desc=f"list {root.name}", unit="class", disable=None if progress is None else not progress)
    visited = [""]
    for folder in bar:
        files = sorted(_files(root / folder, "", visited, folder))
        names += [name for name, _ in files]
        sizes += [size for _, size in files]
        counts.append(len(files))
    if not names:
        raise FileNotFoundError(f"no images below {root}; expected {root}/<class>/*, ending in {', '.join(EXTENSIONS)}")
    listing = (
        classes,
        np.repeat(np.arange(len(classes), dtype=np.int64), counts),
        np.array(names, dtype=np.bytes_),
        np.array(sizes, dtype=np.int64),
    )
    if cache is not None:
        _write_listing(root, cache, visited, *listing)
    return listing


def _class_folders(root: Path) -> list[str]:
    if not root.exists():
        raise FileNotFoundError(f"no folder {root}; expected one with a folder of images for each class")
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is a file; expected a folder with a folder of images for each class")
    with os.scandir(root) as entries:
        there = [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    classes = sorted(name for name, is_folder in there if is_folder)
    if not classes:
        images = sum(name.lower().endswith(EXTENSIONS) for name, _ in there)
        raise (ValueError if images else FileNotFoundError)(
            f"{root} holds {images or 'no'} images and no folders; expected a folder of images for each class"
        )
    return classes


def _files(folder: Path, prefix: str, visited: list[str], relative: str) -> Iterator[tuple[bytes, int]]:
    """Names relative to the class, and sizes, of the images in a folder and the folders in it."""
    visited.append(relative)
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.name.lower().endswith(EXTENSIONS) and entry.is_file():
                yield os.fsencode(prefix + entry.name), entry.stat().st_size
            elif entry.is_dir(follow_symlinks=False):  # a link could lead back, and round
                yield from _files(folder / entry.name, f"{prefix}{entry.name}/", visited, f"{relative}/{entry.name}")


def _stamps(root: Path, folders: Iterable[str]) -> NDArray[np.int64]:
    """When each folder was changed: a file that comes, goes or gets another name changes its folder."""
    return np.array([os.stat(root / folder).st_mtime_ns for folder in folders], dtype=np.int64)


def _read_listing(
    root: Path, cache: Path
) -> tuple[list[str], NDArray[np.int64], NDArray[np.bytes_], NDArray[np.int64]] | None:
    try:
        with np.load(io.BytesIO(cache.read_bytes()), allow_pickle=False) as file:  # np.load leaves broken files open
            if not np.array_equal(_stamps(root, file["folders"].tolist()), file["stamps"]):
                return None
            return file["classes"].tolist(), file["labels"], file["names"], file["sizes"]
    except Exception:  # no listing, or a broken one: of whatever kind, it is made again
        return None


def _write_listing(
    root: Path,
    cache: Path,
    folders: list[str],
    classes: list[str],
    labels: NDArray[np.int64],
    names: NDArray[np.bytes_],
    sizes: NDArray[np.int64],
) -> None:
    buffer = io.BytesIO()
    stamps = _stamps(root, folders)
    np.savez(
        buffer,
        folders=np.array(folders),
        stamps=stamps,
        classes=np.array(classes),
        labels=labels,
        names=names,
        sizes=sizes,
    )
    write_atomically(cache, buffer.getvalue())


def _key(root: Path) -> str:
    return hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]


def _parallel(
    task: Callable[[int], T], rows: Sequence[int], title: str, workers: int | None, progress: bool | None
) -> Iterator[T]:
    """``task`` of each row, in order, by threads: decoders release the interpreter's lock."""
    workers = workers or processors()
    chunks = [rows[i : i + _CHUNK] for i in range(0, len(rows), _CHUNK)]
    pool = ThreadPoolExecutor(workers)
    disable = None if progress is None else not progress
    try:
        with tqdm(total=len(rows), desc=title, unit="image", disable=disable) as bar:
            for results in pool.map(lambda chunk: [task(row) for row in chunk], chunks):
                yield from results
                bar.update(len(results))
    finally:
        pool.shutdown(cancel_futures=True)  # also when the caller has seen enough


def _require_none(faults: Mapping[Path, str], total: int) -> None:
    if faults:
        named = some(f"{path} ({reason})" for path, reason in faults.items())
        raise UnreadableImageError(
            f"cannot read {len(faults):,} of {total:,} images: {named}; replace the files, or go on without them by "
            "unreadable='skip'"
        )


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).partition("\n")[0]
