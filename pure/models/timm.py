"""The networks in timm: after ``import pure.models.timm``, ``timm.create_model("pure_networks_pure34")`` makes one.

timm (Wightman, 2019, https://github.com/huggingface/pytorch-image-models) is optional, ``pip install
"pure-networks[timm]"``, and only an explicit import registers.  The names have a prefix of ours, which no network of
timm's will take.  Keywords are timm's (``num_classes``, ``in_chans``, ``drop_rate``, ``global_pool``,
``features_only``, ``out_indices``); any other goes to :func:`pure.create_model`.  There are no pretrained weights.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from pure import models
from pure.models.unet import SEGMENTERS
from pure.nn.blocks import GlobalAvgPool2d, require_pixels

try:
    from timm.models import (
        build_model_with_cfg,
        checkpoint_seq,
        generate_default_cfgs,
        register_model,
    )
    from timm.models._features import feature_take_indices  # named by no public module
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"pure.models.timm needs timm ({error}); install it with `pip install timm`, or use pure.create_model",
        name=error.name,
    ) from error

__all__ = ["PREFIX", "TimmNetwork"]  # the registered entry functions join it

PREFIX = "pure_networks_"
"""What timm's names of these networks begin with."""


class TimmNetwork(nn.Module):
    """A network of this package with timm's interface, and the same parameters under the same names.

    Images ``(N, in_chans, H, W)`` to logits ``(N, num_classes)``.  The modules are the network's own; what precedes
    ``avgpool`` is applied one after another.

    Args:
        name: one of :func:`pure.list_models`.
        num_classes: length of the output; 0 leaves the pooled features.
        in_chans: channels of the input images.
        drop_rate: dropout before the classifier.
        global_pool: ``"avg"``, or ``""`` for none, which goes with ``num_classes=0``.
        **options: as of :func:`pure.create_model`.

    Attributes:
        feature_info: for the stem and each stage its ``num_chs``, its ``reduction`` of the image's size and its
            ``module``, as ``features_only`` reads it.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(
        self,
        name: str,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        global_pool: str = "avg",
        **options: Any,
    ) -> None:
        super().__init__()
        network = models.create_model(name, num_classes=num_classes or 1, in_channels=in_chans, **options)  # 0: no fc
        for child_name, child in network.named_children():
            self.add_module(child_name, child)
        names = list(self._modules)
        self.body = names[: names.index("avgpool")]
        self.halvings = int(getattr(network, "halvings", 0))  # torchvision's networks do not say
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.num_features: int = network.get_parameter("fc.weight").shape[1]
        self.head_hidden_size = self.num_features
        self.drop_rate = drop_rate
        self.global_pool = "avg"
        self.grad_checkpointing = False
        self.feature_info = self._measure_features()
        if num_classes == 0 or global_pool != "avg":
            self.reset_classifier(num_classes, global_pool)

    def _measure_features(self) -> list[dict[str, Any]]:
        """Channels and reductions of stem and stages, read off the shapes that an image of 64 pixels takes on.

        On the device ``meta``, which knows shapes and no numbers: nothing is computed and no statistics change.
        """
        stages = [name for name in self.body if name.startswith("layer")]
        stem = [name for name in self.body[: self.body.index(stages[0])] if name != "maxpool"]
        size = 64
        x = torch.empty(1, self.in_chans, size, size, device="meta")
        features = []
        for name in self.body:
            child = self.get_submodule(name)
            state = {key: value.to("meta") for key, value in child.state_dict().items()}
            with torch.no_grad():
                x = functional_call(child, state, (x,))
            if name in (stem[-1], *stages):
                features.append({"num_chs": x.shape[1], "reduction": size // x.shape[2], "module": name})
        return features

    def forward_features(self, x: Tensor) -> Tensor:
        """Images ``(N, in_chans, H, W)`` to the feature maps that the head pools.

        Raises:
            ValueError: the images are too small for the network's strides.
        """
        require_pixels(x, self.halvings)
        for name in self.body:
            x = self._pass(name, x)
        return x

    def _pass(self, name: str, x: Tensor) -> Tensor:
        """The output of a child; with checkpointing on, its activations are computed again in the backward pass."""
        child = self.get_submodule(name)
        if self.grad_checkpointing and self.training and isinstance(child, nn.Sequential) and len(child):
            return checkpoint_seq(child, x)  # type: ignore[no-any-return]
        return child(x)  # type: ignore[no-any-return]

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The maps of stem and stages, as timm's own networks give them.

        Args:
            x: images ``(N, in_chans, H, W)``.
            indices: which maps, as places in ``feature_info``; a number ``n`` means the last ``n``, None all.
            norm: has no effect: there is no last normalisation to apply.
            stop_early: compute nothing after the last of these maps.
            output_fmt: ``"NCHW"``.
            intermediates_only: give the maps alone.

        Returns:
            The maps ``(N, C, H, W)`` in a list; before it, unless ``intermediates_only``, what the body ends in.

        Raises:
            ValueError: another format, or images too small for the network's strides.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt={output_fmt!r}: the maps of these networks are 'NCHW'")
        require_pixels(x, self.halvings)
        modules = [info["module"] for info in self.feature_info]
        wanted, last = feature_take_indices(len(modules), indices)
        maps = {}
        for name in self.body:
            x = self._pass(name, x)
            if name in modules:
                maps[modules.index(name)] = x
                if stop_early and modules.index(name) == last:
                    break
        taken = [maps[place] for place in sorted(wanted)]
        return taken if intermediates_only else (x, taken)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the stages after the last of these maps, in place, and the classifier.

        Args:
            indices: as of :meth:`forward_intermediates`.
            prune_norm: has no effect, as ``norm`` there.
            prune_head: drop the classifier even if the last stage stays.

        Returns:
            The places of the maps in ``feature_info``.
        """
        wanted, last = feature_take_indices(len(self.feature_info), indices)
        after = self.body[self.body.index(self.feature_info[last]["module"]) + 1 :]
        for name in after:
            setattr(self, name, nn.Sequential())  # empty: gives what it is given
        if after:
            self.num_features = self.head_hidden_size = self.feature_info[last]["num_chs"]
        if after or prune_head:
            self.reset_classifier(0, "")
        return list(wanted)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Feature maps to logits ``(N, num_classes)``, or to what the classifier is given."""
        x = self.get_submodule("avgpool")(x)
        if self.global_pool:
            x = torch.flatten(x, 1)
        x = F.dropout(x, self.drop_rate, self.training)
        return x if pre_logits else self.get_submodule("fc")(x)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(N, in_chans, H, W)`` to logits ``(N, num_classes)``."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """The last layer: linear, or the identity where ``num_classes`` is 0."""
        return self.get_submodule("fc")

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer by a new one; 0 classes leave the features, ``global_pool=None`` the pooling.

        Raises:
            ValueError: an unknown pooling, or no pooling before a classifier.
        """
        pool = self.global_pool if global_pool is None else global_pool
        if pool not in ("avg", "") or (not pool and num_classes) or num_classes < 0:
            raise ValueError(
                f"num_classes={num_classes} with global_pool={pool!r}: expected a number of classes with 'avg', or 0 "
                "with 'avg' or '' (features, pooled or not)"
            )
        self.num_classes, self.global_pool = num_classes, pool
        like = next(self.parameters())
        fc = nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype) if num_classes else None
        self.fc = fc or nn.Identity()
        self.avgpool = GlobalAvgPool2d() if pool else nn.Identity()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the stages again in the backward pass instead of keeping their activations.

        While training, batch normalisation then sees every batch twice, as in timm's own networks.
        """
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Patterns that group the parameters by stem and block (or stage), for timm's layer-wise learning rates."""
        return {"stem": r"^conv1|^bn1", "blocks": r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)"}


