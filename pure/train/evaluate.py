"""The scores of a network on test images, shown by a protocol of :mod:`pure.data.protocols`, and their accuracy."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics import SumMetric
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassStatScores
from tqdm import tqdm

from pure.data.images import Images, ImageSet
from pure.data.machine import processors
from pure.data.protocols import PROTOCOLS, Protocol
from pure.data.splits import Splits
from pure.nn.inspection import modes_restored
from pure.records import Evaluation, pack_classes
from pure.signals import ignore_signals

__all__ = ["AT_ONCE", "BATCH", "Views", "evaluate", "measure", "pack", "predict", "read_at_once", "shown_at_once"]


BATCH = 256
"""Images that are evaluated at once, where they are not too large."""


def evaluate(
    network: nn.Module,
    images: Images,
    statistics: tuple[Tensor, Tensor],
    protocol: Protocol | str = "whole",
    device: torch.device | str | None = None,
    *,
    batch_size: int = BATCH,
    dtype: torch.dtype | None = None,
    workers: int | None = None,
    progress: bool | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Tensor:
    """The scores of a network in evaluation mode; the network's own modes are restored.

    With several ranks each takes every ``world_size``-th image from its own on: none twice, none added, whether the
    number divides or not.  No rank waits for another.

    Args:
        network: maps normalised images ``(N, C, H, W)`` to logits ``(N, classes)``, or by protocol ``whole`` to those
            of each pixel, ``(N, classes, H, W)``.  ``multi-scale`` needs one that ends in an average
            pool ``avgpool`` over the whole map and a linear ``fc``, as those of :mod:`pure.models` and torchvision's
            ResNets do.
        images: the set.
        statistics: mean and standard deviation of each channel in grey levels, shape ``(C,)`` each; a constant channel
            is only centred.
        protocol: as above.
        device: where the network is and the scores are computed; by default where its parameters are.
        batch_size: images of the crop's (or the smallest) size that are shown at once; of larger ones fewer, in
            proportion to their area, and never more than ``AT_ONCE`` pixels.
        dtype: floating-point type of autocast, such as ``torch.bfloat16``; None computes in the network's own.
        workers: processes that read and resize; by default none for images in memory, else one for each processor.
        progress: whether to show a bar; by default only on a terminal.
        rank: the number of this process.
        world_size: number of processes.

    Returns:
        Scores of the rows ``rank, rank + world_size, ...`` in this order, shape ``(n, classes)``, float32, on the CPU:
        logits, or where views were averaged, the logarithm of the mean softmax output.  The softmax of either is the
        predicted distribution, so cross-entropy and argmax apply to both.

    Raises:
        ValueError: an unknown protocol, an empty set, a batch size below one, a rank outside the world; multi-scale on
            a network of another form.
    """
    protocol = Protocol.parse(protocol) if isinstance(protocol, str) else protocol
    if len(images) == 0 or batch_size < 1 or not 0 <= rank < world_size:
        raise ValueError(
            "expected images, a batch size of at least 1 and a rank below the number of processes, got "
            f"{len(images)} images, batch_size={batch_size}, rank={rank}, world_size={world_size}"
        )
    network = _without_exchange(network)
    device = next(network.parameters()).device if device is None else torch.device(device)
    rows = torch.arange(rank, len(images), world_size)
    shown = rows if len(rows) else torch.tensor([0])  # a rank without images still has to know the number of classes
    mean, std = (each.to(device, torch.float32).view(-1, 1, 1) for each in statistics)
    std = torch.where(std > 0, std, 1.0)
    batches = DataLoader(
        Views(images, shown, protocol),
        read_at_once(images, protocol, batch_size),
        num_workers=_default_workers(images, len(shown)) if workers is None else workers,
        collate_fn=_as_it_is,
        worker_init_fn=ignore_signals,
        pin_memory=device.type == "cuda",
    )
    autocast = torch.autocast(device.type, dtype) if dtype is not None else nullcontext()
    bar = tqdm(
        total=len(shown),
        desc=f"evaluate {protocol}",
        unit="image",
        leave=False,
        disable=None if progress is None else not progress,
    )
    scores = []
    with bar, torch.inference_mode(), autocast, modes_restored(network):
        network.eval()
        convolutional = protocol.kind == "multi-scale"
        with _fully_convolutional(network, protocol.sizes, mean) if convolutional else nullcontext(network) as form:
            for number, groups in batches:
                scores.append(_scores(form, number, groups, protocol, batch_size, mean, std).cpu())
                bar.update(number)
    return torch.cat(scores)[: len(rows)]


def predict(network: nn.Module, splits: Splits, subset: Images, protocol: str = "whole") -> Tensor:
    """The predictions of a network in evaluation mode, computed on its device.

    Args:
        network: maps normalised images ``(N, C, H, W)`` to logits.
        splits: whose training set gives mean and deviation for the normalisation.
        subset: the images.
        protocol: how they are shown, as :mod:`pure.data.protocols` names it.

    Returns:
        Logarithms of the predicted probabilities, ``(N, classes)``, float32, on the CPU: of the softmax of the logits,
        or where a protocol shows several views of the mean of their softmax outputs.
    """
    return evaluate(network, subset, splits.statistics, protocol, progress=False).log_softmax(1)


Groups = list[tuple[Tensor, Tensor]]
"""Views of one shape, ``(m, C, h, w)``, each group with the numbers of their images in the batch, ``(m,)``."""


def _scores(
    network: nn.Module, number: int, groups: Groups, protocol: Protocol, batch_size: int, mean: Tensor, std: Tensor
) -> Tensor:
    """Scores of a batch of ``number`` images, ``(number, classes, ...)``, from all of their views."""
    total: Tensor | None = None
    for owners, views in groups:
        at_once = shown_at_once(views, protocol, batch_size)
        for some, part in zip(owners.split(at_once), views.split(at_once), strict=True):
            pixels = (part.to(mean.device, non_blocking=True).float() - mean) / std
            rows = some.to(mean.device)
            for shown in (pixels, pixels.flip(-1)) if protocol.mirrored else (pixels,):
                logits: Tensor = network(shown).float()
                if total is None:
                    total = logits.new_full((number, *logits.shape[1:]), -torch.inf)
                # The sum of the softmax outputs, as a logarithm; with a single view the logits themselves.
                total[rows] = torch.logaddexp(total[rows], logits.log_softmax(1) if protocol.mirrored else logits)
    assert total is not None
    views_of_each = sum(len(owners) for owners, _ in groups) // number * (2 if protocol.mirrored else 1)
    return total - math.log(views_of_each)


AT_ONCE = 64 * 224**2
"""Pixels that are read or shown at once, at most: 64 images of ImageNet's usual size, 256 of half its edge.

