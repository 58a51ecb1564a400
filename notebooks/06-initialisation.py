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
# ---

# %% [markdown]
# # Initialisation, and batch statistics that lag
#
# - **Before this page:** [gradients](04-gradients.py), for the log-normal picture; what batch normalisation does.
# - **You need:** the extra `book`; no download, no GPU.
# - **Running time:** about a minute on two cores.
#
# Somebody builds a product-unit network, evaluates it before training, and finds a loss of $10^{28}$. Nothing is
# broken, and a training would have made the number disappear. This page shows where such numbers come from: first what
# the paper's sentence about the initialisation can mean, then how high the loss of a new network should be, then why
# evaluation sees something else, and the two lines that cure it.

# %%
from __future__ import annotations

import math

import matplotlib.pyplot as plt
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Markdown
from torch import Tensor, nn

import pure
from pure import report
from pure.data import load
from pure.nn.batchnorm import reestimate
from pure.nn.blocks import ProductUnitBlock
from pure.nn.inspection import modes_restored, signals
from pure.report.networks import display_name
from pure.report.style import COLOURS, PALETTE, use

use()
# one order of summation: the same numbers in every run
torch.set_num_threads(1)

splits = load("digits")
grey = splits.train.images.float()
images = (grey - grey.mean()) / grey.std()  # (1078, 1, 8, 8)
labels = splits.train.labels
held_out = (splits.validation.images[:128] - grey.mean()) / grey.std()
held_out_labels = splits.validation.labels[:128]

# %% [markdown]
# ## Three readings of one sentence
#
# The exponents are initialised, says section 4.1.2, by *Kaiming uniform with a scaling factor of 5*. PyTorch's
# function has an argument $a$, the slope of a leaky ReLU, and draws from $\pm\sqrt{6 / ((1 + a^2)\,n)}$ for $n$
# inputs. So the sentence may mean $a = 5$, this project's default. It may mean $a = \sqrt 5$, the value that PyTorch
# uses for its own convolutions. An independent reconstruction takes Kaiming *normal*, as for the other convolutions of
# a ResNet. All three have mean zero and a variance in proportion to $1/n$; what differs is $n\sigma^2$.

# %%
READINGS = {
    "a = 5": 5.0,
    "a = √5": math.sqrt(5),
    "Kaiming normal": "kaiming_normal",
}


def scale_of(init_a: float | str) -> float:
    """n times the variance of the exponents, as a large layer draws them."""
    torch.manual_seed(0)
    unit = pure.ProductUnit2d(64, 64, 3, init_a=init_a)
    return (unit.weight.var() * 9 * 64).item()


scales = {name: scale_of(init_a) for name, init_a in READINGS.items()}

# %% tags=["nbval-check-output"]
for (name, scale), exact in zip(
    scales.items(), (1 / 13, 1 / 3, 2), strict=True
):
    assert abs(scale / exact - 1) < 0.02
    print(f"{name}: n sigma^2 = {exact:.3f}, drawn within 2 % of it")

# %% [markdown]
# The [log-normal picture](04-gradients.py) says what follows: $\log y$ is normal with variance
# $s^2 = n\sigma^2\,\mathrm E[u^2]$, where $u = \log\max(x, \tau)$ of a standard normal $x$. We look at the products of
# a middle unit of PURe20 on real digits.


# %%
def logs_of_unit(init_a: float | str) -> Tensor:
    """log y of the unit of block 1 in stage 2, for 256 digits."""
    torch.manual_seed(0)
    network = pure.create_model("pure20", in_channels=1, init_a=init_a)
    found = []
    unit = network.layer2[1].conv2
    hook = unit.register_forward_hook(lambda *call: found.append(call[-1]))
    with torch.no_grad():
        network(images[:256])
    hook.remove()
    return found[0].log().flatten()


logs = {name: logs_of_unit(init_a) for name, init_a in READINGS.items()}
x = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
mean_square = x.clamp(min=math.log(2)).log().square().mean().item()

