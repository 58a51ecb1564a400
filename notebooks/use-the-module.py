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
# # Use the module
#
# - **Before this page:** [the networks](07-networks.py).
# - **You need:** the extra `book`; no download, no GPU.
# - **Running time:** some three minutes on two cores, nearly all of it for the table of networks.
#
# PURe is a change to a residual block, so any residual network can have it. {py:func}`pure.convert` puts product units
# in place of chosen convolutions of a network that exists, and keeps the names and the weights of everything else: a
# pretrained ResNet can be turned and fine-tuned. All networks here have random weights, so that nothing is downloaded.

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from IPython.display import Markdown
from torchvision.models import get_model
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

import pure
from pure import report
from pure.nn.units import ProductUnitBase
from pure.report import conversions, diagrams, style

style.use()
torch.manual_seed(0)


def units(network):
    """The product units of a network, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, ProductUnitBase)
    }


# %% [markdown]
# ## Two versions of the module
#
# The paper's first version {cite}`li2025pure` has no ReLU anywhere. The module of the third {cite}`li2026plug` keeps
# the one after the sum and the one in the stem. They are different networks, so they have names: `v1`, the default,
# and `v3`.

# %%
resnet = get_model("resnet18", num_classes=10)
v1 = pure.convert(resnet, "v1")
v3 = pure.convert(resnet, "v3")

# %% [markdown]
# **Check.** The first is `pure18`, parameter by parameter, and what is not a product unit is the ResNet's.

# %% tags=["nbval-check-output"]
ours = pure.create_model("pure18", num_classes=10)
ours.load_state_dict(v1.state_dict(), strict=True)
images = torch.randn(4, 3, 64, 64)
assert torch.equal(ours(images), v1(images))

kept = [
    name
    for name, weight in resnet.named_parameters()
    if torch.equal(weight, v1.get_parameter(name))
]
added = set(v1.state_dict()) - set(resnet.state_dict())
assert {name.replace("theta", "weight") for name in added} == {
    name for name, _ in resnet.named_parameters() if name not in kept
}
print(f"{len(kept)} parameters kept, {len(added)} convolutions replaced")

# %% mystnb={"image": {"alt": "A residual block before and after conversion by v1 and by v3"}, "figure": {"caption": "One block of torchvision's ResNet18, and what the two variants make of it. The second convolution becomes a product unit; v1 drops both ReLUs, v3 the inner one.", "name": "fig-converted-blocks"}}
diagrams.block_figure(
    {
        "ResNet18": resnet.layer1[0],
        "v1": v1.layer1[0],
        "v3": v3.layer1[0],
    }
)
plt.show()

# %% [markdown]
# **How to read it.** The figure is drawn from the live modules. In blocks of three layers, as ResNet50 has them, the
# middle one becomes the product unit: it is the one with a window. The paper does not speak of such blocks
# ([ledger](../book/ledger.md)).
#
# A state dict says which network it is of. The exponents have the name and the shape of the weights that they replace,
# and would load without a word; they do not:

# %% tags=["nbval-check-output"]
try:
    v1.load_state_dict(resnet.state_dict(), strict=False)
except RuntimeError as error:
    print(str(error).splitlines()[1].strip())

# %% [markdown]
# ## What converts
#
# For each network: convert it by `v1`, pass four images of 64 pixels forward and backward, take one step of gradient
# descent, and export the result by `torch.export.export`. *Forward* means finite logits, *backward* a finite
# gradient of every parameter, *step* that the step changed every parameter, *export* that the exported program gives
# the same logits. The tests go through the same list, by `v3` too.

# %% mystnb={"figure": {"caption": "Networks of torchvision and timm after pure.convert, each tried while this page was made.", "name": "tab-conversions", "caption_before": true}}
attempts = [conversions.attempt(name) for name in conversions.CONVERTED]
Markdown(report.markdown(conversions.conversions_table(attempts)))

# %% [markdown]
# **How to read it.** The unit takes over groups, strides and dilation. *More* are the thresholds, one for each unit.
# Gates (squeeze-and-excitation) keep their activations under both variants.
#
# **What it does not show.** That any of these networks learns better or worse than before. One parameter of each
# channel of `v1`'s blocks of three layers cannot: the bias of the second normalisation is taken out again by the third,
# since nothing but a linear layer stands between them. The step changes it by rounding alone.
#
# Where something cannot be converted, the message names the layer and says what to do:

# %% mystnb={"figure": {"caption": "Networks that are refused as a whole, and why.", "name": "tab-refusals", "caption_before": true}}
Markdown(report.markdown(conversions.refusals_table()))

# %% [markdown]
# ## Own choices
#
# `stages` converts some stages and leaves the rest as it is; the authors' PU-UNet has units at low resolution only
# {cite}`li2026unet`. `layers` chooses convolutions by name or pattern, in any network. `relu_in_block`,
# `relu_after_sum` and `relu_in_stem` override the variant, and `unit` with its settings chooses the kind of unit.

# %% tags=["nbval-check-output"]
late = pure.convert(resnet, stages=[3, 4], unit="stabilised", bound=8.0)
first = pure.convert(resnet, layers=["layer4.*.conv1"])
print(*units(late), sep="\n")
print(*units(first), sep="\n")

# %% [markdown]
# Convert first, then compile or wrap the network for several devices: `torch.compile`, DDP and FSDP take it as any
# other. A network that `torch.compile` made is converted and compiled again; one that is wrapped already is
# refused, because the wrapper would not see the new parameters.
#
# ## A detector
#
# A detector needs feature maps at several scales. torchvision takes the four stages of a ResNet, adds a feature pyramid
# and Faster R-CNN's heads. Converting the detector converts the residual blocks inside it; pyramid and heads stay.

# %% tags=["nbval-check-output"]
backbone = resnet_fpn_backbone(
    backbone_name="resnet18", weights=None, trainable_layers=5
)
detector = pure.convert(
    FasterRCNN(backbone, num_classes=3, min_size=64, max_size=64)
)
assert all(name.startswith("backbone.body.") for name in units(detector))
print(f"{len(units(detector))} product units, all in backbone.body")

# %% [markdown]
# One training step, on two images of noise with a box each:

# %%
batch = list(torch.rand(2, 3, 64, 64))
targets = [
    {
        "boxes": torch.tensor([[8.0, 8.0, 40.0, 48.0]]),
        "labels": torch.tensor([label]),
    }
    for label in (1, 2)
]
before = {
    name: unit.weight.detach().clone()
    for name, unit in units(detector).items()
}
losses = detector(batch, targets)
sum(losses.values()).backward()
torch.optim.SGD(detector.parameters(), lr=1e-3).step()
for name, unit in units(detector).items():
    assert not torch.equal(unit.weight, before[name])
print({name: round(loss.item(), 3) for name, loss in losses.items()})

# %% [markdown]
# **What it does not show.** A detector that finds anything: for that, train the backbone on photographs first, convert
# no frozen stage, and follow the optimizer settings of [the recipes](../book/api.md) rather than a ResNet's.
#
# ## Exercises
#
# ### Exercise 1
#
# Keep every ReLU and convert one convolution of ResNet18's last stage. How many of its parameters are new?

# %% tags=["hide-cell"]
one = pure.convert(
    resnet,
    layers=["layer4.1.conv2"],
    relu_in_block=True,
    relu_after_sum=True,
)
new = sum(unit.weight.numel() + 1 for unit in units(one).values())
share = new / sum(weight.numel() for weight in one.parameters())
Markdown(f"{new:,}, {100 * share:.0f} % of all: the last stage is wide.")

# %% [markdown]
# ### Exercise 2
#
# Fine-tuning starts from a network whose units are random. Train the units alone: freeze the rest, take one step, and
# check that nothing else moved.

# %% tags=["hide-cell"]
tuned = pure.convert(resnet.requires_grad_(False))
start = {name: value.clone() for name, value in tuned.named_parameters()}
learning = [value for value in tuned.parameters() if value.requires_grad]
F.cross_entropy(tuned(images), torch.arange(4)).backward()
torch.optim.SGD(learning, lr=0.01).step()
moved = {
    name
    for name, value in tuned.named_parameters()
    if not torch.equal(value, start[name])
}
assert moved == {
    f"{name}.{each}" for name in units(tuned) for each in ("weight", "theta")
}
Markdown(
    "New units train even where the convolutions were frozen; the rest of a "
    "frozen network stays frozen. The statistics of the normalisations move "
    "in training mode all the same."
)
