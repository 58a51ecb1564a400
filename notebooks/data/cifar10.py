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
#     - data/splits/cifar10*.json
# ---

# %% [markdown]
# # CIFAR-10
#
# - **Before this page:** nothing.
# - **You need:** the extra `report`; the images, for the parts that show them.
# - **Running time:** seconds, with the images under a minute.
#
# 60,000 small colour photographs {cite}`krizhevsky2009learning`: the set of the paper's tables 5 and 6, and of the
# ablations that most of its conclusions rest on.

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import torch
from IPython.display import HTML, Markdown, display

from pure import report
from pure.data import ImageSet, load
from pure.data.augment import parse
from pure.data.sets.cifar10 import CLASSES
from pure.recipes import get_recipe
from pure.report import data_pages


def show(table):
    """A table as Markdown."""
    return Markdown(report.markdown(table))


def crops():
    """Windows of 32 pixels from scikit-learn's two photographs."""
    shrink = parse("resize(96)")
    photographs = data_pages.photographs()
    small = shrink.apply(
        photographs.images,
        shrink.draw(2, photographs.shape, torch.Generator()),
    )
    # (2, rows, columns, 3, 32, 32)
    tiles = small.unfold(2, 32, 32).unfold(3, 32, 32).permute(0, 2, 3, 1, 4, 5)
    labels = torch.arange(2).repeat_interleave(tiles[0, ..., 0, 0, 0].numel())
    return ImageSet(tiles.reshape(-1, 3, 32, 32), labels)


try:
    splits, here = load("cifar10", data_pages.shared_root()), True
    shown, classes, what = (
        splits.train,
        splits.classes,
        f"{splits.name}, training set",
    )
except FileNotFoundError:
    here = False
    splits = data_pages.documented(
        "cifar10", CLASSES, train=[5000] * 10, test=[1000] * 10
    )
    shown, classes, what = (
        crops(),
        ("a temple", "a dahlia"),
        "not CIFAR-10: crops of scikit-learn's two photographs",
    )
    instead = (
        "This page shows its documented sizes, "
        "and crops of two photographs as a stand-in for its pixels."
    )
    display(HTML(data_pages.notice("cifar10", instead)))
show(data_pages.description("cifar10"))

# %% [markdown]
# The same photographs circulate as JPEG files too. JPEG loses detail, so the variant is part of the data's name, and so
# of every record: `cifar10`, `cifar10-jpeg` or `cifar10-png`, see {py:func}`pure.data.sets.cifar10.cifar10`.
#
# ## What they look like

# %% tags=["hide-input"] mystnb={"image": {"alt": "Photographs of 32 pixels, a row for each class", "classes": "photo"}}
print(f"Shown: {what}")
data_pages.contact_sheet(shown, classes, per_class=12)
plt.show()

# %% [markdown]
# ## The division
#
# As published. Nothing is held out by default, as in the paper: the last epoch is tested once, and the test set chooses
# nothing. `holdout=5000` gives a validation set for curves.
#
# `test="batch5"` trains on the original batches 1 to 4 and tests on batch 5,
# under the name `cifar10-batch5`: the official test set stays untouched, and
# is not needed. Everybody who has CIFAR-10 can repeat it. Its accuracy is not
# the one that others publish, and 10,000 training images fewer cost some of
# it.
#
# `crop`, `size`, `per_class` and `static_augmentation` are options of every
# data set, see {py:func}`pure.data.preparation.prepare`.

# %%
show(
    data_pages.division(splits)
    if here
    else data_pages.division(splits)[["Part", "Images"]]
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Images of each class in training and test set"}}
data_pages.class_balance(splits)
plt.show()

# %% [markdown]
# **Check.** 5,000 and 1,000 images of each class.

# %%
assert splits.train.labels.bincount().tolist() == [5000] * 10
assert splits.test.labels.bincount().tolist() == [1000] * 10

# %% [markdown]
# ## Statistics for normalisation

# %% tags=["hide-input"]
if here:
    display(show(data_pages.statistics(splits)))
else:
    print(
        "Computed on the training set as soon as it is there; "
        "a stand-in has no use for them"
    )

# %% [markdown]
# ## Augmentation and noise
#
# Section 4.3.2 {cite}`li2025pure` follows He et al. {cite}`he2016deep`: padded by four black pixels, a window of the
# old size, every second image mirrored; drawn again in every epoch ({py:mod}`pure.data.augment`). The Poisson noise of
# section 4.1.2 is the paper's for galaxies; here it stands for comparison.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Five photographs, augmented and under noise", "classes": "photo"}}
augmentation = get_recipe("cifar10", "pure20").augmentation
print(f"{what}: {augmentation}")
samples = shown.images[torch.arange(5) * (len(shown) // 5)]
data_pages.side_by_side(
    data_pages.versions(samples, augmentation, scales=(1, 0.1))
)
plt.show()

# %% [markdown]
# **How to read it.** The black borders are part of the recipe: the networks see them in training and not in the test.
# In grey levels the noise grows with the brightness, but only as its root: relative to the signal it is worst where it
# is dark.
#
# **What it does not show.** What a network finds hard. A dozen pictures of a class are a glance, not a survey.
