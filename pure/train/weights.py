"""Weights of committed runs: ``python -m pure.train.weights runs results`` stores small ones beside their records.

So notebooks show what networks learned on real images without the images and without a training:
:func:`pure.train.load_network`.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

from pure.records import RECORD_NAME, read_record
from pure.train.run import WEIGHTS_NAME, as_safetensors, weights_of

__all__ = ["LARGEST", "main", "store_weights"]

LARGEST = 2_000_000
"""Bytes; a repository keeps every version of a file."""


def store_weights(runs: Path, results: Path) -> dict[Path, str]:
    """Copy weights from finished runs to the committed records that are of them.

    Args:
        runs: folder of runs, laid out as ``results`` is.
        results: folder of committed records.

    Returns:
        For each folder of a record below ``results`` whether its weights were stored, in words.

    Raises:
        FileNotFoundError: one of the two is not a folder, or ``results`` holds no record.
    """
    for folder in (runs, results):
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not a folder; expected one of runs, and one of committed records")
    records = sorted(results.rglob(RECORD_NAME))
    if not records:
        raise FileNotFoundError(f"no {RECORD_NAME} below {results}; commit the records first")
    said = {}
    for path in records:
        place = path.parent.relative_to(results)
        source, target = weights_of(runs / place), path.parent / WEIGHTS_NAME
        if not source.is_file():
            said[path.parent] = f"no {WEIGHTS_NAME} in {runs / place}"
        elif source.stat().st_size > LARGEST:
            said[path.parent] = f"{source.stat().st_size:,} bytes, more than {LARGEST:,}"
        elif hashlib.sha256(content := source.read_bytes()).hexdigest() != read_record(path).weights_sha256:
            said[path.parent] = "not the weights that the record tested"
        else:
            target.write_bytes(as_safetensors(source, content))
            said[path.parent] = f"stored, {target.stat().st_size:,} bytes"
    return said


def main(arguments: Sequence[str] | None = None) -> int:
    """Store the weights and say what became of each record's."""
    parser = argparse.ArgumentParser(prog="python -m pure.train.weights", description=__doc__)
    parser.add_argument("runs", type=Path, help="folder of finished runs")
    parser.add_argument("results", type=Path, help="folder of committed records, or a part of it with its own runs")
    given = parser.parse_args(arguments)
    for folder, words in store_weights(given.runs, given.results).items():
        print(f"{folder}: {words}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