Without a bound, 240 photographs of 1,200 pixels by protocol ``whole`` took 13 GB and more, where one of them at a time
takes a few hundred MB."""

_LOOKED_AT = 8  # images of a set without a common shape, to know how large they are


def read_at_once(images: Images, protocol: Protocol, batch_size: int) -> int:
    """How many images are read at once: with all their views they take about the memory of two batches, or of one."""
    number = batch_size
    if protocol.kind == "ten-crop":
        number = -(-2 * batch_size // 5)
    if protocol.kind == "multi-scale":
        pixels = sum(size**2 for size in protocol.sizes)
        number = min(batch_size, -(-2 * batch_size * min(protocol.sizes) ** 2 // pixels))
    return max(1, min(number, AT_ONCE // _pixels(images)))


def _pixels(images: Images) -> int:
    """Of an image of the set; where they differ, of the largest of some."""
    if images.shape is not None:
        return images.shape[-2] * images.shape[-1]
    some = torch.linspace(0, len(images) - 1, min(_LOOKED_AT, len(images))).long().tolist()
    return max(images[row][0].shape[-2:].numel() for row in some)


def shown_at_once(views: Tensor, protocol: Protocol, batch_size: int) -> int:
    """How many views are shown at once: of larger ones fewer, in the same memory."""
    pixels = views.shape[-2] * views.shape[-1]
    number = batch_size * min(protocol.sizes) ** 2 // pixels if protocol.sizes else batch_size
    return max(1, min(number, AT_ONCE // pixels))


class Views(Dataset[Any]):
    """Batches of views for a :class:`DataLoader`, made where the images are read, in its workers."""

    def __init__(self, images: Images, rows: Tensor, protocol: Protocol) -> None:
        self.images, self.rows, self.protocol = images, rows, protocol

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, positions: list[int]) -> tuple[int, Groups]:
        """The number of the images, and their views by shape."""
        groups: dict[tuple[int, torch.Size], Groups] = {}
        for owners, images in self._read(self.rows[positions]):
            for number, view in enumerate(self.protocol.views(images)):
                groups.setdefault((number, view.shape[1:]), []).append((owners, view))
        joined = [tuple(map(torch.cat, zip(*group, strict=True))) for group in groups.values()]
        return len(positions), cast(Groups, joined)

    def _read(self, rows: Tensor) -> Groups:
        """The images, those of one shape together: at once where they are in memory or can be read at once."""
        owners = torch.arange(len(rows))
        if hasattr(self.images, "read") and self.images.shape is not None:
            return [(owners, self.images.read(rows))]
        by_shape: dict[torch.Size, list[tuple[int, Tensor]]] = {}
        for owner, row in enumerate(rows.tolist()):
            image, _ = self.images[row]
            by_shape.setdefault(image.shape, []).append((owner, image))
        return [
            (torch.tensor([owner for owner, _ in group]), torch.stack([image for _, image in group]))
            for group in by_shape.values()
        ]


def _as_it_is(batch: Any) -> Any:
    return batch  # a function with a name, since workers that are not forked receive it pickled


def _default_workers(images: Images, number: int) -> int:
    """None where there is nothing to decode, or too little for processes to be worth their start."""
    if isinstance(images, ImageSet) or number < 1024:
        return 0
    return max(1, min(8, processors() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def _without_exchange(network: nn.Module) -> nn.Module:
    """The network without DDP, whose call replaces the buffers by those of rank 0 and waits for all ranks."""
    inner = getattr(network, "_orig_mod", network)  # of torch.compile
    return cast(nn.Module, inner.module) if isinstance(inner, nn.parallel.DistributedDataParallel) else network


@contextmanager
def _fully_convolutional(network: nn.Module, sizes: Sequence[int], mean: Tensor) -> Iterator[nn.Module]:
    """The network on images of any size: its pool and classifier slide over the map, and the logits are averaged.

    The window is the map that an image of the training size gives, 7 x 7 for 224 x 224, on which nothing changes.  The
    classifier is linear: the mean of its logits over the positions of the window is what it gives for the mean of the
    pooled windows, so only the pool has to be another.  It is not the pool over the whole map: what lies near the
    border is in fewer windows, and counts less.
    """
    network = cast(nn.Module, getattr(network, "_orig_mod", network))  # compiled, it would be compiled for each shape
    pool, classifier = getattr(network, "avgpool", None), getattr(network, "fc", None)
    if (
        not isinstance(pool, nn.AdaptiveAvgPool2d)
        or pool.output_size not in (1, (1, 1))
        or not isinstance(classifier, nn.Linear)
    ):
        raise ValueError(
            "multi-scale needs a network that ends in an average pool over the whole map, `avgpool`, and a linear "
            f"layer, `fc`; {type(network).__name__} does not; use another protocol ({', '.join(PROTOCOLS)})"
        )
    window: list[tuple[int, int]] = []

    def slide(_: nn.Module, inputs: tuple[Tensor], __: Tensor) -> Tensor:
        (features,) = inputs  # (N, C, H, W)
        if not window:
            window.append((features.shape[-2], features.shape[-1]))
        return F.avg_pool2d(features, window[0], stride=1).mean((-2, -1), keepdim=True)  # (N, C, 1, 1)

    hook = pool.register_forward_hook(slide)
    try:
        network(torch.zeros(1, len(mean), min(sizes), min(sizes), device=mean.device))  # its map is the window
        yield network
    finally:
        hook.remove()


_IGNORED = -1
"""A label that is never counted."""


_LARGEST_CONFUSION = 100
"""Classes up to which an evaluation holds the confusion matrix and the predictions."""


def pack(classes: Tensor, number: int) -> str | None:
    """Class numbers ``(N,)`` as a record holds them; None where there are too many classes for it."""
    return pack_classes(classes.cpu()) if number <= _LARGEST_CONFUSION else None


def measure(scores: Tensor, labels: Tensor, *, synchronize: bool = False) -> Evaluation:
    """Loss, accuracy and confusion of predictions; the predictions themselves are left out.

    Args:
        scores: shape ``(n, classes)``, as :func:`evaluate` gives them.
        labels: shape ``(n,)``, from 0 to ``classes - 1``.
        synchronize: put the predictions of all ranks of ``torch.distributed`` together, each image with the same
            weight however many a rank has; all of them must call it, and all get the same answer.

    Raises:
        ValueError: shapes that do not fit each other, or no image (on all ranks together).
    """
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(
            f"expected scores (n, classes) and labels (n,), got shapes {tuple(scores.shape)} and {tuple(labels.shape)}"
        )
    classes = scores.shape[1]
    if len(labels) == 0:  # a rank without images still takes part, with a row that nothing counts
        scores, labels = scores.new_zeros(1, classes), labels.new_full((1,), _IGNORED)
    if synchronize and torch.distributed.get_backend() == "nccl":
        scores, labels = scores.cuda(), labels.cuda()  # it exchanges nothing else
    settings: dict[str, Any] = {"sync_on_compute": synchronize}
    confusion = MulticlassConfusionMatrix(classes, ignore_index=_IGNORED, **settings)
    # Accuracy as the numbers that it is the quotient of: exact, where MulticlassAccuracy rounds to float32.
    hits = {
        k: MulticlassStatScores(classes, top_k=k, average="micro", ignore_index=_IGNORED, **settings)
        for k in (1, 5)
        if k == 1 or classes > k
    }
    # Sums, since MeanMetric either drops what is not finite or, told not to, forgets its weights.
    loss = SumMetric(nan_strategy="disable", **settings).to(scores.device)
    loss.set_dtype(torch.float64)  # last, since a move to a device sets it back
    losses = F.cross_entropy(scores.double(), labels, reduction="none", ignore_index=_IGNORED)
    for metric in (confusion, *hits.values()):
        metric.to(scores.device).update(scores, labels)
    loss.update(losses)
    matrix = confusion.compute().cpu()
    if (samples := int(matrix.sum())) == 0:
        raise ValueError("expected predictions of at least one image, got none")
    shares = {k: int(metric.compute()[0]) / samples for k, metric in hits.items()}  # its first value: true positives
    return Evaluation(
        loss=float(loss.compute()) / samples,
        accuracy=shares[1],
        top5=shares.get(5),
        confusion=tuple(map(tuple, matrix.tolist())) if classes <= _LARGEST_CONFUSION else None,
    )
