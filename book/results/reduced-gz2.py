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
# # Real galaxies at 64 pixels
#
# The protocol of section 4.1.2 in full, on [Galaxy Zoo 2](../../notebooks/data/gz2.py): five clean classes, 1,000
# training images of each with one static copy, 30 epochs, the weights of the lowest validation loss, tested as they
# are and under noise. Neither the classes nor the size of the images are those of Galaxy10: these numbers fill no
# cell of [table 2](galaxy10.py).

# %% tags=["remove-input"]
from pure import report
from pure.report import style
from pure.report.published import Page

style.use()
page = Page()

# %% tags=["remove-input"]
page.show("conditions", recipe="gz2")

# %% tags=["remove-input"]
page.show("accuracy", recipe="gz2")

# %% [markdown]
# ## PURe against ResNet
#
# Runs from the same seed saw the same images in the same order, and all runs are tested on the same images. The
# difference is taken within these pairs. Its 95 % interval covers other seeds and other test images of the same kind;
# *could have found* is the smallest true difference that so many seeds would show in four of five repetitions.

# %% tags=["remove-input"]
page.show("comparison", recipe="gz2")

# %% [markdown]
# The classes are unequal in number. The mean over the classes' accuracies, compared likewise:

# %% tags=["remove-input"]
page.show("comparison", recipe="gz2", quantity="macro accuracy")

# %% [markdown]
# ## Under noise
#
# The relative drop of equation (6), with scale 1; then its difference; then as a curve, since the paper does not say
# how strong its noise is. The smaller the scale, the fewer photons, and the stronger the noise; bars are 95 %
# intervals from the seeds.

# %% tags=["remove-input"]
page.show("noise", recipe="gz2")

# %% tags=["remove-input"]
page.show("comparison", recipe="gz2", quantity="drop")

# %% tags=["remove-input"] mystnb={"image": {"alt": "Relative drop over the scale of the noise"}}
page.draw("gz2", report.noise_figure)

# %% [markdown]
# ## How long it takes

# %% tags=["remove-input"]
page.show("times", recipe="gz2")

# %% tags=["remove-input"]
page.show("comparison", recipe="gz2", quantity="time to 80 %")

# %% [markdown]
# ## How the networks got there
#
# Dashed is the training set as it was trained on, full is the validation set, if any was held out. A line is the mean
# of a network's runs, the band around it one sample deviation; a run that diverged ends in a cross.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Loss and accuracy over the epochs, with bands over the seeds"}}
page.draw("gz2", report.curves)

# %% [markdown]
# ## What accuracy costs
#
# Each point is the mean of a network's runs with one sample deviation. Times hold for the machine that the runs had,
# and for runs that had it to themselves.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Test accuracy against parameters and against training time"}}
page.draw("gz2", report.cost_figure)

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
page.show("runs", recipe="gz2")
