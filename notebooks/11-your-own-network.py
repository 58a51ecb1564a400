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
# # Your own network
#
# - **Before this page:** [the product unit](01-product-unit.py); how one trains a network in PyTorch.
# - **You need:** the extra `book`; no download, no GPU.
# - **Running time:** under a minute on two cores.
#
# Afterwards you can put product units into a network that you have, train it on a folder of your images, read what the
# units do, and know four cases in which you had better not.

# %%
from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
import torch.nn.functional as F
import torchvision
from IPython.display import Markdown
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torchvision.transforms import v2

import pure
from pure import report
from pure.nn.batchnorm import reestimate
from pure.report.style import COLOURS, use
from pure.train.monitor import observe_units

with warnings.catch_warnings():
    # the progress bar that timm brings misses widgets that nothing here uses
    warnings.simplefilter("ignore")
    import timm

use()
# one order of summation: the same numbers in every run
torch.set_num_threads(1)


def show(table: pd.DataFrame) -> Markdown:
    """A table as Markdown."""
    return Markdown(report.markdown(table))


# %% [markdown]
# ## Ten lines
#
# The paper's rule for a residual block is short: the second convolution becomes a product unit, and the ReLUs go
# {cite}`li2025pure`. {py:class}`pure.ProductUnit2d` takes the arguments of {py:class}`torch.nn.Conv2d`, so on
# torchvision's ResNet18 it can be done by hand:

# %%
by_hand = torchvision.models.resnet18(num_classes=10)
for block in by_hand.modules():
    if isinstance(block, torchvision.models.resnet.BasicBlock):
        old = block.conv2
        block.conv2 = pure.ProductUnit2d(
            old.in_channels, old.out_channels, old.kernel_size, padding=1
        )
        block.relu = nn.Identity()  # the one between and the one after
by_hand.relu = nn.Identity()  # the stem's

# %% [markdown]
# {py:func}`pure.convert` does the same for the residual networks of torchvision and timm, whatever their blocks are
# called, and leaves the network that it was given as it is. [Use the module](use-the-module.py) lists what it converts.

# %%
resnet = torchvision.models.resnet18(num_classes=10)
converted = pure.convert(resnet)

# %% [markdown]
# **Check.** The two have the same parameters by name and shape, and they are those of the paper's PURe18. Given the
# same weights, they give the same answers as that network does.

# %% tags=["nbval-check-output"]
paper = pure.create_model("pure18", num_classes=10)
weights = paper.state_dict()
images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    expected = paper.eval()(images)
    for own in (by_hand, converted):
        own.load_state_dict(weights)  # all keys, or an error
        torch.testing.assert_close(own.eval()(images), expected)
count = sum(p.numel() for p in converted.parameters())
more = count - sum(p.numel() for p in resnet.parameters())
print(f"parameters: {count:,}, {more} more than ResNet18's")
print("one threshold for each block:", more == len(converted.layer1) * 4)

# %% [markdown]
# Two things to mind when you do it by hand. Networks often draw their weights by a loop over all
# {py:class}`torch.nn.Conv2d`; a product unit is none, and draws its own exponents when it is made, much smaller ones:
# so put it in *after* such a loop, and do not write a loop of yours over it. And a convolution's trained weights mean
# nothing as exponents: `convert` keeps every other weight of a trained network and draws these anew.
#
# ## A folder of your images
#
# Most data sets lie on a disk as one folder a class. So that this page runs anywhere, we write one: the digits of
# scikit-learn as PNG files. Yours goes in their place.

# %%
scratch = tempfile.TemporaryDirectory()
folder = Path(scratch.name)
source = load_digits()
for number, (pixels, label) in enumerate(
    zip(source.images[:900], source.target, strict=False)
):
    part = "val" if number % 3 == 2 else "train"
    target = folder / part / str(label) / f"{number}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels * 15).astype("uint8")).save(target)

# %%
prepare = v2.Compose(
    [
        v2.Resize(32),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.3] * 3, [0.35] * 3),
    ]
)
parts = {
    part: torchvision.datasets.ImageFolder(folder / part, prepare)
    for part in ("train", "val")
}
loaders = {
    part: torch.utils.data.DataLoader(
        images,
        batch_size=50,
        shuffle=part == "train",
        generator=torch.Generator().manual_seed(0),
    )
    for part, images in parts.items()
}

# %% tags=["nbval-check-output"]
assert parts["train"].classes == parts["val"].classes
for part, images in parts.items():
    print(f"{part}: {len(images)} images of {len(images.classes)} classes")

# %% [markdown]
# ## Training
#
# The network is timm's ResNet18, a quarter as wide so that the page stays short, and its conversion. The loop is
# anyone's, with three things that PURe wants: a learning rate a tenth of a ResNet's, which is the paper's choice; a
# gradient that is clipped, as a fuse; and eyes on the thresholds.


