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
# # Without a threshold
#
# - **Before this page:** [the product unit](01-product-unit.py); complex numbers, as far as Euler's formula.
# - **You need:** the extra `book`; no download, no GPU.
# - **Running time:** under a minute on two cores.
#
# Afterwards you can say what a negative number to the power of 1.7 is, solve a problem with one unit that no unit
# with a threshold solves, and explain why product units had the name of being untrainable.

# %%
from __future__ import annotations

import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Markdown
from torch import Tensor, nn

import pure
from pure import report
from pure.nn.complex import complex_product_unit
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
# ## What the threshold throws away
#
# The paper's unit sees $\max(x, \tau)$ in place of $x$. After a batch normalisation half of the inputs are negative,
# and a unit with a new threshold, $\tau = \log 2$, sees three quarters of them as one and the same number. That is no
# accident of engineering: a negative number has no real power with a fractional exponent.
#
# It has a complex one. Durbin and Rumelhart {cite}`durbin1989product` took it from the start. Write a negative number
# as $x = |x|\,e^{i\pi}$; then its logarithm is $\log|x| + i\pi$, and the product of powers is
#
# $$
# \prod_i x_i^{w_i} = e^{z}\,e^{i\pi h}, \qquad
# z = \sum_i w_i \log|x_i|, \quad h = \sum_{i:\,x_i<0} w_i .
# $$ (eq-complex-product)
#
# The size of the product is that of the magnitudes. The signs have moved into an angle: each negative input turns the
# result by its exponent times half a turn. A layer of real numbers needs a real number, so the unit keeps the real
# part:
#
# $$
# y = e^{z} \cos(\pi h)
# $$ (eq-complex-unit)
#
# {py:class}`pure.ComplexProductUnit` computes {eq}`eq-complex-unit`, by two weighted sums with the same exponents.

# %%
generator = torch.Generator().manual_seed(0)
x = torch.randn(1000, 5, generator=generator)
w = torch.randn(8, 5, generator=generator)

ours = complex_product_unit(x, w)  # (1000, 8)
# complex powers by PyTorch, factor by factor
factors = x[:, None].to(torch.complex128) ** w
product = factors.prod(2)

# %% [markdown]
# **Check.** Against complex powers, multiplied one by one. And whole exponents give the ordinary product with its
# ordinary sign: $x_1 x_2^2 x_3^3$ is negative where it should be.

# %% tags=["nbval-check-output"]
torch.testing.assert_close(ours, product.real, rtol=1e-9, atol=1e-9)
whole = torch.tensor([[1.0, 2.0, 3.0, 0.0, 0.0]])
plain = x[:, 0] * x[:, 1] ** 2 * x[:, 2] ** 3
torch.testing.assert_close(
    complex_product_unit(x, whole)[:, 0], plain, rtol=1e-12, atol=1e-15
)
print("products compared:", ours.numel() + len(plain))
print("negative ones among the whole powers:", int((plain < 0).sum()))

# %% mystnb={"image": {"alt": "Real parts of powers on both sides of zero, and of powers of minus one"}, "figure": {"caption": "Left: the complex unit (lines) agrees with the powers we know on the right of zero, and continues them on the left; the unit with a threshold (dotted) is flat there. Right: a power of minus one is a rotation, and its real part a cosine: one at even exponents, minus one at odd ones, nothing halfway.", "name": "fig-negative-powers"}} tags=["hide-input"]
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3))
line = torch.linspace(-2, 2, 401)[:, None]
for exponent, colour in zip((0.5, 1.0, 1.5, 2.0), PALETTE, strict=False):
    power = torch.tensor([[exponent]])
    left.plot(
        line,
        complex_product_unit(line, power, eps=1e-12),
        color=colour,
        label=f"$w={exponent:g}$",
    )
    left.plot(
        line,
        product_unit(line, power, math.log(2)),
        color=colour,
        linestyle=":",
        linewidth=1,
    )
left.set(xlabel="$x$", ylabel="$y$", ylim=(-2.2, 4.2))
left.legend(ncols=2)
turns = torch.linspace(-2, 3, 501)
minus_one = -torch.ones(1)
right.plot(turns, complex_product_unit(minus_one, turns[:, None]))
dots = torch.arange(-2.0, 4)
right.plot(dots, complex_product_unit(minus_one, dots[:, None]), "o")
right.set(xlabel="exponent $w$", ylabel=r"$\mathrm{Re}\,(-1)^w$")
plt.show()

