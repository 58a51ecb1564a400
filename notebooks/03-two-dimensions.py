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
#     - results/cifar10-tenth/pure20/seed0/*
# ---

# %% [markdown]
# # Two dimensions
#
# - **Before this page:** [the product unit](01-product-unit.py); what a convolution is.
# - **You need:** the extra `book`; no download, no GPU. The photograph and the digits come with scikit-learn.
# - **Running time:** under a minute on two cores.
#
# Afterwards you can turn any convolution into a product unit by hand, say what a filter of exponents sees that a filter
# of weights does not, and read the exponents of a trained network.

# %%
from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Markdown
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

import pure
from pure import report
from pure.data.sets.digits import digits as load_digits
from pure.nn.functional import product_unit2d
from pure.report.parameters import repository
from pure.report.style import COLOURS, ON_BOTH, use
from pure.train import load_network

use()
# one order of summation: the same numbers in every run
torch.set_num_threads(1)


def show(table: pd.DataFrame) -> Markdown:
    """A table as Markdown."""
    return Markdown(report.markdown(table))


# %% [markdown]
# ## From convolution to product unit
#
# An image is a grid of inputs, and what matters in it is mostly near. So a convolution lays the same weights $w_{cmn}$
# over every window of $k \times k$ pixels and adds up the weighted pixels of all channels $c$:
#
# $$
# y_{ij} = \sum_{c} \sum_{m=1}^{k} \sum_{n=1}^{k} w_{cmn} \, x_{c,\,i+m,\,j+n}
# $$ (eq-convolution)
#
# The two-dimensional product unit slides in the same way. *Times* becomes *to the power of*, *sum* becomes *product*:
#
# $$
# y_{ij} = \prod_{c} \prod_{m=1}^{k} \prod_{n=1}^{k} x_{c,\,i+m,\,j+n}^{\;w_{cmn}}
# $$ (eq-product-2d)
#
# Our image is a photograph, in grey and cut to a tower. Its darkest pixel is not zero: even black paint reflects some
# light, and a power of zero is a topic of its own.

# %%
photograph = torch.tensor(load_sample_image("china.jpg")).double()
# luminance, as television weighs red, green and blue
grey = photograph @ torch.tensor([0.299, 0.587, 0.114]).double()
# from 1/256 to 1; two by two pixels become one
scene = (grey[60:330, 60:340][None, None] + 1) / 256
scene = F.avg_pool2d(scene, 2)  # (1, 1, 135, 140)

# %% [markdown]
# In code the two formulas differ in the two places that the words say. `windows` holds all factors of a window in one
# column.

# %%
mean = torch.full((1, 1, 3, 3), 1 / 9).double()

windows = F.unfold(scene, kernel_size=3)  # (1, 9, 133 * 138)
weights = mean.reshape(1, 9, 1)
size = (1, 1, scene.shape[2] - 2, scene.shape[3] - 2)
convolution = (windows * weights).sum(1).reshape(size)  # equation (3)
product = (windows**weights).prod(1).reshape(size)  # equation (4)

# %% [markdown]
# What runs in a network is neither of these lines. A product over a window is a sum over the window's logarithms, and a
# sum over windows is what every library computes fast:
#
# $$
# y = \exp\bigl(W * \log \max(x, \tau)\bigr)
# $$ (eq-log-conv-exp)
#
# Here $*$ is the convolution {eq}`eq-convolution`, and $\tau$ the [threshold](01-product-unit.py) that keeps the
# logarithm's input positive.
#
# **Check.** {py:func}`torch.nn.functional.conv2d` computes {eq}`eq-convolution`, and
# {py:func}`pure.nn.functional.product_unit2d` computes {eq}`eq-log-conv-exp`. Both are compared with the cell above,
# pixel by pixel.

# %% tags=["nbval-check-output"]
torch.testing.assert_close(
    F.conv2d(scene, mean), convolution, rtol=1e-12, atol=0
)
torch.testing.assert_close(
    product_unit2d(scene, mean, threshold=1e-7), product, rtol=1e-12, atol=0
)
assert (product <= convolution).all()
print("pixels compared:", product.numel())
print("mean of the convolution: ", f"{convolution.mean():.4f}")
print("mean of the product unit:", f"{product.mean():.4f}")

# %% [markdown]
# All nine weights are 1/9, which makes the convolution the *arithmetic* mean of each window and the product unit its
# *geometric* mean. The latter is never larger: one dark pixel pulls a product down further than a sum.
#
# ## The three steps, seen
#
# Now exponents that say more. The right column of the window gets $+1/3$, the left one $-1/3$: the unit divides the
# geometric mean of what is right by that of what is left.

