"""The digits that scikit-learn ships: 1,797 real handwritten digits, 8 x 8 pixels, no download.

They are the test part of the Optical Recognition of Handwritten Digits data of the UCI repository (Alpaydin and Kaynak,
1998), with grey levels from 0 to 16.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits

from pure.data.images import ImageSet, select
from pure.data.splits import Splits, stratified_split

__all__ = ["digits"]


def digits(split_seed: int = 0, fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)) -> Splits:
    """Scikit-learn's digits, stratified and seeded into training, validation and test set.

    Args:
        split_seed: fixes the division.  It is not part of a run's seed: all runs see the same test set.
        fractions: shares of training, validation and test set.

    Returns:
        Images ``(N, 1, 8, 8)``, uint8 from 0 to 16, and the ten classes ``"0"`` to ``"9"``.
    """
    bunch = load_digits()
    images = torch.from_numpy(bunch.images).to(torch.uint8).unsqueeze(1)  # (1797, 1, 8, 8)
    source = ImageSet(images, torch.from_numpy(bunch.target).long())
    rows = stratified_split(source.labels, fractions, split_seed, tuple(map(str, bunch.target_names)))
    train, validation, test = (select(source, part) for part in rows)
    return Splits(
        "digits",
        tuple(map(str, bunch.target_names)),
        train,
        validation,
        test,
        white=16,
        rows=dict(zip(("train", "validation", "test"), rows, strict=True)),
    )
