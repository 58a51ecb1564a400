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
# # CIFAR-10 at a tenth of the schedule
#
# 16 epochs in place of 160, drops of the learning rate at 8 and 12, trained on CIFAR-10's training batches 1 to 4 and
# tested on batch 5; the official test set stays untouched. Both networks have a 1x1 convolution on the shortcuts.
# Whoever has CIFAR-10 can repeat it. What holds at a tenth of the schedule need not hold at the whole: these numbers
# fill no cell of [table 6](cifar10.py).

# %% tags=["remove-input"]
from pure import report
from pure.report import style
from pure.report.published import Page

style.use()
page = Page()

# %% tags=["remove-input"]
page.show("conditions", recipe="cifar10-tenth")

# %% tags=["remove-input"]
page.show("accuracy", recipe="cifar10-tenth")

# %% [markdown]
# ## PURe against ResNet
#
# Runs from the same seed saw the same images in the same order, and all runs are tested on the same images. The
# difference is taken within these pairs. Its 95 % interval covers other seeds and other test images of the same kind;
# *could have found* is the smallest true difference that so many seeds would show in four of five repetitions.

# %% tags=["remove-input"]
page.show("comparison", recipe="cifar10-tenth")

# %% [markdown]
# ## Recipe or network?
#
# The paper gives PURe another learning rate and weight decay than ResNet, so a difference between the two is one of
# network and recipe together. Four cells, each network under either recipe, tell them apart: from the seeds that all
# four have ended with. The interaction is how much the advantage of PURe changes with the recipe. The table is empty
# until two seeds of every cell are there.

# %% tags=["remove-input"]
page.show(
    "factorial",
    recipe="cifar10-tenth",
    ours="pure20",
    theirs="resnet20",
)

# %% [markdown]
# ## Other readings
#
# PURe20 with one thing changed, the module of the paper's third version among them, against PURe20 as it stands.

# %% tags=["remove-input"]
page.show("ablations", recipe="cifar10-tenth", network="pure20")

# %% [markdown]
# ## How the networks got there
#
# Dashed is the training set as it was trained on, full is the validation set, if any was held out. A line is the mean
# of a network's runs, the band around it one sample deviation; a run that diverged ends in a cross.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Loss and accuracy over the epochs, with bands over the seeds"}}
page.draw("cifar10-tenth", report.curves)

# %% [markdown]
# ## What accuracy costs
#
# Each point is the mean of a network's runs with one sample deviation. Times hold for the machine that the runs had,
# and for runs that had it to themselves.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Test accuracy against parameters and against training time"}}
page.draw("cifar10-tenth", report.cost_figure)

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
page.show("runs", recipe="cifar10-tenth")