# %%
ratio = torch.tensor([[-1.0, 0.0, 1.0]] * 3).double()[None, None] / 3
tau = 0.25
clamped = scene.clamp(min=tau)
steps = {
    "$x$: the image": scene,
    r"$\max(x,\tau)$": clamped,
    r"1. $\log \max(x,\tau)$": clamped.log(),
    "the exponents $W$": ratio,
    r"2. $z = W * \log \max(x,\tau)$": F.conv2d(clamped.log(), ratio),
    r"3. $y = e^z$": product_unit2d(scene, ratio, threshold=tau),
}

# %% mystnb={"image": {"alt": "A tower, clamped, its logarithm, nine exponents, the sum, its exponential", "classes": "photo"}, "figure": {"caption": "The three steps on a photograph. The clamp fills the shadows with one grey; the logarithm spreads what is dark; the convolution compares right with left; the exponential makes a ratio of the difference, one where the window is even. Photograph: danielbuechele, [CC BY 2.0](https://creativecommons.org/licenses/by/2.0/), cropped, in grey.", "name": "fig-three-steps"}} tags=["hide-input"]
looks = [
    {"cmap": "gray", "vmin": 0, "vmax": 1},
    {"cmap": "gray", "vmin": 0, "vmax": 1},
    {"cmap": "gray", "vmin": np.log(tau), "vmax": 0},
    {"cmap": "RdBu_r", "vmin": -1, "vmax": 1},
    {"cmap": "RdBu_r", "vmin": -1, "vmax": 1},
    {"cmap": "gray", "vmin": 0, "vmax": 2.5},
]


def picture(ax: plt.Axes, image: Tensor, title: str, **look: object) -> None:
    """An image with its own scale, in ink for both kinds of page."""
    drawn = ax.imshow(image[0, 0], **look)
    ax.set_title(title, color=ON_BOTH)
    ax.set_axis_off()
    bar = ax.figure.colorbar(drawn, ax=ax, shrink=0.85, aspect=25)
    bar.ax.tick_params(labelcolor=ON_BOTH, color=ON_BOTH, labelsize=7)
    bar.outline.set_visible(False)


fig, axes = plt.subplots(2, 3, figsize=(7, 4.5))
for ax, (title, image), look in zip(
    axes.flat, steps.items(), looks, strict=True
):
    picture(ax, image, title, **look)
for (i, j), exponent in np.ndenumerate(ratio[0, 0].numpy()):
    text = f"{exponent:+.2f}" if exponent else "0"
    axes[1, 0].text(j, i, text, ha="center", va="center", fontsize=7)
plt.show()

# %% [markdown]
# **How to read it.** After the clamp the dark parts under the roofs are all one grey: below the threshold the unit sees
# nothing. $z$ is red where it gets brighter from left to right and blue where it gets darker, and $y$ is the same as a
# ratio: grey, one, where nothing changes; white up to two and a half times as bright.
#
# **What it does not show.** Channels: in a network a unit multiplies over all of them, which is why it has hundreds of
# factors, not nine. Strides, dilation and groups are those of a convolution; a padded pixel counts as one, the neutral
# factor (exercise 1).
#
# ## What nine exponents can say
#
# Take three windows of weights, and use each in both ways. Only the reading changes: where the convolution has a
# difference, the product unit has a ratio.

# %%
surround = torch.full((3, 3), -1 / 8).double()
surround[1, 1] = 1
KERNELS = {
    "mean": mean,
    "right to left": ratio,
    "centre to ring": surround[None, None],
}

# %% mystnb={"image": {"alt": "Three filters of a tower, as sums above and as products below", "classes": "photo"}, "figure": {"caption": "The same nine numbers as weights of a sum (above) and as exponents of a product (below, logarithm). Where the sum sees mostly what is bright, the wall against the sky, the product finds as much structure in the dark.", "name": "fig-sum-and-product"}} tags=["hide-input"]
fig, axes = plt.subplots(2, 3, figsize=(7, 4.7))
for (name, kernel), above, below in zip(KERNELS.items(), *axes, strict=True):
    total = float(kernel.sum())
    grey_look = {"cmap": "gray", "vmin": 0, "vmax": 1}
    signed = {"cmap": "RdBu_r", "vmin": -0.3, "vmax": 0.3}
    logs = product_unit2d(scene, kernel, threshold=1e-3).log()
    picture(
        above,
        F.conv2d(scene, kernel),
        f"sum: {name}",
        **(grey_look if total > 0.5 else signed),
    )
    picture(
        below,
        logs,
        "log of product",
        **(
            {"cmap": "gray", "vmin": -3, "vmax": 0}
            if total > 0.5
            else {"cmap": "RdBu_r", "vmin": -1, "vmax": 1}
        ),
    )
