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
# # Laws from data
#
# - **Before this page:** [the product unit](01-product-unit.py); least squares.
# - **You need:** the extra `book`, which brings the table of atomic masses; no download, no GPU.
# - **Running time:** under a minute on two cores.
#
# A law of physics is often a product of powers. A product unit that has learnt such a law carries it on its sleeve: its
# exponents *are* the law. This page reads three laws off data: one that Kepler found, one with so much noise that the
# usual way of finding it fails, and one of which nobody knows the exact form, the masses of atomic nuclei.

# %%
from __future__ import annotations

import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import periodictable
import torch
from IPython.display import Markdown
from periodictable.mass import isotope_mass
from periodictable.util import parse_uncertainty
from scipy.optimize import least_squares
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

import pure
from pure import report
from pure.report.style import COLOURS, PALETTE, use

use()
# one order of summation: the same numbers in every run
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)

# %% [markdown]
# ## Kepler's third law
#
# What moves around a body of mass $M$ at a mean distance $a$ needs the time $T = a^{3/2} M^{-1/2}$, with $a$ in
# astronomical units, $M$ in solar masses and $T$ in years. We give a product unit four things about the four inner
# planets and the four large moons of Jupiter, and ask for $T$: distance and central mass, which matter; the body's own
# mass and its radius, which do not. The figures are those of NASA's planetary fact sheets.

# %%
BODIES = """
name     around  distance_gm mass_1e24kg radius_km period_days
Mercury  Sun         57.909     0.3301   2439.7    87.969
Venus    Sun        108.210     4.8673   6051.8   224.701
Earth    Sun        149.598     5.9722   6371.0   365.256
Mars     Sun        227.956     0.64169  3389.5   686.980
Io       Jupiter      0.4218    0.08932  1821.5     1.7691
Europa   Jupiter      0.6711    0.04800  1560.8     3.5512
Ganymede Jupiter      1.0704    0.14819  2631.2     7.1546
Callisto Jupiter      1.8827    0.10759  2410.3    16.6890
Jupiter  Sun        778.479  1898.13    69911.0  4332.589
Saturn   Sun       1432.041   568.32    58232.0 10759.22
Uranus   Sun       2867.043    86.811   25362.0 30685.4
Neptune  Sun       4514.953   102.409   24622.0 60189.0
Titan    Saturn       1.22187   0.13455  2574.7    15.945
Moon     Earth        0.3844    0.07346  1737.4    27.3217
"""
lines = [line.split() for line in BODIES.split("\n") if line]
bodies = pd.DataFrame(lines[1:], columns=lines[0]).set_index("name")
bodies = bodies.astype(
    {column: float for column in bodies.columns if column != "around"}
)
SUN = 1_988_500.0  # 10^24 kg
central = bodies["around"].map({**bodies["mass_1e24kg"], "Sun": SUN})
inputs = pd.DataFrame(
    {
        "distance (au)": bodies["distance_gm"] / 149.598,
        "central mass (suns)": central / SUN,
        "own mass (earths)": bodies["mass_1e24kg"] / 5.9722,
        "radius (earths)": bodies["radius_km"] / 6371,
    }
)
years = bodies["period_days"] / 365.256
seen = bodies.index[:8]

# %% [markdown]
# Two decisions come before the training. A threshold above the smallest input would make the unit blind: that of a new
# layer is $\ln 2$, which hides Mercury's distance and every moon. We fix it below all inputs. And periods span a factor
# of several hundred: squared errors would see Mars and nothing else. We compare logarithms, which turns errors into
# relative ones.


# %%
def lbfgs(parameters: list[Tensor], loss: Callable[[], Tensor]) -> None:
    """Minimise a smooth function of few parameters."""
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=2000,
        tolerance_grad=1e-12,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def step() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(step)


def fit_kepler(columns: list[str], seed: int) -> nn.Module:
    torch.manual_seed(seed)
    unit = pure.ProductUnit(len(columns), 1, threshold=1e-6)
    x = torch.tensor(inputs.loc[seen, columns].to_numpy())
    target = torch.tensor(years[seen].to_numpy())
    lbfgs(
        list(unit.parameters()),
        lambda: (unit(x)[:, 0].log() - target.log()).square().mean(),
    )
    return unit


