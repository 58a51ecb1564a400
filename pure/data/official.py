"""Data sets that come divided into training and test set: whether a part of the training set is held out."""

from __future__ import annotations

import torch

from pure.data.splits import ImageSet, Splits, holdout

__all__ = ["hold_out"]


def hold_out(
    name: str, classes: tuple[str, ...], train: ImageSet, test: ImageSet, number: int, split_seed: int
) -> Splits:
    """The official division, with so many training images held out as validation set, stratified.

    Args:
        name: of the data set and its variant.
        classes: names of the classes.
        train: the official training set.
        test: the official test set.
        number: images to hold out; 0 holds out none, and there is no validation set.
        split_seed: fixes which.

    Raises:
        ValueError: more are held out than there are, or a seed is given where nothing is held out.
    """
    if number == 0:
        if split_seed != 0:
            raise ValueError(f"split_seed={split_seed} divides nothing: holdout=0 trains on all training images")
        return Splits(name, classes, train, None, test)
    rest, held_out = holdout(train.labels, number, split_seed)
    return Splits(
        name,
        classes,
        ImageSet(train.images[rest], train.labels[rest]),
        ImageSet(train.images[held_out], train.labels[held_out]),
        test,
        rows={"train": rest, "validation": held_out, "test": torch.arange(len(test))},
    )
