"""What lower precision costs in accuracy and gains in time: the network's, and that of the product units' exponents.

::

    python benchmarks/precision.py --recipe digits --models pure20 resnet20 --seeds 5 --epochs 8 --json FILE

Measured for every pair of ``precision`` and ``unit_precision``: test accuracy, paired by seed; the distance of the
logits from float64, for the same weights and images; the time of a training step, in turns with float32.  Finished
trainings in ``--out`` are not repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timing import machine, paired, ratio, write
from torch import Tensor

from pure.data.loaders import make_loader
from pure.execution import Execution
from pure.recipes import family_of, get_recipe
from pure.records import RunRecord
from pure.report import Sample, difference
from pure.train import fit, load_run, speed

Pair = tuple[str, str]
"""Precision of the network, and of its product units' exponents."""

REFERENCE: Pair = ("float32", "float32")
LOWERED: tuple[Pair, ...] = (("bfloat16", "bfloat16"), ("bfloat16", "float32"), ("float32", "bfloat16"))
CUDA: tuple[Pair, ...] = (("tf32", "tf32"), ("float16", "float16"), ("float16", "float32"))


def pairs(model: str, device: torch.device) -> list[Pair]:
    """What is worth asking: the units' precision of networks that have units; on a CPU neither TF32 nor float16.

    TF32 is float32 on a CPU, and float16 has no fast convolution there: an epoch takes more than ten times as long.
    """
    asked = [REFERENCE, *LOWERED, *(CUDA if device.type == "cuda" else ())]
    if family_of(model) == "pure":
        return asked
    return [pair for pair in asked if pair[1] == "float32" != pair[0] or pair in (REFERENCE, ("tf32", "tf32"))]


def compare(exact: Tensor, logits: Tensor) -> dict[str, float]:
    """How far logits ``(N, classes)`` are from exact ones.

    Returns:
        The largest and the median error of an image, relative to its largest exact logit, over images whose logits are
        finite; the share of images that are classified differently, and of those whose logits are not finite.
    """
    finite = logits.isfinite().all(1)
    error = (logits.double() - exact.double()).abs().amax(1) / exact.double().abs().amax(1)
    kept = error[finite]
    return {
        "largest": float(kept.max()) if len(kept) else float("nan"),
        "median": float(kept.median()) if len(kept) else float("nan"),
        "changed": float((logits.argmax(1) != exact.argmax(1)).double().mean()),
        "nonfinite": float((~finite).double().mean()),
    }


def logit_errors(folder: Path, asked: Sequence[Pair], device: torch.device, data: Path | None) -> dict[str, Any]:
    """:func:`compare` on the whole test set, for the weights of one run in float32."""
    record, network, splits = load_run(folder, data)
    loader = make_loader(splits.test, splits.statistics, 256, device)
    with torch.no_grad():
        exact = torch.cat([network.double().to(device)(images.double()) for images, _ in loader])
        found = {}
        for pair in asked:
            recipe = get_recipe(record.recipe.name, record.model.name, precision=pair[0], unit_precision=pair[1])
            _, network, _ = load_run(folder, data)
            with speed.tf32(recipe, device), speed.autocast(recipe, device):
                network = speed.prepare(network, recipe, Execution(), device)
                found["/".join(pair)] = compare(exact, torch.cat([network(images).float() for images, _ in loader]))
    return found


def step_times(folder: Path, asked: Sequence[Pair], device: torch.device, data: Path | None, rounds: int) -> Any:
    """Forward and backward pass on one training batch, each pair over float32."""

    def step(pair: Pair) -> Any:
        record, network, splits = load_run(folder, data)
        recipe = get_recipe(record.recipe.name, record.model.name, precision=pair[0], unit_precision=pair[1])
        network = speed.prepare(network, recipe, Execution(), device).train()
        images, labels = next(iter(make_loader(splits.train, splits.statistics, recipe.batch_size, device)))

        def call() -> None:
            network.zero_grad()
            with speed.tf32(recipe, device), speed.autocast(recipe, device):
                loss = F.cross_entropy(network(images).float(), labels)
            loss.backward()

        return call

    times = paired({"/".join(pair): step(pair) for pair in asked}, device, rounds)
    return {name: ratio(times, name, "/".join(REFERENCE))._asdict() for name in times}


def accuracies(runs: dict[str, list[RunRecord]]) -> dict[str, Any]:
    """Test accuracy in percent of each pair's runs, and Welch's interval of its difference to float32."""
    tested = {name: {r.seed: 100 * r.test.accuracy for r in records if r.test} for name, records in runs.items()}
    reference = tested["/".join(REFERENCE)]
    found: dict[str, Any] = {}
    for name, values in tested.items():
        found[name] = {
            "seeds": values,
            "diverged": len(runs[name]) - len(values),
            "sample": asdict(Sample.of(values.values())) if values else None,
        }
        if values is not reference and min(len(values), len(reference)) > 1:
            ours, theirs = Sample.of(values.values()), Sample.of(reference.values())
            found[name]["difference"] = asdict(difference(ours, theirs))
            by_seed = [values[seed] - reference[seed] for seed in values if seed in reference]
            if by_seed:
                found[name]["paired"] = asdict(Sample.of(by_seed))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, write JSON."""
    parser = argparse.ArgumentParser(description="Accuracy, error and time of lower precisions.")
    parser.add_argument("--recipe", default="digits")
    parser.add_argument("--models", nargs="+", default=["pure20", "resnet20"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="fewer than the recipe's; its milestones move in proportion")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the data sets")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("_build/precision"), help="for records and weights")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    result: dict[str, Any] = {"machine": machine(device), "recipe": options.recipe, "models": {}}

    def folder(model: str, pair: Pair, seed: int) -> Path:
        return Path(options.out) / options.recipe / "-".join(pair) / model / f"seed{seed}"

    for model in options.models:
        asked = pairs(model, device)
        runs: dict[str, list[RunRecord]] = {"/".join(pair): [] for pair in asked}
        for seed in range(options.seeds):
            for pair in asked:
                overrides = {"precision": pair[0], "unit_precision": pair[1]}
                if options.epochs:
                    overrides["epochs"] = options.epochs
                out = folder(model, pair, seed)
                common = {"seed": seed, "data": options.data, "device": device, "out": out, "if_exists": "resume"}
                runs["/".join(pair)].append(fit(options.recipe, model, overrides=overrides, progress=False, **common))
        trained = folder(model, REFERENCE, 0)
        result["models"][model] = {
            "epochs": runs["/".join(REFERENCE)][0].recipe.epochs,
            "accuracy": accuracies(runs),
            "logits": logit_errors(trained, asked, device, options.data),
            "step": step_times(trained, asked, device, options.data, options.rounds),
        }
        write(options.json, result)


if __name__ == "__main__":
    main()
