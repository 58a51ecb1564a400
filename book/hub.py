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
#     - requirements*.lock
#     - workflow/*.py
#     - workflow/experiments.yaml
# ---

# %% [markdown]
# # For administrators of a JupyterHub
#
# A reader clicks on the rocket of a page, logs in, and the page opens as a notebook that runs. This page is for
# whoever makes that so. Three things have to be there:
#
# 1. [nbgitpuller](https://nbgitpuller.readthedocs.io/) where JupyterLab runs: it follows the link, which clones this
#    repository into `pure-networks` in the reader's home, and brings it up to date each time. What a reader has edited
#    stays; where both sides edited the same line, the reader's wins.
# 2. jupytext where JupyterLab runs, and set as the viewer of `.py` files: a notebook is a `.py` file here.
# 3. A kernel with the packages of `requirements.lock` and with `pure` itself.
#
# An image made from this repository has all three. `tests/test_jupyterhub.py` starts a JupyterHub and plays the reader
# in a browser: log in, follow a link, *Run All*, save, reload, pull again after both sides have edited. It also makes
# an environment by hand, {ref}`as a reader may <by-hand-on-a-hub>` where the hub has no such image.

# %% [markdown]
# ## The image
#
# [repo2docker](https://repo2docker.readthedocs.io/) builds it in a clone, from `environment.yml` and `postBuild`:
#
# ```bash
# jupyter-repo2docker --no-run --image-name registry.example.org/pure:1 .
# ```
#
# The package is installed into the environment, as a copy, so that a volume mounted over the home hides nothing of it.
# The notebooks come from the link, at any time; the package is as old as the image. Build it again when `pure` has
# changed. Until then, a reader who needs the package of the clone types `pip install --user --no-deps ~/pure-networks`
# in a terminal and restarts the kernel.
#
# How large it gets is decided by PyTorch. The table adds up the files of the packages that are installed where this
# page was built, from `requirements.lock`; the base system, JupyterLab and nbgitpuller come on top.

# %% tags=["remove-input"]
import resource
import sys
from collections import defaultdict
from importlib.metadata import distributions
from pathlib import Path

import pandas as pd
import torch
from IPython.display import Markdown
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pure.report import markdown

sys.path.append("../workflow")  # scripts, no package
from estimate import estimate
from experiments import Run
from reproduce import size as told


def locked(path):
    """Names of the packages in a lock."""
    text = Path(path).read_text()
    lines = [line.partition("#")[0] for line in text.splitlines()]
    requirements = [Requirement(line) for line in lines if line.strip()]
    return {canonicalize_name(each.name) for each in requirements}


def size(distribution):
    """Bytes of its files."""
    paths = map(distribution.locate_file, distribution.files or ())
    return sum(path.stat().st_size for path in paths if path.is_file())


everything = locked("../requirements.lock")
without_cuda = locked("../requirements-cpu.lock")
sizes = defaultdict(int)
for distribution in distributions():
    name = canonicalize_name(distribution.metadata["Name"])
    if name in everything - without_cuda:
        sizes["CUDA's libraries and Triton"] += size(distribution)
    elif name in ("torch", "torchvision"):
        sizes["PyTorch and torchvision"] += size(distribution)
    elif name in everything:
        sizes["all other packages"] += size(distribution)
sizes["together"] = sum(sizes.values())
table = pd.DataFrame(
    [(name, f"{size / 1e9:.1f}") for name, size in sizes.items()],
    columns=["Packages", "Size (GB)"],
)
Markdown(markdown(table))

# %% tags=["remove-input"]
cuda = torch.version.cuda
built = f"for CUDA {cuda}" if cuda else "without CUDA"
Markdown(f"PyTorch {torch.__version__.partition('+')[0]}, built {built}.")