two = list(inputs.columns[:2])
units = {
    "two inputs": fit_kepler(two, seed=0),
    "all four": fit_kepler(list(inputs.columns), seed=0),
}

# %% mystnb={"figure": {"caption": "Exponents read off units that were trained on four planets and four moons. Kepler and Newton: 3/2, -1/2, and zero for the rest.", "name": "tab-kepler", "caption_before": true}} tags=["hide-input"]
table = pd.DataFrame(
    {
        name: pd.Series(unit.weight[0].tolist(), index=columns)
        for (name, unit), columns in zip(
            units.items(), (two, list(inputs.columns)), strict=True
        )
    }
).reindex(inputs.columns)
shown = table.map(lambda value: "" if math.isnan(value) else f"{value:+.4f}")
Markdown(report.markdown(shown.rename_axis("Exponent of").reset_index()))

# %% [markdown]
# **Check.** The unit was trained on periods up to that of Mars, two years. What does it say about the outer planets,
# and about moons of bodies that it has never seen a moon of?

# %% tags=["nbval-check-output"]
unit = units["two inputs"]
with torch.no_grad():
    answers = unit(torch.tensor(inputs[two].to_numpy()))[:, 0].numpy()
errors = (answers / years - 1).drop(seen)
assert errors.abs().max() < 0.01
for name in errors.index:
    print(f"{name:>8}: {years[name]:8.3f} years, error below 1 %")
close = (unit.weight[0] - torch.tensor([1.5, -0.5])).abs().max()
assert close < 0.001
print("exponents within 0.001 of 3/2 and -1/2")

# %% [markdown]
# **How to read it.** With two inputs the exponents are 3/2 and -1/2 to three digits, and a law learnt up to two years
# holds for the 165 years of Neptune. With four, the exponents of the useless inputs are near zero: eight bodies are
# enough to tell which quantities matter.
#
# **What it does not show.** Anything that needs a network. In logarithms the unit is a linear function, and what we did
# is linear regression on a double-logarithmic plot, as everybody has done since Kepler. So where is a product unit more
# than that? Where the logarithm of the data cannot be taken, and where a law is a *sum* of products.
#
# ## An inverse square in the noise
#
# A lamp at the distance $r$, and a detector that counts photons. The rate falls as $c\,r^{-2}$; the counts are Poisson
# numbers, and at large distances most of them are zero. A zero has no logarithm. We simulate 400 experiments of 40
# readings each, and estimate the exponent in two ways: a straight line through the logarithms, which has to drop the
# zeros; and a product unit that is fitted to the counts themselves, by their likelihood. One layer does all 400
# experiments at once: a unit for each, all with the inputs $r$ and a constant $e$, whose exponent is $\log c$.

# %%
EXPERIMENTS, READINGS, STRENGTH = 400, 40, 20.0
distances = torch.linspace(1, 8, READINGS)
rate = STRENGTH * distances**-2
torch.manual_seed(0)
counts = torch.poisson(rate.repeat(EXPERIMENTS, 1))  # (400, 40)

lamp = torch.stack([distances, torch.full_like(distances, math.e)], 1)
layer = pure.ProductUnit(2, EXPERIMENTS, threshold=1e-6)


def likelihood() -> Tensor:
    """Negative log-likelihood of the counts, up to a constant."""
    expected = layer(lamp).T  # (400, 40)
    return (expected - counts * expected.log()).mean()


lbfgs(list(layer.parameters()), likelihood)
by_unit = layer.weight[:, 0].detach()


def straight_line(reading: Tensor) -> float:
    """The slope of the logarithms of the counts that have one."""
    there = reading > 0
    return float(
        np.polyfit(distances[there].log(), reading[there].log(), 1)[0]
    )


by_line = torch.tensor([straight_line(reading) for reading in counts])

# %% [markdown]
# How far *must* estimates scatter? The Fisher information of Poisson counts about the two exponents is
# $\sum_r \lambda(r)\, u u^\top$ with $u = (\log r, 1)$, the logarithms of the inputs, and its inverse bounds the
# variance of every unbiased estimate (Cramér and Rao):

