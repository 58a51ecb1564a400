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
#     depends: []
# ---

# %% [markdown]
# # Digits
#
# - **Before this page:** nothing.
# - **You need:** the extra `report`; scikit-learn brings the images.
# - **Running time:** seconds.
#
# 1,797 handwritten digits {cite}`alpaydin1998cascading` that come with scikit-learn: real data, small enough that the
# book trains on them in minutes, without a download. Here they stand in for CIFAR-10.

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import torch
from IPython.display import Markdown

from pure import report
from pure.data import load
from pure.recipes import get_recipe
from pure.report import data_pages


def show(table):
    """A table as Markdown."""
    return Markdown(report.markdown(table))


splits = load("digits", data_pages.shared_root())
show(data_pages.description("digits"))

# %% [markdown]
# ## What they look like

# %% tags=["hide-input"] mystnb={"image": {"alt": "Ten digits of each class", "classes": "photo"}}
data_pages.contact_sheet(
    splits.train, splits.classes, per_class=14, white=splits.white
)
plt.show()

# %% [markdown]
# ## The division
#
# Stratified and seeded, 6:2:2, the same for every run: {py:func}`pure.data.sets.digits.digits`. The hashes are over
# every pixel and label; a run's record keeps the last one.

# %%
show(data_pages.division(splits))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Images of each class in training, validation and test set"}}
data_pages.class_balance(splits)
plt.show()

# %% [markdown]
# **Check.** Every image is in one part, and every class has about its share in each.

# %%
assert (
    torch.cat(list(splits.rows.values()))
    .sort()
    .values.equal(torch.arange(1797))
)
shares = torch.stack(
    [part.labels.bincount() / len(part) for part in splits.parts.values()]
)
assert (shares - shares[0]).abs().max() < 0.01

# %% [markdown]
# ## Statistics for normalisation
#
# Of the training set alone; white is 16.

# %%
show(data_pages.statistics(splits))

# %% [markdown]
# ## Augmentation and noise
#
# The recipe moves each image by up to a pixel along each axis, drawn again in every epoch. It does not mirror: mirrored
# digits would be wrong. The Poisson noise of section 4.1.2 {cite}`li2025pure` takes a grey level for a number of
# photons. White is 16 here and 255 in the galaxies: at the same scale $s$ the digits suffer more.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Five digits, moved and under noise", "classes": "photo"}}
augmentation = get_recipe("digits", "pure20").augmentation
samples = splits.train.images[:5]
data_pages.side_by_side(
    data_pages.versions(
        samples, augmentation, scales=(16, 4, 1), white=splits.white
    ),
    splits.white,
)
plt.show()

# %% [markdown]
# **Check.** Mean and variance of the noise at each grey level, over all training images, against
# {py:func}`pure.data.noise.moments`. No mean is more than five standard errors off.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Mean and variance of the noise over the grey level"}}
noisy = data_pages.versions(splits.train.images, white=splits.white)[
    "noise, $s = 1$"
]
levels = data_pages.grey_levels(splits.train.images, noisy, white=splits.white)
assert levels["standard_errors"].abs().max() < 5
data_pages.noise_figure(levels)
plt.show()

# %% [markdown]
# **How to read it.** Without clipping both would be straight lines: a Poisson variable's variance is its mean. Near
# white the noise is cut off, so the mean is too low and the variance decreases.
#
# **What it does not show.** Anything about photographs. Eight pixels are few, the digits fill the image, and networks
# of either family come close to all of them; small differences on this set say nothing about the paper's.