# %% [markdown]
# **How to read it.** With $w = 1$ the unit is the identity, sign included; with $w = 2$ the parabola. Between them
# the left branch swings through zero at $w = 3/2$, where $x^{1.5}$ is purely imaginary for negative $x$ and its real
# part is lost.
#
# **What it does not show.** The point zero, whose logarithm is minus infinity.
# {py:func}`pure.nn.complex.complex_product_unit` says what it makes of it, and exercise 3 why networks should stay
# away from there.
#
# ## A task that needs the sign: parity
#
# Given $n$ inputs that are $1$ or $-1$, is the number of negative ones even? Minsky and Papert made this the standard
# hard problem of neurons that add: no single one of them can tell for $n \ge 2$. For a complex unit it is one product,
# all exponents one.
#
# A unit with a threshold below one does not help. On such inputs it sees $1$ or $\tau$, so that
#
# $$
# y = \tau^{\,\sum_{i:\,x_i<0} w_i},
# $$
#
# which is a *monotone* function of a weighted sum of the bits. Whatever limit is set to $y$, it divides the inputs as a
# single summing neuron does, by a plane, and parity cannot be divided by a plane.


# %%
def sign_patterns(n: int) -> Tensor:
    """All inputs of n signs, shape (2^n, n)."""
    bits = torch.arange(2**n)[:, None] >> torch.arange(n) & 1
    return 1.0 - 2 * bits


def best_by_a_limit(y: Tensor, even: Tensor) -> float:
    """The largest share right that any limit on y can give."""
    y, order = y.sort()
    signs_so_far = (1.0 - 2 * even[order].double()).cumsum(0)
    at_a_step = torch.cat([y[1:] > y[:-1], torch.tensor([True])])
    # right if what is below the limit is called odd, and the rest even
    right = (even.sum() + signs_so_far[at_a_step]) / len(y)
    return torch.maximum(right, 1 - right).max().item()


def relu_parity(n: int) -> nn.Sequential:
    """A zigzag of n ReLUs over the number of negative inputs."""
    network = nn.Sequential(nn.Linear(n, n), nn.ReLU(), nn.Linear(n, 1))
    network.requires_grad_(False)
    network[0].weight.fill_(-0.5)  # (n - sum) / 2 counts them
    network[0].bias.copy_(n / 2 - torch.arange(n))
    slopes = torch.tensor([-2.0] + [4.0 * (-1) ** k for k in range(n - 1)])
    network[2].weight.copy_(slopes[None])
    network[2].bias.fill_(1)
    return network


rows = []
for n in (2, 4, 8, 12):
    signs = sign_patterns(n)
    even = (signs < 0).sum(1) % 2 == 0
    complex_unit = pure.ComplexProductUnit(n, 1)
    nn.init.ones_(complex_unit.weight)
    with torch.no_grad():
        by_product = complex_unit(signs)[:, 0]
    drawn = torch.randn(100, n, generator=generator)
    seen = product_unit(signs, drawn, math.log(2))  # (2^n, 100)
    rows.append(
        {
            "n": n,
            "complex": best_by_a_limit(by_product, even),
            "threshold": max(best_by_a_limit(y, even) for y in seen.T),
            "relu": best_by_a_limit(relu_parity(n)(signs)[:, 0], even),
        }
    )
parity = pd.DataFrame(rows).set_index("n")

# %% [markdown]
# **Check.** One complex unit is right on every pattern, and so is a zigzag of $n$ ReLUs.

# %% tags=["nbval-check-output"]
assert (parity[["complex", "relu"]] == 1).all(axis=None)
assert (parity["threshold"] <= 0.75).all()
print("patterns of twelve signs, all told apart:", len(signs))

# %% mystnb={"figure": {"caption": "Parity of $n$ signs: patterns that are told apart, in percent. A guess has 50; the unit with a threshold is the best of a hundred random ones, each with its best limit.", "name": "tab-parity", "caption_before": true}} tags=["hide-input"]
show(
    pd.DataFrame(
        [
            {
                "Signs $n$": f"{n}",
                "1 complex unit": f"{100 * row['complex']:.0f}",
                "1 unit with a threshold": f"{100 * row['threshold']:.1f}",
                "$n$ ReLUs": f"{100 * row['relu']:.0f}",
                "Parameters, complex": f"{n}",
                "ReLUs": f"{n * n + 2 * n + 1}",
            }
            for n, row in parity.iterrows()
        ]
    )
)