plt.show()

# %% [markdown]
# **How to read it.** In the upper row colours are strong where the *light* is strong. In the lower row they are strong
# where the *contrast* is: the bushes and the shade under the roofs speak as loudly as the edge of the roof against the
# sky.
#
# **What it does not show.** That this is better. A ratio of two dark pixels is also mostly noise, and that is what the
# threshold is for.
#
# **Move it yourself.** {numref}`fig-touch-filter` has all nine exponents, the threshold and the light as sliders. Dim
# the right edge, and compare a ratio with the pixel itself; then raise the threshold until the shade under the roofs is
# gone.

# %% mystnb={"image": {"alt": "A photograph before and after a product unit"}, "figure": {"caption": "One product unit of 3 x 3 pixels before and after. Black and white in the right picture are the values that 2 % of its pixels lie below, and above.", "name": "fig-touch-filter"}}
from pure.report import interactive

interactive.filter_explorer(interactive.sample_picture())

# %% [markdown]
# ## Ratios do not care about the light
#
# The paper's introduction gives this reason for products in vision: *a convolutional filter that compares ratios rather
# than differences of neighboring regions* recognises a pattern under any lighting {cite}`li2025pure`. Light of another
# strength multiplies all pixels by a factor $c$. A convolution's output is multiplied too. A product unit's becomes
#
# $$
# \prod_i (c\,x_i)^{w_i} \;=\; c^{\,\sum_i w_i} \prod_i x_i^{w_i},
# $$ (eq-light)
#
# so exponents that add up to zero cancel the light, as long as all inputs stay above the threshold. We give the nine
# numbers *right to left* to a {py:class}`torch.nn.Conv2d` and to a {py:class}`pure.ProductUnit2d`. A third filter
# is the same product unit with the threshold of a new layer.

# %%
filters = {
    "difference": nn.Conv2d(1, 1, 3, bias=False),
    "ratio": pure.ProductUnit2d(1, 1, 3, threshold=1e-4),
    "ratio, threshold of a new layer": pure.ProductUnit2d(1, 1, 3),
}
for layer in filters.values():
    layer.double().requires_grad_(False).weight.copy_(ratio)

# from a quarter to four times the light
strengths = torch.logspace(-2, 2, 25, base=2).double()


def change(layer: nn.Module, strength: Tensor) -> float:
    """RMS change of a filter's answers, in their standard deviations."""
    answers = layer(scene)
    off = (layer(strength * scene) - answers).square().mean().sqrt()
    return (off / answers.std()).item()


changes = pd.DataFrame(
    {
        name: [change(layer, strength) for strength in strengths]
        for name, layer in filters.items()
    },
    index=pd.Index(strengths.numpy(), name="light"),
)

# %% [markdown]
# **Check.** The ratio changes by rounding alone; the difference changes in proportion to the light.

# %% tags=["nbval-check-output"]
assert changes["ratio"].max() < 1e-12
assert changes["difference"].iloc[[0, -1]].min() > 0.5
below = (scene < filters["ratio, threshold of a new layer"].threshold).double()
print(
    "ratio, largest change below 1e-12:", bool(changes["ratio"].max() < 1e-12)
)
print(f"pixels below the threshold of a new layer: {100 * below.mean():.0f} %")

# %% mystnb={"image": {"alt": "A tower under three lights, its differences and its ratios", "classes": "photo"}, "figure": {"caption": "Three lights. Dimming bleaches the differences (middle) and leaves the ratios (right) as they were; light that fades from left to right leaves them almost so.", "name": "fig-three-lights"}} tags=["hide-input"]
columns = scene.shape[3]
lights = {
    "as it is": torch.ones(columns),
    "a quarter of the light": torch.full((columns,), 0.25),
    "light from the left": torch.linspace(1, 0.1, columns),
}
fig, axes = plt.subplots(3, 3, figsize=(7, 6.6))
for (light, strength), row in zip(lights.items(), axes, strict=True):
    lit = scene * strength
    columns_of_row = {
        light: (lit, {"cmap": "gray", "vmin": 0, "vmax": 1}),
        "difference": (
            filters["difference"](lit),
            {"cmap": "RdBu_r", "vmin": -0.3, "vmax": 0.3},
        ),
        "ratio (log)": (
            filters["ratio"](lit).log(),
            {"cmap": "RdBu_r", "vmin": -1, "vmax": 1},
        ),
    }
    for ax, (title, (image, look)) in zip(
        row, columns_of_row.items(), strict=True
    ):
        picture(ax, image, title, **look)