# %% tags=["nbval-check-output"]
logs = lamp.log()
information = (rate[:, None, None] * logs[:, :, None] * logs[:, None]).sum(0)
bound = information.inverse()[0, 0].sqrt().item()
mean, deviation = by_unit.mean().item(), by_unit.std().item()
assert abs(mean + 2) < 4 * bound / math.sqrt(EXPERIMENTS) + 0.02
assert abs(deviation / bound - 1) < 0.15
assert by_line.mean() > -1.8
print(f"readings without a photon: {(counts == 0).double().mean():.0%}")
print(f"smallest possible deviation:  {bound:.3f}")
print(f"product unit:  {mean:.2f}, deviation {deviation:.2f}")
print(f"straight line: {by_line.mean():.2f}, deviation {by_line.std():.2f}")

# %% mystnb={"image": {"alt": "Left: counts falling with distance and two fits; right: histograms of two estimates of the exponent"}, "figure": {"caption": "Left: one experiment, and what both fits make of it. Right: the estimated exponents of 400 experiments. The straight line through the logarithms is wrong in nearly all of them; the product unit scatters around the truth (black) as little as is possible (curve).", "name": "fig-inverse-square"}} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(7, 3))
ax = axes[0]
ax.plot(
    distances,
    counts[0],
    "o",
    color="black",
    markersize=3,
    clip_on=False,
    label="counts",
)
ax.plot(distances, rate, ":", color="black", linewidth=1, label="truth")
ax.plot(
    distances,
    layer(lamp).T[0].detach(),
    color=COLOURS["pure"],
    label="product unit",
)
there = counts[0] > 0
slope, start = np.polyfit(distances[there].log(), counts[0][there].log(), 1)
ax.plot(
    distances,
    math.exp(start) * distances**slope,
    color=COLOURS["resnet"],
    label="straight line",
)
# on a scale of roots, Poisson numbers scatter equally far everywhere
ax.set_yscale("function", functions=(np.sqrt, np.square))
ax.set(xlabel="distance $r$ (m)", ylabel="photons")
ax.set_yticks([0, 1, 2, 5, 10, 20], labels=[0, 1, 2, 5, 10, 20])
ax.minorticks_off()
ax = axes[1]
bins = np.linspace(-2.9, -0.6, 47)
ax.hist(by_unit, bins, density=True, color=COLOURS["pure"], alpha=0.5)
ax.hist(by_line, bins, density=True, color=COLOURS["resnet"], alpha=0.5)
at = torch.linspace(-2.9, -1.1, 200)
ax.plot(
    at,
    torch.exp(-(((at + 2) / bound) ** 2) / 2) / bound / math.sqrt(2 * math.pi),
    color=COLOURS["pure"],
)
ax.axvline(-2, color="black", linewidth=1)
ax.set(xlabel="estimated exponent", ylabel="density")
handles, names = axes[0].get_legend_handles_labels()
fig.legend(handles, names, loc="outside lower center", ncols=4)
plt.show()

# %% [markdown]
# **How to read it.** The straight line is off by a bias that more experiments do not remove: far from the lamp only the
# lucky readings have a logarithm. The product unit needs no logarithm of the *data*. Its own logarithms are of the
# inputs; the output may be compared with anything, by the likelihood that belongs to the noise.
#
# **What it does not show.** A discovery of the inverse square: we gave the unit $r$ and nothing else. A statistician
# would call this fit a generalised linear model with a logarithmic link, and it is one.
#
# ## The masses of nuclei
#
# A nucleus of $Z$ protons and $N$ neutrons, $A = Z + N$, is lighter than its parts; by $E = mc^2$ the difference is its
# binding energy $B$. Von Weizsäcker's formula {cite}`weizsacker1935theorie` treats the nucleus as a charged drop:
#
# $$
# B = a_V A - a_S A^{2/3} - a_C \frac{Z^2}{A^{1/3}} - a_A \frac{(N - Z)^2}{A} \pm a_P A^{-1/2} .
# $$ (eq-drop)
#
# It is a sum of products of powers: *a layer of product units and a layer of sums*. The authors of PURe asked in an
# earlier paper {cite}`dellen2023nuclear` whether such a network predicts masses, and above all whether it extrapolates:
# the nuclei that matter in exploding stars cannot be measured. They used complex-valued units and far larger networks
# than fit into a minute; we take their question, with real units, thresholds and some forty parameters.
#
# The table of measured masses {cite}`wang2021ame` comes with the package `periodictable`. It marks with `#` what is an
# estimate; we keep what was measured, from $Z, N \ge 8$ on.