# %% [markdown]
# **For GPUs** nothing has to be added: PyTorch brings CUDA's libraries. The machine needs
#
# - the driver: 580 or newer for CUDA 13
#   ([NVIDIA's table](https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html)),
# - and the [NVIDIA Container Toolkit](https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/), which gives
#   containers the GPU.
#
# In a kernel, `torch.cuda.is_available()` then says `True`, and every training takes the GPU by itself.
#
# **Without GPUs** most of that can be left out. `requirements-cpu.lock` has the versions of `requirements.lock`,
# without the packages in the table's row of CUDA. PyTorch's builds without CUDA are not where pip looks by default, so
# there are two ways to use it:
#
# - by uv, which knows where they are: `uv pip install --torch-backend cpu -r requirements-cpu.lock`;
# - by pip, in `environment.yml` too: write `requirements-cpu.lock` there, and give pip the address of PyTorch's CPU
#   builds as an extra index. [PyTorch's installation page](https://pytorch.org/get-started/locally/) shows it, under
#   *CPU*. Of two builds of one version pip takes the one that is marked `+cpu`.
#
# Nobody has built this variant from PyTorch's index here, for want of access to it. Tried is what it relies on: that
# the packages left out are what PyTorch alone requires, and that pip prefers such a build.

# %% [markdown]
# ## The servers
#
# `hub/jupyterhub_config.py` has what concerns this project, for any spawner:
#
# ```{literalinclude} ../hub/jupyterhub_config.py
# :language: python
# :lines: 10-
# ```
#
# **Data.** Fill the folder once, as [the data sets](rerun.md) are got anywhere:
# `python -m pure.data galaxy10 --data /srv/pure-data --download`, and so on. Readers need no right to write there.
# What is decoded once and kept then goes to `~/.cache/pure` of each reader. What a recipe simulates or augments once
# has to be there before, and planning such a run makes it:
#
# ```bash
# export PURE_DATA=/srv/pure-data
# python -m pure.train --recipe galaxy10-quick --model pure18 --dry-run
# python -m pure.train --recipe galaxy10 --model pure18 --dry-run
# ```
#
# Where something is missing, the error names it, and how to choose another folder.
#
# **Memory.** A kernel takes main memory for PyTorch itself, and a training what its step keeps, on the device that it
# trains on: on a CPU both add up. A notebook that is closed keeps its kernel, and its memory, until it is shut down.

# %% tags=["remove-input"]
taken = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
runs = {
    "digits": ["pure20"],
    "galaxy10-quick": ["pure18"],
    "cifar10": ["pure20", "pure110"],
    "galaxy10": ["pure18", "pure34"],
    "imagenet": ["pure34"],
}
rows = [("a kernel that has imported PyTorch and `pure`", "", told(taken))]
for recipe, networks in runs.items():
    for network in networks:
        needed = estimate(Run(recipe, network, 0), "gpu", []).memory
        rows.append((f"a training step, `{recipe}`", network, told(needed)))
columns = ["What", "Network", "Memory"]
Markdown(markdown(pd.DataFrame(rows, columns=columns)))

# %% [markdown]
# The first row was measured while this page was built, the others are worked out, without temporary tensors.
#
# **Profiles.** On Kubernetes, readers choose between a server with and one without a GPU. In the values of
# [Zero to JupyterHub](https://z2jh.jupyter.org/):
#
# ```yaml
# singleuser:
#   extraEnv: {PURE_DATA: /srv/pure-data, OMP_NUM_THREADS: "2"}
#   cpu: {limit: 2}
#   memory: {limit: 6G}
#   storage:
#     extraVolumes:
#       - name: pure-data
#         persistentVolumeClaim: {claimName: pure-data, readOnly: true}
#     extraVolumeMounts:
#       - {name: pure-data, mountPath: /srv/pure-data, readOnly: true}
#   profileList:
#     - display_name: Reading and small trainings
#       default: true
#       kubespawner_override: {image: "registry.example.org/pure-cpu:1"}
#     - display_name: One GPU
#       kubespawner_override:
#         image: registry.example.org/pure:1
#         mem_limit: 24G
#         extra_resource_limits: {nvidia.com/gpu: "1"}
# ```
#
# There was no cluster to try these values on; the configuration above them is tried by the test.

# %% [markdown]
# ## Whose link it is
#
# The book's pages link to the hub whose address they were built with:
#
# ```bash
# PURE_JUPYTERHUB_URL=https://hub.example.org make book
# ```
#
# `PURE_REPOSITORY_URL` is what they tell the hub to clone.
#
# **Binder** needs nothing: it builds the same image from the repository by itself, and its home *is* the repository.
#
# **Colab** opens notebooks that lie on GitHub as `.ipynb`. The build writes one for each page, with its outputs and a
# first cell that gets the repository and installs the package, to `_colab` of the built pages. The link expects these
# pages on the branch `gh-pages`, where GitHub publishes from; a repository elsewhere has no such link.
