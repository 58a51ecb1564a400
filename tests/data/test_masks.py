"""Masks move with their images, in both loaders."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from pure.data.augment import parse
from pure.data.images import ImageSet, select
from pure.data.loaders import make_loader
from pure.data.masks import augment_masks
from pure.data.preparation import prepare
from pure.data.splits import Splits


def discs() -> ImageSet:
    """Images that show their mask: a blob off the middle, white on black."""
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    centres = torch.tensor([[10, 12], [20, 9], [14, 21], [9, 9], [16, 22], [22, 20]])
    masks = ((y - centres[:, 0, None, None]) ** 2 + (x - centres[:, 1, None, None]) ** 2 < 25).to(torch.uint8)
    return ImageSet((255 * masks)[:, None].repeat(1, 3, 1, 1), masks)


@pytest.mark.parametrize(
    "augmentation", ["flip+rotate(180)", "pad-crop(4)+flip", "resized-crop(24)", "shift(3)", "none"]
)
@pytest.mark.parametrize("kind", ["device", "workers"])
def test_a_mask_stays_on_its_object(kind: Literal["device", "workers"], augmentation: str) -> None:
    statistics = torch.zeros(3), torch.ones(3)
    loader = make_loader(
        discs(), statistics, 4, "cpu", augmentation=augmentation, shuffle=True, seed=3, kind=kind, workers=0
    )
    for images, masks in loader:
        assert masks.dtype == torch.uint8
        assert torch.equal(masks, (images[:, 0] > 127).to(torch.uint8))
        assert masks.any()


def test_classes_stay_whole_numbers_and_do_not_mix() -> None:
    masks = torch.zeros(1, 16, 16, dtype=torch.uint8)
    masks[0, 2:9, 2:9], masks[0, 9:15, 4:14] = 3, 1
    augmentation = parse("rotate(180)")
    turned = augment_masks(augmentation, masks, augmentation.draw(1, (1, 16, 16), torch.Generator().manual_seed(1)))
    assert set(turned.unique().tolist()) == {0, 1, 3}
    assert (turned == 3).sum().item() == pytest.approx(49, abs=6)
    none = parse("none")
    assert torch.equal(augment_masks(none, masks, ()), masks)
    assert not augment_masks(none, torch.zeros_like(masks), ()).any()


def test_what_would_leave_the_masks_behind_is_refused() -> None:
    splits = Splits("discs", ("background", "disc"), discs(), None, discs())
    for options in ({"crop": 8}, {"per_class": 2}, {"static_augmentation": "flip"}):
        with pytest.raises(ValueError, match="'discs' has masks, which crop, per_class and static_augmentation would"):
            prepare(splits, **options)  # type: ignore[arg-type]


def test_a_set_holds_masks_of_its_images_alone() -> None:
    whole = discs()
    image, mask = whole[2]
    assert torch.equal(mask, whole.labels[2])
    assert image.shape == (3, 32, 32)
    part = select(whole, torch.tensor([4, 1]))
    assert torch.equal(part.labels, whole.labels[[4, 1]])
    assert part.digest != select(whole, torch.tensor([1, 4])).digest
    for labels in (whole.labels[:, :31], whole.labels.long()):
        with pytest.raises(ValueError, match=r"expected labels \(6,\), int64, or masks \(6, 32, 32\), uint8, got"):
            ImageSet(whole.images, labels)
