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
# # The product unit
#
# - **Before this page:** nothing; this is the first. A little calculus and Python.
# - **You need:** the extra `book`; no download, no GPU.
# - **Running time:** under a minute on two cores.
#
# Afterwards you can say what one product unit computes, write down its exponents for a given formula, and tell when a
# layer of ordinary neurons is the better choice.

# %%
from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Markdown
from numpy.polynomial import Polynomial
from torch import Tensor, nn

import pure
from pure import report
from pure.nn.functional import product_unit
from pure.report.style import COLOURS, PALETTE, use

use()
# one order of summation: the same numbers in every run
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)


def show(table: pd.DataFrame) -> Markdown:
    """A table as Markdown."""
    return Markdown(report.markdown(table))


# %% [markdown]
# ## Why products
#
# The usual neuron adds: it can say *this and that are both bright*, and needs many neurons to say *this is twice as
# bright as that*. The product unit of Durbin and Rumelhart {cite}`durbin1989product` multiplies instead. Its weights
# are exponents, so that one unit is a product, a quotient, a root or a power of its inputs, whichever it learns:
#
# $$
# y = \prod_{i=1}^{n} x_i^{\,w_i}
# $$ (eq-product)
#
# That was in 1989, and the unit stayed in small networks for a long time. The paper that this book reproduces
# {cite}`li2025pure` puts it into deep residual networks {cite}`he2016deep`; [the road there](history) is at the end of
# this page.
#
# For positive inputs the same number comes from a weighted sum between a logarithm and an exponential, and weighted
# sums are what our libraries and machines are fast at:
#
# $$
# y = \exp\Bigl(\sum_{i=1}^{n} w_i \log x_i\Bigr)
# $$ (eq-log)
#
# {py:func}`pure.nn.functional.product_unit` computes {eq}`eq-log`. Whether it is {eq}`eq-product` we test on random
# inputs and exponents, as many factors as a window of 3 x 3 pixels in 16 channels has, once in double and once in
# single precision.

# %%
generator = torch.Generator().manual_seed(0)
factors, cases = 3 * 3 * 16, 2000
x = torch.empty(cases, factors).uniform_(0.7, 4, generator=generator)
# from almost constant units to steep ones
spread = torch.logspace(-3, 0.3, cases)[:, None]
w = torch.randn(cases, factors, generator=generator) * spread

explicit = (x**w).prod(1)  # equation (1), factor by factor

difference = {}
for dtype in (torch.float64, torch.float32):
    bases, exponents = x.to(dtype), w.to(dtype)
    one_unit_each = torch.vmap(
        lambda base, exponent: product_unit(
            base, exponent[None], threshold=1e-7
        )
    )
    logarithmic = one_unit_each(bases, exponents)[:, 0]  # equation (2)
    difference[dtype] = (
        (logarithmic / (bases**exponents).prod(1) - 1).abs().double()
    )

# %% [markdown]
# **Check.** In double precision the two forms agree to a relative difference of $10^{-12}$, in single precision to
# $10^{-4}$.

# %% tags=["nbval-check-output"]
assert difference[torch.float64].max() < 1e-12
assert difference[torch.float32].max() < 1e-4
print(
    "double precision, below 1e-12:",
    bool((difference[torch.float64] < 1e-12).all()),
)
print(
    "single precision, below 1e-4: ",
    bool((difference[torch.float32] < 1e-4).all()),
)

# %% mystnb={"image": {"alt": "Relative difference of the two forms, in two precisions"}, "figure": {"caption": "The log form against the explicit product, a dot for each unit. The difference is rounding: it grows with the exponential's argument and stays near the rounding step of its precision.", "name": "fig-log-form"}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(7, 3))
argument = explicit.log().abs()
for (dtype, values), colour in zip(
    difference.items(), PALETTE[:2], strict=True
):
    # where the two forms agree in every bit: no dot
    name, shown = str(dtype).removeprefix("torch."), values > 0
    ax.scatter(
        argument[shown],
        values[shown],
        s=4,
        color=colour,
        alpha=0.4,
        linewidths=0,
        label=name,
    )
    ax.axhline(
        torch.finfo(dtype).eps,
        color=colour,
        linestyle="--",
        linewidth=1,
        label=f"rounding step of {name}",
    )
ax.set(
    xscale="log",
    yscale="log",
    xlim=(argument.min() / 1.5, argument.max() * 1.5),
)
ax.set(
    xlabel=r"$|\log y|$, the size of what the exponential is taken of",
    ylabel="relative difference",
)
ax.set_title("Log form against explicit product")
ax.legend(loc=(0.03, 0.4), ncols=2)
plt.show()

# %% [markdown]
# **How to read it.** Each dot is one unit, and each dashed line the relative distance between neighbouring numbers of
# that precision. The difference is rounding. It grows where the exponential's argument is large, because an absolute
# error of the argument is a relative error of the result.
#
# **What it does not show.** Which precision a trained network needs. Here the inputs are positive and the exponents
# random; deep inside a network both are what training made of them.
#
# ## The threshold
#
# A logarithm needs positive inputs, and what comes out of a batch normalisation is negative half of the time. So the
# unit clamps its inputs from below by a threshold that it learns:
#
# $$
# x \;\mapsto\; \max(x, \tau)^{w}, \qquad \tau = \operatorname{softplus}(\theta) + \varepsilon
# $$
#
# Softplus, $\log(1 + e^{\theta})$, and a tiny $\varepsilon$ keep it positive. $\theta$ is one number for each layer and
# starts at zero, so that $\tau$ starts at $\log 2$.

