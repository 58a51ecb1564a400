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
#     - results/digits/**/record.json
# ---

# %% [markdown]
# # Thresholds
#
# - **Before this page:** [the product unit](01-product-unit.py) and [the networks](07-networks.py).
# - **You need:** the extra `book`; no download, no GPU.
# - **Running time:** about a minute on two cores.
#
# A logarithm takes positive numbers only, so a product unit lifts every input to a threshold:
# $x \mapsto \max(x, \tau)$. PURe {cite}`li2025pure` learns $\tau$, one number for each unit, and has no other
# activation anywhere: no ReLU, not even in the stem. Five questions follow. How is the positive $\tau$ made from a
# parameter that may have any sign? How much of what comes in lies on it? What moves it? Does it matter where it is?
# And does this clamp do the work that a ReLU did?

# %%
import copy
import math
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown

import pure
from pure import report
from pure.data import load
from pure.data.images import read
from pure.nn.batchnorm import reestimate
from pure.nn.blocks import ProductUnitBlock
from pure.recipes import get_recipe
from pure.records import read_records
from pure.report import linearity, thresholds
from pure.report.parameters import repository
from pure.report.style import COLOURS, PALETTE, use

use()
# one order of summation: the same numbers in every run
torch.set_num_threads(1)


def show(table):
    """A table as Markdown."""
    return Markdown(report.markdown(table))


# %% [markdown]
# ## From theta to tau
#
# The optimiser adds and subtracts, and would sooner or later step below zero. So it is given $\theta$, which may have
# any sign, and an activation $a$ makes a positive number of it:
#
# $$
# \tau = a(\theta) + \varepsilon, \qquad \varepsilon = 10^{-7}
# $$ (eq-tau)
#
# The paper does not name $a$. We read softplus, $\log(1 + e^\theta)$; exp, sigmoid and ReLU are settings, and so is a
# fixed number in place of a parameter. $\theta$ starts at zero.

# %%
ACTIVATIONS = ("softplus", "exp", "sigmoid", "relu")


def tau_and_slope(activation, theta):
    """The threshold of a unit, and its derivative by theta."""
    unit = pure.ProductUnit(1, 1, threshold=activation, theta_init=theta)
    (slope,) = torch.autograd.grad(unit.threshold, unit.theta)
    return unit.threshold.item(), slope.item()


# %% mystnb={"figure": {"caption": "The threshold and its slope at the start, where $\\theta=0$, and at two other places.", "name": "tab-activations", "caption_before": true}}
rows = []
for activation in ACTIVATIONS:
    row = {"Activation": activation}
    for theta in (0.0, -4.0, 4.0):
        tau, slope = tau_and_slope(activation, theta)
        row[rf"$\tau$ at $\theta={theta:g}$"] = f"{tau:.3g}"
        row[rf"$d\tau/d\theta$ at {theta:g}"] = f"{slope:.3g}"
    rows.append(row)
show(pd.DataFrame(rows))

# %% [markdown]
# **Check.** The slopes are those of the formulas: a sigmoid for softplus, $\tau$ itself for exp, $\tau(1-\tau)$ for
# sigmoid. A ReLU's is zero at $\theta = 0$: a unit that starts there never leaves.

# %% tags=["nbval-check-output"]
for theta in (-4.0, -0.5, 0.0, 2.0):
    sigmoid = 1 / (1 + math.exp(-theta))
    slopes = [tau_and_slope(each, theta)[1] for each in ACTIVATIONS]
    expected = [sigmoid, math.exp(theta), sigmoid * (1 - sigmoid), theta > 0]
    np.testing.assert_allclose(slopes, expected, rtol=1e-5)
asleep = pure.ProductUnit(3, 2, threshold="relu")
asleep(-torch.ones(5, 3)).sum().backward()  # every input lies below
print("gradient of a ReLU's theta at 0:", asleep.theta.grad.item())

# %% tags=["hide-input"] mystnb={"image": {"alt": "Thresholds and their slopes over theta, four activations"}, "figure": {"caption": "Left the threshold, right its slope, the factor by which a gradient of $\\tau$ reaches $\\theta$. Exp moves fastest where $\\tau$ is large, sigmoid stops at 1, ReLU is dead on the left.", "name": "fig-activations"}}
fig, axes = plt.subplots(1, 2, figsize=(7, 2.8))
grid = np.linspace(-4, 2.5, 131)
for activation, colour in zip(ACTIVATIONS, PALETTE, strict=False):
    values = np.array([tau_and_slope(activation, t) for t in grid])
    if activation == "relu":  # a jump, not a slope
        values[np.abs(grid).argmin()] = np.nan
    for ax, each in zip(axes, values.T, strict=True):
        ax.plot(grid, each, color=colour, label=activation)
