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
#     - results/gz2/**/record.json
#     - results/galaxy10/**/record.json
# ---

# %% [markdown]
# # Noise
#
# - **Before this page:** [the product unit](01-product-unit.py) and [thresholds](05-thresholds.py).
# - **You need:** the extra `book`, which brings the simulation of galaxies; no download, no GPU.
# - **Running time:** about a minute on two cores; the first time half a minute more, in which galaxies are simulated.
#
# The paper tests its networks on galaxies under Poisson noise, and reports that PURe loses less of its accuracy than
# ResNet does {cite}`li2025pure`. The second version's abstract no longer says so. Three questions follow. What does
# photon noise do to an image? Why might a unit that multiplies bear noise better that grows with the signal? And do
# trained networks bear it better, this noise or another?

# %%
import dataclasses
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display

import pure
from pure import report
from pure.data import ImageSet, load
from pure.data.corruptions import CORRUPTIONS, corrupt, matched_strength
from pure.data.images import read
from pure.data.noise import moments, poisson, relative_drop
from pure.data.preparation import prepare
from pure.data.sets.synthetic_galaxies import simulate
from pure.nn.functional import product_unit
from pure.records import read_records
from pure.report import data_pages, robustness
from pure.report.parameters import repository
from pure.report.statistics import paired_difference
from pure.report.style import COLOURS, PALETTE, use
from pure.train.evaluate import evaluate

use()
# one order of summation: the same numbers in every run
torch.set_num_threads(1)


def show(table):
    """A table as Markdown."""
    return Markdown(report.markdown(table))


# %% [markdown]
# ## What photons do
#
# Light arrives in photons, and how many arrive is a matter of chance. Where a grey level $x$ stands for $s x$ photons,
# one exposure gives
#
# $$
# x' = \frac{\operatorname{Poisson}(s\,x)}{s}, \qquad
# \operatorname{E} x' = x, \qquad \operatorname{Var} x' = \frac{x}{s},
# $$ (eq-poisson)
#
# clipped at white. The noise depends on the signal: bright pixels have more of it, and less in proportion. A larger
# scale $s$ is a longer exposure. The paper does not state its scale; we read $s = 1$, and measure a curve.
#
# Below is a galaxy that {py:func}`pure.data.sets.synthetic_galaxies.simulate` draws. No picture on this page is an
# observation.

# %% mystnb={"image": {"alt": "A simulated spiral galaxy without noise and under Poisson noise of three scales", "classes": "photo"}, "figure": {"caption": "A simulated spiral under photon noise. At one photon a grey level hardly anything is to be seen of it; at a hundredth the arms are gone and the galaxy is not.", "name": "fig-photons"}}
galaxy = torch.from_numpy(simulate(5, 128, seed=0, index=3)).movedim(-1, 0)
one = ImageSet(galaxy[None], torch.zeros(1, dtype=torch.int64))
pictures = {"as it is": [galaxy]}
for scale in (1.0, 0.1, 0.01):
    noisy = poisson(one, scale).images[0]
    pictures[f"s = {scale:g}"] = [noisy.round().to(torch.uint8)]
data_pages.side_by_side(pictures)
plt.show()

# %% [markdown]
# **Check.** Mean and variance of many exposures, against {py:func}`pure.data.noise.moments`, which knows the clipping.

# %% tags=["nbval-check-output"]
levels = torch.tensor([5, 40, 120, 250], dtype=torch.uint8)
many = levels.repeat(10_000, 1).reshape(-1, 1, 1, 4)
for scale in (1.0, 0.1):
    exposures = poisson(
        ImageSet(many, torch.zeros(len(many), dtype=torch.int64)), scale
    ).images.double()
    mean, variance = moments(levels, scale)
    torch.testing.assert_close(
        exposures.mean(0)[0, 0], mean, rtol=0.01, atol=0.1
    )
    torch.testing.assert_close(
        exposures.var(0)[0, 0], variance, rtol=0.05, atol=0
    )
print("grey levels and scales compared:", 2 * len(levels))

