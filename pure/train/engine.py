"""The steps of a training: from initial weights through the epochs, knowing nothing of files or the test set.

An :class:`Engine` stands at a batch of an epoch.  :meth:`Engine.state` is all that it goes on from, and
:meth:`Engine.restore` goes back to it.  Order and augmentation depend on the seed, the epoch and the batch alone
(:mod:`pure.data.loaders`), the learning rate on the epochs before (:mod:`pure.train.schedule`), so neither is a part
of it.  The loop over the steps is :meth:`pure.train.run.Run.train`.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pure.data import Splits
from pure.data.images import Images
from pure.data.loaders import make_loader
from pure.execution import Execution
from pure.nn.batchnorm import reestimate
from pure.nn.units import ProductUnitBase
from pure.recipes import Recipe
from pure.records import Divergence, Epoch, Evaluation, Score
from pure.train import speed
from pure.train.distributed import Group, part_momentum
from pure.train.evaluate import evaluate
from pure.train.monitor import NonFinite, first_nonfinite, gradient_norm, is_absurd, observe_units
from pure.train.schedule import learning_rate, requires_validation, selected_epoch
from pure.train.tasks import task_of

__all__ = ["Diverged", "Engine", "parameter_groups", "require_validation"]

OBSERVED_IMAGES = 64
"""The most training images on which the product units are observed after each epoch."""

REESTIMATION_BATCHES = 100
"""Training batches over which statistics of batch normalisation are estimated again, at most: their average then varies
by a tenth of what those of single batches do."""

Parts = list[tuple[Tensor, Tensor]]
"""A rank's share of a batch, in micro-batches: images, normalised and augmented, and labels."""


class Diverged(Exception):
    """The training is no longer finite.

    Attributes:
        divergence: where and why.
    """

    def __init__(self, divergence: Divergence) -> None:
        super().__init__(divergence.reason)
        self.divergence = divergence