axes[0].plot(0, math.log(2), "o", color="black", zorder=5)
axes[0].annotate(
    r"start: $\ln 2$",
    (0, math.log(2)),
    (-3.6, 1.45),
    arrowprops={"lw": 0.7, "arrowstyle": "-"},
)
for ax, label in zip(
    axes, [r"threshold $\tau$", r"$d\tau\,/\,d\theta$"], strict=True
):
    ax.set(xlabel=r"$\theta$", ylabel=label, ylim=(-0.05, 3))
axes[1].legend(loc="upper left")
plt.show()

# %% [markdown]
# **How to read it.** Below zero, softplus and exp are alike: a step of $\theta$ there multiplies $\tau$ by a factor,
# so the threshold becomes small and never negative. Above, softplus goes on in a straight line, and exp grows by
# factors. Sigmoid cannot pass 1. ReLU can reach $\varepsilon$ in finitely many steps, and stays there: of a power
# $\tau^w$ with a negative $w$ nothing good remains.
#
# **What it does not show.** Which of them trains best. The records below do.
#
# ## What lies on it
#
# In front of the unit stands a batch normalisation. In a new network its output has mean 0 and variance 1 in every
# channel. If it were normal, the share of inputs at the threshold or below would be
#
# $$
# P(x \le \tau) = \Phi(\tau) = \tfrac12\bigl(1 + \operatorname{erf}(\tau / \sqrt2)\bigr).
# $$ (eq-share)
#
# A ReLU stops half of its inputs; a threshold at $\ln 2$ would stop three quarters. We ask a new PURe20 on the test
# images of the digits, with the statistics of its batch normalisations estimated on the training images.

# %%
digits = load("digits")


def pixels(part):
    """All images of a part, normalised: (N, 1, 8, 8), float32."""
    mean, std = digits.statistics
    return (read(part, torch.arange(len(part))) - mean) / std


train, test = pixels(digits.train).float(), pixels(digits.test).float()
torch.manual_seed(0)
new = pure.create_model("pure20", in_channels=1)
reestimate(new, train.split(128))
given = linearity.inputs_of(new, pure.ProductUnit2d, test)


def normal_share(tau):
    """Share of a standard normal variable at tau or below."""
    return 0.5 * (1 + math.erf(tau / math.sqrt(2)))


# %% [markdown]
# **Check.** In every unit the share is within a tenth of that of a normal variable.

# %% tags=["nbval-check-output"]
measured = torch.stack(
    [(x <= math.log(2)).float().mean() for x in given.values()]
)
assert (measured - normal_share(math.log(2))).abs().max() < 0.1
print(f"normal: {normal_share(math.log(2)):.3f}")
print(f"units, mean: {measured.mean():.2f}")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Histogram of a unit's inputs with the normal density, and the share of inputs at the threshold over the threshold"}, "figure": {"caption": "Left what arrives at the fifth unit of a new PURe20, and the normal density: all left of the dotted line counts as $\\tau$. Right the share of inputs on the threshold, had it another value: each of the nine units follows the normal law.", "name": "fig-share"}}
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.9))
name, x = list(given.items())[4]
edges = np.linspace(-4, 4, 81)
left.hist(
    x.flatten().numpy(), edges, density=True, color=COLOURS["pure"], alpha=0.5
)
density = np.exp(-(edges**2) / 2) / math.sqrt(2 * math.pi)
left.plot(edges, density, color="black", linewidth=1)
left.axvline(math.log(2), color=COLOURS["neutral"], linestyle=":")
left.text(math.log(2) + 0.1, 0.42, r"$\tau=\ln 2$")
left.set(
    xlabel="input of the unit", ylabel="density", title=name, ylim=(0, 0.47)
)
taus = np.linspace(0, 3, 61)
for number, x in enumerate(given.values()):
    shares = [100 * (x <= tau).float().mean() for tau in taus]
    right.plot(
        taus,
        shares,
        color=COLOURS["pure"],
        alpha=0.4,
        linewidth=1,
        label="the nine units" if number == 0 else None,
    )