# %% [markdown]
# **What it does not show.** Learning. Nor real numbers: on signs alone the exponents 1, 3 or $-1$ are the same.
#
# ## A task of measured kind: power that flows back
#
# In an alternating current, voltage $U$ and current $I$ both change their signs, and the power $U I$ is positive where
# energy flows to the consumer and negative where it flows back. Whoever sees only what is positive cannot know it. Four
# small networks learn $U I$ from examples of random amplitude and phase, five seeds each.


# %%
def mains(count: int, seed: int, largest: float = 2.0) -> Tensor:
    """Voltage and current at random moments, shape (count, 2)."""
    draw = torch.Generator().manual_seed(seed)
    amplitude = torch.empty(count, 2).uniform_(0.2, largest, generator=draw)
    moment, shift = torch.rand(2, count, 1, generator=draw)
    phase = torch.cat([moment, moment - shift / 4], 1)  # the current lags
    return amplitude * torch.sin(2 * math.pi * phase)


def over_sum(units: nn.Module, count: int) -> nn.Sequential:
    return nn.Sequential(units, nn.Linear(count, 1))


# large first exponents; magnitudes below 0.05 count as that, since both
# quantities pass through zero and a power below zero has no bound there
WIDE = {"init_a": 0, "eps": 0.05}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "8 units with a threshold": lambda: over_sum(pure.ProductUnit(2, 8), 8),
    "8 ReLUs": lambda: over_sum(nn.Sequential(nn.Linear(2, 8), nn.ReLU()), 8),
    "1 complex unit": lambda: pure.ComplexProductUnit(2, 1, **WIDE),
    "8 complex units": lambda: over_sum(
        pure.ComplexProductUnit(2, 8, **WIDE), 8
    ),
}
SEEDS = range(5)


def learn(model: nn.Module, x: Tensor, target: Tensor, steps: int) -> None:
    """Least squares by Adam under a cosine schedule."""
    adam = torch.optim.Adam(model.parameters(), lr=0.03, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=steps)
    for _ in range(steps):
        adam.zero_grad()
        F.mse_loss(model(x)[:, 0], target).backward()
        adam.step()
        schedule.step()


@torch.no_grad()
def relative_error(model: nn.Module, x: Tensor) -> float:
    """RMS error, as a share of the power's RMS."""
    power = x.prod(1)
    off = (model(x)[:, 0] - power).square().mean()
    return (off / power.square().mean()).sqrt().item()


results = []
for name, build in MODELS.items():
    for seed in SEEDS:
        torch.manual_seed(seed)
        model, examples = build(), mains(512, seed)
        learn(model, examples, examples.prod(1), steps=300)
        results.append(
            {
                "model": name,
                "parameters": sum(p.numel() for p in model.parameters()),
                "inside": relative_error(model, mains(4000, 1000)),
                "outside": relative_error(model, mains(4000, 1000, 6.0)),
            }
        )
power_errors = pd.DataFrame(results)

# %% mystnb={"figure": {"caption": "Error of the learned power as a share of its RMS, in percent, each of five seeds. Outside: amplitudes up to three times those of the examples.", "name": "tab-power", "caption_before": true}} tags=["hide-input"]
show(
    pd.DataFrame(
        [
            {
                "Model": name,
                "Parameters": f"{rows['parameters'].iloc[0]}",
            }
            | {
                f"{place} (%)": ", ".join(
                    f"{100 * error:.2g}" for error in sorted(rows[place])
                )
                for place in ("inside", "outside")
            }
            for name, rows in power_errors.groupby("model", sort=False)
        ]
    )
)

# %% [markdown]
# **How to read it.** With a threshold the sign is gone, and no training can bring it back. Eight ReLUs fold a sheet
# into something like a saddle, and know nothing of it outside the examples. A single complex unit *is* the power when
# it finds it, outside the examples too; but most seeds miss it, and those are hopeless. Eight of them with a sum on
# top find it more often than not.
#
# ## The price: a landscape full of holes
#
# The row of the single unit is the reason why the literature of thirty years is about genetic algorithms and swarms
# {cite}`leerink1994learning,engelbrecht1999training`. Its landscape can be drawn, for one input and the easiest of all
# tasks, $t = x$, so that $w = 1$ is the answer.

