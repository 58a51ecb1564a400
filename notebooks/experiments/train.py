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
# ---

# %% [markdown]
# # One training run
#
# This notebook trains one network by one recipe from one seed, shows how that went, and leaves a record. It is the
# piece that the batch reproduction repeats: papermill fills in the parameters, the record goes into the tables.
#
# ```
# python workflow/execute.py notebooks/experiments/train.py run.ipynb -p model resnet20 -p seed 1
# ```
#
# It needs nothing but the installed package. The recipe `digits` takes well under a minute on two processor cores.

# %% tags=["parameters"]
recipe = "digits"  # pure.recipes.list_recipes() names all
model = "pure20"  # pure.list_models() names all
seed = 0  # fixes initialisation, order and augmentation
epochs = 0  # 0: as many as the recipe says
overrides = {}  # fields of the recipe to override, {"lr": 0.05}
# folder of the data sets; empty: PURE_DATA, or the repository's data
data = ""
data_options = {}  # options of the data set to override
model_options = {}  # options of the network, {"shortcut": "B"}
execution = {}  # how, not what: {"compile": False}
device = ""  # cpu, cuda, cuda:1, ...; empty: a GPU if there is one
out = ""  # folder of the record; empty: one in the repository's runs
if_exists = "resume"  # or fail, replace, restart: what to do with a run there
progress = True  # show a bar while it trains

# %% [markdown]
# Papermill only warns of a parameter that does not exist, and never looks at types. The next cell stops the run.

# %%
from pure.report.parameters import check_parameters, repository, shared_root

parameters = check_parameters(
    globals(),
    recipe=str,
    model=str,
    seed=int,
    epochs=int,
    overrides=dict,
    data=str,
    data_options=dict,
    model_options=dict,
    execution=dict,
    device=str,
    out=str,
    if_exists=str,
    progress=bool,
)

# %%
import matplotlib.pyplot as plt
import pandas as pd

import pure
from pure import report
from pure.report import segmentation, style
from pure.train import load_run, outcome, predict, run_folder

style.use()
pd.set_option("display.max_colwidth", None)

# %% [markdown]
# ## Training
#
# The recipe holds every hyper-parameter, each with its section of the paper. Each epoch ends with a checkpoint in the
# folder, so that a run that was killed goes on when the notebook is run again. A training whose loss or gradient is no
# longer finite is a result too: the record then says when, where and why, and holds no test. A finished run is shown
# again, not trained again.

# %%
folder = out or run_folder(repository() / "runs", recipe, model, seed)
root = data or shared_root()
if epochs:
    overrides = {**overrides, "epochs": epochs}


def with_tuples(options):
    """Papermill's parameters have lists only; recipes and networks, tuples."""
    pairs = options.items()
    return {k: tuple(v) if isinstance(v, list) else v for k, v in pairs}


record = pure.fit(
    recipe,
    model,
    seed=seed,
    data=root,
    out=folder,
    overrides=with_tuples(overrides),
    data_options=with_tuples(data_options),
    model_options=with_tuples(model_options),
    execution=execution,
    device=device or None,
    if_exists=if_exists,
    progress=progress,
)

# %% tags=["remove-input"]
pd.Series(record.recipe.model_dump(), name="value").rename_axis(
    "field of the recipe"
).to_frame()

# %% tags=["remove-input"]
print(outcome(record))
is_segmentation = record.recipe.task == "segmentation"
table = (
    segmentation.segmentation_table if is_segmentation else report.runs_table
)
table([record]).T.rename(columns={0: "this run"})

# %% [markdown]
# ## Loss and accuracy
#
# Dashed is the training set as it was trained on, with batch statistics and augmentation; full is the validation set,
# with the running statistics. A product unit's outputs are spread like a log-normal variable, so in the first epochs
# the running statistics lag behind, and the full line of the loss can jump. Where the two lines part for good, the
# network learns its training set by heart.

# %% mystnb={"image": {"alt": "Loss and accuracy over the epochs"}}
report.curves([record])
plt.show()

# %% [markdown]
# ## What is confused with what
#
# Of the test that ended the training, with the weights that the recipe selects. Rows are the true classes.

# %% mystnb={"image": {"alt": "Confusion matrix of the test set", "width": "65%"}}
if record.test is not None and record.test.confusion is not None:
    report.confusion_figure(record)
    plt.show()

# %% [markdown]
# ## The errors themselves
#
# Surest first; of a segmentation, the images with the most wrong pixels. The weights are read back from the run's
# folder and predict the test set again, to show which images they get wrong; nothing is chosen by it. The accuracy must
# be the record's.

# %% mystnb={"image": {"alt": "Test images that were classified wrongly", "classes": "photo"}}
if record.test is not None:
    _, network, splits = load_run(folder, root)
    labels = splits.test.labels
    scores = predict(
        network.to(record.environment.device),
        splits,
        splits.test,
        record.test.protocol,
    )
    confidence, predicted = scores.softmax(1).max(1)
    accuracy = (predicted == labels).double().mean().item()
    # lower precision rounds
    assert abs(accuracy - record.test.accuracy) < 0.001, (
        accuracy,
        record.test.accuracy,
    )

    if is_segmentation:  # the images with the most wrong pixels
        wrong = (predicted != labels).flatten(1).sum(1)
        worst = wrong.argsort(descending=True)[:12]
        segmentation.masks_figure(
            splits.test.read(worst), labels[worst], predicted[worst]
        )
    else:
        wrong = (predicted != labels).nonzero().flatten()
        surest = wrong[confidence[wrong].argsort(descending=True)][:16]
        images = [splits.test[row][0] for row in surest.tolist()]
        report.misclassified_figure(
            images, labels[surest], scores[surest], splits.classes
        )
    plt.show()

# %% [markdown]
# ## The product units
#
# Each product unit clamps its inputs from below at $\tau = \mathrm{softplus}(\theta) + \varepsilon$, which starts at
# $\ln 2$. Where a block wants more of its inputs as they are, it lowers $\tau$; where it wants them cut off, it raises
# it. The weight decay pulls $\theta$ back to zero, so what is left is what the loss paid for. One run does not show
# whether the pattern is the same for other seeds; the results page draws them together. Beside it, what the unit does
# with its inputs at the end: the share that lies at the threshold, and how far its exponents reach.

# %% mystnb={"image": {"alt": "Product units: thresholds, share of inputs at them, range of the exponent"}}
report.units_figure(record)
plt.show()

# %% [markdown]
# ## Where it ran

# %% tags=["remove-input"]
pd.Series(record.environment.model_dump(), name="value").rename_axis(
    "environment"
).to_frame()
