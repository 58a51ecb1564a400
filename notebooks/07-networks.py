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
#     - results/paper.yaml
# ---

# %% [markdown]
# # The networks
#
# - **Before this page:** [the product unit](01-product-unit.py).
# - **You need:** the extra `report`; no download, no GPU.
# - **Running time:** under a minute on two cores.
#
# Which networks the paper compares {cite}`li2025pure`, drawn and counted from the modules that are trained here:
# the networks lie on PyTorch's *meta* device, which knows shapes and no numbers.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from IPython.display import Markdown

import pure
from pure import report
from pure.nn import blocks
from pure.report import diagrams, networks, style

style.use()
here = Path.cwd()  # the repository, or a folder in it
files = (folder / "results/paper.yaml" for folder in [here, *here.parents])
# what the paper prints
paper = networks.paper_numbers(next(file for file in files if file.exists()))


def show(table):
    """A table as Markdown."""
    return Markdown(report.markdown(table))


# %% [markdown]
# ## One unit, step by step
#
# The logarithm turns the product into a sum, the convolution adds it up, the exponential turns it back. Before that,
# the threshold lifts what a logarithm cannot take. The numbers are those of
# {py:func}`pure.nn.functional.product_unit2d`; shaded are the pixels that the threshold has lifted.

# %% tags=["hide-input"] mystnb={"image": {"alt": "From a window of pixels by max, log, conv and exp to one output"}}
diagrams.product_unit_figure()
plt.show()

# %% [markdown]
# **How to read it.** A negative pixel and a small one come out alike: below the threshold the unit does not see how far
# below. The block has no other activation: this clamp takes the place of one.
#
# ## The block
#
# A residual block {cite}`he2016deep` adds what two convolutions have found to what came in. The product-unit block
# keeps the first convolution, makes the second a product unit, and drops both ReLUs. Both normalisations stay. The
# first one matters here: it decides how much of the unit's input lies above the threshold.

# %% tags=["hide-input"] mystnb={"image": {"alt": "A residual block beside a product-unit block"}}
diagrams.block_figure()
plt.show()

# %% [markdown]
# Each difference from the paper's block is a setting of {py:class}`pure.nn.blocks.ProductUnitBlock`, and shows in the
# drawing, since that is made from the block's modules. Two variants for ablations:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two variants of the product-unit block"}}
diagrams.block_figure(
    {
        "units='both'": blocks.ProductUnitBlock(64, 64, units="both"),
        "relu_after_sum=True, shortcut B": blocks.ProductUnitBlock(
            64, 128, 2, blocks.shortcut_b(64, 128, 2), relu_after_sum=True
        ),
    }
)
plt.show()

# %% [markdown]
# ## The whole network
#
# Stem, stages of blocks, average pool, linear layer. The first block of each stage but the first halves the size and
# doubles the channels; each drawing shows a stage's last block.

# %% tags=["hide-input"] mystnb={"image": {"alt": "PURe18 from stem to head"}}
with torch.device("meta"):
    pure18, resnet18 = (
        pure.create_model("pure18", 1000),
        pure.create_model("resnet18", 1000),
    )
    pure20 = pure.create_model("pure20")
diagrams.network_figure(pure18, title="PURe18, for images of 224 pixels")
plt.show()

# %% tags=["hide-input"] mystnb={"image": {"alt": "PURe20 from stem to head"}}
diagrams.network_figure(pure20, title="PURe20, for images of 32 pixels")
plt.show()

# %% [markdown]
# ## Table 1: PURe18 beside ResNet18
#
# Read off the two live networks, layer by layer, in the order in which an image passes them. In brackets stands what is
# on the shortcut where the shape changes; the printed table leaves that out. It ends in a softmax, which is part of the
# loss here.

# %%
show(networks.architecture_table({"PURe18": pure18, "ResNet18": resnet18}))

# %% [markdown]
# **Check.** The two differ by one parameter for each block, the threshold's $\theta$.

# %% tags=["nbval-check-output"]
extra = networks.parameters(pure18) - networks.parameters(resnet18)
count = sum(len(stage) for stage in networks.stages(pure18).values())
assert extra == count
print(f"{extra} parameters more, in {count} blocks")

# %% [markdown]
# ## Table 5: blocks in each stage

# %%
show(networks.blocks_table(paper))

# %% [markdown]
# ## The parameters of tables 2, 4 and 6
#
# Counted in the networks, with either shortcut where there is a choice, beside the millions that the paper prints. The
# last column says which shortcut gives the printed figure.

# %%
counts = networks.parameters_table(paper)
show(counts)

# %% tags=["nbval-check-output"]
compared = counts[counts["Agrees"] != "not printed"]
differing = compared[compared["Agrees"] == networks.NO]
print(
    f"compared: {len(compared)}, "
    f"of which agree: {len(compared) - len(differing)}"
)
print("differ:", ", ".join(differing["Network"]))

# %% [markdown]
# **How to read it.** Shortcut B is the paper's, as tables 2 and 4 and the largest of its CIFAR networks tell;
# shortcut A is what He et al. {cite}`he2016deep` used for their CIFAR ResNets. Table 6 has one parameter column for
# both families, and where the two shortcuts round differently it shows the ResNet's. The two bottleneck networks with
# pre-activation {cite}`he2016identity` are built after the published code of their authors; with neither shortcut do
# their counts round to what the paper prints. Why, we do not know.
#
# ## What they cost
#
# For one image, without a GPU or a clock: the multiplications that are followed by an addition, the logarithms and
# exponentials, and what a training step has to keep for the backward pass.

# %%
photographs = [
    "pure18",
    "resnet18",
    "pure34",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
]
show(networks.costs_table(photographs))

# %%
cifar = [
    "pure20",
    "resnet20",
    "pure56",
    "resnet56",
    "pure110",
    "resnet110",
    "pure272",
]
show(networks.costs_table(cifar, num_classes=10, pixels=32))

# %% [markdown]
# Where the memory goes, block by block, in feature maps of the block's size:

# %%
pair = {
    "residual block": blocks.BasicBlock(64, 64),
    "product-unit block": blocks.ProductUnitBlock(64, 64),
}
show(networks.kept_table(pair, channels=64, pixels=56))

# %% [markdown]
# **How to read it.** In arithmetic the two families are equal: a logarithm for each input and an exponential for each
# output of a unit are few next to its multiplications. In memory they are not, as long as the unit is written out as
# maximum, logarithm, convolution and exponential: each step keeps its own input or output for the backward pass, where
# a convolution with ReLU keeps less. Two of these maps would be enough, the logarithm and the output, since the rest
# follows from them.
#
# **What it does not show.** Time. Counting multiplications says little about a layer that is bound by memory; that is
# for benchmarks to measure. And nothing here says which network is the better one.