# %%
place = torch.Generator().manual_seed(2)
positive = torch.empty(512, 1).uniform_(0.2, 2, generator=place)
coin = torch.randint(0, 2, (512, 1), generator=place)
signed = positive * (1 - 2 * coin)
span = torch.linspace(-2.5, 3.5, 1201)[:, None]  # (1201, 1): one unit each
with torch.no_grad():
    landscapes = {
        "positive inputs": (complex_product_unit(positive, span) - positive)
        .square()
        .mean(0),
        "signed inputs": (complex_product_unit(signed, span) - signed)
        .square()
        .mean(0),
        "signed inputs, with a threshold": (
            product_unit(signed, span, 0.2) - signed
        )
        .square()
        .mean(0),
    }


def minima(loss: Tensor) -> list[float]:
    """Exponents at the local minima of a landscape."""
    inner = (loss[1:-1] < loss[:-2]) & (loss[1:-1] < loss[2:])
    return span[1:-1, 0][inner].tolist()


# %% [markdown]
# **Check.** With positive inputs there is one minimum, at $w = 1$. With signed ones there are more.

# %% tags=["nbval-check-output"]
found = {name: minima(loss) for name, loss in landscapes.items()}
assert found["positive inputs"] == [1.0]
assert len(found["signed inputs"]) > 1
for name, places in found.items():
    print(f"{name}:", ", ".join(f"{w:.2f}" for w in places))

# %% mystnb={"image": {"alt": "Error over the exponent, for positive inputs, for signed ones, and with a threshold"}, "figure": {"caption": "Learning $t = x$ with one exponent. On positive inputs every way leads down to one. On signed inputs the cosine makes a wave of it, and whoever starts left of the crest slides into the wrong valley. With a threshold there is one valley, whose floor is high: the sign is lost.", "name": "fig-landscape"}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(7, 3.2))
looks = {
    "positive inputs": {"color": COLOURS["neutral"]},
    "signed inputs": {"color": COLOURS["pure"]},
    "signed inputs, with a threshold": {
        "color": COLOURS["pure"],
        "linestyle": ":",
    },
}
for name, look in looks.items():
    loss = landscapes[name]
    ax.plot(span, loss, label=name, **look)
    for exponent in found[name]:
        nearest = (span[:, 0] - exponent).abs().argmin()
        ax.plot(exponent, loss[nearest], "o", color=look["color"])
ax.set(xlabel="exponent $w$", ylabel="mean squared error", ylim=(-0.1, 5))
ax.legend(loc="upper center")
plt.show()

# %% [markdown]
# The gradient says why. From {eq}`eq-complex-unit`,
#
# $$
# \frac{\partial y}{\partial w_i} = e^{z}\bigl(\log|x_i|\,\cos \pi h \;-\; \pi\,[x_i<0]\,\sin \pi h\bigr).
# $$ (eq-complex-gradient)
#
# Only the second term knows the sign of $x_i$, and its sine vanishes wherever $h$ is whole: at the start, where all
# exponents are near zero, the unit feels the signs of its inputs hardly at all. With $n$ inputs there are $n$ such
# choices of a direction, and they multiply. We let a hundred single units start from small exponents and a hundred from
# large ones, and count those that arrive.


# %%
def learn_each(units: nn.Module, x: Tensor) -> None:
    """Each unit learns the product of the inputs, by itself."""
    target = x.prod(1, keepdim=True)
    adam = torch.optim.Adam(units.parameters(), lr=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=200)
    for _ in range(200):
        adam.zero_grad()
        # a sum over units: each has the gradient of its own error
        (units(x) - target).square().mean(0).sum().backward()
        adam.step()
        schedule.step()


@torch.no_grad()
def errors_of_each(units: nn.Module, x: Tensor) -> Tensor:
    """Squared error of each unit, as a share of the product's square."""
    target = x.prod(1, keepdim=True)
    return (units(x) - target).square().mean(0) / target.square().mean()


def share_that_arrives(n: int, scale: float, signs: bool) -> float:
    """Of 100 units that learn a product of n inputs, each by itself."""
    draw = torch.Generator().manual_seed(n)
    x = torch.empty(128, n).uniform_(0.2, 2, generator=draw)
    if signs:
        x = x * (1 - 2 * torch.randint(0, 2, x.shape, generator=draw))
    units = pure.ComplexProductUnit(n, 100)
    nn.init.uniform_(units.weight, -scale, scale, generator=draw)
    learn_each(units, x)
    return (errors_of_each(units, x) < 1e-3).double().mean().item()


