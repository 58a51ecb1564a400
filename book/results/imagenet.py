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
# # ImageNet: table 4
#
# Section 4.2 of the paper: 1,000 classes, one run of each network. The ResNet rows of the printed table are not the
# authors' own: they are table 4 of He et al. (2016), fully convolutional with scores averaged over five scales.
# Tested by a single crop, as most publications do, the same ResNet34 has a top-1 accuracy of 73.3 % and not 78.16 %.
# How the PURe rows were tested the paper does not say, and without that the two columns cannot be compared. Here each
# protocol has a column of its own.

# %% tags=["remove-input"]
from pure import report
from pure.report import style
from pure.report.published import Page

style.use()
page = Page()

# %% tags=["remove-input"]
page.show("conditions", recipe="imagenet")

# %% [markdown]
# ## Top-1
#
# Ours is by a single crop. Cells that read *not run* say what their runs would take on a GPU at the speed of the
# paper's two V100: worked out from the multiply-adds, and too little for small networks, which a GPU cannot fill.

# %% tags=["remove-input"]
page.show("paper", table="table4", part="accuracy")

# %% [markdown]
# ## By protocol
#
# Top-1 / top-5 for each way to show an image to the network.

# %% tags=["remove-input"]
page.show("paper", table="table4", part="protocols")

# %% [markdown]
# ## How the networks got there
#
# Dashed is the training set as it was trained on, full is the validation set, if any was held out. A line is the mean
# of a network's runs, the band around it one sample deviation; a run that diverged ends in a cross.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Loss and accuracy over the epochs, with bands over the seeds"}}
page.draw("imagenet", report.curves)

# %% [markdown]
# ## What accuracy costs
#
# Each point is the mean of a network's runs with one sample deviation. Times hold for the machine that the runs had,
# and for runs that had it to themselves.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Test accuracy against parameters and against training time"}}
page.draw("imagenet", report.cost_figure)

# %% [markdown]
# ## The runs behind the numbers
#
# A number in a table above leads here. The accuracy leads on to the run's record, the commit to the code that made
# it. One run is repeated by its name, which leaves its executed notebook too:
#
# ```bash
# python workflow/run_one.py NAME --root _build/again --notebooks _build/again
# ```

# %% tags=["remove-input"]
page.show("runs", recipe="imagenet")
