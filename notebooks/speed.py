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
#     - results/benchmarks/*.json
# ---

# %% [markdown]
# # Speed and memory
#
# - **Before this page:** [the networks](07-networks.py).
# - **You need:** the extra `report`; no download, no GPU.
# - **Running time:** seconds; it reads what was measured elsewhere.
#
# What a PURe costs compared with the ResNet of the same depth. This page measures nothing: it reads the records that
# `make bench` wrote on the machines named below.
#
# A training step is forward pass, cross-entropy, backward pass and SGD. The networks take turns within one process, in
# another order each round, and only quotients within a round count: what slows the machine slows both. Each figure is
# the median over the rounds, in brackets the quartiles. On a CPU with one thread the time is the processor's, which
# stands still while another program has the core; that of whole epochs is wall-clock time.
#
# Both families have shortcut B unless a line says *default shortcuts*: then the ResNet for small images has shortcut A,
# as published {cite}`he2016deep`.

# %%
import matplotlib.pyplot as plt
from IPython.display import Markdown, display

from pure import report
from pure.report import benchmarks, style
from pure.report.parameters import repository

style.use()
root = repository()
records = benchmarks.read_results(root / "results/benchmarks")


def show(table):
    """A table as Markdown."""
    display(Markdown(report.markdown(table)))


show(benchmarks.machines_table(records))

# %% [markdown]
# ## How fast a product unit should be, and how fast it is
#
# Each row is a limit for a ratio of two times, for memory or for the time of a whole training, chosen before it was
# measured. A case is one size, memory format and precision; a limit with several cases holds where each of them is
# below it.

# %%
bars = benchmarks.bars_table(records)
show(bars)

# %% tags=["nbval-check-output"]
for verdict, found in {
    "met": "yes",
    "not met": "no",
    "not measured": "",
}.items():
    print(f"{verdict}: {sum(bars['Met'] == found)}")

# %% tags=["hide-input"]
gpus = [record for record in records if record["device"] == "cuda"]
if not gpus:
    display(
        Markdown(
            "**Not measured.** There is no record of a GPU, so nothing on "
            "this page is about one. `python benchmarks/bench.py --device "
            "cuda --minutes 6 --out results/benchmarks` writes it in one go."
        )
    )
for record in records:
    left_out = [
        benchmarks.case_title(case)
        for case in record["left_out"]
        if case["part"] == "networks"
    ]
    if left_out:
        display(
            Markdown(
                f"Left out on {record['machine']['device']}, "
                f"for want of time: {'; '.join(left_out)}."
            )
        )

# %% [markdown]
# ## Training step

# %% tags=["hide-input"] mystnb={"image": {"alt": "Time of a training step, PURe over ResNet, each round a dot"}}
for record in records:
    benchmarks.ratios_figure(record, "training")
    plt.show()

# %% [markdown]
# **How to read it.** Left of the line, the PURe is faster. Each dot is one round, the bar spans the quartiles, the
# stroke is the median. Dots far out are rounds in which another program had the memory or the caches.
#
# ## Inference

# %% tags=["hide-input"] mystnb={"image": {"alt": "Time of inference, PURe over ResNet, each round a dot"}}
for record in records:
    benchmarks.ratios_figure(record, "inference")
    plt.show()

# %% [markdown]
# A ReLU at inference is one cheap pass, a logarithm and an exponential are two slower ones, and no backward pass hides
# them: the quotient is higher than in training. *Folded* is {py:func}`pure.nn.fold.fold`: each BN goes into the
# convolution or the product unit before it, in the ResNet as in the PURe. Networks are timed so where nothing is
# compiled.
#
# ## All figures
#
# *Step / plain* compares the fast path of {py:mod}`pure.nn.fused.operators`, which is the registered operator and in
# compiled networks the gradients written out for compilers, with the formulas of {py:mod}`pure.nn.functional`, in the
# same network. *Folded* is inference with BN folded, PURe over ResNet, and *Folded / unfolded* what folding gives the
# PURe; empty where it was not timed. *Kept* is the memory that the forward pass holds for the backward pass, PURe over
# ResNet, without the weights; it varies with nothing but the shapes. On a GPU, *Peak* is what a step allocates at most.

# %%
for record in records:
    show(benchmarks.networks_table(record))

# %% [markdown]
# ## Whole epochs
#
# From the first batch of the loader to the last step, with augmentation, gradient norm and the watch for numbers that
# are not finite, as {py:func}`pure.train.fit` does it. The images have CIFAR-10's shape and are made up.

# %%
show(benchmarks.epochs_table(records))

# %% [markdown]
# ## The memory-bandwidth floor
#
# A pointwise operation computes little for each number, so it cannot be faster than the memory that it reads and
# writes. Let a feature map have $n$ numbers of $b$ bytes, and let the memory move $B$ bytes in a second. Then
#
# | part | reads | writes | at least |
# | :--- | :--- | :--- | :--- |
# | $\ell = \log\max(x, \tau)$ | $x$ | $\ell$ | $2nb / B$ |
# | its gradient, $g\,e^{-\ell}$ where $\ell > \log\tau$ | $g$, $\ell$ | $\partial L/\partial x$ | $3nb / B$ |
# | $y = e^z$ | $z$ | $y$ | $2nb / B$ |
# | its gradient, $g\,y$ | $g$, $y$ | $\partial L/\partial z$ | $3nb / B$ |
#
# In sum $10\,nb/B$ for each product unit and step, in single precision; under autocast the exponential has single
# precision while the rest has half, so its parts count by their own bytes. A ReLU in the unit's place needs
# $5\,nb/B$: two maps forward, three backward. The unit's excess cannot be below the difference unless its parts are
# fused into their neighbours, as a compiler does. $B$ is measured in the same run by a copy that is far larger than the
# caches, reading and writing counted.

# %%
for record in records:
    show(benchmarks.bandwidth_table(record))
    show(benchmarks.floor_table(record))

# %% [markdown]
# **How to read it.** On a CPU a map that fits into the cache can be faster than this floor, and the logarithm is
# several passes over it: the floor is no bound on what the caches hold. On a GPU, each part is one kernel, and whatever
# is above one is what launching and tiles cost.
#
# **What it does not show.** Accuracy, and what a lower precision costs in it. Times on another processor: quotients
# carry over better than seconds, but with more threads or wider memory the convolutions shrink more than what lies
# between them.
