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
from pathlib import Path
from typing import get_args

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display

from pure import recipes, report
from pure.report import precision_study, style

style.use()
here = Path.cwd()  # the repository, or a folder in it
root = next(
    folder
    for folder in [here, *here.parents]
    if (folder / "results/precision").is_dir()
)
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

# %% tags=["hide-input"] mystnb={"image": {"alt": "Largest relative error of exp(z) over z, by precision"}}
figure, axes = plt.subplots()
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
# ## Accuracy
#
# The same trainings with each pair of precisions, by their accuracy on the test set. *Difference* is that of the means
# to float32, in points, in brackets Welch's interval at 95 %. A difference is *not resolved* where the interval holds
# zero; its lower end is then the loss that the runs do not exclude.

# %%
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

# %%
show(precision_study.steps_table(results))

# %% [markdown]
# ## How far the logits are off
#
# The weights of one training in float32 and the whole test set, in each pair and in float64. The error of an image is
# the largest of its logits' errors, relative to its largest logit. *Changed* are images that are put into another
# class, *not finite* those with a logit that is infinite or NaN, which the errors leave out.

# %%
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

# %%
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

# %%
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