# %% tags=["nbval-check-output"]
unit = pure.ProductUnit(1, 1)
print("threshold of a new unit:", f"{unit.threshold.item():.6f}")
torch.testing.assert_close(
    unit.threshold.detach(),
    torch.tensor(2.0).log() + unit.eps,
    rtol=1e-12,
    atol=0,
)

# %%
exponents = torch.tensor([-1.0, -0.5, 0.5, 1.0, 2.0])
# an odd number of points: none of them at the kink
x = torch.linspace(-1, 2.5, 701)


def clamped_power(value: Tensor, theta: Tensor) -> Tensor:
    """One unit of one input for each exponent: one number each."""
    return product_unit(
        value[None], exponents[:, None], F.softplus(theta) + unit.eps
    )


theta = torch.tensor(0.0)
value = torch.vmap(clamped_power, in_dims=(0, None))(x, theta)  # (701, 5)
by_x = torch.vmap(
    torch.func.jacrev(clamped_power, argnums=0), in_dims=(0, None)
)(x, theta)
by_theta = torch.vmap(
    torch.func.jacrev(clamped_power, argnums=1), in_dims=(0, None)
)(x, theta)

# %% [markdown]
# **Check.** Every point has one of the two gradients and lacks the other.

# %% tags=["nbval-check-output"]
below = x < unit.threshold.item()
for gradient, constant in ((by_x, below), (by_theta, ~below)):
    assert (gradient[constant] == 0).all()
    assert (gradient[~constant] != 0).all()
print(
    "at the left end, gradients of theta:",
    " ".join(f"{gradient:.4f}" for gradient in by_theta[0]),
)
print(
    "at the right end, gradients of x:   ",
    " ".join(f"{gradient:.4f}" for gradient in by_x[-1]),
)

# %% mystnb={"image": {"alt": "The clamped power and its gradients for five exponents"}, "figure": {"caption": "One input, five exponents. Left of the dotted threshold the output is flat and the input gets no gradient; there, and only there, $\\theta$ gets one.", "name": "fig-clamped-power"}} tags=["hide-input"]
fig, axes = plt.subplots(1, 3, figsize=(7, 2.7))
curves = {
    r"$y=\max(x,\tau)^w$": value,
    r"$\partial y\,/\,\partial x$": by_x,
    r"$\partial y\,/\,\partial\theta$": by_theta,
}
for ax, (title, lines) in zip(axes, curves.items(), strict=True):
    for w, line, colour in zip(exponents, lines.T, PALETTE[:5], strict=True):
        ax.plot(x[below], line[below], color=colour, label=f"$w={w:g}$")
        # apart, so that a jump is not drawn as a slope
        ax.plot(x[~below], line[~below], color=colour)
    ax.axvline(
        unit.threshold.item(),
        color=COLOURS["neutral"],
        linestyle=":",
        linewidth=1,
    )
    ax.set(xlabel="$x$", title=title)
axes[0].set_ylim(top=5)
axes[0].text(
    unit.threshold.item() + 0.06, 4.5, r"$\tau$", color=COLOURS["neutral"]
)
handles, labels = axes[0].get_legend_handles_labels()
fig.legend(handles, labels, loc="outside lower center", ncols=5)
plt.show()

# %% [markdown]
# **How to read it.** Left of the dotted line the input is below the threshold: the output is constant and the input
# gets no gradient. In exchange the threshold itself learns there, and nowhere else.
#
# **What it does not show.** How many inputs of a trained network lie on which side. Each training notebook in this book
# draws where the thresholds of its network went.
#
# **Move it yourself.** {numref}`fig-touch-unit` takes any exponent and threshold; arrow keys move a slider, too. Where
# is dy/dw zero for every exponent? What happens to the left of the threshold when the exponent becomes negative?

# %% mystnb={"image": {"alt": "A power with a threshold, and its three derivatives"}, "figure": {"caption": "A product unit of one input, $y = \\max(x, \\tau)^w$, and its derivatives by the input, the exponent and the threshold. The dashed line is the threshold, the points lie at the input x whose values the text tells.", "name": "fig-touch-unit"}}
from pure.report import interactive

interactive.unit_explorer()

# %% [markdown]
# ## What one unit is, exactly
#
# Every exponent asks one question of one input, and a single unit answers all of them at once. Six formulas from
# everyday science, each as the row of exponents that makes a product unit equal to it on all positive inputs:


# %%
def geometric_mean(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return (a * b * c) ** (1 / 3)


FORMULAS: dict[str, tuple[list[float], Callable[..., Tensor]]] = {
    "power: $a^3$": ([3, 0, 0], lambda a, b, c: a**3),
    "root: $\\sqrt{a}$": ([0.5, 0, 0], lambda a, b, c: a.sqrt()),
    "fraction: $a/b$": ([1, -1, 0], lambda a, b, c: a / b),
    "inverse square: $ab/c^2$": ([1, 1, -2], lambda a, b, c: a * b / c**2),
    "geometric mean: $\\sqrt[3]{abc}$": ([1 / 3] * 3, geometric_mean),
    "pendulum: $\\sqrt{a/b}$": (
        [0.5, -0.5, 0],
        lambda a, b, c: (a / b).sqrt(),
    ),
}
rows = torch.tensor([row for row, _ in FORMULAS.values()])  # (6, 3)
dictionary = pure.ProductUnit(3, len(rows), threshold=0.01)
with torch.no_grad():
    dictionary.weight.copy_(rows)
    inputs = torch.empty(2000, 3).uniform_(
        0.01, 10, generator=torch.Generator().manual_seed(1)
    )
    answers = dictionary(inputs)  # (2000, 6)

# %% [markdown]
# **Check.** One layer with these six rows of exponents gives all six formulas, to rounding.

# %% tags=["nbval-check-output"]
expected = torch.stack([f(*inputs.T) for _, f in FORMULAS.values()], 1)
torch.testing.assert_close(answers, expected, rtol=1e-13, atol=0)
print("formulas compared:", len(FORMULAS), "on", len(inputs), "inputs")

# %% mystnb={"figure": {"caption": "Six formulas and the exponents that make one product unit equal to them. The degree says how the answer scales.", "name": "tab-formulas", "caption_before": true}} tags=["hide-input"]
show(
    pd.DataFrame(
        [
            {
                "Formula": name,
                "$w_a$": f"{row[0]:.3g}",
                "$w_b$": f"{row[1]:.3g}",
                "$w_c$": f"{row[2]:.3g}",
                "Degree $\\sum_i w_i$": f"{sum(row):.3g}",
            }
            for name, (row, _) in FORMULAS.items()
        ]
    )
)

# %% [markdown]
# **How to read it.** The last column is what happens when all inputs are scaled by one factor $c$: the answer is scaled
# by $c$ to the power of the degree. Where it is zero, the answer does not depend on the scale at all. That is a ratio,
# and [images](03-two-dimensions.py) will make use of it.
#
# **What it does not show.** A constant in front. No exponent turns $m v^2$ into $m v^2 / 2$: a unit has no bias. A
# weighted sum after it does that, and more.
#
# ### A layer of them: sparse polynomials
#
# Units side by side with one weighted sum on top are a polynomial, each unit a term, whose degrees need be neither
# small nor whole. The paper names *sparse high-dimensional polynomials* as what such layers represent directly
# {cite}`li2025pure`. Here is one of ten variables and degree twenty, with three terms:
#
# $$
# p(x) = 3\,x_1^{9} x_4^{7} x_8^{4} \; - \; 2\,x_2^{3} x_3^{-2} \; + \; \tfrac12\, x_5 x_6 x_7 \sqrt{x_{10}}
# $$ (eq-sparse)

# %%
variables = 10
terms = torch.zeros(3, variables)
terms[0, [0, 3, 7]] = torch.tensor([9.0, 7.0, 4.0])
terms[1, [1, 2]] = torch.tensor([3.0, -2.0])
terms[2, [4, 5, 6, 9]] = torch.tensor([1.0, 1.0, 1.0, 0.5])

sparse = nn.Sequential(
    pure.ProductUnit(variables, 3, threshold=0.1),
    nn.Linear(3, 1, bias=False),
)
with torch.no_grad():
    sparse[0].weight.copy_(terms)
    sparse[1].weight.copy_(torch.tensor([[3.0, -2.0, 0.5]]))

# %% [markdown]
# **Check.** Against the formula, written out. Beside it, what a *dense* polynomial of this degree would have to
# learn: a coefficient for each of its monomials, of which there are $\binom{n+d}{d}$ for $n$ variables and degree
# $d$.

# %% tags=["nbval-check-output"]
with torch.no_grad():
    x = torch.empty(1000, variables).uniform_(
        0.5, 1.5, generator=torch.Generator().manual_seed(2)
    )
    x1, x2, x3, x4, x5, x6, x7, x8, _, x10 = x.T
    formula = (
        3 * x1**9 * x4**7 * x8**4
        - 2 * x2**3 / x3**2
        + x5 * x6 * x7 * x10.sqrt() / 2
    )
    torch.testing.assert_close(
        sparse(x)[:, 0], formula, rtol=1e-12, atol=1e-12
    )
degree = int(terms[0].sum())
own = sum(parameter.numel() for parameter in sparse.parameters())
print(f"parameters of the three units and their sum: {own}")
print(
    f"coefficients of all monomials up to degree {degree}:",
    f"{math.comb(variables + degree, degree):,}",
)

# %% [markdown]
# **What it does not show.** That the terms can be *found*. The dense polynomial is linear in its coefficients and has
# one minimum; the sparse one is not and has many. That is the price, and exercise 3 below pays it.
#
# ## How many sums make a product?
#
# Ordinary neurons can approximate all of this too. The question is how many are needed, and for two cases the answer
# can be computed, without any training that might have gone wrong.
#
# ### One input: the cost of a curve
#
# A layer of $N$ ReLUs with a weighted sum on top is a broken line of at most $N + 1$ pieces. Where the pieces of the
# best broken line have to be, and how far off it is, follows from the second derivative: on a piece of width $h$ a line
# is off by $h^2 |f''| / 16$, so the pieces must be narrow where the curve bends. With $K$ of them in the best places
#
# $$
# \max_x |f(x) - \text{line}(x)| \;\approx\; \frac{1}{16 K^2} \Bigl(\int \sqrt{|f''(x)|}\,dx\Bigr)^{2}.
# $$ (eq-broken-line)
#
# The next cell builds those broken lines and measures them.

# %%
grid = np.linspace(0.5, 2, 200_001)
POWERS = (0.5, -1.0, 2.0, 8.0)
relus = 2 ** np.arange(10)


def bending(power: float) -> np.ndarray:
    """Integral of sqrt(|f''|) for f = x^power from 0.5 to each point."""
    root = np.sqrt(np.abs(power * (power - 1)) * grid ** (power - 2))
    steps = (root[1:] + root[:-1]) / 2 * np.diff(grid)
    return np.concatenate([[0], np.cumsum(steps)])


def broken_line_error(power: float, hidden: int) -> float:
    """Largest error of the best line of hidden + 1 pieces, of max(f)."""
    f, share = grid**power, bending(power)
    knots = np.interp(np.linspace(0, share[-1], hidden + 2), share, grid)
    chord = np.interp(grid, knots, knots**power)
    # a chord lies on one side of the curve; the best line is halfway
    return np.abs(f - chord).max() / 2 / f.max()


def predicted_error(power: float, hidden: int) -> float:
    """The same by the formula."""
    most = (grid**power).max()
    return bending(power)[-1] ** 2 / (16 * (hidden + 1) ** 2) / most


measured = pd.DataFrame(
    {w: [broken_line_error(w, int(n)) for n in relus] for w in POWERS},
    index=relus,
)
predicted = pd.DataFrame(
    {w: [predicted_error(w, int(n)) for n in relus] for w in POWERS},
    index=relus,
)

# %% [markdown]
# **Check.** Formula and measurement agree to three percent from 128 ReLUs on. Turned around, the formula says how
# many ReLUs a curve costs for a given accuracy.

# %% tags=["nbval-check-output"]
assert ((measured / predicted).loc[128:] - 1).abs().max().max() < 0.03


def relus_for(power: float, error: float) -> int:
    """The number of ReLUs that the formula asks for."""
    return math.ceil(math.sqrt(predicted_error(power, 0) / error)) - 1


print("ReLUs for the square within 1 %:", relus_for(2.0, 1e-2))

# %% mystnb={"figure": {"caption": "Units that it takes to follow a power from 0.5 to 2, within a share of its largest value. ReLUs are counted by {eq}`eq-broken-line`.", "name": "tab-relus", "caption_before": true}} tags=["hide-input"]
show(
    pd.DataFrame(
        [
            {
                "Function": f"$x^{{{w:g}}}$",
                "Product units": "1",
                "ReLUs for 1 %": f"{relus_for(w, 1e-2):,}",
                "for 0.01 %": f"{relus_for(w, 1e-4):,}",
                "for $10^{-7}$, single precision": f"{relus_for(w, 1e-7):,}",
            }
            for w in POWERS
        ]
    )
)

# %% mystnb={"image": {"alt": "Error of the best broken line over the number of ReLUs, for four powers"}, "figure": {"caption": "What a power costs in ReLUs: the error of the best broken line falls by four when their number doubles. A product unit does it with one exponent, up to rounding (dashed).", "name": "fig-broken-lines"}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(7, 3.3))
for w, colour in zip(POWERS, PALETTE, strict=False):
    ax.plot(relus, measured[w], "o", color=colour, label=f"$x^{{{w:g}}}$")
    ax.plot(relus, predicted[w], color=colour, linewidth=1)
ax.axhline(
    np.finfo(np.float32).eps / 2,
    color=COLOURS["neutral"],
    linestyle="--",
    linewidth=1,
)
ax.text(
    relus[0],
    np.finfo(np.float32).eps / 1.6,
    "one product unit: rounding of single precision",
    color=COLOURS["neutral"],
    fontsize=8,
    va="bottom",
)
ax.set_xscale("log", base=2)
ax.set(yscale="log", xlabel="number of ReLUs", ylim=(2e-8, 0.6))
ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
ax.set_ylabel("largest error,\nshare of the largest value")
ax.set_title("Best broken lines on the interval from 0.5 to 2")
ax.legend(title="dots measured,\nlines computed", loc="upper right")
plt.show()

# %% [markdown]
# **How to read it.** Each line falls by four when the number of ReLUs doubles: accuracy is paid for by the square root
# of its inverse. The steeper the power, the higher the line, and the later the formula holds. One product unit is down
# at the dashed line whatever the power.
#
# ### Many inputs: the cost of a product
#
# With several inputs it gets worse for the sum. Lin, Tegmark and Rolnick {cite}`lin2017why` prove that a single
# hidden layer of smooth neurons needs $2^n$ of them to multiply $n$ inputs as exactly as one likes, and not one
# fewer. The construction is worth seeing. Give each neuron $\sigma$ one pattern of signs $s \in \{-1, 1\}^n$, scaled
# down by a small $\lambda$, and add up with the sign of the pattern's own product:
#
# $$
# \prod_{i=1}^n x_i \;=\; \frac{1}{2^n\,\sigma^{(n)}(b)\,\lambda^n} \sum_{s} \Bigl(\prod_i s_i\Bigr)\,
# \sigma\Bigl(b + \lambda \sum_i s_i x_i\Bigr) \;+\; O(\lambda^2)
# $$ (eq-signs)
#
# In the Taylor series of the sum every term in which some input is missing cancels, since the two patterns that
# differ in its sign have opposite factors. What is left first is the product.


# %%
def sign_network(n: int, scale: float) -> nn.Sequential:
    """2^n sigmoids that multiply n inputs, up to terms of scale^2."""
    # the n-th derivative of the sigmoid s is a polynomial in s
    s = Polynomial([0, 1])
    derivative = s
    for _ in range(n):
        derivative = derivative.deriv() * s * (1 - s)
    # ... and the bias is where it is largest
    places = np.linspace(0.01, 0.99, 981)
    best = places[np.abs(derivative(places)).argmax()]
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=n)))
    network = nn.Sequential(
        nn.Linear(n, 2**n), nn.Sigmoid(), nn.Linear(2**n, 1, bias=False)
    ).requires_grad_(False)
    network[0].weight.copy_(scale * signs)
    network[0].bias.fill_(math.log(best / (1 - best)))
    network[2].weight.copy_(
        signs.prod(1) / (2**n * derivative(best) * scale**n)
    )
    return network