# %% mystnb={"image": {"alt": "Three histograms of the logarithm of products, each wider than the one before"}, "figure": {"caption": "Logarithms of the products of one unit of PURe20 at initialisation, on digits, and what the log-normal picture predicts (lines). With $a = 5$ a unit outputs almost a constant.", "name": "fig-readings"}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(7, 2.8))
at = torch.linspace(-2, 2, 400)
for (name, values), colour in zip(logs.items(), PALETTE, strict=False):
    s = math.sqrt(scales[name] * mean_square)
    ax.hist(
        values.clamp(-2, 2).numpy(),
        bins=120,
        density=True,
        color=colour,
        alpha=0.45,
        label=name,
    )
    curve = torch.exp(-(at**2) / (2 * s**2)) / (s * math.sqrt(2 * math.pi))
    ax.plot(at, curve, color=colour, linewidth=1)
ax.set(xlabel=r"$\log y$", ylabel="density", xlim=(-1.6, 1.6))
ax.legend()
plt.show()

# %% [markdown]
# **How to read it.** With $a = 5$ all products lie within some tens of percent around one: a new product unit is
# nearly a constant plus a small linear function of the logarithms. The batch normalisation after it blows this small
# signal up to a deviation of one. With Kaiming normal the unit multiplies from the start. The histograms are a little
# narrower than the lines, since at the edge of a picture the padded pixels are factors of one.
#
# **What it does not show.** Which reading trains better: that is an ablation of the [batch](../book/results.py), not
# of one histogram.
#
# ## How high the loss of a new network should be
#
# The paper reports *higher initial loss values* for PURe than for ResNets. A network that knows nothing gives all ten
# classes the same probability, and its cross-entropy is $\ln 10$. A new network does worse than that, because its
# logits are not equal: they are random. For logits that are normal with variance $V$ across the classes, the mean of
# $\log \sum_k e^{z_k} - z_{\text{true}}$ is, for small $V$,
#
# $$
# \mathrm E[L] \approx \ln C + \tfrac12 V .
# $$ (eq-initial-loss)
#
# The initial loss is a measure of how large the random logits are, and of nothing else.


# %%
def batch_and_running(network: nn.Module) -> dict[str, float]:
    """Losses of a new network: statistics of the batch, or running ones."""
    with torch.no_grad(), modes_restored(network):
        network.eval()
        running = F.cross_entropy(network(held_out), held_out_labels)
        network.train()
        logits = network(held_out)
    spread = (logits - logits.mean(1, keepdim=True)).square().mean()
    return {
        "batch statistics": F.cross_entropy(logits, held_out_labels).item(),
        "formula": math.log(10) + spread.item() / 2,
        "running statistics": running.item(),
    }


NETWORKS = ["pure20", "resnet20", "pure56", "resnet56"]
rows = []
for name in NETWORKS:
    for seed in range(4):
        torch.manual_seed(seed)
        network = pure.create_model(name, in_channels=1, shortcut="B")
        title = display_name(name)
        rows.append({"Network": title, **batch_and_running(network)})
first_losses = pd.DataFrame(rows)

# %% mystnb={"image": {"alt": "Losses of four new networks with two kinds of statistics"}, "figure": {"caption": "The loss before the first step, four seeds each (dots), with the statistics of the batch and with the running ones, which evaluation uses. Bars: the mean of {eq}`eq-initial-loss`. Dotted: $\\ln 10$.", "name": "fig-first-loss"}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(7, 3))
titles = list(dict.fromkeys(first_losses["Network"]))
kinds = {
    "batch statistics": (-0.15, COLOURS["pure"], "o"),
    "running statistics": (0.15, COLOURS["resnet"], "^"),
}
for kind, (shift, colour, marker) in kinds.items():
    at = first_losses["Network"].map(titles.index) + shift
    ax.plot(
        at, first_losses[kind], marker, color=colour, label=kind, alpha=0.8
    )
means = first_losses.groupby("Network", sort=False)["formula"].mean()
ax.plot(
    [place - 0.15 for place in range(len(titles))],
    means,
    "_",
    color="black",
    markersize=18,
    label="formula",
)
ax.axhline(math.log(10), color=COLOURS["neutral"], linestyle=":")
ax.set_xticks(range(len(titles)), labels=titles)
ax.set(yscale="log", ylabel="cross-entropy (nats)")
ax.legend()
plt.show()

# %% tags=["nbval-check-output"]
medians = first_losses.groupby("Network")[list(kinds)].median()
for depth in (20, 56):
    ours, theirs = medians.loc[f"PURe{depth}"], medians.loc[f"ResNet{depth}"]
    lower = ours["batch statistics"] < theirs["batch statistics"]
    print(f"{depth} layers, by batch statistics: PURe starts lower: {lower}")