_FOR_PHOTOGRAPHS = {f"{family}{depth}" for family in ("pure", "resnet") for depth in (18, 34, 50, 101, 152)}
"""Four stages after ImageNet's stem; the others have three, after CIFAR's."""


def _configuration(name: str) -> dict[str, Any]:
    """What timm wants to know of a network beforehand: input, classes, first and last layer."""
    large = name in _FOR_PHOTOGRAPHS
    return {
        "num_classes": inspect.signature(getattr(models, name)).parameters["num_classes"].default,
        "input_size": (3, 224, 224) if large else (3, 32, 32),
        "pool_size": (7, 7) if large else (8, 8),
        "crop_pct": 0.875 if large else 1.0,
        "first_conv": "conv1",
        "classifier": "fc",
    }


def _entry(name: str) -> Callable[..., nn.Module]:
    """The function that timm calls for a name, shaped and named as its registry expects."""
    stages = 4 if name in _FOR_PHOTOGRAPHS else 3

    def entry(pretrained: bool = False, **options: Any) -> nn.Module:
        feature_cfg = {"out_indices": tuple(range(stages + 1))}  # the default of features_only: stem and stages
        network: nn.Module = build_model_with_cfg(
            partial(TimmNetwork, name), PREFIX + name, pretrained, feature_cfg=feature_cfg, **options
        )
        return network

    entry.__name__ = entry.__qualname__ = PREFIX + name
    entry.__doc__ = inspect.getdoc(getattr(models, name))
    return entry


_CLASSIFIERS = [name for name in models.list_models() if name not in SEGMENTERS]  # timm has no others
default_cfgs = generate_default_cfgs({PREFIX + name: _configuration(name) for name in _CLASSIFIERS})
for _name in _CLASSIFIERS:
    globals()[PREFIX + _name] = register_model(_entry(_name))