def product_error(network: nn.Module, n: int) -> float:
    """RMS error on random inputs from 0.5 to 1.5, as a share of the RMS."""
    x = torch.empty(4000, n).uniform_(
        0.5, 1.5, generator=torch.Generator().manual_seed(3)
    )
    product = x.prod(1, keepdim=True)
    off = (network(x) - product).square().mean()
    return (off / product.square().mean()).sqrt().item()


def largest_weight(n: int) -> float:
    """Of the sum on top, at the smallest scale."""
    return sign_network(n, SCALES[-1])[2].weight.max().item()


SCALES = (0.1, 0.03, 0.01)
costs = pd.DataFrame(
    [
        [product_error(sign_network(n, scale), n) for scale in SCALES]
        for n in range(2, 11)
    ],
    index=pd.RangeIndex(2, 11, name="n"),
    columns=SCALES,
)

# %% [markdown]
# **Check.** From $\lambda = 0.1$ to $0.03$ the error falls by the square of their ratio, within a fifth, whatever $n$:
# it is of order $\lambda^2$, as the formula says. And the product unit with $n$ exponents of one is exact.

# %% tags=["nbval-check-output"]
fall = costs[0.1] / costs[0.03]
assert (fall / (0.1 / 0.03) ** 2 - 1).abs().max() < 0.2
for n in costs.index:
    one_unit = pure.ProductUnit(n, 1, threshold=0.1)
    nn.init.ones_(one_unit.weight)
    with torch.no_grad():
        assert product_error(one_unit, n) < 1e-14