class Engine:
    """One training: SGD with momentum on the loss of the recipe's task (section 4: the cross-entropy).

    Args:
        network: on the group's device; trained in place.
        splits: the data set, of which only the training and the validation set are used.
        recipe: what to do.
        execution: how to do it; ``auto`` is decided here.
        seed: fixes order and augmentation.
        group: the processes that train together; each gives the same arguments.
        progress: whether evaluations show a bar; by default only on a terminal.

    Attributes:
        execution: as decided.
        epochs: what was measured in the epochs that are done.
        batch: number of batches of the running epoch that are done.
        batches: number of batches in an epoch.

    Raises:
        ValueError: schedule or selection need a validation set and there is none, the data are not the task's, the
            batch cannot be cut into equal parts, or a setting is for another device.
    """

    def __init__(
        self,
        network: nn.Module,
        splits: Splits,
        recipe: Recipe,
        execution: Execution,
        seed: int,
        group: Group,
        progress: bool | None = None,
    ) -> None:
        require_validation(splits, recipe)
        self.task = task_of(recipe, splits)
        group.part_size(recipe.batch_size, execution.micro_batches)
        self.recipe, self.execution, self.splits, self.group = recipe, execution, splits, group
        self._sample: Tensor | None = None
        self.progress = progress if group.is_main else False
        self.loader = make_loader(
            splits.train,
            splits.statistics,
            recipe.batch_size,
            group.device,
            augmentation=recipe.augmentation,
            shuffle=True,
            seed=seed,
            kind=execution.loader,
            rank=group.rank,
            world_size=group.world_size,
            micro_batches=execution.micro_batches,
        )
        self.batches = self.loader.batches
        self._require_deviations(network)
        has_units = any(isinstance(module, ProductUnitBase) for module in network.modules())
        decided = execution.resolved(group.device.type, len(splits.train) * recipe.epochs, has_units)
        self.execution = decided.model_copy(update={"loader": self.loader.kind})
        self.network = speed.prepare(network, recipe, self.execution, group.device)
        self.model = group.wrap(self.network, execution.sync_batchnorm)
        # Fused, a step of PURe20 takes a third of the time on a CPU, and leaves out an update by a flag: see _step.
        groups = parameter_groups(network, recipe)
        self.optimizer = torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, fused=True)
        if recipe.momentum:
            # A fused step that is left out, as a scaler does with the first ones, takes memory for the momentum and
            # writes nothing to it; from zero the first step is what it is without.
            for parameter in network.parameters():
                self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        self.scaler = speed.grad_scaler(recipe, group.device)
        # None if unused: a bound method would keep the engine, and the loader's workers, until garbage is collected.
        self.graphed = speed.graphed(self._part, self.model, group.device) if execution.cuda_graphs else None
        self.momenta = [(m, m.momentum) for m in network.modules() if isinstance(m, _BatchNorm) and m.momentum]
        self.epochs: list[Epoch] = []
        self.batch = 0
        self.train_s = 0.0  # of the running epoch
        self.sums = self._zeros()
        self.best: dict[str, Tensor] | None = None  # weights of the selected epoch, if that is not the last
        self._flags = _Flags(group)
        self._clock = time.perf_counter()

    def _require_deviations(self, network: nn.Module) -> None:
        """Refuse an epoch that ends in a part of one image where batch normalisation has but one value of a channel."""
        parts, images = self.group.world_size * self.execution.micro_batches, len(self.splits.train)
        batch = self.recipe.batch_size

        def smallest(size: int) -> int:
            return min(size, images % size or size) // parts

        if smallest(batch) != 1 or self.execution.sync_batchnorm:
            return
        devices = [self.group.device] if self._on_cuda else []
        try:
            with torch.random.fork_rng(devices), torch.no_grad():
                copy.deepcopy(network).train()(self._observed()[:1])
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            better = next(size for size in range(batch + parts, 2 * images + 3 * parts, parts) if smallest(size) > 1)
            raise ValueError(
                f"{images} training images in batches of {batch} leave a part of one image, of which batch "
                f"normalisation cannot take a deviation; choose another batch_size, such as {better}"
            ) from None

    # Where it stands

    def state(self) -> dict[str, Any]:
        """All that the training goes on from: tensors, numbers and strings.  Every rank must call it."""
        self.group.average_statistics(self.network)
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epochs": [epoch.model_dump_json() for epoch in self.epochs],
            "batch": self.batch,
            "sums": self.group.sum(self.sums).cpu(),
            "train_s": self.train_s,
            "best": self.best,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.group.device) if self._on_cuda else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.epochs = [Epoch.model_validate_json(epoch) for epoch in state["epochs"]]
        self.batch, self.train_s, self.best = state["batch"], state["train_s"], state["best"]
        # The sums were added up over the ranks, and will be again.
        self.sums = state["sums"].to(self.group.device) if self.group.is_main else self._zeros()
        torch.set_rng_state(state["random"])
        if self._on_cuda and state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"], self.group.device)

    @property
    def done(self) -> int:
        """Batches since the start of the training."""
        return len(self.epochs) * self.batches + self.batch

    @property
    def trained_s(self) -> float:
        """Seconds of training since its start."""
        return sum(epoch.train_s for epoch in self.epochs) + self.train_s

    @property
    def position(self) -> str:
        """Where it stands, in words."""
        if self.batch:
            return f"in epoch {len(self.epochs) + 1} of {self.recipe.epochs}, after batch {self.batch}/{self.batches}"
        return f"after epoch {len(self.epochs)} of {self.recipe.epochs}"

    @property
    def _on_cuda(self) -> bool:
        return self.group.device.type == "cuda"

    def _zeros(self) -> Tensor:
        """Sums over the images of an epoch: loss, right, right among five, one; and over its steps: norm, one."""
        return torch.zeros(6, dtype=torch.float64, device=self.group.device)

    # The training

    def batches_left(self) -> Iterator[Parts]:
        """The batches of the running epoch that are not done, each for one :meth:`step`."""
        self.network.train()
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = learning_rate(self.recipe, self.epochs)
        self.loader.set_epoch(len(self.epochs) + 1, self.batch)
        self._clock = time.perf_counter()
        loaded = iter(self.loader)
        for _ in range(self.batch, self.batches):
            yield list(itertools.islice(loaded, self.execution.micro_batches))

    def step(self, parts: Parts, stop: bool = False) -> bool:
        """One step on a batch that comes in parts.

        Args:
            parts: as :meth:`batches_left` gives them.
            stop: whether this rank was asked to stop.

        Returns:
            Whether any rank was: all then stop after the same step.  On CUDA a step later.

        Raises:
            Diverged: loss or gradient is not finite; the weights are those before the step.
        """
        self.optimizer.zero_grad()
        finite = self._backward(parts)
        self.scaler.unscale_(self.optimizer)
        norm = gradient_norm(self.network)
        if not self.scaler.is_enabled():  # a scaler expects gradients that overflow, and leaves such steps out
            finite &= norm.isfinite()
        known = self._flags.exchange(_Step(self.batch + 1, parts), ~finite, stop)
        self._require_finite(known)
        if not self.scaler.is_enabled():
            # On CUDA this step's flag is read after the next one, but its update must not happen.
            self.optimizer.found_inf = self._flags.failed  # type: ignore[attr-defined]
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self.network.parameters(), self.recipe.clip_norm, norm)
        self.scaler.step(self.optimizer)  # optimizer.step(), but for gradients that overflow in half precision
        self.scaler.update()
        if self.group.is_main:  # it is the same on all ranks
            measured = norm.isfinite()  # but for steps that a scaler leaves out
            self.sums[-2:] += torch.stack([norm.where(measured, 0.0), measured])
        self.batch += 1
        self._take_time()
        return known is not None and known.stop

    def settle(self) -> None:
        """Wait for the last step; to be called after the last one of :meth:`batches_left` that was taken.

        Raises:
            Diverged: it was not finite, which on CUDA is not known before.
        """
        self._require_finite(self._flags.last())
        self.sums.tolist()  # waits for the device
        self._take_time()

    def select(self) -> int:
        """Give the network the weights that the recipe selects.  Returns the number of their epoch, from 1."""
        if self.best is not None:
            self.network.load_state_dict(self.best)
        return selected_epoch(self.recipe, self.epochs)

    def _take_time(self) -> None:
        now = time.perf_counter()
        self.train_s, self._clock = self.train_s + now - self._clock, now

    def _backward(self, parts: Parts) -> Tensor:
        """Gradient of the mean loss of the batch, added up over its parts.  Returns whether all losses are finite."""
        finite = torch.ones((), dtype=torch.bool, device=self.group.device)
        images_in_batch = self.loader.batch_length(self.batch)
        for number, (images, labels) in enumerate(parts):
            for layer, momentum in self.momenta:
                layer.momentum = part_momentum(momentum, number, len(parts))
            with self._synchronized(number == len(parts) - 1):
                if self.graphed is not None:  # of whole batches on one device
                    loss, sums = self.graphed(images, labels)
                else:  # parts count by their sizes; DDP takes the mean over the ranks
                    share = len(labels) * self.group.world_size / images_in_batch
                    loss, sums = self._part(images, labels, share)
            finite &= loss.isfinite()
            self.sums[:4] += sums
        return finite

    def _part(self, images: Tensor, labels: Tensor, share: float = 1.0) -> tuple[Tensor, Tensor]:
        """Forward and backward pass of a part, a share of a batch.  Returns its mean loss, and :func:`_sums`."""
        logits = self._logits(self.model, images)
        loss = self.task.loss(logits, labels)
        self.scaler.scale(loss * share).backward()
        return loss.detach(), self.task.sums(logits.detach(), labels, loss.detach())

    def _logits(self, model: nn.Module, images: Tensor) -> Tensor:
        """The forward pass in the recipe's precision; logits in single precision."""
        with speed.autocast(self.recipe, self.group.device):
            return model(images.to(memory_format=speed.memory_format(self.execution))).float()  # type: ignore[no-any-return]

    def _synchronized(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Gradients go over the ranks once a batch, after its last part."""
        if last or self.group.world_size == 1:
            return contextlib.nullcontext()
        return self.model.no_sync()  # type: ignore[no-any-return, operator]

    # After an epoch

    def end_epoch(self) -> Epoch:
        """Validate after the last step, and note what was measured.

        It may be broken off by an exception, and called again.

        Raises:
            Diverged: weights are not finite.
        """
        clock = time.perf_counter()
        self._require_finite_weights()
        self.group.average_statistics(self.network)
        loss, right, among_five, images, norm, steps = self.group.sum(self.sums).tolist()
        top5 = among_five / images if self.task.has_top5 and len(self.splits.classes) > 5 else None
        validation, reestimated = self._validate()
        epoch = Epoch(
            lr=self.optimizer.param_groups[0]["lr"],
            train=Score(loss=loss / images, accuracy=right / images, top5=top5),
            validation=validation,
            reestimated=reestimated,
            gradient_norm=norm / steps if steps else None,
            units=observe_units(self.network, self._observed()) if self.group.is_main else {},
            train_s=self.train_s,
            validation_s=time.perf_counter() - clock,
        )
        self.epochs.append(self.group.share(epoch))  # so that all ranks decide alike
        self.batch, self.train_s, self.sums = 0, 0.0, self._zeros()
        if self.recipe.selection != "last" and selected_epoch(self.recipe, self.epochs) == len(self.epochs):
            self.best = {name: tensor.to("cpu", copy=True) for name, tensor in self.network.state_dict().items()}
        return self.epochs[-1]

    def _validate(self) -> tuple[Score | None, Score | None]:
        """Loss and accuracy on the validation set; where the loss is absurd also with statistics estimated again."""
        if self.splits.validation is None:
            return None, None
        protocol = self.recipe.protocols[0]
        found = self.measure(self.network, self.splits.validation, protocol)
        twin = self.reestimated() if is_absurd(found.loss, len(self.splits.classes)) else None
        again = self.measure(twin, self.splits.validation, protocol).score if twin is not None else None
        return found.score, again

    def measure(self, network: nn.Module, images: Images, protocol: str) -> Evaluation:
        """Loss and accuracy of a network over all ranks and images, in the recipe's precision."""
        rank, ranks = self.group.rank, self.group.world_size
        with speed.tf32(self.recipe, self.group.device), speed.autocast(self.recipe, self.group.device):
            scores = evaluate(
                network,
                images,
                self.splits.statistics,
                protocol,
                self.group.device,
                progress=self.progress,
                rank=rank,
                world_size=ranks,
            )
        found = self.task.measure(scores, images.labels[rank::ranks], self.group)
        return found.model_copy(update={"protocol": protocol})

    def reestimated(self) -> nn.Module | None:
        """A copy of the network with statistics of batch normalisation estimated again; None if it has none."""
        if not self.momenta:
            return None
        twin = copy.deepcopy(self.network)
        with speed.autocast(self.recipe, self.group.device):
            reestimate(twin, self.some_batches(REESTIMATION_BATCHES))
        self.group.average_statistics(twin)
        return twin

    def some_batches(self, number: int) -> Iterable[tuple[Tensor, Tensor]]:
        """The first batches of epoch 0, which is never trained on."""
        self.loader.set_epoch(0)
        return itertools.islice(self.loader, number * self.execution.micro_batches)

    def _observed(self) -> Tensor:
        """The same training images after each epoch."""
        if self._sample is None:
            self._sample = next(iter(self.some_batches(1)))[0][:OBSERVED_IMAGES].clone()
        return self._sample

    # Divergence

    def _require_finite(self, known: _Known | None) -> None:
        if known is not None and known.failed:
            raise Diverged(self._divergence(known.step.number, self._first_nonfinite(known.step.parts)))

    def _require_finite_weights(self) -> None:
        """The last update can give weights that are not finite, with no later step to notice."""
        for name, parameter in self.network.named_parameters():
            if not parameter.isfinite().all():
                layer, _, weight = name.rpartition(".")
                found = NonFinite("weights", layer or None, f"{weight} is not finite after the step")
                raise Diverged(self._divergence(self.batches, found))

    def _divergence(self, step: int, found: NonFinite) -> Divergence:
        return Divergence(epoch=len(self.epochs) + 1, step=step, **found._asdict())

    def _first_nonfinite(self, parts: Parts) -> NonFinite:
        """Repeat a step, part by part and rank by rank, until one is not finite."""
        if self.execution.sync_batchnorm and self.group.world_size > 1:  # ranks that stop midway would wait for others
            return NonFinite("loss", None, "the step is not repeated with batch normalisation over all ranks")
        found = [first_nonfinite(self.network, images, labels, self.loss) for images, labels in parts]
        if self.group.world_size > 1:
            by_rank: list[list[NonFinite]] = [[]] * self.group.world_size
            distributed.all_gather_object(by_rank, found)
            found = list(itertools.chain.from_iterable(by_rank))
        return next((each for each in found if each.layer is not None), found[0])

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of a part of a batch, as it is trained on."""
        return self.task.loss(self._logits(network, images), labels)


@dataclass(frozen=True)
class _Step:
    """A step of the running epoch, from 1, and what it was taken on."""

    number: int
    parts: Parts


@dataclass(frozen=True)
class _Known:
    """What is known of a step, over all ranks."""

    step: _Step
    failed: bool
    stop: bool


class _Flags:
    """Two flags of each step, over all ranks: it was not finite, and the training is to stop.

    On a CPU they are read at once.  On CUDA that would have the processor wait for the device in each step; there they
    are read after the next step, which by then is queued: the device never runs dry.

    Attributes:
        failed: the first flag of the latest step, on the device, as the fused optimizer reads it: float32, 0 or 1.
    """

    def __init__(self, group: Group) -> None:
        self._group = group
        self._pending: tuple[_Step, Tensor, torch.cuda.Event] | None = None
        self.failed: Tensor | None = None

    def exchange(self, step: _Step, failed: Tensor, stop: bool) -> _Known | None:
        """Tell a step's flags.  Returns those of this step, or on CUDA of the one before, if there was one."""
        flags = torch.stack([failed.float(), failed.new_full((), stop).float()])
        if self._group.world_size > 1:
            flags = self._group.sum(flags)
        self.failed = (flags[0] > 0).float()
        if self._group.device.type != "cuda":
            return self._read(step, flags)
        known = self.last()
        host = torch.empty(2, dtype=flags.dtype, pin_memory=True)
        host.copy_(flags, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._pending = step, host, event
        return known

    def last(self) -> _Known | None:
        """The flags that were not read yet, if there are any."""
        if self._pending is None:
            return None
        step, host, event = self._pending
        self._pending = None
        event.synchronize()
        return self._read(step, host)

    @staticmethod
    def _read(step: _Step, flags: Tensor) -> _Known:
        failed, stop = flags.tolist()
        return _Known(step, failed > 0, stop > 0)


def require_validation(splits: Splits, recipe: Recipe) -> None:
    """Refuse a recipe that looks at a validation set where there is none.

    Raises:
        ValueError: naming the settings.
    """
    needing = requires_validation(recipe)
    if splits.validation is None and needing:
        raise ValueError(
            f"recipe {recipe.name!r} needs a validation set for {' and '.join(needing)}, and {splits.name!r} as it was "
            "loaded has none; hold images out by an option of the data set, or change these fields"
        )


def parameter_groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """The parameters with their weight decay; ``theta`` apart where the recipe exempts it."""
    if recipe.decay_theta:
        return [{"params": list(network.parameters()), "weight_decay": recipe.weight_decay}]
    is_theta = {name: name.rpartition(".")[2] == "theta" for name, _ in network.named_parameters()}
    return [
        {"params": [p for name, p in network.named_parameters() if is_theta[name] == apart], "weight_decay": decay}
        for apart, decay in ((False, recipe.weight_decay), (True, 0.0))
    ]
