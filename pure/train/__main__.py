"""``python -m pure.train``: the command line of :func:`pure.train.fit`."""

from __future__ import annotations

import argparse
import ast
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pure.recipes import list_recipes
from pure.records import RECORD_NAME
from pure.train import Stopped, estimate, fit, outcome
from pure.train.interruption import EXIT_INTERRUPTED, EXIT_STOPPED

__all__ = ["main", "parse_setting"]


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m pure.train``: see ``--help``.  Returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.out is None and not options.dry_run:
        parser.error("the following arguments are required: --out")
    logging.basicConfig(format="python -m pure.train: %(message)s")
    is_main = os.environ.get("RANK", "0") == "0"
    try:
        epochs = [] if options.epochs is None else [f"epochs={options.epochs}"]
        given: dict[str, Any] = {
            "seed": options.seed,
            "data": options.data,
            "overrides": _parse_settings("--set", [*options.set, *epochs]),
            "data_options": _parse_settings("--data-option", options.data_option),
            "model_options": _parse_settings("--option", options.option),
            "execution": _parse_settings("--execution", options.execution),
            "device": options.device,
        }
        if options.dry_run:
            print(estimate(options.recipe, options.model, **given))
            return 0
        record = fit(
            options.recipe,
            options.model,
            **given,
            out=options.out,
            deterministic=options.deterministic,
            resume=options.resume,
            max_seconds=options.max_seconds,
            overwrite=options.overwrite,
            tensorboard=options.tensorboard,
        )
    except Stopped as stopped:
        if is_main:
            print(stopped, file=sys.stderr)
        return stopped.exit_code
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        print(f"python -m pure.train: {error}", file=sys.stderr)
        return 2
    if is_main:
        title = f"{record.recipe.name} {record.model.name} seed {record.seed}"
        print(f"{title}: {outcome(record)}, {record.times.total_s:.1f} s; record in {options.out / RECORD_NAME}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pure.train",
        description="Train one network and leave a record.",
        epilog="exit codes: 0, a record is there; 2, something given is wrong or could not be written; "
        f"{EXIT_STOPPED}, stopped, and can go on; {EXIT_INTERRUPTED}, the same by Ctrl-C",
    )
    parser.add_argument("--recipe", required=True, help=f"hyper-parameters: {', '.join(list_recipes())}")
    parser.add_argument("--model", required=True, help="network, for example pure20 or resnet20")
    parser.add_argument("--seed", type=int, default=0, help="fixes initialisation, order and augmentation")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the data sets")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for record and weights")
    parser.add_argument("--epochs", type=int, help="train shorter or longer; the milestones move along")
    several: dict[str, Any] = {"action": "append", "default": [], "metavar": "NAME=VALUE"}
    parser.add_argument("--set", **several, help="override a recipe's field")
    parser.add_argument("--data-option", **several, help="an option of the data set, as split_seed=1")
    parser.add_argument("--option", **several, help="an option of the network, as shortcut=A")
    parser.add_argument("--execution", **several, help="how to train, as compile=True or micro_batches=2")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; by default a GPU if there is one")
    parser.add_argument("--deterministic", action="store_true", help="repeat bit for bit, at some cost")
    parser.add_argument("--resume", action="store_true", help="go on with what DIR holds")
    parser.add_argument("--max-seconds", type=float, metavar="T", help="save and stop after so many seconds")
    parser.add_argument("--overwrite", action="store_true", help="replace what DIR holds")
    parser.add_argument("--tensorboard", action="store_true", help="write figures for TensorBoard to DIR/tensorboard")
    parser.add_argument("--dry-run", action="store_true", help="print plan, memory and time, and train nothing")
    return parser


def _parse_settings(flag: str, texts: Sequence[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, value in (parse_setting(flag, text) for text in texts):
        if settings.setdefault(name, value) != value:
            raise ValueError(f"{name} is given twice, as {settings[name]!r} and as {value!r}; give it once")
    return settings


def parse_setting(flag: str, text: str) -> tuple[str, Any]:
    """A name and its value from ``NAME=VALUE``: a Python literal, else the text itself."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{flag} expects NAME=VALUE, got {text!r}; for example --set lr=0.05 or --option shortcut=A")
    if value.lower() in ("true", "false"):
        return name, value.lower() == "true"
    try:
        literal = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value  # a word
    return name, tuple(literal) if isinstance(literal, list) else literal


if __name__ == "__main__":
    sys.exit(main())
