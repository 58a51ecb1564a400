"""``python -m pure.data``: what data sets there are on this machine, and how to get, check and describe them.

Exit codes: 0 all is well; 1 the files are damaged or not what they should be; 2 the command is wrong, or the data set
must be fetched by hand; 3 the data set is not there; 4 this machine cannot do it: no space, no permission, no network,
a package that is missing; 130 interrupted.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from pure.data import check_options, division_file, list_datasets, load
from pure.data.catalogue import CATALOGUE, Description, describe, imported
from pure.data.images import Images, ImageSet, name_of
from pure.data.splits import Splits
from pure.data.storage.folders import UnreadableImageError
from pure.data.storage.root import ROOT_VARIABLE, data_root

__all__ = ["main"]

_GOOD, _DAMAGED, _WRONG, _MISSING, _MACHINE, _INTERRUPTED = 0, 1, 2, 3, 4, 130
_NAMED = 5  # this many unreadable images are named, the others counted


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see ``--help``.  Returns the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.json and (given.download or given.verify):
        parser.error("--json goes with the list, the state and --stats")
    if given.option:
        parser.error(f"--option is called --data-option, as in pure.train: --data-option {given.option[0]}")
    if given.data_option and not (given.name and (given.verify or given.stats)):
        parser.error("--data-option goes with the --stats or --verify of a data set")
    root = data_root(given.root)
    try:
        if given.name is None or given.list:
            _print(_list(root), given.json)
            return _GOOD
        description = describe(given.name)
        options = _options(description.name, given.data_option)
    except ValueError as error:
        return _fail(_WRONG, error)
    except ImportError as error:
        return _fail(_MACHINE, _package(error))
    try:
        if given.download:
            return _download(description, root)
        if given.verify:
            return _verify(description, root, options)
        if given.stats:
            splits = load(description.name, root, **options)
            written = division_file(splits, description.name, root, options)
            _print({**_stats(splits), "division in": str(written) if written.is_file() else None}, given.json)
            return _GOOD
        return _state(description, root, given.json)
    except FileNotFoundError as error:
        return _fail(_MISSING, error)
    except (ValueError, UnreadableImageError) as error:
        return _fail(_DAMAGED, error)
    except ImportError as error:
        return _fail(_MACHINE, _package(error))
    except (OSError, MemoryError) as error:
        return _fail(_MACHINE, error)
    except KeyboardInterrupt:
        return _fail(_INTERRUPTED, "interrupted; the same command goes on or starts again, nothing half done counts")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pure.data",
        description="List the data sets, or say of one what is there and what is missing; get, check or describe it.",
        epilog="exit codes: 0 good, 1 damaged files, 2 wrong command or to be got by hand, 3 not there, 4 no space, "
        "permission, network or package",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"data set: {', '.join(list_datasets())}")
    parser.add_argument(
        "--data",
        "--root",
        dest="root",
        type=Path,
        metavar="DIR",
        help=f"folder of the data sets (default: ${ROOT_VARIABLE}, else ./data)",
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--list", action="store_true", help="list all data sets, as without NAME")
    action.add_argument("--download", action="store_true", help="download it; complete files are kept")
    action.add_argument("--verify", action="store_true", help="read every image, check numbers and checksums")
    action.add_argument(
        "--stats",
        action="store_true",
        help="sizes, classes, mean, deviation, fingerprint; writes the division into DIR/splits, and says so",
    )
    several: dict[str, Any] = {"action": "append", "default": [], "metavar": "NAME=VALUE"}
    parser.add_argument("--data-option", **several, help="an option of the data set: holdout=5000")
    parser.add_argument("--option", **several | {"help": argparse.SUPPRESS})  # what it was called before
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    return parser


def _options(name: str, settings: Sequence[str]) -> dict[str, Any]:
    """The options of a data set from the command line.  Raises ValueError for one unknown or of a wrong type."""
    options = {}
    for text in settings:
        option, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--data-option expects NAME=VALUE, got {text!r}; for example --data-option holdout=5000")
        try:
            options[option] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[option] = value  # a word
    return check_options(name, options) if options else {}


def _list(root: Path) -> list[dict[str, Any]]:
    """A row for each data set."""
    return [
        {
            "name": each.name,
            "title": each.title,
            "images": each.images,
            "classes": each.classes,
            "size": each.size,
            "there": _is_there(each, root),
            "licence": each.licence,
        }
        for each in CATALOGUE.values()
    ]


def _is_there(description: Description, root: Path) -> bool:
    return not description.places or bool(description.find(root))


def _state(description: Description, root: Path, as_json: bool) -> int:
    """Say what the data set is and what of it is there, without reading it."""
    found = description.find(root)
    there = _is_there(description, root)
    facts: dict[str, Any] = {
        "name": description.name,
        "title": description.title,
        "content": description.content,
        "images": description.images,
        "classes": description.classes,
        "size": description.size,
        "licence": description.licence,
        "homepage": description.homepage,
        "root": str(root),
        "there": there,
        "found": [str(path) for path in found],
    }
    if not there:
        facts["looked for"] = list(description.places)
        command = f"python -m pure.data {description.name} --data {root} --download"
        facts["get it"] = description.by_hand or command
    elif description.places:
        facts["check it"] = f"python -m pure.data {description.name} --data {root} --verify"
    _print(facts, as_json)
    return _GOOD if there else _MISSING


def _download(description: Description, root: Path) -> int:
    """Get a data set, or say how."""
    if description.download is not None:
        where = imported(description.download)(root)
        print(f"{description.title} is in {where}; check it with --verify")
        return _GOOD
    if description.by_hand:
        return _fail(_WRONG, f"{description.title} cannot be downloaded by a program: {description.by_hand}")
    print(f"{description.title} needs no download: {description.content}")
    return _GOOD


def _verify(description: Description, root: Path, options: dict[str, Any]) -> int:
    """Read every image."""
    if description.verify is not None:
        verify = imported(description.verify)
        parameters = inspect.signature(verify).parameters
        open_ended = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
        if (strange := sorted(set(options) - set(parameters))) and not open_ended:
            return _fail(_WRONG, f"--verify of {description.name} reads all files: it takes no option {strange[0]!r}")
        print(verify(root, **options))
        return _GOOD
    splits = load(description.name, root, **options)
    unreadable = {name: reason for part in splits.parts.items() for name, reason in _unreadable(*part).items()}
    images = sum(len(part) for part in splits.parts.values())
    if unreadable:
        named = [f"{name}: {reason}" for name, reason in list(unreadable.items())[:_NAMED]]
        more = [f"and {len(unreadable) - _NAMED:,} more"] if len(unreadable) > _NAMED else []
        return _fail(_DAMAGED, f"{len(unreadable):,} of {images:,} images cannot be read:", *named, *more)
    sizes = ", ".join(f"{len(part):,} {name}" for name, part in splits.parts.items())
    print(f"{splits.name}: all {images:,} images can be read ({sizes}); fingerprint {splits.fingerprint}")
    return _GOOD


def _unreadable(name: str, images: Images) -> dict[str, str]:
    """The images that cannot be read, with the reason; each is read."""
    if isinstance(images, ImageSet):
        return {}  # in memory: it was read, and checked on the way
    if (verify := getattr(images, "verify", None)) is not None:
        faults: dict[str, str] = verify()
        return faults
    faults = {}
    for row in tqdm(range(len(images)), desc=f"verify {name}", unit="image", disable=None):
        try:
            images[row]
        except (OSError, ValueError) as error:
            faults[f"{name} {name_of(images, row)}"] = str(error).partition("\n")[0]
    return faults


def _stats(splits: Splits) -> dict[str, Any]:
    """Sizes, balance, mean and deviation, in grey levels, and what proves the content; of masks the pixels count."""
    mean, std = splits.statistics
    balance = {
        name: torch.bincount(part.labels.flatten(), minlength=len(splits.classes)).tolist()
        for name, part in splits.parts.items()
    }
    return {
        "name": splits.name,
        "synthetic": splits.synthetic,
        "shape": splits.train.shape,
        "white": splits.white,
        "mean": [round(value, 4) for value in mean.tolist()],
        "std": [round(value, 4) for value in std.tolist()],
        "fingerprint": splits.fingerprint,
        "images": {name: len(part) for name, part in splits.parts.items()},
        "balance": [
            {"class": name, **{part: counts[label] for part, counts in balance.items()}}
            for label, name in enumerate(splits.classes)
        ],
    }


def _print(facts: dict[str, Any] | list[dict[str, Any]], as_json: bool) -> None:
    """Facts as lines, rows as a table; or both as JSON."""
    if as_json:
        print(json.dumps(facts, indent=2))
    elif isinstance(facts, list):
        print(_table(facts))
    else:
        tables = {key: value for key, value in facts.items() if isinstance(value, list) and value and _is_rows(value)}
        width = max(map(len, facts)) + 2
        for key, value in facts.items():
            if key not in tables:
                print(f"{key:<{width}}{_text(value, key)}")
        for rows in tables.values():
            print(f"\n{_table(rows)}")


def _is_rows(value: list[Any]) -> bool:
    return all(isinstance(each, dict) for each in value)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """A table with a line of titles, numbers to the right."""
    titles = list(rows[0])
    cells = [[_text(row[title], title) for title in titles] for row in rows]
    widths = [max(len(title), *(len(line[i]) for line in cells)) for i, title in enumerate(titles)]
    numeric = [all(row[title] is None or _is_number(row[title]) for row in rows) for title in titles]
    lines = [titles, ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any, key: str) -> str:
    """A value as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key == "size":
        return _bytes(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{_text(each, '')} {name}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return " ".join(_text(each, "") for each in value) if value else "-"
    return str(value)


def _bytes(size: int) -> str:
    for factor, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} B"


def _package(error: ImportError) -> str:
    return f"a package is missing on this machine: {error}; install it, or the extra of this project that needs it"


def _fail(code: int, *lines: object) -> int:
    """Say what is wrong on standard error.  Returns the code."""
    print("python -m pure.data:", *lines[:1], file=sys.stderr)
    for line in lines[1:]:
        print(f"  {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    warnings.formatwarning = lambda message, *_, **__: f"python -m pure.data: {message}\n"  # no line of code with it
    sys.exit(main())
