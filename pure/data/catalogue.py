"""What each data set is: the one source for the registry, the command ``python -m pure.data`` and the pages."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pure.wording import did_you_mean

if TYPE_CHECKING:
    from pure.data.splits import Splits

__all__ = ["CATALOGUE", "Description", "describe"]


@dataclass(frozen=True)
class Description:
    """A data set, before it is read.

    Attributes:
        name: as :func:`pure.data.load` knows it.
        title: as people know it.
        content: one sentence.
        licence: under which terms it may be used.
        homepage: where it comes from.
        citation: its key in the book's bibliography.
        classes: number of classes; None if it depends on the files.
        images: number of images; None if it depends on the files or the options.
        size: bytes, as published, packed; None if it depends on the files or the options.
        loader: ``module:function`` that reads it; imported on demand.
        places: patterns of files below the root, any of which says that it is there; an absolute one stands for
            itself.  Without any, it needs no file.
        download: ``module:function`` that gets it; called with the root.
        by_hand: how to get it where there is no download.
        verify: ``module:function`` that reads and checks every file, called with the root, and with those options
            that it takes; without one, every image of the loaded set is read.
    """

    name: str
    title: str
    content: str
    licence: str
    homepage: str
    citation: str
    classes: int | None
    images: int | None
    size: int | None
    loader: str
    places: tuple[str, ...] = ()
    download: str | None = None
    by_hand: str = ""
    verify: str | None = None

    @property
    def function(self) -> Callable[..., Splits]:
        """The function that reads the set."""
        function: Callable[..., Splits] = imported(self.loader)
        return function

    def find(self, root: Path) -> list[Path]:
        """What of :attr:`places` exists, one path for each pattern that does; it is not read."""
        found = []
        for place in self.places:
            path = root / place  # an absolute place replaces the root
            matches = [path] if path.exists() else root.glob(place) if "*" in place and root.is_dir() else []
            found += list(matches)[:1]
        return found


def imported(target: str) -> Any:
    """What ``module:name`` stands for."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def describe(name: str) -> Description:
    """The description of a data set.

    Raises:
        ValueError: the name is unknown; the nearest and the known ones are named.
    """
    if name not in CATALOGUE:
        raise ValueError(f"unknown data set {name!r}; {did_you_mean(name, CATALOGUE)}known are {', '.join(CATALOGUE)}")
    return CATALOGUE[name]