# %% [markdown]
# ## Why a product might bear it
#
# A sum takes grey levels as they are, a product unit their logarithms. For small noise, a function $f$ turns the
# deviation $\sigma(x)$ of its argument into $|f'(x)|\,\sigma(x)$:
#
# | noise | $\sigma(x)$ | after $\sqrt{x}$ | after $\log x$ |
# |:---|:---|:---|:---|
# | photons (Poisson) | $\sqrt{x/s}$ | $1/(2\sqrt s)$: constant | $1/\sqrt{s x}$: falls |
# | flickering gain (speckle) | $\sigma x$ | $\tfrac12 \sigma \sqrt{x}$ | $\sigma$: **constant** |
#
# The logarithm makes noise that is *proportional* to the signal the same everywhere. For photon noise it does too
# much: what was worst in the bright is now worst in the dark. The square root would be right there.

# %%
x = torch.arange(4, 250, 6)
flat = x.to(torch.uint8).repeat(4000, 1).reshape(-1, 1, 1, len(x))
flat = ImageSet(flat, torch.zeros(len(flat), dtype=torch.int64))
NOISES = {"poisson": 4.0, "speckle": 0.15}
THROUGH = {
    "x": (lambda v: v, lambda v: torch.ones_like(v)),
    "sqrt": (torch.sqrt, lambda v: 0.5 / v.sqrt()),
    "log": (lambda v: v.clamp(min=1).log(), lambda v: 1 / v),
}
deviation = {
    kind: {
        name: f(corrupt(flat, kind, strength).images.double()).std(0)[0, 0]
        for name, (f, _) in THROUGH.items()
    }
    for kind, strength in NOISES.items()
}
grey = x.double()
expected = {"poisson": (4.0 * grey).sqrt(), "speckle": 0.15 * grey}

# %% [markdown]
# **Check.** Measured deviations against the table, where a grey level is many photons.

# %% tags=["nbval-check-output"]
bright = (x > 100) & (x < 180)  # above, white clips
for kind, found in deviation.items():
    for name, (_, slope) in THROUGH.items():
        theory = slope(grey) * expected[kind]
        ratio = (found[name] / theory)[bright]
        assert ((ratio > 0.9) & (ratio < 1.15)).all(), (kind, name, ratio)
print("noises and functions compared:", 2 * len(THROUGH))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Deviation of grey levels, square roots and logarithms over the grey level, under two noises"}, "figure": {"caption": "How much noise there is over the grey level, each curve over its value at 127: dots are simulated, lines are the table above. Flat is what a layer wants that has one scale for all pixels. The logarithm is flat under speckle, the square root under photons. On the right, white clips.", "name": "fig-stabilising"}}
fig, axes = plt.subplots(1, 2, figsize=(7, 2.9), sharey=True)
for ax, (kind, found) in zip(axes, deviation.items(), strict=True):
    middle = (x - 127).abs().argmin()
    for (name, (_, slope)), colour in zip(
        THROUGH.items(), PALETTE[:3], strict=True
    ):
        theory = slope(grey) * expected[kind]
        ax.plot(x, theory / theory[middle], color=colour, label=name)
        ax.plot(
            x,
            found[name] / theory[middle],
            "o",
            color=colour,
            markersize=2.5,
            markeredgewidth=0,
        )
    ax.set(title=kind, xlabel="grey level", ylim=(0, 3))
axes[0].set_ylabel("deviation, relative to that at 127")
axes[0].legend(loc="upper right")
plt.show()

# %% [markdown]
# Now a whole unit. With inputs $x_i$ above the threshold, to first order
#
# $$
# \operatorname{Var}(\log y) = \sum_{x_i > \tau} w_i^2\, \frac{\sigma(x_i)^2}{x_i^2} =
# \sum_{x_i > \tau} \frac{w_i^2}{s\,x_i} \quad\text{(photons)},
# $$ (eq-unit-noise)
#
# so dark inputs shake a product most, and the threshold is its protection: below $\tau$ nothing passes, and no input
# brings more than $w_i^2/(s\tau)$. How well can a unit still tell one pattern from another? Take the ratio of two
# neighbours and their difference, and change the light. Signal is how much the answer varies from pattern to pattern,
# noise how much from exposure to exposure.