print("products of up to", costs.index.max(), "inputs compared")

# %% mystnb={"figure": {"caption": "What it takes to multiply $n$ inputs in one hidden layer: one product unit, or $2^n$ sigmoids, whose weights have to grow as their error is to shrink.", "name": "tab-products", "caption_before": true}} tags=["hide-input"]
show(
    pd.DataFrame(
        [
            {
                "Inputs $n$": f"{n}",
                "Product units": "1",
                "Sigmoids $2^n$": f"{2**n:,}",
            }
            | {
                rf"error at $\lambda={scale:g}$ (%)": f"{100 * error:.2g}"
                for scale, error in row.items()
            }
            | {"their largest weight": f"{largest_weight(n):.0e}"}
            for n, row in costs.iloc[::2].iterrows()
        ]
    )
)

# %% [markdown]
# **How to read it.** Each further input doubles the number of sigmoids, and the weights of their sum, given for the
# smallest $\lambda$, grow like $\lambda^{-n}$. The answer is a small difference of large numbers: below a certain
# $\lambda$ the error rises again, here by rounding in double precision. Nobody would build this network. It is here
# because the theorem says that no network of one hidden layer does with fewer neurons.
#
# **What it does not show.** Depth. A tree of pairwise products, four neurons for each, multiplies $n$ inputs with about
# $4n$ neurons in $\log_2 n$ layers. That deep networks of sums are good at products too is one reason why it is an open
# question what product units add to a deep network, and why this book measures it.
#
# ## Learning the exponents
#
# The function $f(x, y, z) = x^2 y / \sqrt{z}$ *is* a product unit. With the exponents set by hand, it is exact.