CATALOGUE: dict[str, Description] = {
    description.name: description
    for description in (
        Description(
            name="digits",
            title="Optical recognition of handwritten digits",
            content="Handwritten digits, 8 x 8 pixels, 17 grey levels: the test part of the set, in scikit-learn.",
            licence="CC BY 4.0 (UCI Machine Learning Repository)",
            homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
            citation="alpaydin1998cascading",
            classes=10,
            images=1797,
            size=0,
            loader="pure.data.sets.digits:digits",
        ),
        Description(
            name="fashion-mnist",
            title="Fashion-MNIST",
            content="Pictures of clothes, 28 x 28 pixels, 256 grey levels: 60,000 to train and 10,000 to test.",
            licence="MIT",
            homepage="https://github.com/zalandoresearch/fashion-mnist",
            citation="xiao2017fashion",
            classes=10,
            images=70_000,
            size=30_878_645,  # the four gzip files
            loader="pure.data.sets.fashion_mnist:fashion_mnist",
            places=(
                "FashionMNIST/raw/train-images-idx3-ubyte*",
                "fashion-mnist/train-images-idx3-ubyte*",
                "train-images-idx3-ubyte*",
                "/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz",
                "/usr/share/dataset-fashion-mnist/train-images-idx3-ubyte.gz",
            ),
            download="pure.data.sets.fashion_mnist:download",
        ),
        Description(
            name="cifar10",
            title="CIFAR-10",
            content="Colour photographs, 32 x 32 pixels: 50,000 to train and 10,000 to test.",
            licence="none stated; its page asks to cite Krizhevsky (2009)",
            homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
            citation="krizhevsky2009learning",
            classes=10,
            images=60_000,
            size=170_498_071,  # the archive
            loader="pure.data.sets.cifar10:cifar10",
            places=(
                "cifar-10-batches-py/data_batch_1",
                "cifar-10-batches-bin/data_batch_1.bin",
                "data_batch_1",
                "data_batch_1.bin",
                "train/airplane",
                "cifar10*/train/airplane",
            ),
            download="pure.data.sets.cifar10:download",
            verify="pure.data.sets.cifar10:verify",
        ),
        Description(
            name="galaxy10",
            title="Galaxy10 DECaLS",
            content="Colour images of galaxies from the DESI Legacy Imaging Surveys, 256 x 256 pixels, labels from "
            "Galaxy Zoo.",
            licence="see the Zenodo record; its page asks to acknowledge Galaxy Zoo and the Legacy Surveys",
            homepage="https://zenodo.org/records/10845026",
            citation="leung2019deep",
            classes=10,
            images=17_736,
            size=2_735_267_419,
            loader="pure.data.sets.galaxy10:galaxy10",
            places=("Galaxy10_DECals.h5",),
            download="pure.data.sets.galaxy10:download",
            verify="pure.data.sets.galaxy10:verify",
        ),
        Description(
            name="galaxy10-synthetic",
            title="Synthetic galaxies",
            content="Galaxies simulated with GalSim in ten classes after Galaxy10's: no observations.",
            licence="that of this project: they are made here",
            homepage="https://github.com/GalSim-developers/GalSim",
            citation="rowe2015galsim",
            classes=10,
            images=None,
            size=None,
            loader="pure.data.sets.synthetic_galaxies:galaxy10_synthetic",
        ),
        Description(
            name="deblending",
            title="Blended galaxies with their masks",
            content="Galaxies with neighbours, simulated with GalSim, 64 x 64 pixels, each with its true mask: no "
            "observations.",
            licence="that of this project: they are made here",
            homepage="https://github.com/GalSim-developers/GalSim",
            citation="rowe2015galsim",
            classes=2,
            images=None,
            size=None,
            loader="pure.data.sets.deblending:deblending",
        ),
        Description(
            name="gz2",
            title="Galaxy Zoo 2, five clean classes",
            content="Colour images of galaxies from the Sloan survey, on whose shape Galaxy Zoo's volunteers agreed.",
            licence="none stated for the images; Kaggle's challenge has its own rules",
            homepage="https://www.kaggle.com/c/galaxy-zoo-the-galaxy-challenge",
            citation="willett2013galaxy",
            classes=5,
            images=28_793,
            size=None,
            loader="pure.data.sets.gz2:gz2",
            verify="pure.data.sets.gz2:verify",
            places=(
                "gz2/train/edge_on",
                "gz2/training_solutions_rev1.csv",
                "training_solutions_rev1.csv",
                "train/edge_on",
            ),
            by_hand="accept the rules of the challenge at "
            "https://www.kaggle.com/c/galaxy-zoo-the-galaxy-challenge, get images_training_rev1.zip and "
            "training_solutions_rev1.zip, and unpack both into the folder gz2",
        ),
        Description(
            name="imagenet",
            title="ImageNet (ILSVRC 2012)",
            content="Colour photographs of many sizes: 1,281,167 to train, and the 50,000 of the validation set, which "
            "serve as test set.",
            licence="terms of access: non-commercial research and education only",
            homepage="https://image-net.org/download-images",
            citation="russakovsky2015imagenet",
            classes=1000,
            images=1_331_167,
            size=154_642_401_280,  # the two archives
            loader="pure.data.sets.imagenet:imagenet",
            verify="pure.data.sets.imagenet:verify",
            # the last one: its second class, which the subsets Imagenette and Imagewoof lack
            places=("imagenet/train", "ILSVRC*/Data/CLS-LOC/train", "ILSVRC*/train", "train/n01443537"),
            by_hand="ask for access at https://image-net.org/download-images and accept the terms, get "
            "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, and unpack them into one folder for each class "
            "below imagenet/train and imagenet/val",
        ),
        Description(
            name="image-folder",
            title="A tree with one folder for each class",
            content="Any images of your own or of others, for example Imagenette (ten classes of ImageNet).",
            licence="that of the files; Imagenette: the repository Apache-2.0, the images under ImageNet's terms",
            homepage="https://github.com/fastai/imagenette",
            citation="howard2019imagenette",
            classes=None,
            images=None,
            size=None,
            loader="pure.data.storage.folders:image_folder",
            verify="pure.data.storage.folders:verify",
            places=("train",),
            by_hand="put the images into train/<class>/ and val/<class>/",
        ),
        Description(
            name="mask-folder",
            title="Images, each with a mask",
            content="Any images of your own or of others, each with a mask of one object, in the layout of ISIC 2018, "
            "Kvasir-SEG or BUSI.",
            licence="that of the files; ISIC 2018: CC BY-NC 4.0; Kvasir-SEG and BUSI: see their pages",
            homepage="https://challenge.isic-archive.com/data/",
            citation="codella2019skin",
            classes=2,
            images=None,
            size=None,
            loader="pure.data.storage.masks:mask_folder",
            places=("images", "ISIC2018_Task1_Training_GroundTruth", "benign", "malignant", "normal"),
            by_hand="put the images into images/ and their masks, under the same names, into masks/",
        ),
    )
}
"""The descriptions by name, from the set that is always there to the largest."""