# %%
generator = torch.Generator().manual_seed(0)
pattern = torch.empty(400, 2).uniform_(20, 60, generator=generator).double()
weights = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
ANSWERS = {
    "difference": lambda v: v @ weights.T,
    "ratio": lambda v: product_unit(v, weights, threshold=1.0),
}


def signal_to_noise(answer, kind, light, exposures=500):
    """Deviation over the patterns, over that from exposure to exposure."""
    lit = (light * pattern).expand(exposures, -1, -1)
    if kind == "poisson":
        noisy = torch.poisson(lit, generator=generator)
    else:
        noise = torch.randn(lit.shape, generator=generator)
        noisy = lit * (1 + 0.15 * noise)
    answers = answer(noisy)[..., 0]
    return (answers.mean(0).std() / answers.var(0).mean().sqrt()).item()


lights = np.geomspace(1, 16, 7)
ratios = {
    (kind, name): [signal_to_noise(answer, kind, c) for c in lights]
    for kind in NOISES
    for name, answer in ANSWERS.items()
}

# %% [markdown]
# **Check.** In four times the light, both tell patterns apart twice as well under photon noise, and equally well under
# speckle.

# %% tags=["nbval-check-output"]
for (kind, name), values in ratios.items():
    gain = values[5] / values[1]  # from 1.6 to 10 times the light
    law = math.sqrt(lights[5] / lights[1]) if kind == "poisson" else 1.0
    assert abs(gain / law - 1) < 0.15, (kind, name, gain)
    print(f"{kind}, {name}: follows the law:", True)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Signal to noise of a difference and a ratio over the light, under two noises"}, "figure": {"caption": "How well one filter tells patterns apart. A ratio is not better than a difference, under either noise: both follow the same law of the light.", "name": "fig-snr"}}
fig, axes = plt.subplots(1, 2, figsize=(7, 2.8), sharey=True)
for (kind, name), values in ratios.items():
    ax = axes[list(NOISES).index(kind)]
    colour = COLOURS["pure" if name == "ratio" else "resnet"]
    ax.plot(lights, values, "o-", color=colour, label=name)
    ax.set(
        title=kind,
        xscale="log",
        xlabel="strength of the light",
        ylim=(0, None),
    )
    ax.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
    ax.minorticks_off()
axes[0].set_ylabel("signal / noise")
axes[0].legend(loc="upper left")
plt.show()

# %% [markdown]
# **How to read it.** Noise that is there is there: a single filter cannot remove it by taking logarithms. What the
# logarithm can give is *evenness*. Where a layer adds up many windows, bright and dark, with one scale for all, noise
# of the bright drowns the signal of the dark; after a logarithm, noise in proportion to the signal weighs the same
# everywhere. That is the argument for a multiplicative unit. It holds for speckle. For photons it is weaker, since
# there the right function is the root, and the dark end becomes the loud one.
#
# **What it does not show.** A network. Its product units never see grey levels: before them stand a convolution and a
# batch normalisation, which can be negative where the image is bright. So the argument may fail to reach them. Only a
# measurement can tell.
#
# ## Do trained networks bear it?
#
# 800 simulated galaxies, brought to 32 pixels, in four groups of the ten classes; PURe and ResNet with one block in
# each stage and half the width, both with shortcut B, each by its family's recipe for Galaxy10, from three seeds. Half
# of the images train, 320 test. Small networks and few images, so that this page can train them while you read.

# %%
GROUPS = {
    "disturbed": (0, 1),
    "smooth": (2, 3, 4),
    "spiral": (5, 6, 7),
    "edge-on": (8, 9),
}
group_of = torch.empty(10, dtype=torch.int64)
for number, classes in enumerate(GROUPS.values()):
    group_of[list(classes)] = number


def grouped(images):
    """The images in memory, labelled by the group."""
    rows = torch.arange(len(images))
    return ImageSet(read(images, rows), group_of[images.labels])