# %%
rows = []
for line in isotope_mass.splitlines():
    nuclide, value, *_ = line.split(",")
    protons, symbol, nucleons = nuclide.split("-")
    mass, uncertainty = parse_uncertainty(value)
    rows.append(
        {
            "symbol": symbol,
            "Z": int(protons),
            "N": int(nucleons) - int(protons),
            "mass": mass,
            "uncertainty": uncertainty,
            "measured": not value.endswith("#"),
        }
    )
nuclei = pd.DataFrame(rows)
nuclei = nuclei[nuclei.measured & (nuclei.Z >= 8) & (nuclei.N >= 8)]
nuclei = nuclei.assign(A=nuclei.Z + nuclei.N).reset_index(drop=True)

MEV = 931.49410242  # one atomic mass unit
HYDROGEN, NEUTRON = periodictable.H[1].mass, periodictable.n.mass
defect = nuclei.Z * HYDROGEN + nuclei.N * NEUTRON - nuclei.mass
nuclei["binding"] = defect * MEV

# %% [markdown]
# **Check.** The best bound of all nuclei, per nucleon, should be nickel-62 with 8.79 MeV.

# %% tags=["nbval-check-output"]
most = nuclei.loc[(nuclei.binding / nuclei.A).idxmax()]
print(f"measured nuclei: {len(nuclei)}")
print(
    f"best bound: {most.symbol}-{most.A}, {most.binding / most.A:.3f} MeV"
    " per nucleon"
)
median = nuclei.uncertainty.median() * MEV * 1000
print(f"median uncertainty of a measurement: {median:.0f} keV")

# %% [markdown]
# **The split is by nuclei.** The heaviest, $A \ge 220$, are set apart: no model sees them before the end. The others
# are divided at random into training, validation and test set, 70 : 15 : 15.
#
# All networks get the same five numbers: $Z$, $N$ and $A$ in hundreds, and two that say whether $Z$ and $N$ are even
# (2) or odd (1/2), since pairs of like nucleons bind more strongly. With these, {eq}`eq-drop` is *exactly* a network
# of six product units. $(N - Z)^2 / A = A - 4 Z N / A$, and the last term is a difference of two units, which is
# positive for two even numbers, zero for one and negative for none.

# %%
EXPONENTS = torch.tensor(
    # Z     N     A    even Z  even N
    [
        [0.0, 0.0, 1.0, 0.0, 0.0],  # volume
        [0.0, 0.0, 2 / 3, 0.0, 0.0],  # surface
        [2.0, 0.0, -1 / 3, 0.0, 0.0],  # repulsion of the protons
        [1.0, 1.0, -1.0, 0.0, 0.0],  # asymmetry
        [0.0, 0.0, -1 / 2, 0.5, 0.5],  # pairs
        [0.0, 0.0, -1 / 2, -0.5, -0.5],
    ]
)


def even(number: pd.Series) -> np.ndarray:
    return np.where(number % 2 == 0, 2.0, 0.5)


features = torch.tensor(
    np.stack(
        [
            *(nuclei[name] / 100 for name in "ZNA"),
            even(nuclei.Z),
            even(nuclei.N),
        ],
        1,
    )
)
binding = torch.tensor(nuclei.binding.to_numpy()) / 1000  # GeV

heavy = torch.tensor(nuclei.A.to_numpy() >= 220)
place = torch.rand(len(nuclei), generator=torch.Generator().manual_seed(0))
sets = {
    "training": ~heavy & (place >= 0.3),
    "validation": ~heavy & (place < 0.15),
    "test": ~heavy & (place >= 0.15) & (place < 0.3),
    "heaviest": heavy,
}