# %%
def accuracy_and_loss(model: nn.Module) -> tuple[float, float]:
    """On the validation images, in evaluation mode."""
    model.eval()
    right, loss, seen = 0, 0.0, 0
    with torch.no_grad():
        for images, labels in loaders["val"]:
            logits = model(images)
            right += int((logits.argmax(1) == labels).sum())
            loss += F.cross_entropy(logits, labels, reduction="sum").item()
            seen += len(labels)
    return right / seen, loss / seen


def train(model: nn.Module, lr: float, epochs: int) -> pd.DataFrame:
    """SGD with momentum; one row an epoch."""
    sgd = torch.optim.SGD(
        model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-3
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        sgd, lr, epochs * len(loaders["train"])
    )
    sample = next(iter(loaders["val"]))[0]
    rows = []
    for epoch in range(1, epochs + 1):
        model.train()
        for images, labels in loaders["train"]:
            sgd.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            sgd.step()
            schedule.step()
        accuracy, loss = accuracy_and_loss(model)
        rows.append(
            {
                "epoch": epoch,
                "accuracy": accuracy,
                "loss": loss,
                "units": observe_units(model, sample),
            }
        )
    return pd.DataFrame(rows).set_index("epoch")


def size(model: nn.Module) -> int:
    """The number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


torch.manual_seed(0)
narrow = timm.create_model(
    "resnet18", num_classes=10, channels=(16, 32, 64, 128)
)
networks = {"ResNet18, narrow": (narrow, 0.1)}
networks["converted"] = (pure.convert(narrow), 0.01)
courses = {
    name: train(model, lr, epochs=5) for name, (model, lr) in networks.items()
}

# %% mystnb={"figure": {"caption": "Both networks after five epochs on the folder, one seed each: that they train, not which is better.", "name": "tab-own-network", "caption_before": true}} tags=["hide-input"]
show(
    pd.DataFrame(
        [
            {
                "Network": name,
                "Parameters": f"{size(model):,}",
                "Learning rate": f"{lr:g}",
                "Validation accuracy (%)": (
                    f"{100 * courses[name]['accuracy'].iloc[-1]:.1f}"
                ),
                "Loss (nats)": f"{courses[name]['loss'].iloc[-1]:.2f}",
            }
            for name, (model, lr) in networks.items()
        ]
    )
)

# %% [markdown]
# **What it does not show.** Which network is better. That needs several seeds, a search of the learning rate for *each*
# network, and a test set that is looked at once: [`pure.fit`](../book/rerun.md) does all of it, with a network of yours
# and a folder of yours (`pure.data.load("image-folder", ...)`), and leaves a record.
#
# ## Reading the units
#
# {py:func}`pure.train.monitor.observe_units` passes images through a network and says of each unit where its threshold
# is, which share of its inputs counts as the threshold, and between which exponents $z$ its products $e^z$ lie.

# %%
course = courses["converted"]["units"]
last = course.iloc[-1]

# %% mystnb={"figure": {"caption": "The units of the converted network after the training, on fifty validation images.", "name": "tab-own-units", "caption_before": true}} tags=["hide-input"]
show(
    pd.DataFrame(
        [
            {
                "Unit": name,
                r"Threshold $\tau$": f"{unit.threshold:.3f}",
                "Inputs on it (%)": f"{100 * unit.clamped:.0f}",
                "Least $z$": f"{unit.exponent[0]:.2f}",
                "Largest $z$": f"{unit.exponent[1]:.2f}",
            }
            for name, unit in last.items()
        ]
    )
)

# %% mystnb={"image": {"alt": "Thresholds, shares on the threshold and exponents of eight units over the epochs"}, "figure": {"caption": "The same over the epochs, a line for each unit, from the first block (violet) to the last (yellow). Healthy looks like this: thresholds that move a little, shares below 100 %, exponents far below the dotted line, where float16 overflows.", "name": "fig-own-units"}} tags=["hide-input"]
fig, axes = plt.subplots(1, 3, figsize=(7, 2.7))
shades = plt.get_cmap("viridis")
for i, name in enumerate(last):
    colour = shades(i / len(last))
    units = [epoch[name] for epoch in course]
    axes[0].plot(course.index, [u.threshold for u in units], color=colour)
    axes[1].plot(course.index, [100 * u.clamped for u in units], color=colour)
    axes[2].plot(
        course.index, [max(map(abs, u.exponent)) for u in units], color=colour
    )
axes[2].axhline(
    torch.tensor(torch.finfo(torch.float16).max).log(),
    color=COLOURS["neutral"],
    linestyle=":",
)
axes[0].set(ylabel=r"threshold $\tau$")
axes[1].set(ylabel="inputs on it (%)", ylim=(0, 105))
axes[2].set(ylabel="largest $|z|$", ylim=(0, None))
for ax in axes:
    ax.set(xlabel="epoch", xticks=course.index)
plt.show()

# %% [markdown]
# **How to read it.** A unit whose share is at 100 % sees nothing: its output is a constant and its input gets no
# gradient. One whose share is near 0 % sees everything, and is nearly linear in the logarithms. Most inputs lie on the
# threshold in every trained PURe that we know of, and the network works by the rest.
#
# ## What to watch
#
# - **The range of $z$.** $e^z$ overflows float16 at 11 and float32 at 88. Stay in float32 or bfloat16, or use
#   `pure.convert(network, unit="stabilised")`, which bounds $z$.
# - **The evaluation loss in the first epochs.** The running statistics of batch normalisation lag behind products whose
#   distribution is nearly log-normal: the training loss may look fine while the evaluation loss is absurd.
#   [Initialisation](06-initialisation.py) shows it. That is no divergence, and {py:func}`pure.nn.batchnorm.reestimate`
#   mends it, as below: where the two losses differ by much, believe the second.
# - **The learning rate.** Start at a tenth of what the ResNet likes, and search.
# - **Non-finite numbers.** {py:func}`pure.train.monitor.first_nonfinite` repeats a step and names the layer in which
#   the first one appeared.

# %%
trained = networks["converted"][0]
running = accuracy_and_loss(trained)[1]
reestimate(trained, [images for images, _ in loaders["train"]])
estimated_again = accuracy_and_loss(trained)[1]

# %% tags=["hide-input"]
print(f"validation loss with running statistics:  {running:.3f} nats")
print(f"with statistics that are estimated again: {estimated_again:.3f} nats")

# %% [markdown]
# ## What it costs
#
# A product unit is a convolution between a logarithm and an exponential. We take turns between both networks, so that
# whatever else this machine does falls on both, and give the median of the ratios.


# %%
def step_time(model: nn.Module, images: Tensor) -> float:
    """Seconds of one forward and backward pass."""
    begin = time.perf_counter()
    model(images).sum().backward()
    return time.perf_counter() - begin


batch = next(iter(loaders["train"]))[0]
for model, _ in networks.values():
    model.train()
ratios = [
    step_time(networks["converted"][0], batch) / step_time(narrow, batch)
    for _ in range(12)
]

# %% tags=["hide-input"]
Markdown(
    f"On the machine that built this page, a step of the converted network "
    f"takes **{statistics.median(ratios[2:]):.2f} times** as long as one of "
    f"the original. The page on [speed](speed.py) measures it properly."
)

# %% [markdown]
# ## When not to use it
#
# - **You want pretrained weights.** There are none for exponents, and half of the layers of a pretrained network begin
#   anew.
# - **The sign matters at the unit's input.** A threshold cannot keep it: see
#   [without a threshold](10-without-a-threshold.py).
# - **You need float16**, on a device that has nothing else.
# - **You hope for robustness or accuracy unseen.** What is measured of both so far stands in the
#   [results](../book/results.py), with intervals; on most of it the evidence is thin. Measure on your own data.
#
# ## Exercises

# %% [markdown]
# ### Exercise 1
#
# Convert the last stage alone. How many parameters are new, and which layers keep their ReLUs?

# %% tags=["hide-cell"]
partly = pure.convert(resnet, stages=[-1])
new = [
    name
    for name, module in partly.named_modules()
    if isinstance(module, pure.ProductUnit2d)
]
kept = [
    name
    for name, module in partly.named_modules()
    if isinstance(module, nn.ReLU)
]
assert all(name.startswith("layer4") for name in new)
drawn_anew = sum(
    p.numel() for name in new for p in partly.get_submodule(name).parameters()
)
print("product units:", ", ".join(new))
print(f"parameters drawn anew: {drawn_anew:,}")
print("ReLUs that stay:", ", ".join(kept))

# %% [markdown]
# ### Exercise 2
#
# The third version of the paper keeps the ReLU after the sum and in the stem. Convert with `variant="v3"`, train it as
# above, and compare the shares on the threshold.

# %% tags=["hide-cell"]
torch.manual_seed(0)
third = pure.convert(narrow, variant="v3")
last_of_third = train(third, 0.01, epochs=3)["units"].iloc[-1]
shares = pd.DataFrame(
    {
        "v1": [unit.clamped for unit in course.iloc[2].values()],
        "v3": [unit.clamped for unit in last_of_third.values()],
    }
)
print("share on the threshold after three epochs, mean over the units:")
print((100 * shares).mean().round(1).to_string())

# %% [markdown]
# ### Exercise 3
#
# Weight decay pulls $\theta$ towards zero as it does all parameters, and so $\tau$ towards $\log 2$. Make groups of
# parameters that spare the thresholds, for the optimizer of your choice.

# %% tags=["hide-cell"]
model = networks["converted"][0]
thresholds = [p for name, p in model.named_parameters() if "theta" in name]
others = [p for name, p in model.named_parameters() if "theta" not in name]
optimizer = torch.optim.SGD(
    [
        {"params": others, "weight_decay": 1e-3},
        {"params": thresholds, "weight_decay": 0.0},
    ],
    lr=0.01,
    momentum=0.9,
)
assert len(thresholds) == len(last)
print("thresholds without decay:", len(thresholds))
scratch.cleanup()