INPUTS, STARTS = (1, 2, 3, 4), (0.1, 2.0)
arrived = {
    (signs, scale): [share_that_arrives(n, scale, signs) for n in INPUTS]
    for signs in (False, True)
    for scale in STARTS
}

# %% [markdown]
# **Check.** The gradient {eq}`eq-complex-gradient` against automatic differentiation. And that from small exponents all
# units arrive when inputs are positive, and none for three signed ones.

# %% tags=["nbval-check-output"]
exponents = torch.randn(1, 5, generator=generator).requires_grad_()
y = complex_product_unit(x[:1], exponents)
(automatic,) = torch.autograd.grad(y.sum(), exponents)
negative = x[0] < 0
z = (exponents[0] * x[0].abs().log()).sum()
h = exponents[0][negative].sum()
by_hand = z.exp() * (
    x[0].abs().log() * torch.cos(math.pi * h)
    - math.pi * negative * torch.sin(math.pi * h)
)
torch.testing.assert_close(automatic[0], by_hand, rtol=1e-10, atol=1e-12)
assert min(arrived[False, 0.1]) == 1
assert arrived[True, 0.1][2] == 0
print("gradients compared:", by_hand.numel())

# %% mystnb={"image": {"alt": "Share of starts that arrive over the number of inputs, positive and signed"}, "figure": {"caption": "Share of a hundred single units that find the product of $n$ inputs, by the range of their first exponents. On positive inputs (dashed) a small start always arrives. On signed inputs (lines) fewer do with each further input, and hardly any from small exponents as soon as there are two.", "name": "fig-arrivals"}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(7, 3))
for (signs, scale), shares in arrived.items():
    ax.plot(
        INPUTS,
        [100 * share for share in shares],
        marker="o",
        color=PALETTE[STARTS.index(scale)],
        linestyle="-" if signs else "--",
        label=f"{'signed' if signs else 'positive'}, within ±{scale:g}",
    )
ax.set(xlabel="inputs $n$", ylabel="starts that arrive (%)")
ax.set_xticks(INPUTS)
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %% [markdown]
# **How to read it.** It is not the product that is hard to learn, it is the sign. On positive numbers, which is what
# the threshold makes of all numbers, gradient descent from small exponents arrives every time. The threshold pays
# for that with the sign. This is the bargain of the paper's unit, in one figure.
#
# **What it does not show.** Wide layers, which roll many dice at once, and other optimisers. Exercise 2 has a cure
# for a single unit.
#
# ## In a network
#
# A unit of a network has hundreds of inputs, half of them negative, and its angle $\pi h$ is a sum of hundreds of
# exponents. If that sum spreads over more than a turn, the cosine is noise. How far it spreads is decided by the
# initialisation. Kaiming's rule draws exponents with variance $2/((1 + a^2)\,n)$, and half of the $n$ inputs are
# negative, so that
#
# $$
# \operatorname{var} h = \frac{n}{2} \cdot \frac{2}{(1 + a^2)\,n} = \frac{1}{1 + a^2}, \qquad
# \operatorname{E} \cos \pi h \approx e^{-\pi^2 \operatorname{var} h / 2},
# $$ (eq-angle)
#
# whatever $n$. Here are both readings of the paper's "scaling factor of 5", and none.

# %%
READINGS = {"5": 5.0, r"\sqrt{5}": math.sqrt(5), "0": 0.0}
inputs = torch.randn(200, 576, generator=generator)
angles = {}
for label, a in READINGS.items():
    torch.manual_seed(0)
    layer = pure.ComplexProductUnit(576, 1000, init_a=a)
    with torch.no_grad():
        angles[label] = (inputs < 0).double() @ layer.weight.T

# %% [markdown]
# **Check.** Mean cosines, measured and computed.

# %% tags=["nbval-check-output"]
for label, a in READINGS.items():
    computed = math.exp(-(math.pi**2) / (1 + a**2) / 2)
    cosine = torch.cos(math.pi * angles[label]).mean().item()
    assert abs(cosine - computed) < 0.05
    print(f"a = {a:.3f}: mean cosine computed {computed:.2f}")

