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
# # Digits, and the ablations
#
# Scikit-learn's digits, 8 by 8 pixels: they need no download, take seconds, and decide nothing about the paper. They
# show that every variant trains, and which readings of the paper matter enough to be tried again on real images.

# %% tags=["remove-input"]
from pure import report
from pure.report import style
from pure.report.published import Page

style.use()
page = Page()

# %% tags=["remove-input"]
page.show("conditions", recipe="digits")

# %% tags=["remove-input"]
page.show("accuracy", recipe="digits")

# %% [markdown]
# ## PURe against ResNet
#
# Runs from the same seed saw the same images in the same order, and all runs are tested on the same images. The
# difference is taken within these pairs. Its 95 % interval covers other seeds and other test images of the same kind;
# *could have found* is the smallest true difference that so many seeds would show in four of five repetitions.

# %% tags=["remove-input"]
page.show("comparison", recipe="digits")

# %% [markdown]
# ## Ablations
#
# PURe20 with one thing changed, against PURe20 as it stands, from the same seeds; the most harmful last. With as many
# rows, about one interval in twenty misses zero by chance alone.

# %% tags=["remove-input"]
page.show("ablations", recipe="digits", network="pure20")

# %% [markdown]
# ## How the networks got there
#
# Dashed is the training set as it was trained on, full is the validation set, if any was held out. A line is the mean
# of a network's runs, the band around it one sample deviation; a run that diverged ends in a cross.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Loss and accuracy over the epochs, with bands over the seeds"}}
page.draw("digits", report.curves)

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
page.show("runs", recipe="digits")