galaxies = load(
    "galaxy10-synthetic",
    data_pages.shared_root(),
    number=800,
    size=64,
    fractions=(0.5, 0.1, 0.4),
    progress=False,
)
galaxies = prepare(galaxies, size=32)
galaxies = dataclasses.replace(
    galaxies,
    classes=tuple(GROUPS),
    train=grouped(galaxies.train),
    validation=grouped(galaxies.validation),
    test=grouped(galaxies.test),
)

# %%
SMALL = {"blocks": (1, 1, 1), "widths": (8, 16, 32), "shortcut": "B"}
MODELS = {"pure": "pure20", "resnet": "resnet20"}
SEEDS = range(3)
networks, records = {}, []
for seed in SEEDS:
    for family, name in MODELS.items():
        torch.manual_seed(seed)
        network = pure.create_model(name, len(GROUPS), **SMALL)
        record = pure.fit(
            "galaxy10-quick",
            network,
            seed=seed,
            data=galaxies,
            overrides={"epochs": 10},
            progress=False,
        )
        networks[family, seed] = network
        records.append(record)


def accuracy(network, images):
    """Share of a set that is classified rightly, in percent."""
    scores = evaluate(network, images, galaxies.statistics, progress=False)
    return 100 * (scores.argmax(1) == images.labels).float().mean().item()


# %% [markdown]
# **Check.** All six do better than guessing the most frequent group.

# %% tags=["nbval-check-output"]
clean = {key: accuracy(net, galaxies.test) for key, net in networks.items()}
most_frequent = galaxies.test.labels.bincount().max() / len(galaxies.test)
assert min(clean.values()) > 100 * most_frequent + 10
print("networks well above the most frequent group:", len(clean))

# %% [markdown]
# The same test images under photon noise of six scales, and under every other corruption at strengths that change a
# grey level by the same root mean square ({py:func}`pure.data.corruptions.matched_strength`).

# %%
SCALES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
rows = []
for scale in SCALES:
    noisy = poisson(galaxies.test, scale)
    for (family, seed), network in networks.items():
        found = accuracy(network, noisy)
        drop = relative_drop(clean[family, seed], found)
        name = "PURe" if family == "pure" else "ResNet"
        rows.append((name, family, seed, scale, found, drop))
columns = ["network", "family", "seed", "scale", "accuracy", "drop"]
curve = pd.DataFrame(rows, columns=columns)

RMS = (6.0, 15.0)  # grey levels
rows = []
for rms in RMS:
    for kind in CORRUPTIONS:
        try:
            strength = matched_strength(galaxies.test, kind, rms)
        except ValueError:  # a blur cannot change them so much
            continue
        damaged = corrupt(galaxies.test, kind, strength)
        for (family, seed), network in networks.items():
            drop = relative_drop(
                clean[family, seed], accuracy(network, damaged)
            )
            rows.append((rms, kind, strength, family, seed, drop))
columns = ["rms", "kind", "strength", "family", "seed", "drop"]
damage = pd.DataFrame(rows, columns=columns)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Accuracy and relative drop of small networks over the scale of Poisson noise"}, "figure": {"caption": "Photon noise on simulated galaxies, three seeds each; to the right is less noise. Seeds of one family lie as far apart as the families.", "name": "fig-drop-small"}}
robustness.drop_figure(curve)
plt.show()

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Relative drop under photon noise, and the difference over the seeds: negative where PURe loses less.", "name": "tab-drop-small", "caption_before": true}}
show(robustness.drop_table(curve, "PURe", "ResNet"))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Relative drop by kind of corruption at two strengths, both families"}, "figure": {"caption": "Every kind of damage at the same change of the grey levels, dots are seeds, strokes means. Under noise the seeds of one family lie as far apart as the families; dimmed light costs ResNet far more.", "name": "fig-corruptions"}}
fig, axes = plt.subplots(
    1, len(RMS), figsize=(7, 3.3), sharey=True, sharex=True
)
kinds = list(CORRUPTIONS)
for ax, (rms, part) in zip(axes, damage.groupby("rms"), strict=True):
    for family, lift in (("pure", -0.17), ("resnet", 0.17)):
        ours = part[part["family"] == family]
        place = ours["kind"].map(kinds.index) + lift
        ax.plot(
            ours["drop"],
            place,
            "o",
            color=COLOURS[family],
            alpha=0.5,
            markeredgewidth=0,
        )
        mean = ours.groupby(place)["drop"].mean()
        label = "PURe" if family == "pure" else "ResNet"
        ax.plot(
            mean,
            mean.index,
            "|",
            color=COLOURS[family],
            markersize=11,
            markeredgewidth=2,
            label=label,
        )
    ax.axvline(0, color=COLOURS["neutral"], linewidth=1)
    ax.set(title=f"changed by {rms:g} grey levels", xlabel="relative drop (%)")
    ax.grid(axis="y", visible=False)