plt.show()

# %% mystnb={"image": {"alt": "How much the answers of three filters change with the light"}, "figure": {"caption": "The whole picture under more or less light. The ratio stays at zero; with the threshold of a new layer the same exponents depend on the light after all, since most pixels fall below it.", "name": "fig-light-curves"}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(7, 3.2))
styles = {
    "difference": {"color": COLOURS["resnet"]},
    "ratio": {"color": COLOURS["pure"]},
    "ratio, threshold of a new layer": {
        "color": COLOURS["pure"],
        "linestyle": "--",
    },
}
for name, look in styles.items():
    ax.plot(
        changes.index,
        changes[name],
        marker="o",
        markersize=2.5,
        label=name,
        **look,
    )
ax.set(xscale="log", xlabel="strength of the light (1: as it is)")
ax.set_xticks([0.25, 0.5, 1, 2, 4], labels=["1/4", "1/2", "1", "2", "4"])
ax.minorticks_off()
ax.set_ylabel("change of the answer\n(standard deviations)")
ax.legend(loc="upper left")
plt.show()

# %% [markdown]
# **How to read it.** Two lessons in one figure. A product unit *can* be indifferent to light, exactly. And whether it
# is depends on the threshold: what falls below it is no longer a ratio. A new layer starts with $\tau = \log 2$, made
# for the outputs of a batch normalisation, which are around zero, not for brightness.
#
# **What it does not show.** That a product-unit *network* is indifferent to light. Its units see what a convolution and
# a batch normalisation leave of the image, and nothing makes their exponents add up to zero. Whether training does is
# the next question.
#
# ## The exponents of a trained network
#
# The repository keeps the weights of a PURe20 that was trained on real images, [batches 1 to 4 of
# CIFAR-10](data/cifar10.py) at a tenth of the paper's schedule, beside the record of that run. Its seed gives back the
# exponents that it started with.

# %%
record, network = load_network(
    repository() / "results/cifar10-tenth/pure20/seed0"
)
torch.manual_seed(record.seed)
new = pure.create_model("pure20", num_classes=10)


def exponents(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the exponents of every layer of product units, by name."""
    return {
        name: module.weight.detach().clone()
        for name, module in model.named_modules()
        if isinstance(module, pure.ProductUnit2d)
    }


start = exponents(new)
trained = exponents(network)

# %% tags=["hide-input"]
print(
    f"{record.model.parameters:,} parameters,",
    f"{len(record.epochs)} epochs,",
    f"test accuracy {100 * record.test.accuracy:.1f} %",
)

# %% [markdown]
# Two numbers say what a unit with exponents $w_1, \dots, w_n$ does. Their size, which is how steep it is. And their sum
# against their size,
#
# $$
# r = \frac{\sum_i w_i}{\sqrt{\sum_i w_i^2}} .
# $$ (eq-coherence)
#
# For exponents drawn at random with mean zero, $r$ is close to a standard normal, whatever $n$. A unit that takes
# ratios has $r \approx 0$, and by {eq}`eq-light` would not see the light. A unit that takes a mean has $r =
# \pm\sqrt{n}$. So the spread of $r$ over the units of a layer tells where training went: below one towards ratios,
# above one towards means.


# %%
def coherence(w: Tensor) -> Tensor:
    """The sum of each unit's exponents against their size, (K,)."""
    return w.sum((1, 2, 3)) / w.square().sum((1, 2, 3)).sqrt()


layers = pd.DataFrame(
    [
        {
            "Layer": name.removesuffix(".conv2"),
            "Factors $n$": f"{w[0].numel()}",
            "RMS exponent, start": f"{start[name].std():.3f}",
            "trained": f"{w.std():.3f}",
            "largest": f"{w.abs().max():.2f}",
            "Spread of $r$, start": f"{coherence(start[name]).std():.2f}",
            "trained ": f"{coherence(w).std():.2f}",
        }
        for name, w in trained.items()
    ]
)

# %% [markdown]
# **Check.** A new layer has exponents as Kaiming's rule with $a = 5$ says, uniform within $0.480/\sqrt{n}$, and so a
# spread of $r$ of one, within what sixteen to sixty-four units can tell.

# %% tags=["nbval-check-output"]
for w in start.values():
    n = w[0].numel()
    assert w.abs().max() <= (6 / 26 / n) ** 0.5
    assert abs(coherence(w).std() - 1) < 4 / (2 * len(w)) ** 0.5
print("layers checked:", len(start))

# %% mystnb={"figure": {"caption": "Exponents of PURe20 before and after its training on CIFAR-10's images, layer by layer. They grow, and the spread of their sums $r$ leaves one.", "name": "tab-exponents", "caption_before": true}} tags=["hide-input"]
show(layers)

# %% mystnb={"image": {"alt": "Histograms of exponents and of their sums, before and after training"}, "figure": {"caption": "Left: exponents of the first layer of units at the start and after training. Right: the sums $r$ of all units of the network, with the standard normal that they start from; ratios would gather at zero.", "name": "fig-exponents"}} tags=["hide-input"]
first = next(iter(trained))
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3))
for weights_of, colour, label in (
    (start, COLOURS["neutral"], "start"),
    (trained, COLOURS["pure"], "trained"),
):
    look = {"density": True, "histtype": "step", "color": colour}
    left.hist(
        weights_of[first].flatten().numpy(), 50, label=label, lw=1.5, **look
    )
    sums = torch.cat([coherence(w) for w in weights_of.values()])
    right.hist(sums.numpy(), np.linspace(-7, 7, 36), lw=1.5, **look)
