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
# # CIFAR-10: table 6
#
# Section 4.3 of the paper: 160 epochs, or 220 of the longer schedule, five runs of each network; the official test
# set, looked at once, with the weights of the last epoch. The ResNet rows of the printed table are figures of He et
# al.; here they are trained. A cell is filled by runs of the recipe in full and by nothing else; runs at a tenth of
# the schedule [have a page of their own](reduced-cifar10.py).

# %% tags=["remove-input"]
from pure import report
from pure.report import style
from pure.report.published import Page

style.use()
page = Page()

# %% tags=["remove-input"]
page.show("conditions", recipe="cifar10")

# %% [markdown]
# ## Table 6
#
# The difference is ours less the paper's, with Welch's 95 % interval; where the paper prints no deviation, its number
# is taken as exact. Cells that read *not run* say what their runs would take on a GPU at the speed of the paper's two
# V100: worked out from the multiply-adds, and too little for small networks, which a GPU cannot fill.

# %% tags=["remove-input"]
page.show("paper", table="table6", part="accuracy")

# %% [markdown]
# ## PURe against ResNet, trained here
#
# Paired by seed and by test image.

# %% tags=["remove-input"]
page.show("comparison", recipe="cifar10")

# %% [markdown]
# ## Ablations
#
# One reading of the paper at a time against PURe20 as it stands. Most harmful last.

# %% tags=["remove-input"]
page.show("ablations", recipe="cifar10", network="pure20")

# %% [markdown]
# ## How the networks got there
#
# Dashed is the training set as it was trained on, full is the validation set, if any was held out. A line is the mean
# of a network's runs, the band around it one sample deviation; a run that diverged ends in a cross.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Loss and accuracy over the epochs, with bands over the seeds"}}
page.draw("cifar10", report.curves)

# %% [markdown]
# ## What accuracy costs
#
# Each point is the mean of a network's runs with one sample deviation. Times hold for the machine that the runs had,
# and for runs that had it to themselves.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Test accuracy against parameters and against training time"}}
page.draw("cifar10", report.cost_figure)

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
page.show("runs", recipe="cifar10")

# %% [markdown]
# ## The longer schedule

# %% tags=["remove-input"]
page.show("runs", recipe="cifar10-extended")