def product_network(units: int = 6) -> nn.Sequential:
    # the start is wide, a=0: this network has no normalisation
    layer = pure.ProductUnit(5, units, threshold=0.01, init_a=0)
    return nn.Sequential(layer, nn.Linear(units, 1))


Z, N, A = (nuclei[name].to_numpy(float) for name in "ZNA")
pairs = (Z % 2 == 0).astype(float) + (N % 2 == 0) - 1  # 1, 0 or -1
terms = np.stack(
    [
        *(A, A ** (2 / 3), Z**2 / A ** (1 / 3), (N - Z) ** 2 / A),
        *(pairs / A**0.5, A**0),
    ],
    1,
)
known = sets["training"].numpy()
coefficients = np.linalg.lstsq(
    terms[known], nuclei.binding.to_numpy()[known], rcond=None
)[0]  # MeV


def drop() -> nn.Sequential:
    """The fitted formula as a network of six product units."""
    volume, surface, protons, asymmetry, pairing, constant = coefficients
    outer = torch.tensor(
        [
            *(volume + asymmetry, surface, protons, -4 * asymmetry),
            *(pairing / 1.5, -pairing / 1.5),  # 2 - 1/2 for even Z and N
        ]
    )
    hundreds = 100 ** EXPONENTS[:, :3].sum(1)
    network = product_network()
    with torch.no_grad():
        network[0].weight.copy_(EXPONENTS)
        network[1].weight.copy_((outer * hundreds / 1000)[None])
        network[1].bias.fill_(constant / 1000)
    return network


# %% [markdown]
# Small networks and smooth squares call for a method of second order. Levenberg and Marquardt's takes the Jacobian of
# all residuals, which `torch.func` computes, and SciPy does the rest. A run gives the root mean square error in MeV on
# each of the four sets.


# %%
def marquardt(network: nn.Module, x: Tensor, target: Tensor) -> None:
    """Least squares by Levenberg and Marquardt, at most 100 steps."""
    sizes = [each.numel() for each in network.parameters()]

    def answers(vector: Tensor, x: Tensor) -> Tensor:
        parts = vector.split(sizes)
        parameters = {
            name: part.reshape(each.shape)
            for (name, each), part in zip(
                network.named_parameters(), parts, strict=True
            )
        }
        return functional_call(network, parameters, (x,))[..., 0]

    jacobian = vmap(jacrev(answers), (None, 0))
    start = nn.utils.parameters_to_vector(network.parameters()).detach()
    result = least_squares(
        lambda v: (answers(torch.tensor(v), x) - target).detach().numpy(),
        start.numpy(),
        lambda v: jacobian(torch.tensor(v), x).detach().numpy(),
        method="lm",
        x_scale="jac",
        max_nfev=100,
    )
    nn.utils.vector_to_parameters(torch.tensor(result.x), network.parameters())


def errors_of(answers: Tensor) -> dict[str, float]:
    """RMS error in MeV on each set."""
    residuals = 1000 * (answers - binding).detach()
    return {
        name: residuals[rows].square().mean().sqrt().item()
        for name, rows in sets.items()
    }


train_rows = sets["training"]
centre, width = features[train_rows].mean(0), features[train_rows].std(0)
level, spread = binding[train_rows].mean(), binding[train_rows].std()


def perceptron(activation: type[nn.Module]) -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 5), activation(), nn.Linear(5, 1))


def run_products(network: nn.Module) -> Tensor:
    marquardt(network, features[train_rows], binding[train_rows])
    return network(features)[:, 0]


def run_sums(network: nn.Module) -> Tensor:
    """The same for sums, which want inputs and outputs standardised."""
    x = (features - centre) / width
    marquardt(network, x[train_rows], (binding[train_rows] - level) / spread)
    return network(x)[:, 0] * spread + level


# %%
formula = drop()
freed = drop()
answers = {
    ("liquid drop", 0): formula(features)[:, 0].detach(),
    ("liquid drop, freed", 0): run_products(freed).detach(),
}
for seed in range(6):
    for name, build, run in (
        ("product units", product_network, run_products),
        ("MLP, tanh", lambda: perceptron(nn.Tanh), run_sums),
        ("MLP, ReLU", lambda: perceptron(nn.ReLU), run_sums),
    ):
        torch.manual_seed(seed)
        answers[name, seed] = run(build()).detach()