right.plot(
    taus,
    [100 * normal_share(tau) for tau in taus],
    color="black",
    linewidth=1,
    linestyle="--",
    label=r"$\Phi(\tau)$",
)
right.axvline(math.log(2), color=COLOURS["neutral"], linestyle=":")
right.set(xlabel=r"threshold $\tau$", ylabel="inputs at the threshold (%)")
right.legend(loc="lower right")
plt.show()

# %% [markdown]
# **How to read it.** A new unit is blind to three quarters of what it gets. That is no accident of the data: it is
# the normal law at $\ln 2$, and holds in every layer, since each has a batch normalisation in front. What is fixed at
# 2 would leave one input in 44; what is fixed near zero would be as generous as a ReLU, and no threshold lets more than
# half through as long as the normalisation has no bias.
#
# **What it does not show.** A trained network, whose normalisation has learnt a scale and a bias for each channel.
#
# ## What moves it
#
# Write $S$ for the inputs of a unit that lie at the threshold. Then $y = \tau^{\sum_{i \in S} w_i}
# \prod_{i \notin S} x_i^{w_i}$, and
#
# $$
# \frac{\partial y}{\partial \tau} = \frac{y}{\tau} \sum_{i \in S} w_i, \qquad
# \frac{\partial L}{\partial \theta} = a'(\theta) \sum_{\text{outputs}} \frac{\partial L}{\partial y}\,
# \frac{y}{\tau} \sum_{i \in S} w_i .
# $$ (eq-theta)
#
# The inputs on the threshold have no gradient, and the threshold has theirs, all of it. Three quarters of the inputs
# vote in every window; each votes with its exponent. Exponents of both signs cancel, so it is a tug of war.

# %% [markdown]
# **Check.** The formula against automatic differentiation, on a dense unit.

# %% tags=["nbval-check-output"]
torch.manual_seed(1)
unit = pure.ProductUnit(12, 5, dtype=torch.float64)
x = torch.randn(64, 12, dtype=torch.float64)
y = unit(x)
upstream = torch.randn_like(y)
y.backward(upstream)

on_it = unit.clamped(x).double()  # (64, 12): 1 for an input in S
votes = on_it @ unit.weight.T  # (64, 5): the sums of w over S
slope = torch.sigmoid(unit.theta)  # of softplus
by_hand = slope * (upstream * y / unit.threshold * votes).sum()
torch.testing.assert_close(
    unit.theta.grad, by_hand.detach(), rtol=1e-12, atol=0
)
print("the formula is the gradient:", True)

# %% [markdown]
# Weight decay moves it too. Plain SGD pulls every parameter towards zero, $\theta$ among them, and $\theta = 0$ is
# where a threshold began: decay holds $\tau$ near $\ln 2$ with softplus, near 1 with exp, near 1/2 with sigmoid. How
# strong that is depends on rate and length of the training. {py:func}`pure.report.thresholds.theta_left` follows SGD's
# recurrence with no gradient but the decay's, and tells what is left of any $\theta$ at the end.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "What decay alone leaves of a threshold's $\\theta$, by PURe's recipes. Where the rate drops on a plateau, it is taken as constant: the least that is left.", "name": "tab-decay", "caption_before": true}}
# training images: of the records, and of the sets that the paper names
IMAGES = {
    "digits": len(digits.train),
    "cifar10-tenth": 40_000,
    "cifar10": 50_000,
    "galaxy10": 2 * 14_188,  # each image once more, augmented
    "imagenet": 1_281_167,
}
rows = []
for name, images in IMAGES.items():
    recipe = get_recipe(name, "pure")
    rates = [
        recipe.lr * recipe.gamma ** sum(epoch >= m for m in recipe.milestones)
        for epoch in range(recipe.epochs)
    ]
    steps = math.ceil(images / recipe.batch_size)
    left_over = thresholds.theta_left(
        rates, steps, recipe.weight_decay, recipe.momentum
    )
    rows.append(
        {
            "Recipe": name,
            "Rate": f"{recipe.lr:g}",
            "Decay": f"{recipe.weight_decay:g}",
            "Steps": f"{steps * recipe.epochs:,}",
            r"$\theta$ left (%)": f"{100 * left_over:.3g}",
        }
    )
