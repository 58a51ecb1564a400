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
# # Status
#
# What this book was made from, what ran where and when, and how long its pages take.

# %% [markdown]
# ## This build
#
# ```{build-status}
# ```

# %% [markdown]
# ## What ran where
#
# Every run that a table of this book can come from: those that the repository holds, and those that this build has
# trained. A row is one network under one recipe, on one kind of machine and at one commit.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "The runs that the repository holds.", "name": "tab-runs-committed", "caption_before": true}}
from IPython.display import Markdown

from pure import report
from pure.records import read_records

committed = report.places_table(read_records("../results"))
Markdown(report.markdown(committed))

# %% tags=["remove-input"] mystnb={"figure": {"caption": "The runs that this build has trained.", "name": "tab-runs-built", "caption_before": true}}
built = report.places_table(read_records("../_build/runs"))
Markdown(report.markdown(built) if len(built) else "| |\n|---|\n| none |")

# %% [markdown]
# A commit that ends in *-dirty* had changes that were not committed: such a run cannot be repeated exactly, and none of
# the repository's should have it. `python -m pure.report verify` compares what is published with the records.

# %% [markdown]
# ## How long the pages take
#
# The time that each notebook took when it was last executed. A page is executed again only when something that it
# depends on has changed; the pages of single runs are made by papermill and have no time of their own here.
#
# ```{nb-exec-table}
# ```