scores = pd.DataFrame(
    [
        {"model": model, "seed": seed, **errors_of(each)}
        for (model, seed), each in answers.items()
    ]
)

# %% [markdown]
# **Check.** The network with exponents by hand gives the answers of {eq}`eq-drop`, fitted by linear least squares with
# a constant added.

# %% tags=["nbval-check-output"]
difference = 1000 * answers["liquid drop", 0].numpy() - terms @ coefficients
assert np.abs(difference).max() < 1e-6
print("network and formula differ by less than 1 eV")

# %% mystnb={"figure": {"caption": "Errors of the binding energy in MeV: median over six seeds, in brackets the smallest and the largest. *Chosen*: the error on the heaviest nuclei of the seed that is best on the validation set.", "name": "tab-nuclei", "caption_before": true}} tags=["hide-input"]
PARAMETERS = {
    "liquid drop": 6,
    "liquid drop, freed": 37,
    "product units": 37,
    "MLP, tanh": 36,
    "MLP, ReLU": 36,
}


def summary(values: pd.Series) -> str:
    if len(values) == 1:
        return f"{values.iloc[0]:.2f}"
    low, high = values.min(), values.max()
    return f"{values.median():.2f} ({low:.2f} to {high:.2f})"


rows = []
for model, group in scores.groupby("model", sort=False):
    chosen = group.loc[group["validation"].idxmin()]
    rows.append(
        {
            "Model": model,
            "Free": str(PARAMETERS[model]),
            "Test": summary(group["test"]),
            "Heaviest": summary(group["heaviest"]),
            "Chosen": f"{chosen['heaviest']:.2f}",
        }
    )
Markdown(report.markdown(pd.DataFrame(rows)))

# %% mystnb={"image": {"alt": "Residuals of three models over the mass number, the heaviest nuclei shaded"}, "figure": {"caption": "What the models get wrong, nucleus by nucleus: median over the seeds (line) and the range of all seeds (band), averaged over nuclei of equal mass number. Shaded: nuclei that no model has seen. Note the scale.", "name": "fig-nuclei"}} tags=["hide-input"]
fig, axes = plt.subplots(1, 3, figsize=(7, 3), sharey=True)
styles = {
    "product units": COLOURS["pure"],
    "MLP, tanh": PALETTE[2],
    "MLP, ReLU": COLOURS["resnet"],
}
mass_numbers = np.sort(nuclei.A.unique())
drop_residual = 1000 * (answers["liquid drop", 0] - binding)
by_mass = pd.Series(drop_residual.numpy()).groupby(nuclei.A).mean()
for ax, (model, colour) in zip(axes, styles.items(), strict=True):
    residuals = np.stack(
        [
            pd.Series((1000 * (each - binding)).numpy())
            .groupby(nuclei.A)
            .mean()
            for (name, _), each in answers.items()
            if name == model
        ]
    )
    ax.fill_between(
        mass_numbers,
        residuals.min(0),
        residuals.max(0),
        color=colour,
        alpha=0.25,
        linewidth=0,
    )
    ax.plot(mass_numbers, np.median(residuals, 0), color=colour)
    ax.plot(
        mass_numbers,
        by_mass,
        color="black",
        linewidth=0.7,
        label="liquid drop",
    )
    ax.axvspan(
        220,
        mass_numbers.max(),
        color=COLOURS["neutral"],
        alpha=0.12,
        linewidth=0,
    )
    ax.set(title=model, xlabel="mass number $A$", ylim=(-20, 50))
axes[0].set_ylabel("predicted - measured (MeV)")
axes[0].legend(loc="upper left")
plt.show()

