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
#     - data/splits/galaxy10*.json
# ---

# %% [markdown]
# # Galaxy10 DECaLS
#
# - **Before this page:** nothing.
# - **You need:** the extra `report`; the images, for the parts that show them.
# - **Running time:** seconds, with the images under a minute.
#
# 17,736 colour images of galaxies {cite}`leung2019deep` from the DESI Legacy Imaging Surveys {cite}`dey2019overview`,
# with labels by the volunteers of Galaxy Zoo {cite}`walmsley2022galaxy`: the set of the paper's first experiment. The
# file is large, but free to get.

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import HTML, Markdown, display

from pure import report
from pure.data import load, stratified_split
from pure.data.sets.galaxy10 import COUNTS, Galaxy10DECaLS, leaks
from pure.data.sets.synthetic_galaxies import Settings
from pure.data.splits import grouped_split
from pure.recipes import get_recipe
from pure.report import data_pages


def show(table):
    """A table as Markdown."""
    return Markdown(report.markdown(table))


root = data_pages.shared_root()
try:
    # the page shows the originals
    splits, here = load("galaxy10", root, static_augmentation=None), True
    shown, what = splits, "Galaxy10 DECaLS"
except FileNotFoundError:
    here = False
    options = get_recipe("galaxy10-quick", "pure18").data_options
    shown, what = (
        load("galaxy10-synthetic", root, **options),
        "not Galaxy10: synthetic galaxies",
    )
    instead = (
        "This page shows its documented sizes, and synthetic galaxies, "
        "simulated here, as a stand-in for its pixels."
    )
    display(HTML(data_pages.notice("galaxy10", instead)))
show(data_pages.description("galaxy10"))

# %% [markdown]
# ## What they look like (figure 4 of the paper)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Galaxies, a row for each class", "classes": "photo"}}
print(f"Shown: {what}, training set")
data_pages.contact_sheet(shown.train, shown.classes, per_class=8)
plt.show()

# %% [markdown]
# ## The division
#
# 8:1:1, each class with its share, seeded: {py:func}`pure.data.sets.galaxy10.divide_galaxies`. That the test set is a
# tenth is read off the printed accuracies; the paper {cite}`li2025pure` does not say so. The static augmentation,
# below, doubles the training set.

# %% tags=["hide-input"]
if here:
    labels = Galaxy10DECaLS(root).targets
else:
    # sorted, as documented
    labels = torch.arange(len(COUNTS)).repeat_interleave(
        torch.tensor(list(COUNTS.values()))
    )
parts = dict(
    zip(
        ("train", "validation", "test"),
        stratified_split(labels, (0.8, 0.1, 0.1), 0),
        strict=True,
    )
)
counts = {
    name: labels[rows].bincount().tolist() for name, rows in parts.items()
}
divided = data_pages.documented("galaxy10", tuple(COUNTS), **counts)
show(
    data_pages.division(splits)
    if here
    else data_pages.division(divided)[["Part", "Images"]]
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Images of each class in training, validation and test set"}}
data_pages.class_balance(divided)
plt.show()

# %% [markdown]
# **Check.** The classes have the documented numbers, and the largest is eight times as large as the smallest.

# %%
assert sum(
    torch.tensor(numbers) for numbers in counts.values()
).tolist() == list(COUNTS.values())
print(f"{max(COUNTS.values()) / min(COUNTS.values()):.1f}")

# %% [markdown]
# ## How much leaks
#
# Some galaxies are there twice, under two labels. A division at random puts a few of them into two parts, such as
# training and test set. The division by position keeps each place on the sky in one part: `split="by-position"`.

# %% tags=["hide-input"]
if here:
    positions = Galaxy10DECaLS(root).positions()
    print("Positions within one second of arc are one")
else:
    galaxies = Settings(tuple(COUNTS.values()), pairs=59).galaxies()
    positions = torch.from_numpy(
        np.unique(galaxies, axis=0, return_inverse=True)[1].ravel()
    )
    print(
        "Without the file's coordinates: as many pairs as documented, "
        "with partners drawn at random"
    )
by_position = dict(
    zip(
        parts,
        grouped_split(labels, positions, (0.8, 0.1, 0.1), 0),
        strict=True,
    )
)
shared = {
    "plain": leaks(parts, positions),
    "by position": leaks(by_position, positions),
}
assert not any(shared["by position"].values())
rows = [[name, *map(str, found.values())] for name, found in shared.items()]
columns = [" and ".join(pair) for pair in shared["plain"]]
print(f"{len(labels):,} images of {len(positions.unique()):,} positions")
show(pd.DataFrame(rows, columns=["Division", *columns]))

# %% [markdown]
# **How to read it.** Each number counts positions that two parts share. They are few compared with the test set, and
# the two labels of such a pair differ: knowing one does not help with the other. What it changes is not measured here.
#
# ## Statistics for normalisation

# %% tags=["hide-input"]
print(f"Of the training set of {what}")
show(data_pages.statistics(shown))

# %% [markdown]
# ## Augmentation and noise
#
# Section 4.1.2: each training image once more, turned, mirrored and cropped, drawn *once* and kept. The angle is
# missing in the paper; here it is any. To the test images comes Poisson noise, $x' = \mathrm{clip}(\mathrm{Poisson}(s
# x) / s, 0, 255)$. The paper does not state its scale $s$: with $s = 1$ a grey level is a photon.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Five galaxies, augmented and under noise", "classes": "photo"}}
options = get_recipe(
    "galaxy10" if here else "galaxy10-quick", "pure18"
).data_options
augmentation = options["static_augmentation"]
print(f"{what}: {augmentation}")
rows = torch.arange(5) * (len(shown.test) // 5)
samples = shown.test.read(rows)
data_pages.side_by_side(
    data_pages.versions(samples, augmentation, draws=2, scales=(4, 1, 0.25))
)
plt.show()

# %% [markdown]
# **Check.** Mean and variance of the noise against {py:func}`pure.data.noise.moments`, in test images. No mean is more
# than five standard errors off.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Mean and variance of the noise over the grey level"}}
some = shown.test.read(torch.arange(min(len(shown.test), 80)))
levels = data_pages.grey_levels(
    some, data_pages.versions(some)["noise, $s = 1$"], least=200
)
assert levels["standard_errors"].abs().max() < 5
data_pages.noise_figure(levels)
plt.show()

# %% [markdown]
# **How to read it.** The variance of photons is their mean, until white cuts the noise off. Most of a galaxy's image is
# dark sky, whose noise is small in grey levels and large compared with the little light there is.
#
# **What it does not show.** What the noise costs a network: that is eq. (6), in the experiments. Nor is this noise an
# observation's. The published images are stretched for the eye, so a grey level is no count of photons.
