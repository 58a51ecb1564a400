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
#     - results/**/*.json
#     - results/*.yaml
# ---

# %% [markdown]
# # Verdicts on the claims
#
# What the paper claims in its abstract and in sections 4 and 5, as sentences that a measurement can hold or fail, and
# what the records say. The sentences and the pairs of networks that decide each are data, `results/claims.yaml`; the
# verdicts are computed by the rule below when this page is built.

# %% tags=["remove-input"]
from IPython.display import Markdown

from pure.report.published import Page
from pure.report.verdicts import RULE

page = Page()

# %% tags=["remove-input"]
page.show("verdicts")

# %% tags=["remove-input"]
Markdown("## The rule\n\n" + RULE)

# %% [markdown]
# ## For and against
#
# Every pair that was measured, of the claim by its number above. An interval that lies where the claim puts it speaks
# for it, one on the other side against it; all others decide nothing. A quotient of 0.85 means that the first has 0.85
# times as much as the second.

# %% tags=["remove-input"]
page.show("evidence")

# %% [markdown]
# ## What this does not show
#
# A verdict is about the reading of the paper that [the ledger](../ledger.md) tells, by the recipes as printed. That a
# claim is not measured says nothing about it. Where it takes a GPU, the pages of [table 2](galaxy10.py), [table
# 4](imagenet.py) and [table 6](cifar10.py) name the command and what it would take.
