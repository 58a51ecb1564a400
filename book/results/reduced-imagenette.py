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
# # Imagenette at 64 pixels
#
# Ten classes of ImageNet by the ImageNet recipe at a fifth of its schedule, at 64 pixels, tested by a single crop.
# These numbers fill no cell of [table 4](imagenet.py).

# %% tags=["remove-input"]
from pure import report
from pure.report import style
from pure.report.published import Page

style.use()
page = Page()

# %% tags=["remove-input"]
page.show("conditions", recipe="imagenette64")

# %% tags=["remove-input"]
page.show("accuracy", recipe="imagenette64")

# %% [markdown]
# ## PURe against ResNet
#
# Runs from the same seed saw the same images in the same order, and all runs are tested on the same images. The
# difference is taken within these pairs. Its 95 % interval covers other seeds and other test images of the same kind;
# *could have found* is the smallest true difference that so many seeds would show in four of five repetitions.

# %% tags=["remove-input"]
page.show("comparison", recipe="imagenette64")

# %% [markdown]
# ## How the networks got there
#
# Dashed is the training set as it was trained on, full is the validation set, if any was held out. A line is the mean
# of a network's runs, the band around it one sample deviation; a run that diverged ends in a cross.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Loss and accuracy over the epochs, with bands over the seeds"}}
page.draw("imagenette64", report.curves)

# %% [markdown]
# ## What accuracy costs
#
# Each point is the mean of a network's runs with one sample deviation. Times hold for the machine that the runs had,
# and for runs that had it to themselves.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Test accuracy against parameters and against training time"}}
page.draw("imagenette64", report.cost_figure)

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
page.show("runs", recipe="imagenette64")