# %% tags=["nbval-check-output"]
def power_law(inputs: Tensor) -> Tensor:
    """The function x^2 * y / sqrt(z) of inputs (N, 3), as (N, 1)."""
    x, y, z = inputs.unbind(1)
    return (x**2 * y / z.sqrt())[:, None]


# where all models are trained, and where they never were
inside, outside = (0.5, 2.0), (2.0, 4.0)


def draw(
    count: int, seed: int, bounds: tuple[float, float] = inside
) -> Tensor:
    """Uniform random inputs, shape (count, 3)."""
    return torch.empty(count, 3).uniform_(
        *bounds, generator=torch.Generator().manual_seed(seed)
    )


by_hand = pure.ProductUnit(3, 1, threshold=0.1)
with torch.no_grad():
    by_hand.weight.copy_(torch.tensor([[2.0, 1.0, -0.5]]))
    inputs = draw(4000, seed=0, bounds=(0.1, 4.0))
    relative = (by_hand(inputs) / power_law(inputs) - 1).abs()
assert relative.max() < 1e-14
print("largest relative error below 1e-14:", bool(relative.max() < 1e-14))

# %% [markdown]
# That a unit can represent a function does not mean that it finds it. So we start from the default initialisation and
# learn the exponents and the threshold from examples. Networks of one hidden layer of ReLUs get the same examples and
# the same optimisation: one with a single hidden neuron, the smallest possible and already larger than the product
# unit, and two many times larger. Every model gets five seeds, each with its own examples and its own start: steps of
# Adam under a cosine schedule, then L-BFGS on the whole set until it stops gaining or its budget is spent.
#
# One function cannot be the whole story, so all of them learn a plain sum as well, which suits neurons that add.


# %%
def plain_sum(inputs: Tensor) -> Tensor:
    """The function x + y + z of inputs (N, 3), as (N, 1)."""
    return inputs.sum(1, keepdim=True)


def relu_network(hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, 1))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "product unit": lambda: pure.ProductUnit(3, 1),
    "1 ReLU": lambda: relu_network(1),
    "16 ReLUs": lambda: relu_network(16),
    "64 ReLUs": lambda: relu_network(64),
}
TARGETS = {"x^2 y / sqrt(z)": power_law, "x + y + z": plain_sum}
SEEDS = range(5)


def learn(
    model: nn.Module, inputs: Tensor, targets: Tensor, steps: int = 400
) -> None:
    """Least squares by Adam, then L-BFGS, on all examples at once."""
    adam = torch.optim.Adam(model.parameters(), lr=0.02, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=steps)

    def step(optimiser: torch.optim.Optimizer) -> Tensor:
        optimiser.zero_grad()
        loss = F.mse_loss(model(inputs), targets)
        loss.backward()
        return loss

    for _ in range(steps):
        step(adam)
        adam.step()
        schedule.step()
    lbfgs = torch.optim.LBFGS(
        model.parameters(),
        max_iter=150,
        tolerance_grad=1e-14,
        tolerance_change=1e-18,
        line_search_fn="strong_wolfe",
    )
    lbfgs.step(lambda: step(lbfgs))


@torch.no_grad()
def relative_error(
    model: nn.Module,
    target: Callable[[Tensor], Tensor],
    bounds: tuple[float, float],
) -> float:
    """RMS error on fresh inputs, as a share of the target's RMS."""
    fresh = draw(4000, seed=1000, bounds=bounds)
    return (
        (
            (model(fresh) - target(fresh)).square().mean()
            / target(fresh).square().mean()
        )
        .sqrt()
        .item()
    )


trained, rows = {}, []
for function, target in TARGETS.items():
    for name, build in MODELS.items():
        for seed in SEEDS:
            torch.manual_seed(seed)
            model, examples = build(), draw(512, seed)
            learn(model, examples, target(examples))
            trained[function, name, seed] = model
            rows.append(
                {
                    "function": function,
                    "model": name,
                    "parameters": sum(p.numel() for p in model.parameters()),
                    "seed": seed,
                    "inside": relative_error(model, target, inside),
                    "outside": relative_error(model, target, outside),
                }
            )
errors = pd.DataFrame(rows)

# %% [markdown]
# **Check.** Every one of the five product units finds the exponents 2, 1 and -1/2.

# %% tags=["nbval-check-output"]
for seed in SEEDS:
    weight = trained["x^2 y / sqrt(z)", "product unit", seed].weight.detach()
    torch.testing.assert_close(
        weight, by_hand.weight.detach(), rtol=0, atol=1e-5
    )
    print(
        f"seed {seed}: exponents",
        " ".join(f"{exponent:.4f}" for exponent in weight[0]),
    )

# %% [markdown]
# {numref}`tab-learned` gives the median relative error over the five seeds, on fresh inputs from the range of the
# examples (inside) and on larger ones (outside), and the worst seed of each.

