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
# - **Before this page:** nothing; this is the first.
# - **You need:** the extra `book`; no download, no GPU.
# - **Running time:** under a minute on two cores.

# %%
from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import pure
from pure.nn.functional import product_unit, product_unit2d
from pure.report.style import COLOURS, PALETTE, use

use()
# one order of summation: the same numbers in every run
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)

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
# Local minima of its error made it hard to train {cite}`leerink1994learning`; later work used it in shallow
# networks, for functions {cite}`dellen2019function` and the masses of atomic nuclei {cite}`dellen2023nuclear`. The
# paper that this book reproduces {cite}`li2025pure` puts it into deep residual networks {cite}`he2016deep`.
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

# %% mystnb={"image": {"alt": "Relative difference of the two forms, in two precisions"}} tags=["hide-input"]
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
# ## From convolution to product unit
#
# A convolution lays the same weights $w_{cmn}$ over every window of an image and adds up the weighted pixels of all
# channels $c$:
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
# In code the two differ in the same two places. `windows` holds all factors of a window in one column.

# %%
# (1797, 8, 8), grey levels from 0 to 16
pixels = torch.tensor(load_digits().images)
# (1797, 1, 8, 8), from 1/17 to 1: even the darkest pixel reflects some light
digits = ((pixels + 1) / 17)[:, None]
kernel = torch.full((1, 1, 3, 3), 1 / 9)

digit = digits[:1]
# (1, 9, 36): 9 factors in each of 6 x 6 windows
windows = F.unfold(digit, kernel_size=3)
weights = kernel.reshape(1, 9, 1)
convolution = (windows * weights).sum(1).reshape(1, 1, 6, 6)  # equation (3)
product = (windows**weights).prod(1).reshape(1, 1, 6, 6)  # equation (4)

# %% [markdown]
# What runs in a network is the logarithmic form {eq}`eq-log` of {eq}`eq-product-2d`. Three steps, the middle one an
# ordinary convolution $*$:
#
# $$
# y = \exp\bigl(W * \log x\bigr)
# $$ (eq-log-conv-exp)
#
# **Check.** {py:func}`pure.nn.functional.product_unit2d` computes {eq}`eq-log-conv-exp`, and
# {py:func}`torch.nn.functional.conv2d` computes {eq}`eq-convolution`. Both are compared element by element with the
# cell above.

# %% tags=["nbval-check-output"]
torch.testing.assert_close(
    F.conv2d(digit, kernel), convolution, rtol=1e-12, atol=0
)
torch.testing.assert_close(
    product_unit2d(digit, kernel, threshold=1e-7), product, rtol=1e-12, atol=0
)
print("outputs compared:", product.numel())
print("mean of the convolution: ", f"{convolution.mean():.6f}")
print("mean of the product unit:", f"{product.mean():.6f}")

# %% mystnb={"image": {"alt": "A digit, its arithmetic means and its geometric means"}} tags=["hide-input"]
fig, axes = plt.subplots(1, 3, figsize=(7, 2.5))
panels = {
    "a digit": digit,
    "convolution: arithmetic mean": convolution,
    "product unit: geometric mean": product,
}
for ax, (title, image) in zip(axes, panels.items(), strict=True):
    drawn = ax.imshow(image[0, 0], cmap="gray", vmin=0, vmax=1)
    ax.set_title(title)
    ax.set_axis_off()
fig.colorbar(drawn, ax=axes, label="brightness", shrink=0.85)
plt.show()

# %% [markdown]
# **How to read it.** All nine weights are 1/9, which makes the convolution {eq}`eq-convolution` the arithmetic mean of
# each window and the product unit {eq}`eq-product-2d` its geometric mean. The geometric mean is the darker one
# everywhere: one dark pixel pulls a product down further than a sum.
#
# **What it does not show.** Strides, padding, dilation and groups. By default, a padded pixel counts as 1, the neutral
# factor; the tests of this package compare all of them with explicit products.
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

# %% mystnb={"image": {"alt": "The clamped power and its gradients for five exponents"}} tags=["hide-input"]
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
# ## One unit where ReLU networks approximate
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


