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
#     - results/precision/*.json
#     - results/digits/**/record.json
#     - results/cifar10-tenth/**/record.json
# ---

# %% [markdown]
# # Precision
#
# - **Before this page:** [the product unit](01-product-unit.py) and [the networks](07-networks.py).
# - **You need:** the extra `report`; no download, no GPU.
# - **Running time:** seconds; it reads what was measured elsewhere.
#
# What half precision and TF32 cost in accuracy and gain in time, in the whole network and in the product units'
# exponents alone: the study that decides the recipes' defaults. This page trains nothing: it reads what
# `benchmarks/precision.py` and `benchmarks/seeds.py` wrote on the machines named below.
#
# A precision is given twice. That of the **network** is what autocast makes of convolutions and products of matrices;
# that of the **units** is of one sum alone, the exponent of each product. Weights, logarithms and exponentials stay in
# float32. A ResNet has no units.

# %%
from typing import get_args

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display

from pure import recipes, report
from pure.records import read_records
from pure.report import precision_study, style, thresholds
from pure.report.parameters import repository

style.use()
root = repository()
files = precision_study.read_results(root / "results/precision")
results = precision_study.results(files)
studies = dict.fromkeys(result.study for result in results)


def show(table):
    """A table as Markdown."""
    display(Markdown(report.markdown(table)))


show(precision_study.machines_table(files))

# %% tags=["hide-input"]
asked = {precision for result in results for precision in result.pair}
missing = [
    precision
    for precision in get_args(recipes.Precision)
    if precision not in asked
]
if missing:
    display(
        Markdown(
            f"**Not measured: {' and '.join(missing)}.** They need a GPU, "
            "and there is no study of one. `python benchmarks/precision.py "
            "--recipe cifar10 --device cuda --data DIR --models pure20 "
            "resnet20 --json results/precision/cifar10-cuda.json` makes it."
        )
    )

# %% [markdown]
# ## Why the exponent is special
#
# A floating-point number with $p$ bits is rounded by a factor of at most $1 \pm u$, $u = 2^{-p}$, the unit roundoff.
# The result of a convolution bears that: the relative error is $u$, whatever the result. In a product unit the result
# $z$ is an exponent, and $y = e^z$. What is an *absolute* error of $z$ becomes a *relative* one of $y$:
#
# $$\frac{e^{z + d} - e^z}{e^z} = e^d - 1, \qquad |d| \le u\,|z|.$$
#
# The further a product is from one, the worse it is known. Computed here, by rounding $z$ and nothing else:

# %%
BITS = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}
z = torch.logspace(-3, 5, 100_000, base=2, dtype=torch.float64)


def rounding_errors(dtype):
    """Relative errors of z itself, and of exp(z), when z is rounded."""
    d = z.to(dtype).double() - z
    return (d / z).abs(), d.expm1().abs()


def worst(dtype, most):
    """The largest error of exp(z) up to z, in percent."""
    return f"{100 * rounding_errors(dtype)[1][z <= most].max():.2g}"


# %% tags=["nbval-check-output"]
table = [
    {
        "Precision of $z$": name,
        "Bits $p$": f"{1 - np.log2(torch.finfo(dtype).eps):.0f}",
        "$u$ (%)": f"{100 * torch.finfo(dtype).eps / 2:.2g}",
    }
    | {
        rf"$e^z$ off, $z \le {most}$ (%)": worst(dtype, most)
        for most in (1, 4, 16)
    }
    for name, dtype in BITS.items()
]
show(pd.DataFrame(table))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Largest relative error of exp(z) over z, by precision"}, "figure": {"caption": "Rounding $z$ alone: the error of a convolution's result stays (dashed), that of a product grows with its exponent (full).", "name": "fig-rounding"}}
figure, axes = plt.subplots(figsize=(7, 3.2))
bins = np.array_split(np.arange(len(z)), 160)
places = [float(z[each].mean()) for each in bins]
dashed = {"linewidth": 0.9, "linestyle": (0, (3, 2))}
for colour, (name, dtype) in zip(
    style.PALETTE[2:5], BITS.items(), strict=True
):
    plain, product = (
        [float(error[each].max()) for each in bins]
        for error in rounding_errors(dtype)
    )
    axes.plot(places, product, color=colour)
    axes.plot(places, plain, color=colour, **dashed)
    axes.annotate(
        name,
        (places[-1], product[-1]),
        (5, 0),
        textcoords="offset points",
        color=colour,
        va="center",
    )