ours, theirs = medians.loc["PURe20"], medians.loc["ResNet20"]
higher = ours["running statistics"] > theirs["running statistics"]
print(f"20 layers, by running statistics: PURe starts higher: {higher}")

# %% [markdown]
# **How to read it.** With the statistics of the batch, as in training, every network lies where its logits put it, a
# little above $\ln 10$, and PURe lies *below* the ResNet of its depth. A ResNet's features have passed a ReLU: they are
# positive, the average over the pixels keeps their size, and so do the logits. PURe's features have either sign and
# average out.
#
# With running statistics, as in validation, PURe20 lies far above ResNet20; with 56 layers both are far too high. So
# what the paper saw is likely this: a loss of *validation* in the first epochs. It is no property of the function that
# is trained, but of statistics that do not belong to it. The rest of the page is about them.
#
# ## Before training: the statistics are not there yet
#
# A batch normalisation has two faces. In training it divides by the deviation of the batch; in evaluation by a running
# average, which starts at mean 0 and variance 1. Before the first step, evaluation runs a network *without any
# normalisation*. A convolution with He's initialisation then doubles the variance or so, and a ResNet's signal
# grows by a factor for each block. In a product unit it is the *logarithm* that is multiplied. Let inputs
# be of the size $e^{\ell}$ with either sign. Half of them are clamped, the logarithm of the other half is about
# $\ell$, and by the log-normal picture
#
# $$
# \log y \sim N(0, s^2), \qquad s = \sqrt{n\sigma^2/2}\;\,\ell .
# $$ (eq-log-gain)
#
# The largest outputs, which dominate, are some three deviations out: $e^{3s}$. So logarithms are multiplied by
# $3\sqrt{n\sigma^2/2}$ from block to block:

# %% tags=["nbval-check-output"]
for name, exact in zip(READINGS, (1 / 13, 1 / 3, 2), strict=True):
    print(f"{name:>14}: {3 * math.sqrt(exact / 2):.1f}")

# %% [markdown]
# Below one, large values calm down. Above one, a signal of $10$ becomes $10^3$, then $10^9$, then $10^{27}$: it grows
# doubly exponentially. To see it we enlarge the digits to 16 x 16 pixels, because on 8 x 8 most of a window is
# padding in the last stage, and compute in double precision, because single precision ends at $10^{38}$.

# %%
enlarged = F.interpolate(images[:64], size=16, mode="bilinear").double()


