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
#     - _build/runs/**/record.json
# ---

# %% [markdown]
# # Product-unit residual networks
#
# A neuron adds its weighted inputs up. A **product unit** multiplies them, each raised to a learned power:
#
# $$
# y = \prod_i x_i^{\,w_i}
# $$
#
# One such unit is a monomial, a root or a ratio, whichever its exponents say. Li, Jaekel and Dellen
# ([2025](https://arxiv.org/abs/2505.04397)) put a layer of product units into each block of a residual network, take
# every ReLU out, and report that such networks, called PURe, are more accurate than ResNets of the same size, converge
# faster and suffer less from noise.
#
# This book rebuilds the layer, the networks and the experiments from the text of the paper, and measures. Whether the
# claims hold is an open question here. The answer comes from the records that training runs leave behind: every number
# below was read from them when this page was built; none was typed.

# %% [markdown]
# ## Measured so far

# %% tags=["remove-input"]
from IPython.display import Markdown

from pure import report
from pure.records import read_records

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
# ## Where to begin
#
# - **To see what a product unit can do:** [the first notebook](../notebooks/01-product-unit.py) goes from the product
#   to the layer, and compares it with a ReLU network of equal size; [the seventh](../notebooks/07-networks.py) draws
#   the networks and counts them, next to the paper's tables.
# - **To check the claims:** the [results](results.py), then the [ledger of decisions](ledger.md). The paper leaves
#   points open; the ledger says how each was read, why, and which setting changes it.
# - **To see what the networks are shown:** the pages of the data sets, from [Galaxy10
#   DECaLS](../notebooks/data/galaxy10.py) to [CIFAR-10](../notebooks/data/cifar10.py).
# - **To repeat or extend the runs:** [on a laptop, on a JupyterHub or as a batch](rerun.md).
# - **To use the layer in a network of your own:** `pure.ProductUnit2d` takes the place of a convolution, as
#   [a short example](rerun.md) and [the API](api.md) show.

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
