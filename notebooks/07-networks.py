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
import matplotlib.pyplot as plt
import torch
from IPython.display import Markdown

import pure
from pure import report
from pure.nn import blocks
from pure.report import diagrams, networks, style
from pure.report.parameters import repository

style.use()
# what the paper prints
paper = networks.paper_numbers(repository() / "results/paper.yaml")


def show(table):
    """A table as Markdown."""
    return Markdown(report.markdown(table))


# %% [markdown]
# ## One unit, step by step
#
# The logarithm turns the product into a sum, the convolution adds it up, the exponential turns it back. Before that,
# the threshold lifts what a logarithm cannot take. The numbers are those of
# {py:func}`pure.nn.functional.product_unit2d`; shaded are the pixels that the threshold has lifted.

# %% tags=["hide-input"] mystnb={"image": {"alt": "From a window of pixels by max, log, conv and exp to one output"}, "figure": {"caption": "One product unit on one window, with the numbers that the code computes: from left to right the pixels, lifted to the threshold, their logarithms, the weighted sum, the product.", "name": "fig-one-unit"}}
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

# %% tags=["hide-input"] mystnb={"image": {"alt": "A residual block beside a product-unit block"}, "figure": {"caption": "The two blocks of the paper's figure 2: the product-unit block has the same layers, one of them a product unit, and no ReLU.", "name": "fig-blocks"}}
diagrams.block_figure()
plt.show()

# %% [markdown]
# Each difference from the paper's block is a setting of {py:class}`pure.nn.blocks.ProductUnitBlock`, and shows in the
# drawing, since that is made from the block's modules. Two variants for ablations:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two variants of the product-unit block"}, "figure": {"caption": "Two switches of the block: product units in both places, and the ReLU after the sum that later versions of the paper keep.", "name": "fig-block-variants"}}
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

# %% tags=["hide-input"] mystnb={"image": {"alt": "PURe18 from stem to head"}, "figure": {"caption": "PURe18: four stages of two blocks; each stage but the first halves the map and doubles the channels.", "name": "fig-pure18"}}
with torch.device("meta"):
    pure18, resnet18 = (
        pure.create_model("pure18", 1000),
        pure.create_model("resnet18", 1000),
    )
    pure20 = pure.create_model("pure20")
diagrams.network_figure(pure18, title="PURe18, for images of 224 pixels")
plt.show()

# %% tags=["hide-input"] mystnb={"image": {"alt": "PURe20 from stem to head"}, "figure": {"caption": "PURe20: the same plan for small images, three stages of three blocks, a tenth of the width or less.", "name": "fig-pure20"}}
diagrams.network_figure(pure20, title="PURe20, for images of 32 pixels")
plt.show()

# %% [markdown]
# ## Table 1: PURe18 beside ResNet18
#
# Read off the two live networks, layer by layer, in the order in which an image passes them. In brackets stands what is
# on the shortcut where the shape changes; the printed table leaves that out. It ends in a softmax, which is part of the
# loss here.

# %% mystnb={"figure": {"caption": "Table 1 of the paper, read off the live networks; in brackets what stands on the shortcut.", "name": "tab-architecture", "caption_before": true}}
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

# %% mystnb={"figure": {"caption": "Table 5 of the paper: blocks in each stage.", "name": "tab-blocks", "caption_before": true}}
show(networks.blocks_table(paper))

# %% [markdown]
# ## What one number of a map sees
#
# A window of $k$ pixels on a map whose neighbours lie $j$ pixels of the image apart makes the *receptive field*
# $(k - 1)\,j$ pixels wider; a stride multiplies $j$. A product unit has the window of the convolution that it replaces,
# so both families see equally far.

# %% mystnb={"figure": {"caption": "PURe18 on images of 224 pixels: size of the map, distance of its neighbours, and side of what one number depends on.", "name": "tab-fields-18", "caption_before": true}}
show(networks.receptive_table(pure18, pixels=224))

# %% mystnb={"figure": {"caption": "PURe20 on images of 32 pixels.", "name": "tab-fields-20", "caption_before": true}}
show(networks.receptive_table(pure20))

# %% [markdown]
# **Check.** Shaken one by one, the pixels that move the middle number of the second stage are those of its field.

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
real = pure.create_model("pure20").double().eval()
image = torch.randn(1, 3, 64, 64, dtype=torch.float64, requires_grad=True)
maps = real.layer2(real.layer1(real.bn1(real.conv1(image))))
maps[0, :, 16, 16].sum().backward()
touched = (image.grad.abs().sum((0, 1)) > 0).any(0).nonzero()
side = (touched.max() - touched.min() + 1).item()
fields = networks.receptive_fields(pure20)
said = max(side for layer, side, _ in fields if "layer2" in layer.name)
print(f"gradients reach {side} pixels, the field has {said}")
assert side <= said