def new_network(init_a: float | str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return pure.create_model("pure20", in_channels=1, init_a=init_a).double()


def block_outputs(network: nn.Module, training: bool) -> list[float]:
    """RMS output of every block."""
    with modes_restored(network):
        network.train(training)
        found = signals(
            network,
            lambda: F.cross_entropy(network(enlarged), labels[:64]),
            ProductUnitBlock,
        )
    return [each.output for each in found]


courses = {
    name: {
        training: block_outputs(new_network(init_a, 0), training)
        for training in (True, False)
    }
    for name, init_a in READINGS.items()
}

# %% mystnb={"image": {"alt": "Output of nine blocks; with Kaiming normal exponents and no statistics it explodes"}, "figure": {"caption": "Size of the output of each block of a new PURe20, normalised by the batch (dashed) and by running statistics that have seen nothing (solid). Kaiming normal exponents lie above the critical scale: the last blocks explode doubly exponentially.", "name": "fig-block-outputs"}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(7, 3))
for (name, course), colour in zip(courses.items(), PALETTE, strict=False):
    blocks = range(1, len(course[True]) + 1)
    ax.plot(blocks, course[True], "--", color=colour, linewidth=1)
    ax.plot(blocks, course[False], "o-", color=colour, label=name)
ax.set(yscale="log", xlabel="block", ylabel="RMS output")
ax.legend(loc="upper left")
plt.show()

# %% [markdown]
# And the losses, for three seeds. The last row is the network of the independent reconstruction, which reported
# $1.4 \cdot 10^{28}$ in evaluation beside 2.44 with batch statistics: PURe18 with CIFAR's stem, ReLUs in the stem and
# after the sums, Kaiming normal exponents; here on digits enlarged to 32 x 32.


# %%
def three_losses(network: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    """By running, batch and re-estimated statistics."""
    with torch.no_grad(), modes_restored(network):
        network.eval()
        running = F.cross_entropy(network(x), y)
        network.train()
        batch = F.cross_entropy(network(x), y)
        reestimate(network, [x])
        network.eval()
        return [
            running.item(),
            batch.item(),
            F.cross_entropy(network(x), y).item(),
        ]


def reconstruction(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return pure.create_model(
        "pure18",
        10,
        1,
        stem="cifar",
        relu_in_stem=True,
        relu_after_sum=True,
        init_a="kaiming_normal",
    ).double()


cases = {
    f"PURe20, {name}": [
        three_losses(new_network(init_a, seed), enlarged, labels[:64])
        for seed in range(3)
    ]
    for name, init_a in READINGS.items()
}
large = F.interpolate(images[:6], size=32, mode="bilinear").double()
cases["PURe18, reconstruction"] = [
    three_losses(reconstruction(seed), large, labels[:6]) for seed in range(3)
]

# %% mystnb={"figure": {"caption": "Cross-entropy of new networks for three seeds: with running statistics, which have seen nothing; with those of the batch; and with re-estimated ones.", "name": "tab-first-losses", "caption_before": true}} tags=["hide-input"]
KINDS = ("Running", "Batch", "Re-estimated")
table = pd.DataFrame(
    {
        "Network": network,
        **{
            kind: ", ".join(f"{each[position]:.3g}" for each in losses)
            for position, kind in enumerate(KINDS)
        },
    }
    for network, losses in cases.items()
)
Markdown(report.markdown(table))

# %% tags=["nbval-check-output"]
for network, losses in cases.items():
    absurd = sum(running > 1e6 for running, *_ in losses)
    sane = all(max(others) < 5 for _, *others in losses)
    print(f"{network}: {absurd} of 3 seeds absurd; cured in all: {sane}")

# %% [markdown]
# **How to read it.** Each seed has its own astronomical number, as a doubly exponential law makes of every small
# difference a large one; the reconstruction's $10^{28}$ is one draw. With $a = 5$ and $\sqrt 5$ there is no such
# number: the losses are merely wrong. And with the statistics of the batch, or re-estimated ones, all of it is gone.
# {py:func}`pure.nn.batchnorm.reestimate` runs the training images once, lets every batch normalisation average what it
# sees, and changes no weight:
#
# ```python
# reestimate(network, batches)
# network.eval()
# ```
#
# ## While training: the statistics lag
#
# After $t$ steps a running average with momentum 0.1 still has $0.9^t$ of its start value in it, and the rest are
# averages over *earlier weights*. In a ResNet that is a small error. In a product unit, a variance that is too small
# by a factor lets large inputs into the logarithm, and the next block raises the error to a power. We train two
# networks for 32 steps and look at the loss on held-out digits with all three kinds of statistics.

# %%
LOOKS = (0, 1, 2, 4, 8, 16, 24, 32)
batches = list(images[:512].split(128))


def look(network: nn.Module) -> dict[str, object]:
    """Losses on the held-out digits; leaves the network as it was."""
    before = {
        key: value.clone() for key, value in network.state_dict().items()
    }
    with torch.no_grad(), modes_restored(network):
        network.eval()
        running = F.cross_entropy(network(held_out), held_out_labels)
        network.train()
        batch = F.cross_entropy(network(held_out), held_out_labels).item()
        reestimate(network, batches)
        network.eval()
        again = F.cross_entropy(network(held_out), held_out_labels).item()
    network.load_state_dict(before)
    return {
        "running": running.item(),
        "batch": batch,
        "re-estimated": again,
    }


def train(init_a: float | str, momentum: float = 0.1) -> pd.DataFrame:
    """The recipe's optimizer for 32 steps; losses at some of them."""
    torch.manual_seed(0)
    network = pure.create_model("pure20", in_channels=1, init_a=init_a)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.01, momentum=0.9, weight_decay=0.001
    )
    generator = torch.Generator().manual_seed(0)
    rows = {}
    for step in range(LOOKS[-1] + 1):
        if step in LOOKS:
            rows[step] = look(network)
        chosen = torch.randint(len(images), (64,), generator=generator)
        loss = F.cross_entropy(network(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return pd.DataFrame.from_dict(rows, orient="index")


lagging = {name: train(READINGS[name]) for name in ("a = 5", "Kaiming normal")}

# %% mystnb={"image": {"alt": "Losses over 32 steps: running statistics stay far above batch and re-estimated ones"}, "figure": {"caption": "Loss on held-out digits during the first steps, by the statistics that are used. The shaded steps are those in which more than five percent of the start values are left in the running average.", "name": "fig-lag"}} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(7, 3), sharey=True)
styles = {
    "running": (COLOURS["resnet"], "^-"),
    "batch": (COLOURS["pure"], "o-"),
    "re-estimated": (PALETTE[2], "--"),
}
forgotten = math.log(0.05) / math.log(0.9)
for ax, (name, course) in zip(axes, lagging.items(), strict=True):
    for kind, (colour, style) in styles.items():
        ax.plot(course[kind], style, color=colour, label=kind)
    ax.axvspan(0, forgotten, color=COLOURS["neutral"], alpha=0.12, linewidth=0)
    ax.set(yscale="log", title=name, xlabel="step")
axes[0].set_ylabel("cross-entropy (nats)")
handles, names = axes[0].get_legend_handles_labels()
fig.legend(handles, names, loc="outside lower center", ncols=3)
plt.show()

# %% tags=["nbval-check-output"]
for name, course in lagging.items():
    worst = (course["running"] / course["batch"]).iloc[1:].max()
    apart = (course["re-estimated"] / course["batch"]).sub(1).abs().max()
    assert worst > 2
    assert apart < 0.25
    print(f"{name}: running statistics double the loss or more: {worst > 2}")
    print(f"{name}: re-estimated within 25 % of the batch's: {apart < 0.25}")

# %% [markdown]
# **How to read it.** The network itself learns from the first step on: that is what the blue line says, and
# re-estimated statistics say the same, in evaluation mode and image by image. The running ones come down only as the
# start values fade and the weights slow down. Nothing is wrong with the network at any step; it is judged by numbers
# that belong to another one.
#
# **What to do.** Train on: after some hundred steps the lag is gone. Where a short training, a large learning rate or
# a selection by validation loss needs the number now, re-estimate. The trainer of this project survives absurd losses,
# counts them as what they are, and offers the cure.
#
# **What it does not show.** That re-estimation always suffices. It averages the variances of a few batches; where a
# unit's outputs are so heavy-tailed that one image makes most of the variance, no average is representative, and
# single images can stay absurd. Then the exponents are too large for their inputs, and the
# [stabilised unit](04-gradients.py) is the better answer.
#
# ## Exercises
#
# ### Exercise 1
#
# He and others suggest to start the last batch normalisation of every block with a weight of zero, so that a new block
# adds nothing. What does {eq}`eq-initial-loss` say about the initial loss then? What happens to the evaluation of a new
# PURe20 with Kaiming normal exponents?

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Solution"}
network = new_network("kaiming_normal", 0)
with torch.no_grad():
    for block in network.modules():
        if isinstance(block, ProductUnitBlock):
            block.bn2.weight.zero_()
for kind, loss in zip(
    KINDS, three_losses(network, enlarged, labels[:64]), strict=True
):
    print(f"{kind:>12}: {loss:.2f}")
# Only stem and shortcuts are left, which are linear: smaller logits, and
# nothing that could be raised to a power.

# %% [markdown]
# ### Exercise 2
#
# Let the running averages forget faster: a momentum of 0.5. Predict after how many steps 95 % of the start values are
# gone, and look at the loss with running statistics there. What is the price?

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Solution"}
print(f"gone after {math.log(0.05) / math.log(0.5):.1f} steps")
quick = train(5.0, momentum=0.5)
both = pd.DataFrame({0.1: lagging["a = 5"]["running"], 0.5: quick["running"]})
print(both.round(2).rename_axis("step").to_string())
# The price: statistics of two batches or so, noisy for small batches.

# %% [markdown]
# ### Exercise 3
#
# How many images does re-estimation need? Re-estimate a new PURe20 with Kaiming normal exponents from one batch of 4,
# 16 and 64 enlarged digits, and evaluate it on other digits.

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Solution"}
others = F.interpolate(images[64:128], size=16, mode="bilinear").double()
for number in (4, 16, 64):
    losses = []
    for seed in range(3):
        network = new_network("kaiming_normal", seed)
        reestimate(network, [enlarged[:number]])
        network.eval()
        with torch.no_grad():
            losses.append(F.cross_entropy(network(others), labels[64:128]))
    print(f"{number:>2} images:", ", ".join(f"{each:.3g}" for each in losses))
# A handful does: every image has hundreds of pixels in each feature map, and
# at initialisation all images look alike to the network.  A trained one has
# rare large products, which a handful of images can miss.