show(pd.DataFrame(rows))

# %% [markdown]
# **How to read it.** On the digits decay changes next to nothing, and an ablation of it there cannot find anything. By
# the paper's recipes hardly anything is left of a $\theta$ that the loss does not hold: in those, a threshold that
# stays away from $\ln 2$ is pushed there by the data until the last drop of the rate.
#
# ## Batch normalisation can do it too
#
# For every factor $c > 0$, $\max(x, \tau) = c\,\max(x/c,\ \tau/c)$. Take $c = \tau$. Dividing by $\tau$ is what the
# normalisation in front can do with its scale and bias, and the factor $\tau^{\sum w}$ that is left over is one
# constant for each output channel, which the normalisation after the unit divides out again. So
#
# $$
# \operatorname{BN}_2\bigl(\operatorname{PU}_\tau(\gamma \hat x + \beta)\bigr) =
# \operatorname{BN}_2\bigl(\operatorname{PU}_1(\tfrac{\gamma}{\tau} \hat x + \tfrac{\beta}{\tau})\bigr) :
# $$ (eq-redundant)
#
# **a block with a learnt threshold computes nothing that a block with the threshold fixed at 1 cannot compute.** The
# same holds for one threshold a channel, since scale and bias are there for each channel too.
#
# One place breaks it. A padded pixel counts as the neutral factor 1, so at the edge of the map less than the whole
# factor $\tau^{\sum w}$ is pulled out. With `padding_mode="threshold"` a padded pixel counts as $\tau$, and the
# identity is exact.


# %%
def with_fixed_threshold(block):
    """The same function, its threshold fixed at 1."""
    twin, unit = copy.deepcopy(block), block.conv2
    twin.conv2 = pure.ProductUnit2d(
        *unit.weight.shape[:2],
        kernel_size=3,
        padding=1,
        threshold=1.0,
        padding_mode=unit.padding_mode,
    ).double()
    twin.conv2.weight = unit.weight
    with torch.no_grad():
        twin.bn1.weight /= unit.threshold
        twin.bn1.bias /= unit.threshold
    return twin


maps = torch.randn(32, 8, 12, 12, dtype=torch.float64)
changes = {}
for mode in ("threshold", "ones"):
    make = partial(pure.ProductUnit2d, padding_mode=mode, theta_init=-1.5)
    block = ProductUnitBlock(8, 8, unit=make).double()
    block.bn2.eps = 1e-30  # it is there against a division by zero
    difference = with_fixed_threshold(block)(maps) - block(maps)
    changes[mode] = difference.detach().square().mean((0, 1)).sqrt()

# %% tags=["nbval-check-output"]
edge = torch.ones(12, 12, dtype=torch.bool)
edge[1:-1, 1:-1] = False
assert changes["threshold"].max() < 1e-12
assert changes["ones"][edge].mean() > 2 * changes["ones"][~edge].mean()
print(
    "padded by the threshold, same function:",
    bool(changes["threshold"].max() < 1e-12),
)
print(
    "padded by ones, changed at the edge:   ",
    bool(changes["ones"][edge].mean() > 1e-3),
)

# %% [markdown]
# **How to read it.** What the parameter $\theta$ adds to a PURe are an edge and another course of the training: the
# same function can be reached along another path, with another decay on the way. So where every variant starts near
# the same place, we should expect them to end at much the same accuracy; what a start far away costs, only trainings
# can tell.
#
# **What it does not show.** Units without a normalisation on both sides: there the threshold has a meaning of its own.
#
# ## What the records say
#
# PURe20 on the digits by its recipe, one choice of threshold changed at a time, seeds as given; each run is a record
# in `results/digits` that `make reproduce TARGET=ablations-digits` makes again. Runs that diverged are counted.

# %%
records = read_records(repository() / "results/digits")
ours = [run for run in records if run.model.name == "pure20"]
found = thresholds.choices(ours)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "What the choice of threshold is worth on 360 test images. Differences are to softplus on the same seeds; *detectable* is the smallest true difference that so many pairs would find in four of five repetitions.", "name": "tab-choices", "caption_before": true}}
show(thresholds.choices_table(found))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Test accuracies by choice of threshold, and differences to softplus with intervals"}, "figure": {"caption": "Left each dot is a seed, the stroke the mean. Right the paired difference to softplus and its 95 % interval: where it meets the line, nothing is decided.", "name": "fig-choices"}}
thresholds.choices_figure(found)
plt.show()