# %% mystnb={"image": {"alt": "Distributions of the factor cos(pi h) for three initialisations"}, "figure": {"caption": "The factor that the signs put on a product in a new layer of 576 inputs. With $a = 5$ it is close to one nearly everywhere, and the layer begins as one of magnitudes; with $a = 0$ it is a coin toss.", "name": "fig-angles"}} tags=["hide-input"]
fig, axes = plt.subplots(1, 3, figsize=(7, 2.4), sharey=True)
for ax, (label, h), colour in zip(axes, angles.items(), PALETTE, strict=False):
    ax.hist(
        torch.cos(math.pi * h).flatten().numpy(),
        np.linspace(-1, 1, 41),
        density=True,
        color=colour,
    )
    ax.set(title=f"$a = {label}$", xlabel=r"$\cos \pi h$")
axes[0].set_ylabel("density")
plt.show()

# %% [markdown]
# `pure.create_model("pure20", unit="complex")` builds the paper's network of such units. It counts magnitudes below
# $\log 2$ as $\log 2$, where the paper's threshold starts, for a reason that exercise 3 finds. Whether it gains
# anything over the threshold is a row of the [results](../book/results.py) where runs of it exist; nothing on this
# page says so.
#
# ## Exercises

# %% [markdown]
# ### Exercise 1
#
# Show that on inputs of $\pm 1$ a complex unit with exponents $w$ and one with $w + 2k$, $k$ whole, are the same
# function. Why is that not so for real inputs, and what does it mean for the landscape?

# %% tags=["hide-cell"]
signs = sign_patterns(6)
w = torch.randn(1, 6, generator=generator)
shifts = 2 * torch.randint(-3, 4, (1, 6), generator=generator)
torch.testing.assert_close(
    complex_product_unit(signs, w),
    complex_product_unit(signs, w + shifts),
    rtol=1e-9,
    atol=1e-12,
)
print("patterns compared:", len(signs))
Markdown(
    r"With $|x_i| = 1$ we have $z = 0$, and $y = \cos \pi h$ has period two "
    r"in each exponent. The landscape of parity is a crystal: the answer "
    r"stands in every cell, so that no start is far from one. With real "
    r"inputs $e^z$ singles out one of the cells, and the others become the "
    r"wrong valleys of the figure above."
)

# %% [markdown]
# ### Exercise 2
#
# The magnitudes are easy, the signs are hard, and the exponents are the same. Make a training of that: first learn
# $|t|$ from $|x|$, then $t$ from $x$. How many of a hundred starts arrive for four signed inputs?

# %% tags=["hide-cell"]
draw = torch.Generator().manual_seed(4)
x = torch.empty(128, 4).uniform_(0.2, 2, generator=draw)
x = x * (1 - 2 * torch.randint(0, 2, x.shape, generator=draw))
units = pure.ComplexProductUnit(4, 100)
nn.init.uniform_(units.weight, -0.1, 0.1, generator=draw)
for given in (x.abs(), x):  # magnitudes first
    learn_each(units, given)
arriving = int((errors_of_each(units, x) < 1e-3).sum())
print(f"of {len(units.weight)} starts, {arriving} arrive")
Markdown(
    "The first training finds the exponents, from which the signs follow. "
    "It works because this target *is* a product; a sum of several has no "
    "such shortcut, since $|t|$ is then not what $|x|$ makes."
)

# %% [markdown]
# ### Exercise 3
#
# Compute $\partial y / \partial x$ of a complex unit with the exponent $1/2$ at $x = 10^{-1}, 10^{-2}, \dots$ What
# happens to it through ten layers? Then with `eps` at $\log 2$.

# %% tags=["hide-cell"]
half = torch.tensor([[0.5]])


def slope(value: float, eps: float) -> float:
    """dy/dx of one unit with the exponent 1/2."""
    given = torch.tensor([value], requires_grad=True)
    complex_product_unit(given, half, eps=eps).backward()
    return given.grad.item()


show(
    pd.DataFrame(
        [
            {
                "$x$": f"$10^{{-{k}}}$",
                r"$\partial y/\partial x$": f"{slope(10.0**-k, 0):.3g}",
                "to the tenth": f"{slope(10.0**-k, 0) ** 10:.1e}",
                "with `eps`": f"{slope(10.0**-k, math.log(2)):.3g}",
            }
            for k in (1, 2, 4, 8)
        ]
    )
)