# %% [markdown]
# **How to read it.** The waves of the thin black line are what no smooth formula has: the shells, closed at the magic
# numbers. The last valley is the shell of lead-208, and no model can know from below how it ends: beyond it, even the
# formula is off by some ten MeV. *Inside* the range of the examples, product units that find a good minimum and sums of
# tanh are alike, at about the error of the liquid drop. *Outside*, they part. Product units that have found the minimum
# continue as the formula does. Sums of tanh agree with each other inside and scatter widely outside, above and below:
# which of them is right on the heaviest nuclei is luck, and the validation set, made of lighter nuclei, cannot tell.
# Sums of five ReLUs are not even good inside.
#
# The weak side of the product units is in the same table: several of the six seeds end in a poor minimum, which the
# error on the *training* set gives away. That is what Leerink and others found in 1994 {cite}`leerink1994learning`.
#
# Can one read the drop off the exponents, as Kepler's law? Start from {eq}`eq-drop` and set the exponents free:

# %% mystnb={"figure": {"caption": "Exponents of the six units, by hand and, after the arrow, where least squares takes them when they are free.", "name": "tab-freed", "caption_before": true}} tags=["hide-input"]
NAMES = ("volume", "surface", "protons", "asymmetry", "pairs +", "pairs -")
found = freed[0].weight.detach()
Markdown(
    report.markdown(
        pd.DataFrame(
            {
                "Unit": NAMES,
                **{
                    label: [
                        f"{before:.2f} → {after:.2f}"
                        for before, after in zip(
                            EXPONENTS[:, column].tolist(),
                            found[:, column].tolist(),
                            strict=True,
                        )
                    ]
                    for column, label in enumerate("ZNA")
                },
            }
        )
    )
)

# %% [markdown]
# **How to read it.** The error inside falls a little, the exponents move a lot. A sum of products of correlated inputs
# ($A = Z + N$!) has many equivalent forms, and least squares is indifferent among them. A single unit identifies its
# exponents; a sum of units identifies the *function*. Whoever wants to read a law needs fewer units, or a reason to
# prefer simple exponents.
#
# **What it does not show.** A competitive mass formula: the best have errors of a few hundred keV, and the measurements
# of a few keV. Nor that products beat sums in general: we chose a target that physics writes as a sum of products, and
# tanh networks with luck, more layers or more seeds come as far. What it shows is where the form of a network matters
# most: beyond the data.
#
# ## Exercises
#
# ### Exercise 1
#
# Repeat Kepler's fit with the threshold of a new layer, $\ln 2$, fixed. Which inputs of which bodies still count, and
# what becomes of the exponents?

# %% tags=["hide-cell"]
x = torch.tensor(inputs.loc[seen, two].to_numpy())
print(pd.DataFrame(x > math.log(2), seen, two).sum().to_string())
blind = pure.ProductUnit(2, 1, threshold=math.log(2))
target = torch.tensor(years[seen].to_numpy()).log()
lbfgs(
    list(blind.parameters()),
    lambda: (blind(x)[:, 0].log() - target).square().mean(),
)
print("exponents:", blind.weight[0].tolist())
# Three distances are left, and the mass of the sun: all four moons look
# alike to the unit, whose answer for them is one and the same.

# %% [markdown]
# ### Exercise 2
#
# How does the uncertainty of the inverse square depend on the lamp? Give the Cramér-Rao bound for lamps of a tenth and
# of ten times the strength, before you compute it.

# %% tags=["hide-cell"]
# The information is proportional to the rate, so the deviation goes with
# one over the square root of the strength.
for factor in (0.1, 1, 10):
    weaker = (information * factor).inverse()[0, 0].sqrt().item()
    print(f"{factor:>4} times the strength: deviation {weaker:.3f}")

# %% [markdown]
# ### Exercise 3
#
# The network may choose among its minima. Train product units from twelve seeds instead of six, sort them by the error
# on the *training* set, and compare with the error on the heaviest nuclei. What do you conclude about restarts?

# %% tags=["hide-cell"]
for seed in range(6, 12):
    torch.manual_seed(seed)
    found = errors_of(run_products(product_network()))
    scores.loc[len(scores)] = {"model": "product units", "seed": seed, **found}
twelve = scores[scores["model"] == "product units"]
print(
    twelve.sort_values("training")[["seed", "training", "heaviest"]]
    .round(2)
    .to_string(index=False)
)
# A good fit inside goes with a good extrapolation: both come from having
# found the terms of the law.  So restarts, chosen without ever looking at
# the heaviest, are worth their price for product units.