# %% tags=["hide-input"]
effects = {
    name: thresholds.difference_to(found["softplus"], runs)
    for name, runs in found.items()
    if name != "softplus"
}
judged = {name: effect for name, effect in effects.items() if effect}
apart = [name for name, effect in judged.items() if effect.verdict]
failed = sum(
    run.divergence is not None for runs in found.values() for run in runs
)
Markdown(
    f"**Read off:** of {len(judged)} choices, {len(apart)} differ from "
    "softplus by an interval without zero"
    f"{': ' if apart else ''}{'; '.join(apart)}. "
    f"Of {sum(map(len, found.values()))} runs, {failed} diverged."
    if judged
    else "**No choice but softplus has two records yet.** The target above "
    "makes them."
)

# %% [markdown]
# **How to read it.** With one image being 0.28 points, differences of a few tenths are a single digit. The column
# *detectable* says what this experiment could have seen; anything smaller is undecided, not absent. *Epochs to 90 %* is
# the speed of learning, counted in epochs since a threshold costs no time: seconds of runs beside other work would
# compare the work. *Absurd validations* are those with a loss ten times that of guessing, the sign of batch
# statistics that lag.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Thresholds and shares of clamped inputs over the epochs, a line for each unit"}, "figure": {"caption": "PURe20 with softplus on the digits, mean over the seeds, bands from the lowest to the highest. The thresholds part in the first epochs and stand still once the rate has dropped; about three quarters of the inputs or more lie on them throughout.", "name": "fig-movement"}}
thresholds.movement_figure(found["softplus"])
plt.show()

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Where the thresholds ended and what lies on them, over all units and seeds.", "name": "tab-state", "caption_before": true}}
show(thresholds.state_table(found))

# %% [markdown]
# **How to read it.** Free thresholds stay near their start, and once the rate has dropped they stand still. Wherever
# the threshold is, the share on it is close to the normal law of {eq}`eq-share`: batch normalisation *could* bring the
# inputs of a badly placed threshold back to it, by {eq}`eq-redundant`, but a training of this length does not. So two
# statements hold side by side. What a block can compute does not depend on its threshold. What a training finds does,
# if the threshold is put where hardly anything passes (2), or where the logarithm of what passes is steep and the
# exponents grow large (0.1): the last column says how large.
#
# **What it does not show.** Longer trainings on harder images, where decay has time to work. An independent
# reconstruction of the network on CIFAR-10 reports thresholds further apart than these; the campaign's records of
# CIFAR-10 stand on the page of [results](../book/results.py).
#
# ## What the clamp does that a ReLU did
#
# A network without activations is one linear map. PURe has dropped the ReLU: how far from linear are its blocks? A map
# is affine if and only if the middle between two inputs goes to the middle between their outputs, so we measure by how
# much a block misses that, over how far the outputs are apart:
#
# $$
# D = \frac{\bigl\| f\bigl(\tfrac{a+b}{2}\bigr) - \tfrac12 \bigl(f(a) + f(b)\bigr) \bigr\|}
#          {\bigl\| \tfrac12 \bigl(f(a) - f(b)\bigr) \bigr\|}
# $$ (eq-defect)
#
# It is zero for affine maps only, and does not change when $f$ is scaled or shifted. First the elements on normal
# inputs: a ReLU, the clamp with its logarithm, and the exponential.

# %%
generator = torch.Generator().manual_seed(0)
a, b = torch.randn(2, 200_000, generator=generator)
relu = linearity.midpoint_defect(torch.relu, a, b)
clamps = {
    tau: linearity.midpoint_defect(lambda x, t=tau: x.clamp(min=t).log(), a, b)
    for tau in np.geomspace(0.02, 2.5, 25)
}
exponentials = {
    scale: linearity.midpoint_defect(lambda z, s=scale: (s * z).exp(), a, b)
    for scale in np.geomspace(0.02, 2, 25)
}