# %% mystnb={"figure": {"caption": "Relative errors on fresh inputs from the range of the examples (inside) and beyond it (outside), in percent: median over five seeds, in brackets the worst.", "name": "tab-learned", "caption_before": true}} tags=["hide-input"]
summary = errors.groupby(["function", "parameters", "model"], sort=False)[
    ["inside", "outside"]
].agg(["median", "max"])
show(
    pd.DataFrame(
        [
            {
                "Function": f"${function}$".replace("sqrt(z)", r"\sqrt{z}"),
                "Model": model,
                "Parameters": f"{parameters}",
            }
            | {
                f"{place} (%)": f"{100 * row[place, 'median']:.2g} "
                f"({100 * row[place, 'max']:.2g})"
                for place in ("inside", "outside")
            }
            for (function, parameters, model), row in summary.iterrows()
        ]
    )
)

# %% tags=["nbval-check-output"]
median = errors.groupby(["function", "model"])[["inside", "outside"]].median()
power, plain = median.loc["x^2 y / sqrt(z)"], median.loc["x + y + z"]
relus = [name for name in MODELS if name != "product unit"]
relus_fail = (power.loc[relus] > 100 * power.loc["product unit"]).all(
    axis=None
)
product_fails = (
    plain.loc[["16 ReLUs", "64 ReLUs"]] < plain.loc["product unit"] / 100
).all(axis=None)
assert relus_fail
assert product_fails
print("Median errors, inside and outside, differ by a factor over 100:")
print(
    "x^2 y / sqrt(z), product unit ahead of every ReLU network:",
    bool(relus_fail),
)
print(
    "x + y + z, larger ReLU networks ahead of the product unit:",
    bool(product_fails),
)

# %% mystnb={"image": {"alt": "Two functions along the diagonal, as four models have learnt them"}, "figure": {"caption": "Learned on the shaded range, asked far outside it. On the left the product unit goes on as the function does and the ReLU networks go on straight; on the right the roles are reversed.", "name": "fig-extrapolation"}} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(7, 3.1))
ray = torch.linspace(0.02, 4, 300)
styles = {
    "product unit": {"color": COLOURS["pure"], "linewidth": 2},
    "1 ReLU": {"color": COLOURS["resnet"], "linestyle": ":"},
    "16 ReLUs": {"color": COLOURS["resnet"], "linestyle": "--"},
    "64 ReLUs": {"color": COLOURS["resnet"]},
}
formulas = {
    "x^2 y / sqrt(z)": r"$x^2 y\,/\sqrt{z}$",
    "x + y + z": "$x + y + z$",
}
for ax, (function, target) in zip(axes, TARGETS.items(), strict=True):
    diagonal = ray[:, None].expand(-1, 3)
    for name, style in styles.items():
        with torch.no_grad():
            answers = torch.stack(
                [
                    trained[function, name, seed](diagonal)[:, 0]
                    for seed in SEEDS
                ]
            )
        ax.plot(ray, answers.median(0).values, label=name, **style)
    ax.plot(
        ray[::12],
        target(diagonal)[::12, 0],
        "o",
        color="black",
        markersize=2,
        label="the function",
        zorder=5,
    )
    ax.axvspan(
        *inside,
        color=COLOURS["neutral"],
        alpha=0.12,
        linewidth=0,
        label="range of the examples",
    )
    ax.set(
        title=formulas[function],
        xlabel="$x = y = z$",
        ylim=(-2, 1.15 * target(diagonal).max().item()),
    )
