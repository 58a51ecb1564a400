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
#     - results/**/record.json
#     - results/*.yaml
#     - results/**/*.json
#     - _build/runs/**/record.json
# ---

# %% [markdown]
# # Product-unit residual networks
#
# A neuron adds its weighted inputs up. A {term}`product unit` multiplies them, each raised to a learned power:
#
# $$
# y = \prod_i x_i^{\,w_i}
# $$
#
# One such unit is a monomial, a root or a ratio, whichever its exponents say: it can state that *this is twice as
# bright as that*, for which sums need many neurons. Li, Jaekel and Dellen {cite}`li2025pure` put a layer of product
# units into each block of a residual network, took every ReLU out, and report that such networks, called
# {term}`PURe`, are more accurate than ResNets of the same size, converge faster and suffer less from noise.
#
# Are they, do they? This book rebuilds the layer, the networks and the experiments from the text of the paper, explains
# them from the first product on, and measures.

# %% tags=["remove-input"] mystnb={"image": {"alt": "A window of pixels is lifted to the threshold, its logarithm taken, added up with weights, and the sum exponentiated to one output", "classes": "wide"}, "figure": {"caption": "One product unit of 3 x 3 pixels. The logarithm turns the product into a sum, which a convolution adds up; the exponential turns it back. Before that the threshold lifts what a logarithm cannot take: the shaded pixels.", "name": "fig-unit-in-one-picture"}}
import matplotlib.pyplot as plt
from IPython.display import Markdown

from pure import report
from pure.records import read_records
from pure.report import diagrams, style, verdicts

style.use()
diagrams.product_unit_figure()
plt.show()

# %% [markdown]
# ## What has become of the claims
#
# Each claim of the paper as a sentence that a measurement can hold or fail, and what the runs say so far. Only runs at
# the paper's scale decide; those at reduced scale show which way things point. The words are computed, not written:
# [the rule, and what speaks for and against](results/verdicts.py) have a page.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "The claims of the paper, and the verdicts of the records that the repository holds.", "name": "tab-verdicts-in-short", "caption_before": true}}
Markdown(report.markdown(verdicts.verdict_table("../results")))

# %% [markdown]
# ## Three ways in
#
# ::::{grid} 1 1 3 3
# :gutter: 3
#
# :::{grid-item-card} Read: begin with the product unit
# :link: ../notebooks/01-product-unit
# :link-type: doc
#
# From one product to deep networks, by running code: what the unit computes, why it is hard to train, and what
# threshold, normalisation and shortcut do about it. Figures react to your hand, and exercises have solutions.
# :::
#
# :::{grid-item-card} Rerun: on a laptop, a hub, a cluster
# :link: rerun
# :link-type: doc
#
# Every number here comes from a run that you can repeat: one command on a laptop, on a JupyterHub, on a cluster. The
# paper leaves points open; a ledger says how each was read.
# :::
#
# :::{grid-item-card} Use: the layer and the networks
# :link: ../notebooks/11-your-own-network
# :link-type: doc
#
# `pure.ProductUnit2d` takes the place of a convolution, `pure.convert` turns a network that you have, and both work
# with what you know from PyTorch.
# :::
# ::::

# %% [markdown]
# ## What this build has measured
#
# Every number below was read, when this page was built, from the records that training runs leave behind; none was
# typed.

# %% tags=["remove-input"]
# The runs of this build.  A fresh clone on a hub has none yet: there, those
# that the repository holds.
records = read_records("../_build/runs") or read_records("../results")
Markdown(report.markdown(report.accuracy_table(records)))

# %% tags=["remove-input"]
differences = report.difference_table(records, equal_shortcuts=True)
Markdown(report.markdown(differences))

# %% tags=["remove-input"]
Markdown(
    "Mean ± sample deviation over the seeds, each test set looked at once a "
    "run; the interval is Welch's. "
    f"Measured on {report.hardware(records)}."
)

# %% [markdown]
# Everything here can be repeated without a download: the recipe `digits` trains on the small handwritten digits that
# scikit-learn ships, and `galaxy10-quick` on galaxies that [are simulated](../notebooks/data/synthetic-galaxies.py),
# the paper's galaxy experiment in small. Neither is one of the paper's data sets: they show that both families train,
# from the data to this table, and decide nothing about the paper. Where the interval includes zero the table says so.
#
# The [results](results.py) have the curves and each single run.

# %% [markdown]
# ## Where to go from here
#
# - **To check the claims:** the [results](results.py), then the [ledger of decisions](ledger.md). The paper leaves
#   points open; the ledger says how each was read, why, and which setting changes it.
# - **To see the networks:** [they are drawn and counted](../notebooks/07-networks.py), next to the paper's tables.
# - **To see what they are shown:** the pages of the data sets, from [Galaxy10
#   DECaLS](../notebooks/data/galaxy10.py) to [CIFAR-10](../notebooks/data/cifar10.py).
# - **To look a word or a symbol up:** the [glossary](glossary.md) and the [notation](notation.md).
# - **To know what ran where:** the [status](status.py), with the times of all pages.

# %% [markdown]
# ## Run it yourself
#
# One command, in a clone of the repository, to which the button at the top of the page leads, installs everything that
# the lock file names, trains the small networks, executes every notebook and builds these pages under `_build/html`:
#
# ```bash
# make book
# ```
#
# Without an installation, the rocket at the top of a notebook's page opens it on a JupyterHub or on Binder, and the
# arrow beside it downloads the notebook with its outputs. [More ways to rerun](rerun.md), papermill among them, have
# their own page.
