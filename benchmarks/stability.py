"""The first steps of deep networks: loss, norm of the gradient, divergence, and what is said to help.

::

    python benchmarks/stability.py --depths 20 110 272 486 --arms plain clip --seeds 5 --out results/stability

A network of depth ``2 b + 2`` has ``b`` blocks in three stages, as table 5; PURe486, of which the paper says that it
sometimes diverged, has 242.  Each file of the output is one network with one arm; the seeds that it holds are not
repeated, so that a stopped study goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import torch
from timing import machine, write

import pure
from pure.data import Splits, load
from pure.execution import Execution
from pure.recipes import Recipe, get_recipe
from pure.records import Environment
from pure.train.distributed import Group
from pure.train.engine import Diverged, Engine

ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "clip": {"overrides": {"clip_norm": 1.0}},
    "stabilised": {"model_options": {"unit": "stabilised"}},
    "warm-up": {"warm_up": True},
}
"""What is changed: fields of the recipe, options of the network, or the learning rate of the first half of the steps,
which then rises from zero."""


def blocks(depth: int) -> list[int]:
    """Blocks of each stage for a depth, the later stages first where three do not divide them."""
    number, odd = divmod(depth - 2, 2)
    if odd or number < 3:
        raise ValueError(f"a network of this family has an even depth of 8 or more, got {depth}")
    return [(number + stage) // 3 for stage in range(3)]


def network_options(family: str, depth: int, arm: str) -> dict[str, Any]:
    """Options of ``create_model`` for PURe20 or ResNet20 that make the network."""
    shared = {"blocks": blocks(depth), "shortcut": "B"}
    return shared | (ARMS[arm].get("model_options", {}) if family == "pure" else {})


def first_steps(engine: Engine, steps: int, warm_up: bool) -> dict[str, Any]:
    """Take steps until there are enough or one is not finite.

    Returns:
        ``loss``, the mean over the batch before each step; ``gradient_norm``, before it is cut; ``diverged``, None or
        the reason; ``seconds``.
    """
    losses: list[float] = []
    norms: list[float] = []
    diverged = None
    began = time.perf_counter()
    try:
        while len(losses) < steps:
            for parts in engine.batches_left():
                if warm_up:
                    share = min(1.0, (len(losses) + 1) / (steps / 2))
                    for group in engine.optimizer.param_groups:
                        group["lr"] = engine.recipe.lr * share
                before = engine.sums.clone()
                engine.step(parts)
                loss, _, _, images, norm, _ = (engine.sums - before).tolist()
                losses.append(loss / images)
                norms.append(norm)
                if len(losses) == steps:
                    break
            else:
                engine.end_epoch()
        engine.settle()
    except Diverged as error:
        diverged = error.divergence.reason
    return {
        "loss": [float(f"{value:.5g}") for value in losses],
        "gradient_norm": [float(f"{value:.5g}") for value in norms],
        "diverged": diverged,
        "seconds": round(time.perf_counter() - began, 1),
    }


def run(splits: Splits, recipe: Recipe, result: dict[str, Any], seed: int, device: str) -> dict[str, Any]:
    """One network from one seed."""
    torch.manual_seed(seed)
    channels = splits.train[0][0].shape[0]
    network = pure.create_model(f"{result['family']}20", len(splits.classes), channels, **result["options"])
    group = Group(0, 1, torch.device(device))
    engine = Engine(network.to(group.device), splits, recipe, Execution(compile=False), seed, group, progress=False)
    found = first_steps(engine, result["steps"], bool(ARMS[result["arm"]].get("warm_up")))
    commit = Environment.current(group.device).commit
    return {"seed": seed, **found, "commit": commit, "machine": machine(device)}


def begun(path: Path, setting: dict[str, Any]) -> dict[str, Any]:
    """What a file holds, or an empty result; refused where the file is of another study."""
    if not path.exists():
        return {**setting, "runs": []}
    result: dict[str, Any] = json.loads(path.read_text("utf-8"))
    differing = [key for key, value in setting.items() if result[key] != value]
    if differing:
        raise SystemExit(f"{path} is of another study: {', '.join(differing)} differ; choose another folder with --out")
    return result


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--recipe", default="cifar10-tenth", help="gives data, learning rates and weight decay")
    parser.add_argument("--families", nargs="+", default=["pure"], choices=["pure", "resnet"])
    parser.add_argument("--depths", nargs="+", type=int, default=[20, 32, 44, 56, 110, 272, 486])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=128, help="the recipe's is 128")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--data", help="folder of the data sets; by default PURE_DATA")
    parser.add_argument("--out", type=Path, default=Path("results/stability"), help="folder of the results")
    args = parser.parse_args()
    splits = None
    # Seed by seed, so that a stopped study has the first seeds of every network.
    for seed, family, depth, arm in itertools.product(range(args.seeds), args.families, args.depths, args.arms):
        recipe = get_recipe(args.recipe, f"{family}20", batch_size=args.batch_size, **ARMS[arm].get("overrides", {}))
        splits = splits or load(recipe.dataset, root=args.data, **recipe.data_options)
        path = args.out / f"{family}{depth}-{arm}.json"
        setting = {
            "family": family,
            "depth": depth,
            "arm": arm,
            "recipe": recipe.model_dump(mode="json"),
            "options": network_options(family, depth, arm),
            "steps": args.steps,
            "data": splits.fingerprint,
        }
        result = begun(path, setting)
        if all(each["seed"] != seed for each in result["runs"]):
            result["runs"].append(run(splits, recipe, result, seed, args.device))
            write(path, result)
            last = result["runs"][-1]
            print(f"{path.stem} seed {seed}: {last['diverged'] or last['loss'][-1]}", flush=True)


if __name__ == "__main__":
    main()