grid = np.linspace(-7, 7, 300)
right.plot(
    grid,
    np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi),
    color="black",
    linestyle=":",
    label="standard normal",
)
left.set(xlabel="exponent $w$", ylabel="density")
left.set_title(f"{first.removesuffix('.conv2')}, all exponents")
right.set(xlabel=r"$r = \sum_i w_i\,/\,\sqrt{\sum_i w_i^2}$")
right.set_title("all units of the network")
left.legend()
right.legend()
plt.show()

# %% mystnb={"image": {"alt": "The windows of exponents of twelve units", "classes": "photo"}, "figure": {"caption": "Windows of the first layer of units: those with the largest exponents, one a unit. Red is a power above zero, blue one below: a window of one colour multiplies or divides by its mean, one of two colours takes a ratio.", "name": "fig-windows"}} tags=["hide-input"]
w = trained[first]  # (16, 16, 3, 3)
strongest = w.square().sum((2, 3)).argmax(1)  # the channel of each unit
chosen = w[torch.arange(len(w)), strongest]
order = chosen.square().sum((1, 2)).argsort(descending=True)[:12]
bound = chosen.abs().max().item()
fig, axes = plt.subplots(2, 6, figsize=(7, 2.7))
for ax, unit in zip(axes.flat, order.tolist(), strict=True):
    drawn = ax.imshow(chosen[unit], cmap="RdBu_r", vmin=-bound, vmax=bound)
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
    ax.set_title(f"unit {unit}", fontsize=7, color=ON_BOTH)
bar = fig.colorbar(drawn, ax=axes, shrink=0.9)
bar.set_label("exponent $w$", color=ON_BOTH)
bar.ax.tick_params(labelcolor=ON_BOTH, color=ON_BOTH)
plt.show()

# %% tags=["hide-input"]
spread = torch.cat([coherence(w) for w in trained.values()]).std().item()
near = torch.cat([coherence(w) for w in trained.values()]).abs() < 0.25
Markdown(
    f"The spread of $r$ over all {len(near)} units is {spread:.2f} after "
    f"training, and {100 * near.double().mean():.0f} % of the units have "
    f"$|r| < 0.25$, where chance alone would put 20 %. "
    + (
        "Training has moved the exponents away from ratios, towards means."
        if spread > 1.15
        else "Training has moved the exponents towards ratios."
        if spread < 0.85
        else "Training has left the sums about as random as they were."
    )
)

# %% [markdown]
# **How to read it.** The paper's picture of a unit that compares neighbouring regions is a possibility, not what this
# training finds: neighbouring exponents tend to have one sign, and their sums are larger than chance makes them. What
# the unit does with inputs that are mostly *on the threshold* is the other half of the story:

# %% mystnb={"figure": {"caption": "The same layers on training images after the last epoch, as the record notes it: learned thresholds, the share of inputs that count as the threshold, and the range of the exponent of the product.", "name": "tab-units-trained", "caption_before": true}} tags=["hide-input"]
state = record.epochs[-1].units
show(
    pd.DataFrame(
        [
            {
                "Layer": name.removesuffix(".conv2"),
                r"Threshold $\tau$": f"{unit.threshold:.3f}",
                "Inputs on the threshold (%)": f"{100 * unit.clamped:.0f}",
                "Least $z$": f"{unit.exponent[0]:.1f}",
                "Largest $z$": f"{unit.exponent[1]:.1f}",
            }
            for name, unit in state.items()
        ]
    )
)

# %% [markdown]
# **What it does not show.** What large images, the full schedule and other seeds do. This is one small network, looked
# at once; the [results](../book/results.py) have the thresholds of every run.
#
# ## Exercises

# %% [markdown]
# ### Exercise 1
#
# A padded pixel of a convolution is a zero, which adds nothing. Why would a zero be wrong for a product unit, and what
# stands there instead? Compute the sum of a constant image of ones under both padding modes of the unit, with all
# exponents 1/9 and a threshold of 1/2.

# %% tags=["hide-cell"]
ones = torch.ones(1, 1, 4, 4).double()
padded = {
    mode: product_unit2d(
        ones, mean, threshold=0.5, padding=1, padding_mode=mode
    )
    for mode in ("ones", "threshold")
}
for mode, image in padded.items():
    print(f"{mode:>9}: corner {image[0, 0, 0, 0]:.4f}, sum {image.sum():.3f}")
assert padded["ones"].sum() == 16
# at a corner, five of nine factors are padded
torch.testing.assert_close(
    padded["threshold"][0, 0, 0, 0], torch.tensor(0.5 ** (5 / 9)).double()
)
Markdown(
    "A zero would make the whole product zero, or infinite for a negative "
    "exponent. The neutral factor is one, whose logarithm is zero: padding "
    "the *logarithm* with zeros is what the convolution does anyway. The "
    "other reading pads the image with zeros, which the clamp lifts to the "
    "threshold: then the border is darker."
)

# %% [markdown]
# ### Exercise 2
#
# The light may change its colour too: each channel is multiplied by a factor of its own. Write down the condition on
# the exponents under which a unit does not see that, and build one for the colour photograph.

# %% tags=["hide-cell"]
# By the rule for one channel, in each channel by itself: the exponents of
# every channel have to add up to zero.
colour = (photograph[60:330, 60:340].permute(2, 0, 1)[None] + 1) / 256
unit = pure.ProductUnit2d(3, 1, 3, threshold=1e-4).double()
unit.requires_grad_(False).weight.copy_(ratio.expand(1, 3, 3, 3))
assert unit.weight.sum((2, 3)).abs().max() < 1e-15
evening = colour * torch.tensor([1.0, 0.6, 0.3]).double()[:, None, None]
torch.testing.assert_close(unit(evening), unit(colour), rtol=1e-12, atol=0)
print("answers compared under evening light:", unit(colour).numel())

# %% [markdown]
# ### Exercise 3
#
# Does a trained network care about the light? Train PURe20 on [the digits](data/digits.py) for four epochs, multiply
# the digits' brightness by 1/2 and by 2 before the normalisation, and measure the accuracy on the validation images.


# %% tags=["hide-cell"]
torch.manual_seed(0)
digits = load_digits()
network = pure.create_model("pure20", num_classes=10, in_channels=1)
record = pure.fit(
    "digits",
    network,
    data=digits,
    overrides={"epochs": 4},
    progress=False,
)


def answers_in(light: float) -> Tensor:
    """The logits of the validation images."""
    lit = digits.validation.images.float() * light
    with torch.no_grad():
        return network.eval()((lit - record.data.mean[0]) / record.data.std[0])


usual = answers_in(1)
for light in (0.5, 1, 2):
    logits = answers_in(light)
    correct = (logits.argmax(1) == digits.validation.labels).double().mean()
    moved = (logits - usual).square().mean().sqrt() / usual.std()
    print(
        f"light x {light:g}: {100 * correct:.1f} % correct,",
        f"logits changed by {moved:.2f} standard deviations",
    )
Markdown(
    "The logits change, so the network is not indifferent: the normalisation "
    "subtracts a mean, after which another light is not a factor any more, "
    "and nothing cancels it. How much accuracy that costs is another "
    "question, and on black and white digits it costs little. To make "
    "something of it, ask a ResNet20 the same."
)