axes.plot(
    [],
    [],
    color=style.COLOURS["neutral"],
    label="of $e^z$, a product unit's result",
)
axes.plot(
    [],
    [],
    color=style.COLOURS["neutral"],
    **dashed,
    label="of $z$ itself, as of a convolution's result",
)
axes.set_xscale("log", base=2)
axes.set_yscale("log")
axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
axes.set_xlabel("$z$")
axes.set_ylabel("largest relative error")
axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
plt.show()

# %% [markdown]
# **How to read it.** The steps are at powers of two, where the spacing of the numbers doubles and, just above, the
# bound $u\,|z|$ is reached; axes are logarithmic. float16 has more bits than bfloat16 and a smaller range: a large
# $e^z$ would overflow in it, which is one reason why the exponential is taken in float32. TF32 has no curve: it rounds
# the factors of the sum, to as many bits as float16 has, and leaves the sum itself in float32. In half precision the
# factors, logarithms and exponents, are rounded too, which adds to what is shown.
#
# ## A whole unit, over the scale of its exponents
#
# Now everything that a unit rounds. A window of 144 inputs, normal as after a batch normalisation, goes through the
# clamp at $\ln 2$ and the logarithm; the exponents are uniform and ever larger. As the hardware does it, factors are
# rounded to the precision, products are added up in float32, and in half precision the sum $z$ is rounded again. The
# exponential is taken of what is left, and compared with float64. TF32, which only GPUs have, is emulated by
# {py:func}`pure.report.precision_study.rounded`.

# %%
generator = torch.Generator().manual_seed(0)
inputs = torch.randn(2000, 144, generator=generator).double()
logs = inputs.clamp(min=np.log(2)).log()
shape = torch.rand(144, 32, generator=generator).double() - 0.5


def exponent(weights, precision):
    """The sum z in a precision: factors rounded, float32 within."""
    factors = precision_study.rounded(logs, precision).float()
    sums = factors @ precision_study.rounded(weights, precision).float()
    # TF32 rounds the factors alone
    own = "float32" if precision == "tf32" else precision
    return precision_study.rounded(sums, own)


PRECISIONS = ("float32", "tf32", "float16", "bfloat16")
scales = np.geomspace(0.02, 8, 14)
spread, typical = [], {name: [] for name in PRECISIONS}
for scale in scales:
    exact = logs @ (scale * shape)
    spread.append(exact.std().item())
    for name in PRECISIONS:
        error = (exponent(scale * shape, name) - exact).expm1().abs()
        typical[name].append(error.median().item())

# %% [markdown]
# **Check.** TF32 and float16 round factors alike, to eleven bits, and bfloat16 to three bits fewer: eight times the
# error. Over the scale all errors grow in proportion, while they are small.

# %% tags=["nbval-check-output"]
middle = len(scales) // 2
ratio = typical["bfloat16"][middle] / typical["tf32"][middle]
growth = typical["tf32"][middle] / typical["tf32"][middle - 4]
assert 5 < ratio < 20
assert 0.7 < growth / (spread[middle] / spread[middle - 4]) < 1.4
print("bfloat16 is 5 to 20 times as far off as TF32:", 5 < ratio < 20)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Median relative error of a product unit over the deviation of its exponent, four precisions"}, "figure": {"caption": "Median error of a unit's output over the deviation of $z$. All grow with the exponent; bfloat16 reaches 1 %, the dotted line, at a deviation of several, TF32 and float16 run together below it.", "name": "fig-unit-error"}}
figure, axes = plt.subplots(figsize=(7, 3.2))
colours = (
    style.PALETTE[4],
    style.PALETTE[5],
    style.PALETTE[3],
    style.PALETTE[2],
)
for (name, errors), colour in zip(typical.items(), colours, strict=True):
    line = "--" if name == "tf32" else "-"
    axes.plot(spread, errors, line, color=colour, label=name)
