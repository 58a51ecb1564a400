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
#     - data/splits/fashion-mnist*.json
# ---

# %% [markdown]
# # Fashion-MNIST
#
# - **Before this page:** nothing.
# - **You need:** the extra `report`; the images, for the parts that show them.
# - **Running time:** seconds, with the images under a minute.
#
# 70,000 pictures of clothes {cite}`xiao2017fashion`: a full benchmark of CIFAR-10's size with a free licence, for
# people without the other sets. The paper does not use it. Debian has it as a package, `dataset-fashion-mnist`, whose
# files are found where it puts them.

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
from IPython.display import HTML, Markdown, display

from pure import report
from pure.data import load
from pure.data.sets.fashion_mnist import CLASSES
from pure.recipes import get_recipe
from pure.report import data_pages


def show(table):
    """A table as Markdown."""
    return Markdown(report.markdown(table))


try:
    splits, here = load("fashion-mnist", data_pages.shared_root()), True
except FileNotFoundError:
    stand_in, here = load("digits", data_pages.shared_root()), False
    display(
        HTML(
            data_pages.notice(
                "fashion-mnist",
                "This page shows its documented sizes, "
                "and digits as a stand-in.",
            )
        )
    )
    splits = data_pages.documented(
        "fashion-mnist",
        CLASSES,
        train=[5500] * 10,
        validation=[500] * 10,
        test=[1000] * 10,
    )
show(data_pages.description("fashion-mnist"))

# %% [markdown]
# ## What they look like

# %% tags=["hide-input"] mystnb={"image": {"alt": "Pictures of each class", "classes": "photo"}}
shown = splits if here else stand_in
print(f"Shown: {shown.name}, training set")
data_pages.contact_sheet(
    shown.train, shown.classes, per_class=14, white=shown.white
)
plt.show()

# %% [markdown]
# ## The division
#
# The test set is the published one. Of the 60,000 training images 5,000 are held out, stratified and seeded, as a
# validation set: {py:func}`pure.data.sets.fashion_mnist.fashion_mnist`. `holdout=0` trains on all.

# %%
show(
    data_pages.division(splits)
    if here
    else data_pages.division(splits)[["Part", "Images"]]
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Images of each class in training, validation and test set"}}
data_pages.class_balance(splits)
plt.show()

# %% [markdown]
# **Check.** The classes are balanced in every part.

# %%
assert all(
    len(set(part.labels.bincount().tolist())) == 1
    for part in splits.parts.values()
)

# %% [markdown]
# ## Statistics for normalisation

# %% tags=["hide-input"]
print(f"Of the training set of {shown.name}; white is {shown.white}")
show(data_pages.statistics(shown))

# %% [markdown]
# ## Augmentation and noise
#
# The recipe is CIFAR-10's: padded by four black pixels, a window of the old size, every second image mirrored, drawn
# again in every epoch. Next to it the Poisson noise of section 4.1.2 {cite}`li2025pure`.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Five pictures, augmented and under noise", "classes": "photo"}}
augmentation = get_recipe(
    "fashion-mnist" if here else "digits", "pure20"
).augmentation
print(f"{shown.name}: {augmentation}")
columns = data_pages.versions(
    shown.train.images[:5], augmentation, scales=(1, 0.1), white=shown.white
)
data_pages.side_by_side(columns, shown.white)
plt.show()

# %% [markdown]
# **How to read it.** At $s = 1$ a light pixel stands for hundreds of photons, and the noise is a few per cent of
# it. At $s = 0.1$ it has a tenth of them.
#
# **What it does not show.** Colour, background, or anything off centre: each piece lies alone on black.