axes[0].set_ylabel("answer (median of five seeds)")
handles, labels = axes[0].get_legend_handles_labels()
fig.legend(handles, labels, loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# **How to read it.** Left, the product unit continues the function beyond the examples, because it has found the
# function; the larger ReLU networks follow it well between the examples and then go on straight, as sums of ReLUs must.
# Right, the roles are reversed: no product of powers is a sum. Towards zero the product unit fails even on its own
# function. Below its threshold the unit is constant, and the threshold stops learning once it has fallen below the
# smallest input that it sees, give or take what the optimiser's momentum adds:

# %% mystnb={"figure": {"caption": "A threshold follows the examples down until none of them is below it.", "name": "tab-threshold-stops", "caption_before": true}} tags=["hide-input"]
show(
    pd.DataFrame(
        [
            {
                "Seed": f"{seed}",
                "Smallest example": f"{draw(512, seed).min():.4f}",
                "Threshold learnt": f"{model.threshold:.4f}",
            }
            for seed in SEEDS
            for model in [trained["x^2 y / sqrt(z)", "product unit", seed]]
        ]
    )
)

# %% [markdown]
# **What it does not show.** That products are the better neurons. The first function was picked because a product unit
# is exactly that; with the logarithms of the inputs to start from, one linear neuron would learn it as well. Nothing
# here is noisy, nothing is deep, and nobody knows beforehand which of the two functions an image holds.

# %% [markdown]
# (history)=
# ## Where it comes from
#
# - **1989.** Durbin and Rumelhart {cite}`durbin1989product` propose the unit. Its exponents are learned by
#   backpropagation; negative inputs go through the complex logarithm, and the real part is kept.
# - **1994.** Leerink and others {cite}`leerink1994learning` show why gradient descent gets stuck: the error is full of
#   local minima. They try other searches.
# - **1999.** Engelbrecht and Ismail {cite}`engelbrecht1999training` let particle swarms and genetic algorithms search
#   in place of gradients.
# - **2006.** Martínez-Estudillo and others {cite}`martinez2006evolutionary` evolve the structure and the exponents
#   together, for regression.
# - **2018.** Godfrey and Gashler {cite}`godfrey2018leveraging` multiply over small windows, as the nonlinearity
#   between layers of sums. Trask and others {cite}`trask2018neural` set the log-exp form beside a sum, to extrapolate
#   arithmetic.
# - **2019.** Dellen and others {cite}`dellen2019function` extrapolate functions and patterns by networks of sums and
#   products; by 2024 the masses of atomic nuclei {cite}`dellen2023nuclear` and, with complex values, 3D shapes
#   {cite}`li2024completion`. All these networks are shallow.
# - **2025.** Li and others {cite}`li2025pure` go deep: PURe, with the threshold, the two-dimensional unit and residual
#   blocks. *This is the version that the book reproduces.*
# - **2026.** Versions 2 and 3 of that paper {cite}`li2026plug` make it a module that takes the place of other networks'
#   residual units, and add segmentation. PU-UNet {cite}`li2026unet` smooths the threshold and bounds the exponent.
#
# What the line lacked for thirty years is a way to train many such layers by gradients. The proposals are now four: a
# threshold, normalisation on either side, a shortcut around it, and, last, bounds. The pages that follow take them
# one by one.
#
# ## Exercises

# %% [markdown]
# ### Exercise 1
#
# A unit with one input and the exponent $w = 1$ is not the identity, because of the threshold. Which well-known
# activation is it, up to two constants? What follows for a layer of product units between two layers of sums?

# %% tags=["hide-cell"]
# max(x, tau) = tau + relu(x - tau): a ReLU, shifted right and up by tau.
x = torch.linspace(-3, 3, 601)[:, None]
unit = pure.ProductUnit(1, 1)
with torch.no_grad():
    unit.weight.fill_(1)
    torch.testing.assert_close(
        unit(x), unit.threshold + F.relu(x - unit.threshold)
    )
Markdown(
    "With $w=1$ it is a ReLU: $\\max(x,\\tau)=\\tau+"
    "\\mathrm{ReLU}(x-\\tau)$. Sums before and after it take care of the "
    "two shifts, so that with identity exponents a layer of product units "
    "between sums *contains* every layer of ReLUs. What it can represent is "
    "never less; whether more is learnt is another question."
)

# %% [markdown]
# ### Exercise 2
#
# Write down the exponents of a product unit for the kinetic energy $m v^2 / 2$. Which input is missing, and what
# are two ways to get the constant?

# %% tags=["hide-cell"]
m, v = torch.tensor([0.3, 1.0, 5.0]), torch.tensor([2.0, 0.7, 3.0])
energy = m * v**2 / 2

# a third input that is always 2, with the exponent -1 ...
with_constant = pure.ProductUnit(3, 1, threshold=0.1)
# ... or a weighted sum after the unit
with_sum = nn.Sequential(
    pure.ProductUnit(2, 1, threshold=0.1), nn.Linear(1, 1, bias=False)
)
with torch.no_grad():
    with_constant.weight.copy_(torch.tensor([[1.0, 2.0, -1.0]]))
    with_sum[0].weight.copy_(torch.tensor([[1.0, 2.0]]))
    with_sum[1].weight.fill_(0.5)
    inputs = torch.stack([m, v], 1)
    constant = torch.full((3, 1), 2.0)
    first = with_constant(torch.cat([inputs, constant], 1))[:, 0]
    second = with_sum(inputs)[:, 0]
torch.testing.assert_close(first, energy)
torch.testing.assert_close(second, energy)
print("both ways give", [round(value, 3) for value in second.tolist()], "J")

# %% [markdown]
# ### Exercise 3
#
# Three terms are harder than one. Let a layer of three units with a sum on top learn
#
# $$
# p(x_1, x_2, x_3, x_4) = \frac{x_1^3 x_2}{x_3} - 2\,\frac{x_2^3 x_4}{x_1} + x_3^2 x_4^2
# $$
#
# from 512 examples, from eight random starts. In how many does it arrive? Then give it twice as many units as there are
# terms.

# %% tags=["hide-cell"]
points = torch.empty(512, 4).uniform_(
    *inside, generator=torch.Generator().manual_seed(4)
)
x1, x2, x3, x4 = points.T
wanted = x1**3 * x2 / x3 - 2 * x2**3 * x4 / x1 + x3**2 * x4**2


def arrives(units: int, seed: int) -> bool:
    """Whether a training ends below a thousandth of the variance."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        pure.ProductUnit(4, units, threshold=0.1, init_a=0),
        nn.Linear(units, 1, bias=False),
    )
    learn(network, points, wanted[:, None], steps=200)
    with torch.no_grad():
        off = F.mse_loss(network(points)[:, 0], wanted)
    return bool(off < 1e-3 * wanted.var())


for units in (3, 6):
    arrived = sum(arrives(units, seed) for seed in range(8))
    print(f"{units} units: {arrived} of 8 starts arrive")
Markdown(
    "A start that does not arrive has ended in a local minimum: with as many "
    "units as terms, no unit is free to pick up a term that another one has "
    "left. Units to spare leave a way out. It is one reason why networks are "
    "wide."
)
