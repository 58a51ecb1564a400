"""``python -m pure.train``: the command line of :func:`pure.train.fit`.

Nothing that takes time is imported before the arguments are read, and signals wait until a training hears them.  Exit
codes: 0, there is a record, of a training that reached its end or diverged; 2, something given is wrong or could not
be written; 75, stopped by a signal or ``--max-seconds``, and can go on; 130, the same by Ctrl-C.  ``torchrun`` itself
then ends with 1.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from pure.signals import SIGNALS
from pure.train.interruption import EXIT_INTERRUPTED, EXIT_STOPPED, Stopped
from pure.wording import did_you_mean

__all__ = ["main", "model_names", "parse_setting"]

_PROGRAM = "python -m pure.train"
_IF_EXISTS = ("fail", "resume", "replace", "restart")
_FORMER = {
    "--resume": "--if-exists resume",
    "--overwrite": "--if-exists restart, or --if-exists replace to go on with an unfinished run",
    "--option": "--model-option",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m pure.train``: see ``--help``.  Returns the exit code."""
    with _streams(), _signals_wait(), _epochs_told():
        parser = _parser()
        options = parser.parse_args(arguments)
        if options.out is None and not options.dry_run:
            parser.error("the following arguments are required: --out")
        is_main = os.environ.get("RANK", "0") == "0"
        try:
            told = _dry_run(options) if options.dry_run else _train(options)
        except Stopped as stopped:
            if is_main:
                _say(str(stopped), sys.stderr)
            return stopped.exit_code
        except KeyboardInterrupt:
            _say(f"{_PROGRAM}: interrupted", sys.stderr)
            return EXIT_INTERRUPTED
        except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
            _say(f"{_PROGRAM}: {error}", sys.stderr)
            return 2
        if is_main:
            _say(told, sys.stdout)
        return 0


def _train(options: argparse.Namespace) -> str:
    given = _given(options)
    from pure.train import fit, outcome

    record = fit(
        **given,
        out=options.out,
        deterministic=options.deterministic,
        if_exists=options.if_exists,
        max_seconds=options.max_seconds,
        tensorboard=options.tensorboard,
    )
    title = f"{record.recipe.name} {record.model.name} seed {record.seed}"
    from pure.records import RECORD_NAME

    return f"{title}: {outcome(record)}, {record.times.total_s:.1f} s; record in {options.out / RECORD_NAME}"


def _dry_run(options: argparse.Namespace) -> str:
    given = _given(options)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # nothing is saved, so that nothing hears them
    from pure.train import estimate

    return estimate(**given)


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """What both functions take.  Names of recipes and fields are checked here, which needs no PyTorch."""
    epochs = [] if options.epochs is None else [f"epochs={options.epochs}"]
    given: dict[str, Any] = {
        "recipe": options.recipe,
        "model": options.model,
        "seed": options.seed,
        "data": options.data,
        "overrides": _parse_settings("--set", [*options.set, *epochs]),
        "data_options": _parse_settings("--data-option", options.data_option),
        "model_options": _parse_settings("--model-option", options.model_option),
        "execution": _parse_settings("--execution", options.execution),
        "device": options.device,
    }
    from pure.execution import get_execution
    from pure.recipes import require_names

    _require_model(options.model)
    require_names(options.recipe, given["overrides"])
    get_execution(given["execution"])
    return given


def model_names() -> set[str]:
    """The networks, as their files register them: to import these takes PyTorch, and seconds."""
    files = (Path(__file__).parents[1] / "models").glob("*.py")
    return {
        name for file in files for name in re.findall(r"^@register_model\ndef (\w+)", file.read_text(), re.MULTILINE)
    }


def _require_model(name: str) -> None:
    """Tell a wrong name at once; where PyTorch is there already, the registry does."""
    if "torch" not in sys.modules and name not in (known := model_names()):
        raise ValueError(
            f"unknown model {name!r}; {did_you_mean(name, known)}pure.list_models() names all {len(known)}"
        )


def _parser() -> argparse.ArgumentParser:
    from pure.recipes import list_recipes

    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Train one network and leave a record.",
        epilog="exit codes: 0, a record is there; 2, something given is wrong or could not be written; "
        f"{EXIT_STOPPED}, stopped, and can go on; {EXIT_INTERRUPTED}, the same by Ctrl-C",
    )
    parser.add_argument("--recipe", required=True, help=f"hyper-parameters: {', '.join(list_recipes())}")
    parser.add_argument("--model", required=True, help="network, for example pure20 or resnet20")
    parser.add_argument("--seed", type=int, default=0, help="fixes initialisation, order and augmentation")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the data sets")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for record and weights")
    parser.add_argument("--epochs", type=int, help="train shorter or longer; the milestones move in proportion")
    several: dict[str, Any] = {"action": "append", "default": [], "metavar": "NAME=VALUE"}
    parser.add_argument("--set", **several, help="override a recipe's field")
    parser.add_argument("--data-option", **several, help="an option of the data set, as split_seed=1")
    parser.add_argument("--model-option", **several, help="an option of the network, as shortcut=A")
    parser.add_argument("--execution", **several, help="how to train, as compile=True or micro_batches=2")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; by default a GPU if there is one")
    parser.add_argument("--deterministic", action="store_true", help="repeat bit for bit, at some cost")
    parser.add_argument(
        "--if-exists",
        choices=_IF_EXISTS,
        default="fail",
        help="where DIR holds a run: fail (default); resume: go on with an unfinished one, show a finished one again; "
        "replace: go on with an unfinished one, train again in place of a finished one; restart: start from the "
        "beginning",
    )
    parser.add_argument("--max-seconds", type=float, metavar="T", help="save and stop after this many seconds")
    parser.add_argument("--tensorboard", action="store_true", help="write figures for TensorBoard to DIR/tensorboard")
    parser.add_argument("--dry-run", action="store_true", help="print plan, memory and time, and train nothing")
    for flag in _FORMER:
        parser.add_argument(flag, action=_Former, nargs="?", help=argparse.SUPPRESS)
    return parser


class _Former(argparse.Action):
    """An option of an earlier version: says what stands for it now."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        flag = self.option_strings[0]
        parser.error(f"{flag} no longer exists; give {_FORMER[flag]}")


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
        example = {"--set": "lr=0.05", "--data-option": "split_seed=1", "--execution": "compile=True"}
        raise ValueError(
            f"{flag} expects NAME=VALUE, got {text!r}; for example {flag} {example.get(flag, 'shortcut=A')}"
        )
    if value.lower() in ("true", "false"):
        return name, value.lower() == "true"
    try:
        literal = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value  # a word
    return name, tuple(literal) if isinstance(literal, list) else literal


def _say(text: str, stream: TextIO) -> None:
    """Print a line.  A full or broken stream is not a failure of the training, whose record is there."""
    try:
        print(text, file=stream, flush=True)
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):  # else Python would try again, and fail, at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def _streams() -> Iterator[None]:
    """Streams that were closed before the start are replaced: what is printed to them is nothing to fail for."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - as long as the process
    yield


@contextlib.contextmanager
def _epochs_told() -> Iterator[None]:
    """The training's log goes to the standard error, with a line for each epoch if no bar is shown."""
    logging.basicConfig(format=f"{_PROGRAM}: %(message)s")
    log = logging.getLogger("pure.train")
    before = log.level
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(before)


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Signals that would end the process wait until the training listens, see :func:`~.interruption.stop_requests`."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


if __name__ == "__main__":
    sys.exit(main())
