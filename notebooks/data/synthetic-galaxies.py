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
# # Synthetic galaxies
#
# - **Before this page:** nothing.
# - **You need:** the extra `book`, which brings the simulation; no download, no GPU.
# - **Running time:** under a minute on two cores.
#
# Galaxies simulated with GalSim {cite}`rowe2015galsim`, in ten classes after Galaxy10's and in its file's layout, so
# that every step of the galaxy experiment runs anywhere. **No image on this page is an observation**, and an accuracy
# reached on them is one on simulations: they are called `galaxy10-synthetic` in every record.

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import Markdown

from pure import report
from pure.data import ImageSet, load
from pure.data.sets.galaxies.shapes import SHAPES
from pure.data.sets.galaxy10 import COUNTS, Galaxy10DECaLS, leaks
from pure.data.sets.synthetic_galaxies import simulate
from pure.data.splits import grouped_split
from pure.recipes import get_recipe
from pure.report import data_pages


def show(table):
    """A table as Markdown."""
    return Markdown(report.markdown(table))


show(data_pages.description("galaxy10-synthetic"))

# %% [markdown]
# ## What they look like
#
# Synthetic, 256 pixels as in Galaxy10, drawn now by {py:func}`pure.data.sets.synthetic_galaxies.simulate`:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Synthetic galaxies, a row for each class", "classes": "photo"}}
classes, per_class = tuple(COUNTS), 6
pictures = [
    simulate(label, 256, seed=0, index=index)
    for label in range(len(classes))
    for index in range(per_class)
]
# (60, 3, 256, 256)
drawn = torch.stack(
    [torch.from_numpy(picture) for picture in pictures]
).movedim(-1, 1)
labels = torch.arange(len(classes)).repeat_interleave(per_class)
data_pages.contact_sheet(ImageSet(drawn, labels), classes, per_class=per_class)
plt.show()

# %% [markdown]
# ## How a class is made
#
# A function for each class draws a galaxy's properties and puts bulges and discs with Sersic profiles, bars, spiral
# arms, dust, tails and bridges on a canvas. Then comes what every class shares: other galaxies and stars in the frame,
# the seeing, the light of the sky, photon noise, three bands, and the stretch that makes a colour picture of them.

# %% tags=["hide-input"]
rows = [
    [name, shape.__doc__.splitlines()[0]]
    for name, shape in zip(classes, SHAPES, strict=True)
]
show(pd.DataFrame(rows, columns=["Class", "Synthetic, drawn as"]))

# %% [markdown]
# The same galaxy at every size of the picture, for it is drawn in seconds of arc:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three synthetic galaxies at three sizes", "classes": "photo"}}
sizes = {
    f"{size} pixels": [
        torch.from_numpy(simulate(label, size)).movedim(-1, 0)
        for label in (1, 5, 9)
    ]
    for size in (32, 64, 128, 256)
}
data_pages.side_by_side(sizes)
plt.show()

# %% [markdown]
# ## The division
#
# Those that the book trains on, made once and kept: the recipe `galaxy10-quick`, divided as Galaxy10 is. Its training
# set has each image a second time, augmented. The classes have Galaxy10's shares, but at least ten images each.

# %%
recipe = get_recipe("galaxy10-quick", "pure18")
splits = load(recipe.dataset, data_pages.shared_root(), **recipe.data_options)
assert splits.synthetic
show(data_pages.division(splits))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Images of each class in training, validation and test set"}}
data_pages.class_balance(splits)
plt.show()

# %% [markdown]
# **Check.** On purpose, as in Galaxy10, some galaxies are there twice, under two labels. Positions that two parts
# share, in the plain division and in the one by position:

# %%
source = splits.validation.images  # the whole file
dataset = Galaxy10DECaLS(source.path.parent, file=source.path.name)
positions = dataset.positions()
by_position = grouped_split(dataset.targets, positions, (0.8, 0.1, 0.1), 0)
shared = {
    "plain": leaks(splits.rows, positions),
    "by position": leaks(
        dict(zip(splits.rows, by_position, strict=True)), positions
    ),
}
assert not any(shared["by position"].values())
rows = [[name, *map(str, found.values())] for name, found in shared.items()]
show(
    pd.DataFrame(
        rows,
        columns=[
            "Division",
            *(" and ".join(pair) for pair in shared["plain"]),
        ],
    )
)

# %% [markdown]
# ## Statistics for normalisation

# %%
show(data_pages.statistics(splits))

# %% [markdown]
# ## Augmentation and noise
#
# As in section 4.1.2 {cite}`li2025pure`, on synthetic galaxies of 256 pixels: turned, mirrored and cropped, and under
# Poisson noise of scale $s$.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Five synthetic galaxies, augmented and noisy", "classes": "photo"}}
augmentation = get_recipe("galaxy10", "pure18").data_options[
    "static_augmentation"
]
samples = drawn[torch.tensor([0, 2, 5, 7, 9]) * per_class + 1]
data_pages.side_by_side(
    data_pages.versions(samples, augmentation, draws=2, scales=(4, 1, 0.25))
)
plt.show()

# %% [markdown]
# **How to read it.** A small galaxy fills a small part of the frame: a crop may lose it at the border, and turning
# leaves black corners that no observed image has.
#
# **What it does not show.** The sky. The ranges of all properties were chosen by eye, so that classes look as in
# Galaxy10 and blend at their borders; they are no fit to a survey. Real galaxies have more variety, real labels are
# votes of people who disagree, and real images have artefacts and neighbours that nobody simulated. Which network is
# better on these says little about which is better on those.