axes.axhline(0.01, color=style.COLOURS["neutral"], linestyle=":")
axes.set(
    xscale="log",
    yscale="log",
    xlabel="standard deviation of $z$",
    ylabel="median relative error of $y$",
)
axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
axes.legend(loc="lower right")
plt.show()

# %% [markdown]
# **How to read it.** float32 leaves five digits wherever a unit may be. In half precision the relative
# error of $z$ comes back multiplied by the size of $z$: a trained unit, whose exponents have a deviation of some
# tenths, loses a thousandth or less, and a steep one in bfloat16 some percent, in every unit of the network again. That
# is why the scale of the exponents decides which precision is safe.
#
# ## What overflows where
#
# Rounding is one limit, range the other. Three quantities of a unit can leave it: $e^z$ upwards, $e^z$ downwards, and
# $1/x$ in the gradient $\partial y/\partial x = y\,w/x$ where the threshold has become small.

# %% mystnb={"figure": {"caption": "Where each precision ends. $e^z$ is infinite above the first and zero below the second; the third is the smallest threshold at which $1/x$ is finite.", "name": "tab-range", "caption_before": true}}
rows = []
for name, dtype in BITS.items():
    limits = torch.finfo(dtype)
    smallest = limits.smallest_normal * limits.eps  # subnormal
    rows.append(
        {
            "Precision": name,
            "Infinite, $z >$": f"{np.log(limits.max):.2f}",
            "Zero, $z <$": f"{np.log(smallest / 2):.2f}",
            r"$1/\tau$ finite, $\tau >$": f"{1 / limits.max:.1e}",
        }
    )
show(pd.DataFrame(rows))

# %% [markdown]
# **Check.** Just below and just above the limit of float16:

# %% tags=["nbval-check-output"]
edge = torch.tensor([11.0, 11.2], dtype=torch.float16).exp()
print("float16, exp of 11.0 and of 11.2:", edge.tolist())

# %% [markdown]
# How near do trainings come? Records hold the lowest and the highest exponent of every unit after every epoch:

