# ---
# jupyter:
#   jupytext:
#     notebook_metadata_filter: pure,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
#   pure:
#     depends:
#     - results/deblending/**/record.json
#     - results/unets/*.json
# ---

# %% [markdown]
# # Galaxies that overlap
#
# - **Before this page:** [the networks](07-networks.py).
# - **You need:** the extra `book`; no download, no GPU.
# - **Running time:** two minutes on two cores, most of it for simulating the galaxies.
#
# So far a network answered with one class for an image. Here it answers for each pixel: does this one belong to the
# galaxy in the middle, or to the sky and to what else lies there? On the sky galaxies overlap by chance, and nobody
# knows where one ends. In a simulation somebody does: the light of each galaxy is drawn by itself, so that the true
# mask comes with the picture. Astronomers call the task *deblending*.
#
# PU-UNet {cite}`li2026unet` brings product units to such tasks. It is a U-Net {cite}`ronneberger2015unet`, whose
# blocks at the lowest resolutions are product-unit blocks. What does that change, if all else is equal?

# %% [markdown]
# ## The task

# %%
import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown

import pure
from pure import data, report
from pure.nn.blocks import ProductUnitBlock
from pure.recipes import get_recipe
from pure.records import read_records
from pure.report import data_pages, segmentation, style
from pure.report.parameters import repository

style.use()
results = repository() / "results"
recipe = get_recipe("deblending", "pu_unet")
root = data_pages.shared_root()
splits = data.load(recipe.dataset, root, **recipe.data_options)
images, masks = splits.test.images, splits.test.labels
{name: len(part) for name, part in splits.parts.items()}

# %% [markdown]
# Each picture is a cut of 64 x 64 pixels, 34 seconds of arc wide, as a survey would take it: blurred by the air, with
# the noise of the photons. A pixel belongs to the galaxy in the middle where its light, without the noise, is brighter
# than a given isophote *and* brighter than all else there together.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Twelve simulated pictures of galaxies with neighbours, the galaxy in the middle outlined", "classes": "photo"}, "figure": {"caption": "Test scenes with the true mask (white). Neighbours and stars cut into the galaxy in the middle; where there is none, there is no outline.", "name": "fig-blends"}}
segmentation.masks_figure(images[:12], masks[:12])
plt.show()

# %% [markdown]
# **Check.** Some scenes have nothing in the middle. A network that always finds a galaxy is wrong there, and the usual
# measures do not see it, since they compare masks with masks. So these scenes are counted apart.

# %%
holds = masks.flatten(1).bool().any(1)
covered = masks[holds].float().mean().item()
Markdown(
    f"{int((~holds).sum())} of the {len(holds)} test scenes are empty; in the "
    f"others the mask covers {100 * covered:.0f} % of the pixels on average."
)

# %% [markdown]
# ## The two networks
#
# Both are U-Nets of residual blocks: five resolutions down, four up again, and at each resolution the maps from the way
# down are joined to those from below. One has He et al.'s blocks everywhere. The other has product-unit blocks at the
# two lowest resolutions, with the *stabilised* unit: a threshold without an edge, and an exponent that is bounded
# smoothly. Nothing else differs.

# %%
widths = (8, 16, 32, 64, 128)  # small, for a processor
network = pure.create_model("pu_unet", widths=widths)
[
    name
    for name, module in network.named_modules()
    if isinstance(module, ProductUnitBlock)
]

# %% [markdown]
# {numref}`tab-unet-steps` compares their sizes and the time of a training step, both taken in turns in one process on
# one core. The sizes differ by one threshold for each product unit.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Parameters of the two networks, and the time of PU-UNet's training step divided by that of the residual U-Net's.", "name": "tab-unet-steps", "caption_before": true}}
measured = json.loads((results / "unets" / "cpu.json").read_text())
Markdown(report.markdown(segmentation.steps_table(measured)))

# %% [markdown]
# ## What they reach
#
# Both were trained by the same recipe from the same five seeds: loss, learning rate, batches and augmentation are one
# and the same, and were fixed before the first of these runs. The validation set chooses the epoch, and the test set
# was looked at once. The loss is the cross-entropy of the pixels plus one less the soft Dice coefficient
# {cite}`milletari2016vnet`.
#
# *Dice* is twice the overlap of two masks over the sum of their areas, *IoU* the overlap over the union; both are means
# over the scenes that hold a galaxy.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Test figures of both networks: mean and sample deviation over the seeds. Found on empty images: share of the empty scenes on which at least one pixel was taken for a galaxy.", "name": "tab-deblending", "caption_before": true}}
records = read_records(results / "deblending")
Markdown(report.markdown(segmentation.segmentation_table(records)))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Left: validation Dice over the epochs of both networks. Right: test Dice of both networks for each seed"}, "figure": {"caption": "Left: Dice on the validation scenes, mean over the seeds with the range from the lowest to the highest. Right: Dice on the test scenes, a line for each seed; what counts is on which side the circles lie.", "name": "fig-deblending"}}
segmentation.dice_figure(records)
plt.show()

# %% [markdown]
# The seeds are shared, so the difference is taken seed by seed. {numref}`tab-deblending-differences` says how far
# PU-UNet is ahead, and what so few seeds could have found at all.