# %% tags=["hide-input"] mystnb={"image": {"alt": "Midpoint defect of clamp and logarithm over the threshold, and of the exponential over the scale of its argument"}, "figure": {"caption": "How far from linear the two steps of a unit are on normal inputs. The clamp with its logarithm bends more than a ReLU, whatever the threshold; the exponential hardly, as long as its argument is small.", "name": "fig-elements"}}
fig, axes = plt.subplots(1, 2, figsize=(7, 2.8), sharey=True)
for ax, values, label in zip(
    axes,
    (clamps, exponentials),
    (r"threshold $\tau$", "standard deviation of $z$"),
    strict=True,
):
    ax.plot(values.keys(), values.values(), color=COLOURS["pure"])
    ax.axhline(relu, color=COLOURS["resnet"], linestyle="--", label="ReLU")
    ax.set(xscale="log", xlabel=label, ylim=(0, 1.2))
axes[0].axvline(math.log(2), color=COLOURS["neutral"], linestyle=":")
axes[0].set(ylabel="midpoint defect $D$", title=r"$\log\max(x, \tau)$")
axes[1].set_title(r"$e^z$")
axes[0].legend(loc="lower left")
plt.show()

# %% [markdown]
# Then networks, trained here: PURe20 and ResNet20, both with shortcut B, each by its recipe for three epochs of the
# digits, from three seeds. Pairs $a$, $b$ are the two halves of the test images *as they arrive* at each block.

# %%
FAMILIES = {"pure": ("pure20", {}), "resnet": ("resnet20", {"shortcut": "B"})}
trained, rows = {}, []
for family, (name, options) in FAMILIES.items():
    for seed in range(3):
        torch.manual_seed(seed)
        network = pure.create_model(name, in_channels=1, **options)
        run = pure.fit(
            "digits",
            network,
            seed=seed,
            data=digits,
            overrides={"epochs": 3},
            progress=False,
        )
        trained[family, seed] = network.eval()
        for block, defects in linearity.block_defects(network, test).items():
            rows.append((family, seed, block, *defects, run.test.accuracy))
columns = ["family", "seed", "block", "branch", "whole", "accuracy"]
defects = pd.DataFrame(rows, columns=columns)
steps = pd.DataFrame(
    [
        (name, *pair)
        for seed in range(3)
        for name, pair in linearity.step_defects(
            trained["pure", seed], test
        ).items()
    ],
    columns=["unit", "clamp and logarithm", "exponential"],
)

# %% [markdown]
# **Check.** Both families have learnt something, and in no unit is the exponential the step that bends.

