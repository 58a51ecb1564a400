"""The learning rate of each epoch, and the epoch whose weights are tested: both follow from the epochs before.

They are functions of what was measured and have no state: a checkpoint only has to hold the epochs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from pure.recipes import Recipe
from pure.records import Epoch

__all__ = ["learning_rate", "requires_validation", "selected_epoch"]


def learning_rate(recipe: Recipe, epochs: Sequence[Epoch]) -> float:
    """Learning rate of the next epoch.

    *Warm-up* (He et al., 2016, section 4.2): ``warmup_lr`` until the training error of an epoch is below
    ``warmup_error``, then ``lr``, with the drops that are due by then.

    *Milestones* count epochs from the start of the training.  *Plateau*: a drop when the validation loss has not
    improved over ``patience`` consecutive epochs (section 4.1.2), counted again after each drop and from the end of the
    warm-up; a NaN never improves it.  This is :class:`torch.optim.lr_scheduler.ReduceLROnPlateau` with ``threshold=0``
    and ``patience`` *less one*: PyTorch counts the epochs that it lets pass, and drops after one more.

    Args:
        recipe: its schedule.
        epochs: those that are done.
    """
    warm = _warmed_up(recipe, epochs)
    if warm is None:
        return recipe.warmup_lr or recipe.lr
    if recipe.schedule == "milestones":
        drops = sum(milestone <= len(epochs) for milestone in recipe.milestones)
    else:
        drops = _plateaus(map(_validation_loss, epochs[warm:]), recipe.patience)
    rate = recipe.lr
    for _ in range(drops):  # step by step, as PyTorch's schedulers round
        rate *= recipe.gamma
    return rate


def selected_epoch(recipe: Recipe, epochs: Sequence[Epoch]) -> int:
    """Number, from 1, of the epoch whose weights count: the last one, or the earliest of the lowest validation loss.

    A loss that is not finite counts as the worst: running statistics can lag in the first epochs.
    """
    if recipe.selection == "last":
        return len(epochs)
    losses = [_validation_loss(epoch) for epoch in epochs]
    comparable = [loss if math.isfinite(loss) else math.inf for loss in losses]
    return comparable.index(min(comparable)) + 1


def requires_validation(recipe: Recipe) -> list[str]:
    """The settings of a recipe that look at a validation set, as ``name='value'``."""
    return [
        f"{field}={value!r}"
        for field, value in (("schedule", recipe.schedule), ("selection", recipe.selection))
        if value in ("plateau", "lowest-validation-loss")
    ]


def _warmed_up(recipe: Recipe, epochs: Sequence[Epoch]) -> int | None:
    """Number of epochs until the end of the warm-up, 0 without one; None if it still lasts."""
    if recipe.warmup_lr is None:
        return 0
    errors = (1 - epoch.train.accuracy for epoch in epochs)
    return next((n for n, error in enumerate(errors, 1) if error < recipe.warmup_error), None)


def _plateaus(losses: Iterable[float], patience: int) -> int:
    """How often the loss has not improved over ``patience`` consecutive epochs."""
    lowest, waited, drops = math.inf, 0, 0
    for loss in losses:
        if loss < lowest:  # never true of a NaN
            lowest, waited = loss, 0
        else:
            waited += 1
        if waited == patience:
            drops, waited = drops + 1, 0
    return drops


def _validation_loss(epoch: Epoch) -> float:
    return epoch.validation.loss if epoch.validation is not None else math.nan