# %% tags=["hide-input", "nbval-check-output"] mystnb={"figure": {"caption": "PU-UNet less the residual U-Net, paired by seed, with 95 % intervals. The second row of Dice asks for further test scenes too, not for these alone.", "name": "tab-deblending-differences", "caption_before": true}}
Markdown(report.markdown(segmentation.segmentation_differences(records)))

# %% tags=["remove-input"]
group = segmentation.pairs(records)[0]
ours, theirs = (
    [100 * run.test.dice for run in side] for side in zip(*group, strict=True)
)
effect = report.statistics.paired_difference(ours, theirs)
told = {
    1: "PU-UNet is ahead by more than its seeds scatter",
    0: "these runs decide nothing: the interval includes zero",
    -1: "the residual U-Net is ahead by more than its seeds scatter",
}[effect.verdict]
Markdown(
    f"**How to read it.** In Dice {told}. The difference is "
    f"{effect.mean:+.2f} points, 95 % interval {effect.low:+.2f} to "
    f"{effect.high:+.2f}; {effect.n} seeds find a true difference of "
    f"{effect.detectable:.2f} points or more in four of five repetitions, "
    "and miss smaller ones more often."
)

# %% [markdown]
# ## Where they are wrong
#
# Each record holds the Dice coefficient of every test scene, so that the hard scenes can be found without the networks.
# {numref}`fig-hard-blends` shows those with the lowest mean over all runs of both.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Six simulated scenes with low Dice coefficients, the true mask outlined", "classes": "photo"}, "figure": {"caption": "The hardest test scenes, with the mean Dice (%) over all runs. Here a neighbour outshines the galaxy in the middle, or covers it.", "name": "fig-hard-blends"}}
tested = [run for run in records if run.test is not None]
scores = np.array([run.test.image_dice for run in tested], dtype=float)
by_scene = scores.mean(0)  # of empty scenes not a number
hardest = np.argsort(np.where(holds, by_scene, np.inf))[:6]
chosen = torch.from_numpy(hardest)
segmentation.masks_figure(
    images[chosen],
    masks[chosen],
    titles=[f"{100 * by_scene[row]:.0f}" for row in hardest],
)
plt.show()

# %% [markdown]
# **What it does not show.** How either network does on the sky: these galaxies are simulated, their shapes come in
# eight kinds, and the isophote is a choice. Neither does it repeat the paper of PU-UNet, which segments photographs
# and ultrasound: the data sets it names are read here as [folders of images and masks](../book/api.md), with the
# recipe `mask-folder`. And the networks are small and trained for minutes; what longer training gives is open.
#
# ## Exercises

# %% [markdown]
# ### Exercise 1
#
# How well does an answer do that never looks at the picture? Take a disc in the middle as every answer, choose its
# radius on the *training* scenes, and measure its Dice on the test scenes.

# %% tags=["hide-cell"]
y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
radii = ((y - 31.5) ** 2 + (x - 31.5) ** 2).sqrt()


def disc_dice(radius, truth):
    """Mean Dice of one disc as the answer to all scenes with a galaxy."""
    truth = truth[truth.flatten(1).bool().any(1)].bool()
    disc = radii < radius
    both = (truth & disc).flatten(1).sum(1)
    return (2 * both / (truth.flatten(1).sum(1) + disc.sum())).mean().item()


best = max(range(2, 32), key=lambda r: disc_dice(r, splits.train.labels))
Markdown(
    f"With a radius of {best} pixels the disc reaches "
    f"{100 * disc_dice(best, masks):.1f} % on the test scenes: galaxies in "
    "the middle of a frame are easy to hit. Every network has to be compared "
    "with that, and not with zero; and on every empty scene the disc is wrong."
)

# %% [markdown]
# ### Exercise 2
#
# For two masks Dice $D$ and IoU $J$ hold the same information, $J = D / (2 - D)$. Why is the mean IoU of
# {numref}`tab-deblending` not what this formula makes of the mean Dice?

# %% tags=["hide-cell"]
run = tested[0]
dice = np.array(run.test.image_dice, dtype=float)[holds.numpy()]
of_each = (dice / (2 - dice)).mean()
np.testing.assert_allclose(of_each, run.test.iou, atol=1e-6)
Markdown(
    "The formula is convex, so the mean of its values, "
    f"{100 * of_each:.2f} %, lies above its value at the mean, "
    f"{100 * dice.mean() / (2 - dice.mean()):.2f} %: Jensen's inequality. The "
    "more the scenes differ, the further apart the two lie."
)

# %% [markdown]
# ### Exercise 3
#
# How do the parameters of PU-UNet change when more and more resolutions get product units? And where do you expect a
# step to become slower?

# %% tags=["hide-cell", "nbval-check-output"]
sizes = {}
for stages in range(6):
    made = pure.create_model("pu_unet", widths=widths, product_stages=stages)
    sizes[stages] = sum(parameter.numel() for parameter in made.parameters())
table = {
    "Resolutions with product units": map(str, sizes),
    "Parameters": [f"{size:,}" for size in sizes.values()],
}
Markdown(report.markdown(pd.DataFrame(table)))

# %% [markdown]
# One threshold for each unit: two more for each resolution, one for the lowest, which has no way up. The time is
# another matter: a product unit takes a logarithm and an exponential for each value of its maps, and the maps of the
# highest resolution hold most values. At the lowest ones both are few next to the multiplications.
