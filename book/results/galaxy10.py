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
# # Galaxy10 DECaLS: tables 2 and 3, figure 5
#
# Section 4.1 of the paper: 17,736 galaxies in ten classes, five runs of each network, tested as they are and under
# Poisson noise. A cell is filled by runs of the recipe `galaxy10` in full, on Galaxy10 DECaLS, and by nothing else;
# runs at reduced scale [have a page of their own](reduced-gz2.py).

# %% tags=["remove-input"]
from pure import report
from pure.report import style
from pure.report.published import Page

style.use()
page = Page()

# %% tags=["remove-input"]
page.show("conditions", recipe="galaxy10")

# %% [markdown]
# ## Table 2: accuracy
#
# The paper's mean ± sample deviation of five runs, and ours. The difference is ours less the paper's, with Welch's 95
# % interval. Cells that read *not run* say what their runs would take on a GPU at the speed of the paper's two V100:
# worked out from the multiply-adds, and too little for small networks, which a GPU cannot fill.

# %% tags=["remove-input"]
page.show("paper", table="table2", part="accuracy")

# %% [markdown]
# ## Table 2: under noise
#
# The relative drop is equation (6), $100\,(A_\mathrm{original} - A_\mathrm{noisy}) / A_\mathrm{original}$, of the
# means over the runs. The paper does not say how strong its noise is; ours has the scale 1, and the drop over other
# scales is a curve below.

# %% tags=["remove-input"]
page.show("paper", table="table2", part="noise")

# %% tags=["remove-input"] mystnb={"image": {"alt": "Relative drop over the scale of the noise"}}
page.draw("galaxy10", report.noise_figure)

# %% [markdown]
# ## Table 2: times
#
# Seconds of training until 80 % of the validation images were first classified rightly, until the best epoch, and of
# everything. The paper's are those of two V100.

# %% tags=["remove-input"]
page.show("paper", table="table2", part="times")

# %% [markdown]
# ## PURe against ResNet, trained here

# %% tags=["remove-input"]
page.show("comparison", recipe="galaxy10")

# %% [markdown]
# ## Table 3: ResNets that others published
#
# Other augmentations and other divisions of the data: these numbers stand beside table 2, and no test compares them.

# %% tags=["remove-input"]
page.show("paper", table="table3", part="accuracy")

# %% [markdown]
# ## Figure 5
#
# Validation loss and accuracy over the epochs.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Loss and accuracy over the epochs, with bands over the seeds"}}
page.draw("galaxy10", report.curves)

# %% [markdown]
# ## What accuracy costs
#
# Each point is the mean of a network's runs with one sample deviation. Times hold for the machine that the runs had,
# and for runs that had it to themselves.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Test accuracy against parameters and against training time"}}
page.draw("galaxy10", report.cost_figure)

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
page.show("runs", recipe="galaxy10")