def learn(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    """Least squares by Adam, then L-BFGS, on all examples at once."""
    adam = torch.optim.Adam(model.parameters(), lr=0.02, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=400)

    def step(optimiser: torch.optim.Optimizer) -> Tensor:
        optimiser.zero_grad()
        loss = F.mse_loss(model(inputs), targets)
        loss.backward()
        return loss

    for _ in range(400):
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
# The table gives the median relative error over the five seeds, on fresh inputs from the range of the examples
# (inside) and on larger ones (outside), and the worst seed of each.

# %%
summary = errors.groupby(["function", "parameters", "model"])[
    ["inside", "outside"]
].agg(["median", "max"])
summary.map(lambda error: f"{100 * error:.3g} %")

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

# %% mystnb={"image": {"alt": "Two functions along the diagonal, as four models have learnt them"}} tags=["hide-input"]
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

# %%
pd.DataFrame(
    {
        "smallest example": [draw(512, seed).min().item() for seed in SEEDS],
        "threshold learnt": [
            trained["x^2 y / sqrt(z)", "product unit", seed].threshold.item()
            for seed in SEEDS
        ],
    },
    index=pd.Index(SEEDS, name="seed"),
).round(4)

# %% [markdown]
# **What it does not show.** That products are the better neurons. The first function was picked because a product unit
# is exactly that; with the logarithms of the inputs to start from, one linear neuron would learn it as well. Nothing
# here is noisy, nothing is deep, and nobody knows beforehand which of the two functions an image holds.
#
# ## Ratios do not care about the light
#
# The paper's introduction gives the reason for products in vision: *a convolutional filter that compares ratios rather
# than differences of neighboring regions* recognises a pattern under any lighting {cite}`li2025pure`. Light of another
# strength multiplies all pixels by a factor $c$. A convolution's output is multiplied too, a product unit's becomes
#
# $$
# f(c\,x) = c^{\,\sum_i w_i} f(x),
# $$
#
# so exponents that add up to zero cancel the light, as long as all inputs stay above the threshold. We give the weights
# (1, -1) on two neighbouring pixels to a {py:class}`torch.nn.Conv2d` and to a {py:class}`pure.ProductUnit2d`: the one
# takes the difference, the other the ratio. A third filter is the same product unit with the threshold of a new layer.

# %%
edge = torch.tensor([1.0, -1.0]).reshape(1, 1, 1, 2)
filters = {
    "difference": nn.Conv2d(1, 1, (1, 2), bias=False),
    "ratio": pure.ProductUnit2d(1, 1, (1, 2), threshold=0.01),
    "ratio, threshold of a new layer": pure.ProductUnit2d(1, 1, (1, 2)),
}
for layer in filters.values():
    layer.requires_grad_(False).weight.copy_(edge)

# from a quarter to four times the light
strengths = torch.logspace(-2, 2, 25, base=2)


def change(layer: nn.Module, strength: Tensor) -> float:
    """RMS change of a filter's answers, in their standard deviations."""
    answers = layer(digits)
    return (
        (layer(strength * digits) - answers).square().mean().sqrt()
        / answers.std()
    ).item()


changes = pd.DataFrame(
    {
        name: [change(layer, strength) for strength in strengths]
        for name, layer in filters.items()
    },
    index=pd.Index(strengths.numpy(), name="light"),
)

# %% [markdown]
# **Check.** Over all digits and strengths of light the ratio changes by rounding alone, while the difference changes
# in proportion to the light.

# %% tags=["nbval-check-output"]
assert changes["ratio"].max() < 1e-13
assert changes["difference"].iloc[[0, -1]].min() > 0.5
print("images:", len(digits))
print(
    "ratio, largest change below 1e-13:", bool(changes["ratio"].max() < 1e-13)
)

# %% mystnb={"image": {"alt": "A digit under three lights, its differences and its ratios"}} tags=["hide-input"]
lights = {
    "as it is": torch.ones(8),
    "a quarter of the light": torch.full((8,), 0.25),
    # a factor for each column
    "light from the right": torch.linspace(0.4, 1.6, 8),
}
fig, axes = plt.subplots(3, 3, figsize=(7, 6))
for i, (light, strength) in enumerate(lights.items()):
    lit = digits[7:8] * strength
    images = {
        "image": (lit, {"cmap": "gray", "vmin": 0, "vmax": 1.6}),
        "difference of neighbours": (
            filters["difference"](lit),
            {"cmap": "RdBu_r", "vmin": -1.5, "vmax": 1.5},
        ),
        "ratio of neighbours (log$_2$)": (
            filters["ratio"](lit).log2(),
            {"cmap": "RdBu_r", "vmin": -4, "vmax": 4},
        ),
    }
    for j, (title, (image, colours)) in enumerate(images.items()):
        ax = axes[i, j]
        drawn = ax.imshow(image[0, 0], **colours)
        ax.set(xticks=[], yticks=[])
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        if i == 0:
            ax.set_title(title)
            fig.colorbar(
                drawn, ax=axes[:, j], location="bottom", shrink=0.9, aspect=30
            )
    axes[i, 0].set_ylabel(light)

# %% mystnb={"image": {"alt": "How much the answers change with the light, for three filters"}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(7, 3.2))
styles = {
    "difference": {"color": COLOURS["resnet"]},
    "ratio": {"color": COLOURS["pure"]},
    "ratio, threshold of a new layer": {
        "color": COLOURS["pure"],
        "linestyle": "--",
    },
}
for name, style in styles.items():
    ax.plot(
        changes.index,
        changes[name],
        marker="o",
        markersize=2.5,
        label=name,
        **style,
    )
ax.set(xscale="log", xlabel="strength of the light (1: as it is)")
ax.set_xticks([0.25, 0.5, 1, 2, 4], labels=["1/4", "1/2", "1", "2", "4"])
ax.minorticks_off()
ax.set_ylabel("change of the answer\n(standard deviations)")
ax.set_title("All digits under another light")
ax.legend(loc="upper left")
plt.show()

# %% [markdown]
# **How to read it.** In the pictures, dimming bleaches the differences and leaves the ratios as they were. Light that
# falls in from one side leaves a trace in the ratios, because two neighbours no longer get the same amount of it. In
# the curves, the ratio stays at zero. But the dashed line is the very same unit with the threshold of a new layer:
# most pixels lie below it, and the answer depends on the light after all.
#
# **What it does not show.** That a product-unit network is indifferent to light. Its units see the output of a
# convolution and a batch normalisation, not brightness; nothing makes their exponents add up to zero; and the threshold
# cuts off what is dark. A convolution of the logarithm of the image would do what this unit does. Whether training uses
# the possibility has to be measured.
