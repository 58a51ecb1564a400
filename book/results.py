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
# # Results
#
# Every run leaves a [record](api.md): recipe, seed, accuracies, losses and times of each epoch, state of the product
# units, versions, commit and a fingerprint of the data. This page reads the records and draws; it trains nothing, and
# none of its numbers was typed. A table reads *no records* where no run has measured what it shows.

# %% tags=["remove-input"]
import matplotlib.pyplot as plt
from IPython.display import Markdown

from pure import report
from pure.records import read_records
from pure.report import segmentation, style

style.use()
every = read_records("../results")
committed = [run for run in every if run.recipe.task == "classification"]
built = read_records("../_build/runs")
records = built or committed

# %% [markdown]
# ## PURe and ResNet under one recipe
#
# One row for each network; mean ± sample deviation of the test accuracy over the seeds. A training that diverged is an
# outcome: it is counted in its own column, and no mean includes it.

# %% tags=["remove-input"]
Markdown(report.markdown(report.accuracy_table(records)))

# %% tags=["remove-input"]
by = "this build" if built else "the runs in the repository"
Markdown(f"Measured by {by} on {report.hardware(records)}.")

# %% [markdown]
# The difference of the two means, with Welch's 95 % interval. An interval that includes zero decides nothing, however
# far apart the two means look. It covers how far the seeds scatter; that another test set of the same size would give
# other figures comes on top.

# %% tags=["remove-input"]
Markdown(report.markdown(report.difference_table(records)))

# %% [markdown]
# ## Under noise
#
# The same networks on the same test images under Poisson noise. The relative drop is equation (6) of the paper,
# $100\,(A_\mathrm{original} - A_\mathrm{noisy}) / A_\mathrm{original}$ with the means over the runs for $A$.

# %% tags=["remove-input"]
Markdown(report.markdown(report.noise_table(records)))

# %% [markdown]
# ## By protocol
#
# Large images are shown to a network in several ways, and the accuracy depends on which.

# %% tags=["remove-input"]
Markdown(report.markdown(report.protocols_table(records)))

# %% [markdown]
# ## How long it takes
#
# Medians over the runs: training time until 80 % of the validation images were first classified rightly, until the best
# epoch, and in total. Times hold for the hardware named above only.

# %% tags=["remove-input"]
Markdown(report.markdown(report.times_table(records)))

# %% [markdown]
# ## How the networks got there
#
# Dashed is the training set as it was trained on, full is the validation set. A line is the mean of a network's runs,
# the band around it one sample deviation; a run that diverged is a thin line that ends in a cross.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Loss and accuracy over the epochs, for every run"}}
recipes = sorted({record.recipe.name for record in records})
for recipe in recipes:
    runs = [record for record in records if record.recipe.name == recipe]
    figure = report.curves(runs)
    figure.suptitle(recipe)
    plt.show()

# %% [markdown]
# The two families do not have the same learning rate and weight decay: the recipe follows the paper, which gives each
# its own. A difference between the curves is one of recipe and network together.

# %% [markdown]
# ## Where the thresholds end
#
# Each product unit clamps its inputs from below at $\tau = \mathrm{softplus}(\theta) + \varepsilon$. The lines show
# every run's $\tau$ at the end of the training, from the first block to the last; where they lie together, the place of
# the threshold is something that the network learns, and no accident of its seed.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Thresholds of every run at the end, block by block"}}
with_units = [record for record in records if record.thresholds]
for recipe in sorted({record.recipe.name for record in with_units}):
    runs = [record for record in with_units if record.recipe.name == recipe]
    figure = report.thresholds_figure(runs)
    figure.suptitle(recipe)
    plt.show()

# %% [markdown]
# ## Inside the product units
#
# One run of PURe: how its thresholds moved, what share of the inputs ends up at the threshold, where nothing but the
# threshold itself learns, and between which values the exponents lie, the arguments of the exponential.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Thresholds over the epochs, clamped shares, exponents"}}
observed = []
for record in with_units:
    if any(epoch.units for epoch in record.epochs):
        observed.append(record)
if observed:
    report.units_figure(observed[0])
    plt.show()

# %% tags=["remove-input"]
if observed:
    network = report.runs_table(observed[:1]).iloc[0]["Network"]
    text = f"{network}, seed {observed[0].seed}."
else:
    text = "*No record has them: the first version kept thresholds alone.*"
Markdown(text)

# %% [markdown]
# ## Every run
#
# The pages below this one in the contents show each run by itself: its recipe, curves, confusion matrix, the images it
# got wrong and its thresholds.

# %% tags=["remove-input"]
Markdown(report.markdown(report.runs_table(records)))

# %% [markdown]
# ## Segmentation
#
# Networks that answer for each pixel: simulated galaxies, each to be told from its neighbours. These are the runs in
# the repository; [a page of its own](../notebooks/12-deblending.py) shows the task and reads the result.

# %% tags=["remove-input"]
Markdown(report.markdown(segmentation.segmentation_table(every)))

# %% tags=["remove-input"]
Markdown(report.markdown(segmentation.segmentation_differences(every)))

# %% [markdown]
# ## What the repository holds
#
# The runs committed under `results/`, each made with the commit that its record names. Compare them with the first
# table: other hardware adds up in another order, so the same seed need not give the same number.

# %% tags=["remove-input"]
Markdown(report.markdown(report.accuracy_table(committed)))

# %% tags=["remove-input"]
Markdown(f"Measured on {report.hardware(committed)}.")

# %% [markdown]
# ## What this does not show
#
# The recipe `digits` is not one of the paper's experiments: its images are smaller than a thumbnail, and its test set
# is so small that one image more or less shows in the tables. Simulated galaxies are no observation, and a tenth of a
# schedule is not the paper's. What the runs say about the paper's claims stands on [the page of
# verdicts](results/verdicts.py).