# %%
runs = read_records(root / "results/digits", root / "results/cifar10-tenth")
seen = thresholds.courses(runs)
highest = seen["high"].max()
limit = float(np.log(torch.finfo(torch.float16).max))
beyond = (seen["high"] > limit).sum()
display(
    Markdown(
        f"In {len(seen):,} looks at a unit, in {len(runs)} runs, the highest "
        f"exponent was {highest:.1f}; it was above {limit:.2f}, where float16 "
        f"ends, in {beyond:,}."
    )
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Histogram of the largest exponents of units in records, with the limits of float16"}, "figure": {"caption": "The highest exponent of each unit after each epoch, all records of digits and CIFAR-10; the dashed line is where float16 ends.", "name": "fig-exponents-seen"}}
figure, axes = plt.subplots(figsize=(7, 2.6))
axes.hist(
    seen["high"],
    bins=np.linspace(0, max(12, highest), 60),
    color=style.COLOURS["pure"],
)
axes.axvline(limit, color=style.COLOURS["resnet"], linestyle="--")
axes.text(
    limit - 0.1,
    0.9,
    "float16 ends",
    ha="right",
    transform=axes.get_xaxis_transform(),
)
axes.set(yscale="log", xlabel="highest exponent $z$ of a unit", ylabel="looks")
plt.show()

# %% [markdown]
# **How to read it.** Most units stay far below, and a few do not: in float16 these would have ended a training with
# infinities, in bfloat16 or float32 they do not. That is why this package takes logarithm and exponential in float32
# whatever the network's precision is.
#
# ## Accuracy
#
# The same trainings with each pair of precisions, by their accuracy on the test set. *Difference* is that of the means
# to float32, in points, in brackets Welch's interval at 95 %. A difference is *not resolved* where the interval holds
# zero; its lower end is then the loss that the runs do not exclude.

# %% mystnb={"figure": {"caption": "Test accuracies of trainings in each pair of precisions, and differences to float32.", "name": "tab-precision-accuracy", "caption_before": true}}
show(precision_study.accuracy_table(results))

# %% tags=["hide-input"]
changes = [
    result
    for result in results
    if result.pair != precision_study.REFERENCE and result.difference
]
resolved = [
    result for result in changes if result.accuracy in ("better", "worse")
]
display(
    Markdown(
        f"Intervals without zero: {len(resolved)} of {len(changes)}. If "
        "precision changed nothing, one in twenty would do so by chance."
    )
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Accuracy of each seed and time of a training step, by precision"}}
for study in studies:
    figure = precision_study.study_figure(
        [result for result in results if result.study == study]
    )
    figure.suptitle(study, x=0, ha="left", fontsize=9)
    plt.show()

# %% [markdown]
# **How to read it.** A row is a pair, *network/units*; of a ResNet it is the network's precision. On the left each dot
# is one training, the stroke is the mean, and a line joins the trainings of one seed, which began with the same weights
# and saw the same batches. Where lines cross, the seed matters more than the precision. On the right the stroke is the
# median over the rounds, the bar spans the quartiles; left of one, the pair is faster than float32.
#
# ## Time
#
# A step is forward and backward pass on one batch. The pairs take turns within one process, and only quotients within a
# round count. A pair is *faster* or *slower* where both quartiles are on one side of one.

# %% mystnb={"figure": {"caption": "Time of a training step over that in float32.", "name": "tab-precision-steps", "caption_before": true}}
show(precision_study.steps_table(results))

# %% [markdown]
# ## How far the logits are off
#
# The weights of one training in float32 and the whole test set, in each pair and in float64. The error of an image is
# the largest of its logits' errors, relative to its largest logit. *Changed* are images that are put into another
# class, *not finite* those with a logit that is infinite or NaN, which the errors leave out.

# %% mystnb={"figure": {"caption": "Errors of the logits against float64, same weights and images.", "name": "tab-precision-logits", "caption_before": true}}
show(precision_study.logits_table(results))

# %% [markdown]
# **How to read it.** Weights in float32 that are evaluated in a lower precision: a training in that precision adapts to
# it. What a ResNet's logits lose is the price without any exponent; pairs that differ in the units alone show what the
# exponents add.
#
# ## What it decides
#
# Precision is a default of the recipe, for both families, since networks that are compared must be trained alike: next
# to each pair stands the ResNet in the network's precision. A pair is taken where every network is faster by it, no
# training diverged, no accuracy is worse, and all logits are finite. A recipe's default is a pair that every machine
# takes; where there is none, it is float32.

# %% mystnb={"figure": {"caption": "What each network says about each pair, and whether the pair is taken.", "name": "tab-precision-decision", "caption_before": true}}
show(precision_study.decision_table(results))

# %% tags=["nbval-check-output"]
for recipe in dict.fromkeys(result.recipe for result in results):
    decided = precision_study.decision(results, recipe)
    ours = [result for result in results if result.recipe == recipe]
    chosen = [recipes.get_recipe(recipe, result.model) for result in ours]
    same = all(
        (each.precision, each.unit_precision) == decided for each in chosen
    )
    by = ", ".join(dict.fromkeys(result.study for result in ours))
    print(f"{recipe}, by {by}:", end=" ")
    print(f"network {decided[0]}, units {decided[1]}.", end=" ")
    print(f"The recipe has {'this' if same else 'another default'}.")

# %% [markdown]
# This holds for the machines that were measured; one run on another can have another precision, by the overrides
# `precision` and `unit_precision`, and its record names it.
#
# ## Several seeds at once
#
# The weights of several seeds of a small network can be stacked and trained in one call under `torch.vmap`, each seed
# on its own batches; or seeds are trained in processes side by side. Seeds an hour, over those of one after another:

# %% mystnb={"figure": {"caption": "Seeds an hour, stacked and side by side, over one after another.", "name": "tab-precision-seeds", "caption_before": true}}
show(precision_study.seeds_table(files))

# %% [markdown]
# **How to read it.** *Stacked* is the median over the rounds, in brackets the quartiles. A step is forward and backward
# pass alone: it is the most that stacking can win. *Gradients off by* compares the stacked gradients with those of each
# network alone. *Side by side* uses several processes and wall-clock time, and is limited by the cores: where it
# exceeds the number of processes, or the load shows that another program was busy, it says little.
#
# **What it does not show.** That a lowered precision loses nothing: a difference that is not resolved is a statement
# about this number of seeds and test images, and the lower end of its interval is the loss that it does not exclude.
# Longer trainings, larger images, and wider networks, whose products have more factors. Another processor: one with
# units for half precision gains where one without them pays for the conversions. And the time of a whole training, in
# which loader and optimiser take a part that the precision does not change.
#
# ## Exercises
#
# ### Exercise 1
#
# How many bits $p$ must $z$ have, at least, if no product with $|z| \le 16$ may be off by more than 1 %? Which of the
# precisions above has them?

# %% tags=["hide-cell"]
# exp(d) - 1 <= 0.01 with d = 2 ** -p * 16, so 2 ** p >= 16 / log(1.01).
bits = int(np.ceil(np.log2(16 / np.log(1.01))))
enough = [
    name
    for name, dtype in BITS.items()
    if 1 - np.log2(torch.finfo(dtype).eps) >= bits
]
print(f"{bits} bits: {', '.join(enough)}")
assert float(worst(torch.float16, 16)) <= 1
assert float(worst(torch.bfloat16, 16)) > 1

# %% [markdown]
# ### Exercise 2
#
# A sum of $n$ rounded products has an error that grows with $\sqrt n$ if the errors are independent, and with $n$ if
# they conspire. Measure which, for exponents in bfloat16.

# %% tags=["hide-cell"]
numbers, errors = [16, 64, 256, 1024, 4096], []
for n in numbers:
    factors = torch.randn(500, n, generator=generator).double()
    weights = torch.randn(n, 50, generator=generator).double()
    off = [
        precision_study.rounded(each, "bfloat16")
        for each in (factors, weights)
    ]
    errors.append((off[0] @ off[1] - factors @ weights).std().item())
slope = np.polyfit(np.log(numbers), np.log(errors), 1)[0]
print(f"the error grows with n to the power {slope:.2f}")
assert abs(slope - 0.5) < 0.1

# %% [markdown]
# ### Exercise 3
#
# A product can be computed factor by factor in bfloat16, rounding after each, or by logarithms with the sum in float32.
# Compare both for 144 factors near one. Which is better, and why is that another reason for the logarithm?

# %% tags=["hide-cell"]
factors = (0.2 * torch.randn(2000, 144, generator=generator)).exp().double()
exact = factors.prod(1)
product = torch.ones(2000, dtype=torch.bfloat16)
for factor in factors.to(torch.bfloat16).T:
    product = product * factor
summed = precision_study.rounded(factors.log(), "bfloat16").sum(1).exp()
for name, found in (
    ("factor by factor", product.double()),
    ("logarithms", summed),
):
    error = (found / exact - 1).abs().median()
    print(f"{name}: {100 * error:.1f} %")
# Each multiplication rounds the product once more. A sum in float32 rounds the
# logarithms once, before it begins, and small logarithms have small errors.
