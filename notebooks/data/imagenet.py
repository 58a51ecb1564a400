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
#     - data/splits/imagenet*.json
# ---

# %% [markdown]
# # ImageNet
#
# - **Before this page:** nothing.
# - **You need:** the extra `report`; the images, for the parts that show them.
# - **Running time:** seconds, with the images under a minute.
#
# The set of ILSVRC 2012 {cite}`russakovsky2015imagenet`, drawn from ImageNet {cite}`deng2009imagenet`: the paper's
# largest experiment, its tables 3 and 4. Access to it has to be requested. A subset such as Imagenette
# {cite}`howard2019imagenette`, ten of its classes, runs through the same code as data set `image-folder`.

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import HTML, Markdown, display

from pure import report
from pure.data import Splits, Subset, load
from pure.data.protocols import Protocol
from pure.data.sets import imagenet
from pure.recipes import get_recipe
from pure.report import data_pages, style

style.use()


def show(table):
    """A table as Markdown."""
    return Markdown(report.markdown(table))


root = data_pages.shared_root()
# A full tree has 1,000 folders of this form; one with fewer, here or in a
# folder imagenette*, is a subset.
subsets = [
    folder
    for folder in (root, *sorted(root.glob("imagenette*")))
    if 0 < len(list(folder.glob("train/n????????"))) < imagenet.CLASSES
]
try:
    splits = (
        load("image-folder", subsets[0], data_name="imagenette")
        if subsets
        else load("imagenet", root)
    )
    shown, classes, what = (
        splits.train,
        splits.classes,
        f"{splits.name}, training set",
    )
    instead = (
        "This page shows its published sizes, "
        f"and a subset in its place: {splits.name}."
    )
except FileNotFoundError:
    splits, shown, classes = (
        None,
        data_pages.photographs(),
        ("a temple", "a dahlia"),
    )
    what = "not ImageNet: scikit-learn's two sample photographs"
    instead = (
        "This page shows its published sizes, "
        "and scikit-learn's two sample photographs as a stand-in."
    )
if splits is None or splits.name != "imagenet":
    display(HTML(data_pages.notice("imagenet", instead)))
show(data_pages.description("imagenet"))

# %% [markdown]
# ## What they look like
#
# The first ten of the thousand classes, or all that are there. Photographs have many sizes and shapes.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Photographs, a row for each class", "classes": "photo"}}
print(f"Shown: {what}")
first = (shown.labels < 10).nonzero().squeeze(1)
if splits is None:
    data_pages.side_by_side(
        {name: shown.images[[row]] for row, name in enumerate(classes)}
    )
else:
    data_pages.contact_sheet(Subset(shown, first), classes[:10], per_class=8)
plt.show()

# %% [markdown]
# ## The division
#
# As published. The validation set, whose accuracy everybody reports, is the test set here and chooses nothing; the
# published test set has no labels. `holdout` takes a validation set from the training images.

# %%
published = {
    "Training": (imagenet.TRAIN, "{} to {}".format(*imagenet.TRAIN_PER_CLASS)),
    "Validation, which is tested on": (
        imagenet.CLASSES * imagenet.VALIDATION_PER_CLASS,
        imagenet.VALIDATION_PER_CLASS,
    ),
}
rows = [
    [part, f"{images:,}", str(per_class)]
    for part, (images, per_class) in published.items()
]
show(pd.DataFrame(rows, columns=["Published", "Images", "In a class"]))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Images of each class"}}
if splits is None:
    print(
        "How the images spread over the classes is read from the tree, "
        "as soon as there is one"
    )
else:
    display(
        Markdown(f"On this machine: `{splits.name}`"),
        show(data_pages.division(splits)),
    )
    data_pages.class_balance(splits)
    plt.show()

# %% [markdown]
# ## Statistics for normalisation
#
# Section 4.2.2 {cite}`li2025pure` takes the published ones, and so does {py:func}`pure.data.sets.imagenet.imagenet`:

# %%
show(
    data_pages.statistics(
        Splits(
            "imagenet",
            classes,
            shown,
            None,
            shown,
            normalization=(imagenet.MEAN, imagenet.STD),
        )
    )
)

# %% [markdown]
# ## Augmentation and noise
#
# In training a window of 8 to 100 % of the area with an aspect ratio of 3/4 to 4/3 is brought to 224 x 224, and every
# second one is mirrored; drawn again in every epoch ({py:mod}`pure.data.augment`). Poisson noise (section 4.1.2) is the
# paper's for galaxies; here, on the central crop, it stands for comparison.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Photographs, as resized crops and under noise", "classes": "photo"}}
augmentation = get_recipe("imagenet", "pure18").augmentation
print(f"{what}: {augmentation}")
rows = (
    torch.arange(4) * (len(shown) // 4)
    if splits is not None
    else torch.arange(2)
)
samples = [shown[row][0] for row in rows.tolist()]
centre = Protocol.parse("single-crop")
columns = {}
for seed, image in enumerate(samples):
    augmented = data_pages.versions(
        image[None], augmentation, scales=(), seed=seed
    )
    noisy = data_pages.versions(
        centre.views(image[None])[0], scales=(1, 0.1), seed=seed
    )
    for title, version in {
        **augmented,
        **{name: noisy[name] for name in noisy if "noise" in name},
    }.items():
        columns.setdefault(title, []).append(version[0])
data_pages.side_by_side(columns)
plt.show()

# %% [markdown]
# ## Three ways to test
#
# An accuracy on ImageNet means little without the way the images were shown ({py:mod}`pure.data.protocols`). The paper
# does not tell its own; the ResNet rows of its table 4 are He et al.'s best, the third way {cite}`he2016deep`.

# %%
rows = []
for name in ("single-crop", "ten-crop", "multi-scale"):
    protocol = Protocol.parse(name)
    views = protocol.views(samples[0]) * (2 if protocol.mirrored else 1)
    sizes = ", ".join(
        dict.fromkeys(f"{view.shape[-2]} x {view.shape[-1]}" for view in views)
    )
    pixels = sum(view.shape[-2] * view.shape[-1] for view in views)
    rows.append([f"`{name}`", str(len(views)), sizes, f"{pixels:,}"])
show(
    pd.DataFrame(
        rows,
        columns=[
            "Protocol",
            "Views",
            "Sizes",
            "Pixels for the first photograph above",
        ],
    )
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "The single crop and the five crops of ten-crop", "classes": "photo"}}
crops = Protocol.parse("ten-crop")
places = ("upper left", "upper right", "lower left", "lower right", "centre")
columns = {"single-crop": [centre.views(image)[0] for image in samples[:2]]}
for number, place in enumerate(places):
    columns[f"ten-crop,\n{place}"] = [
        crops.views(image)[number] for image in samples[:2]
    ]
data_pages.side_by_side(columns)
plt.show()

# %% [markdown]
# The mirror image of each of the five makes them ten. The five sizes of `multi-scale`, drawn to one scale:

# %% tags=["hide-input"] mystnb={"image": {"alt": "A photograph at five sizes", "classes": "photo"}}
views = Protocol.parse("multi-scale").views(samples[0])
widths = [view.shape[-1] for view in views]
figure, axes = plt.subplots(
    1,
    len(views),
    figsize=(7, 7 * views[-1].shape[-2] / sum(widths) + 0.3),
    width_ratios=widths,
)
for axis, view in zip(axes, views, strict=True):
    axis.imshow(view.movedim(0, -1).numpy())
    axis.set_title(min(view.shape[-2:]), fontsize=8, color=style.ON_BOTH)
    axis.set_axis_off()
plt.show()

# %% [markdown]
# **How to read it.** The single crop loses the borders, the five crops overlap in the middle, and the five sizes show
# everything, at up to eight times the pixels of a crop each. More views cost more and score better; so rows of a table
# compare only if they were tested in one way.
#
# **What it does not show.** A thousand classes. The photographs of the stand-in are by danielbuechele and vultilion
# (Flickr, CC BY 2.0); they come with scikit-learn.