axes[0].set_yticks(range(len(kinds)), kinds)
axes[0].set_ylim(len(kinds) - 0.4, -0.6)
axes[1].legend(loc="lower right")
plt.show()

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Relative drops at equal change of the grey levels, means over the seeds, and their difference over the pairs: negative where PURe loses less. Each row is judged for itself; by chance, one in twenty would be decided.", "name": "tab-corruptions", "caption_before": true}}
rows = []
for (rms, kind), part in damage.groupby(["rms", "kind"]):
    by_seed = part.pivot(index="seed", columns="family", values="drop")
    effect = paired_difference(by_seed["pure"], by_seed["resnet"])
    said = {-1: "PURe", 0: "undecided", 1: "ResNet"}[effect.verdict]
    rows.append(
        {
            "Changed by": f"{rms:g}",
            "Kind": kind,
            "PURe (%)": f"{by_seed['pure'].mean():.1f}",
            "ResNet (%)": f"{by_seed['resnet'].mean():.1f}",
            "Difference": f"{effect.mean:+.1f}",
            "95 % interval": f"{effect.low:+.1f} to {effect.high:+.1f}",
            "Loses less": said,
        }
    )
show(pd.DataFrame(rows))

# %% [markdown]
# **Check.** One kind stands apart from the others: in dimmed light, every PURe loses less than the ResNet of its seed.

# %% tags=["nbval-check-output"]
dimmed = damage.query("kind == 'dim'").set_index(["rms", "seed", "family"])
gap = dimmed["drop"].unstack("family")
print(
    "PURe loses less in dimmed light, every seed:",
    bool((gap["pure"] < gap["resnet"]).all()),
)

# %% tags=["hide-input"]
kinds_of_noise = ("poisson", "gaussian", "speckle", "impulse")
noise = damage[damage["kind"].isin(kinds_of_noise)]
means = noise.groupby(["rms", "kind", "family"])["drop"].mean().unstack()
better = int((means["pure"] < means["resnet"]).sum())
Markdown(
    f"Of the {len(means)} comparisons under *noise*, PURe's mean drop is the "
    f"smaller one in {better}."
)

# %% [markdown]
# **How to read it.** Look at the seeds before the families. Under photon noise, networks that were trained alike differ
# by tens of points, because nothing in the training asked them to agree there; three seeds cannot decide a difference
# of that size, and one seed a family, as a quick look would take, finds a winner every time. What does come out is
# another thing: light that is lost everywhere. There a common factor is taken from all pixels, which is what the first
# notebook's ratios are indifferent to. But the two families follow different recipes, and PURe's has ten times the
# weight decay: whether it is the product or the recipe, this page cannot tell.
#
# **What it does not show.** Real galaxies, larger networks, longer trainings. And a *relative* drop leaves out where a
# network started, as an exercise shows.
#
# ## What the records of real galaxies say
#
# The campaign trains PURe18 and ResNet18 on Galaxy Zoo 2 by the whole protocol of section 4.1.2, and tests at six
# scales of the noise. What is committed below `results/gz2` is drawn here; `make reproduce TARGET=campaign` makes it.