# %% [markdown]
# **How to read it.** In the last stages one number of a map depends on more than the whole image: where the field is
# wider than the image, it reaches into the padding. What lies there counts for nothing in a sum, and as a neutral
# factor in a product. A field is the outermost that *can* matter; most of the weight lies in its middle, and an input
# on a unit's threshold passes nothing on, so the gradients of one image may not reach its rim.
#
# ## The parameters of tables 2, 4 and 6
#
# Counted in the networks, with either shortcut where there is a choice, beside the millions that the paper prints. The
# last column says which shortcut gives the printed figure.

# %% mystnb={"figure": {"caption": "Parameters counted in the networks, with either shortcut, beside the printed millions.", "name": "tab-parameters", "caption_before": true}}
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

# %% mystnb={"figure": {"caption": "What one photograph of 224 pixels costs in each network.", "name": "tab-costs-photographs", "caption_before": true}}
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

# %% mystnb={"figure": {"caption": "What one image of 32 pixels costs in each network.", "name": "tab-costs-cifar", "caption_before": true}}
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

# %% mystnb={"figure": {"caption": "What a block keeps for its backward pass, in feature maps of its own size.", "name": "tab-kept", "caption_before": true}}
pair = {
    "residual block": blocks.BasicBlock(64, 64),
    "product-unit block": blocks.ProductUnitBlock(64, 64),
}
show(networks.kept_table(pair, channels=64, pixels=56))

# %% [markdown]
# **How to read it.** In arithmetic the two families are equal: a logarithm for each input and an exponential for each
# output of a unit are few next to its multiplications. In memory they are, too: the unit keeps two maps, its logarithm
# and its output, from which the rest of its gradient follows, and its output is also what the normalisation after it
# needs. Written out as maximum, logarithm, convolution and exponential, each step would keep its own. A residual block
# has its ReLU's output to keep instead.
#
# **What it does not show.** Time. Counting multiplications says little about a layer that is bound by memory; that is
# for benchmarks to measure. And nothing here says which network is the better one.
#
# ## Exercises
#
# ### Exercise 1
#
# Networks for small images have $6n + 2$ layers. Count the parameters of the product-unit block with 16 channels by
# hand, then of a PURe8 ($n = 1$, widths 16, 32, 64, ten classes, shortcut B), and check both.


# %% tags=["hide-cell"]
def block(width, before):
    """Two 3 x 3 layers, two BN of two numbers a channel, one theta."""
    layers = 9 * before * width + 9 * width * width + 4 * width + 1
    # shortcut B where the shape changes: 1 x 1 and BN
    return layers + (before * width + 2 * width if before != width else 0)


with torch.device("meta"):
    alone = blocks.ProductUnitBlock(16, 16)
    pure8 = pure.create_model("pure20", blocks=(1, 1, 1))
stem, head = 9 * 3 * 16 + 2 * 16, 64 * 10 + 10
by_hand = stem + block(16, 16) + block(32, 16) + block(64, 32) + head
assert networks.parameters(alone) == block(16, 16)
assert networks.parameters(pure8) == by_hand
print(f"block: {block(16, 16):,}; PURe8: {by_hand:,}")

# %% [markdown]
# ### Exercise 2
#
# How deep must a network for small images be ($n$ blocks in each stage) before one number at the end of the *first*
# stage sees the whole of 32 pixels? Derive it, then check it.

# %% tags=["hide-cell"]
# The stem sees 3; each block adds two windows of 3, so 4 pixels: 3 + 4 n.
needed = next(n for n in range(1, 20) if 3 + 4 * n >= 32)
for n in (needed - 1, needed):
    with torch.device("meta"):
        network = pure.create_model("pure20", blocks=(n, 1, 1))
    seen = [
        side
        for layer, side, _ in networks.receptive_fields(network)
        if layer.name.startswith("layer1")
    ][-1]
    assert seen == 3 + 4 * n
    print(f"{n} blocks in the first stage: {seen} pixels")

# %% [markdown]
# ### Exercise 3
#
# How many images of 224 pixels can PURe18 and ResNet18 train on at once in 8 GB, if nothing but parameters (with
# gradients and momentum) and what the forward pass keeps counted? Which of the two terms matters?

# %% tags=["hide-cell"]
for name, network in (("PURe18", pure18), ("ResNet18", resnet18)):
    cost = networks.costs(network)
    fixed = 3 * 4 * cost.parameters  # weights, gradients, momentum
    images = (8e9 - fixed) // cost.kept_bytes
    print(f"{name}: {images:.0f} images; parameters take {fixed / 8e9:.1%}")
# The maps matter, by far. Both families keep about as many of them: in a
# product unit a logarithm stays where a ResNet keeps the output of a ReLU.