# %% tags=["nbval-check-output"]
assert (defects.groupby("family")["accuracy"].min() > 0.8).all()
assert (steps["clamp and logarithm"] > 2 * steps["exponential"]).all()
branch = defects.groupby("family")["branch"].median()
assert branch["pure"] > branch["resnet"]
print("units in which the clamp bends more than twice as much:", len(steps))
print(
    "PURe's branches bend more than ResNet's:",
    bool(branch["pure"] > branch["resnet"]),
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Midpoint defects of the blocks of PURe20 and ResNet20, and of the two steps of the units"}, "figure": {"caption": "Left what each block adds to its shortcut, middle the block with the shortcut, right the two steps within a product unit; every dot is one of three seeds, lines are means. Before the sum a PURe block bends more than a ResNet's; with the shortcut both bend about alike, except where a ResNet's last ReLU works on a new width: the clamp has taken the ReLU's place.", "name": "fig-defects"}}
fig, axes = plt.subplots(1, 3, figsize=(7, 3.0), sharey=True)
for ax, part in zip(axes, ("branch", "whole"), strict=False):
    for family, title in (("pure", "PURe20"), ("resnet", "ResNet20")):
        ours = defects[defects["family"] == family]
        place = ours["block"].map(
            {n: i for i, n in enumerate(ours["block"].unique())}
        )
        ax.plot(
            place,
            ours[part],
            "o",
            color=COLOURS[family],
            alpha=0.4,
            markersize=3,
        )
        mean = ours.groupby(place)[part].mean()
        ax.plot(mean.index, mean, color=COLOURS[family], label=title)
for part, line in (("clamp and logarithm", "-"), ("exponential", "--")):
    place = steps["unit"].map(
        {n: i for i, n in enumerate(steps["unit"].unique())}
    )
    axes[2].plot(
        place, steps[part], "o", color=COLOURS["pure"], alpha=0.4, markersize=3
    )
    mean = steps.groupby(place)[part].mean()
    axes[2].plot(mean.index, mean, line, color=COLOURS["pure"], label=part)
for ax, title in zip(
    axes,
    ("before the sum", "with the shortcut", "steps of the unit"),
    strict=True,
):
    ax.set(title=title, xlabel="block", ylim=(0, None))
    ax.set_xticks(range(9), [str(n) for n in range(1, 10)])
axes[0].set_ylabel("midpoint defect $D$")
axes[0].legend(loc="lower left")
axes[2].legend(loc="center left", bbox_to_anchor=(0, 0.5))
plt.show()

# %% [markdown]
# **How to read it.** What a PURe block adds to its shortcut is further from linear than what a ResNet's adds, although
# nothing in it is called an activation. Nearly all of that comes from $\log \max(x, \tau)$. The exponential, which
# makes the sum a product, is close to $1 + z$ at the exponents that training leaves: **a trained product unit is,
# above all, a convolution of a clipped logarithm.** Towards the classes both families become more linear, because there
# the branches add little that is new to a map that is nearly settled.
#
# **What it does not show.** That this bend is as *useful* as a ReLU's: accuracy answers that. Three epochs on small
# images are a short training, and pairs of test images are far apart; nearby, every one of these maps is smooth or
# piecewise smooth, and looks more linear.

# %% [markdown]
# ## Exercises
#
# ### Exercise 1
#
# The share on the threshold of a new unit is $\Phi(\ln 2)$. Which threshold would stop half of the inputs, as a ReLU
# does? Why can softplus not reach it, and which other parameter of the block can do the same?

# %% tags=["hide-cell"]
# Half of a normal variable lies below 0, and a threshold is above 0: softplus
# nears it only as theta goes to minus infinity. By equation (eq-redundant)
# the bias of the normalisation in front can do it: shift the inputs by tau.
bias = math.log(2)
torch.manual_seed(0)
shifted = pure.create_model("pure20", in_channels=1)
for module in shifted.modules():
    if isinstance(module, ProductUnitBlock):
        torch.nn.init.constant_(module.bn1.bias, bias)
reestimate(shifted, train.split(128))
shares = [
    (x <= math.log(2)).float().mean().item()
    for x in linearity.inputs_of(shifted, pure.ProductUnit2d, test).values()
]
assert abs(np.mean(shares) - 0.5) < 0.05
print("share on the threshold, unit by unit:", np.round(shares, 2))

# %% [markdown]
# ### Exercise 2
#
# A ReLU as activation of the threshold learns if $\theta$ starts above zero. Start it at $\ln 2$, train for two epochs,
# and compare with the start at 0. What would happen to a threshold that the gradient pushes below zero?

# %% tags=["hide-cell"]
for start in (0.0, math.log(2)):
    torch.manual_seed(0)
    options = {"threshold": "relu", "theta_init": start, "blocks": (1, 1, 1)}
    network = pure.create_model("pure20", in_channels=1, **options)
    run = pure.fit(
        "digits", network, data=digits, overrides={"epochs": 2}, progress=False
    )
    moved = [round(tau, 4) for tau in run.thresholds.values()]
    print(f"from {start:.3f}: thresholds {moved}")
    if start == 0:
        assert max(moved) < 1e-6  # eps, and nothing else
# Pushed below zero, theta would have no gradient any more, and tau = eps for
# good, unless momentum carries theta back: a ReLU that has died.

# %% [markdown]
# ### Exercise 3
#
# Let all inputs of a unit lie on its threshold. What is the output, what does the normalisation after the unit make of
# it, and what is then left of the block? At which fixed threshold is that so for 99.9 % of normal inputs?

# %% tags=["hide-cell"]
# The output is tau ** (sum of w), one constant for each channel; the
# normalisation turns a constant into its bias; the block is its shortcut.
make = partial(pure.ProductUnit2d, threshold=50.0, padding_mode="threshold")
block = ProductUnitBlock(4, 4, unit=make).double()
maps = torch.randn(16, 4, 8, 8, dtype=torch.float64)
torch.testing.assert_close(block(maps), maps, rtol=0, atol=1e-6)

low, high = 0.0, 10.0
for _ in range(60):  # bisection
    middle = (low + high) / 2
    low, high = (
        (middle, high) if normal_share(middle) < 0.999 else (low, middle)
    )
print(f"the block is its shortcut; 99.9 % lie below {high:.2f}")