# %%
real = robustness.drops(
    read_records(
        repository() / "results/gz2", repository() / "results/galaxy10"
    )
)

# %% tags=["hide-input"]
if real.empty:
    display(
        Markdown(
            "**No record of real galaxies is committed yet.** "
            "The campaign's take hours on a processor; this section fills "
            "itself when they are there."
        )
    )
for data, found in real.groupby("data"):
    display(Markdown(f"**{data}**"))
    robustness.drop_figure(found)
    plt.show()
    names = found.drop_duplicates("network").set_index("family")["network"]
    if {"pure", "resnet"} <= set(names.index):
        ours = names.loc[["pure"]].iloc[0]
        theirs = names.loc[["resnet"]].iloc[0]
        display(show(robustness.drop_table(found, ours, theirs)))

# %% [markdown]
# **What it does not show.** Whether a difference comes from the unit or from the recipe: for that, both families need
# training by both recipes, as the page of [results](../book/results.py) does for accuracy without noise.
#
# ## Exercises
#
# ### Exercise 1
#
# A network that guesses is right in one of four cases. How large can the relative drop of a network be that is right in
# 90 % of the cases without noise, and of one that is right in 60 %? What follows for comparing networks of unequal
# accuracy by it?

# %% tags=["hide-cell"]
for start in (90.0, 60.0):
    print(f"from {start:g} %: at most {relative_drop(start, 25.0):.1f} %")
# The worse network cannot drop as far. A smaller relative drop is a merit only
# between networks that are equally good without noise; else show both
# accuracies, as the left panels do.

# %% [markdown]
# ### Exercise 2
#
# For photons the square root makes noise even. Train the small PURe on the square roots of the grey levels, and compare
# its drop at $s = 0.1$ with that of the same seeds above. (Bring the roots back to 0 to 255, so that nothing else
# changes.)


# %% tags=["hide-cell"]
def rooted(images):
    """Grey levels as 255 times the root of their share of white."""
    share = images.images.float() / 255
    return ImageSet(
        (255 * share.sqrt()).round().to(torch.uint8), images.labels
    )


roots = dataclasses.replace(
    galaxies,
    name=f"{galaxies.name}-roots",
    train=rooted(galaxies.train),
    validation=rooted(galaxies.validation),
    test=rooted(galaxies.test),
)
torch.manual_seed(0)
network = pure.create_model("pure20", len(GROUPS), **SMALL)
pure.fit(
    "galaxy10-quick",
    network,
    data=roots,
    overrides={"epochs": 10},
    progress=False,
)
noisy = rooted(poisson(galaxies.test, 0.1))
right = []
for images in (roots.test, noisy):
    scores = evaluate(network, images, roots.statistics, progress=False)
    right.append(
        100 * (scores.argmax(1) == images.labels).float().mean().item()
    )
with_roots = relative_drop(*right)
without = curve.query("network == 'PURe' and seed == 0 and scale == 0.1")
print(f"relative drop with roots {with_roots:.1f} %, ", end="")
print(f"without {without['drop'].item():.1f} %; one seed decides nothing")

# %% [markdown]
# ### Exercise 3
#
# By {eq}`eq-unit-noise` the threshold limits the noise of a product. Check the formula on a window of nine inputs
# between 20 and 60 photons with random exponents, and say what happens to it where inputs lie near the threshold.

# %% tags=["hide-cell"]
x = torch.empty(9, dtype=torch.float64).uniform_(20, 60, generator=generator)
w = 0.3 * torch.randn(1, 9, generator=generator).double()
exposures = torch.poisson(x.expand(100_000, -1), generator=generator)
logs = product_unit(exposures, w, threshold=0.693).log()[:, 0]
theory = (w[0] ** 2 / x).sum()
print(f"variance of log y: {logs.var():.4f}, by the formula {theory:.4f}")
assert abs(logs.var() / theory - 1) < 0.1
# Near the threshold an input is clamped in some exposures and not in others:
# half of its noise is cut off and its mean is shifted upwards, which no first
# order sees.
