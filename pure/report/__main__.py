"""``python -m pure.report README.md results``: renews the table between a document's markers from run records."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pure.data.storage.files import write_atomically
from pure.records import read_records
from pure.report import renew_table

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m pure.report DOCUMENT ROOT ...``: see ``--help``.  Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pure.report", description="Renew the table between a document's markers from run records."
    )
    parser.add_argument("document", type=Path, help="a Markdown file with the two marker lines")
    parser.add_argument("roots", type=Path, nargs="+", help="folders with records")
    options = parser.parse_args(arguments)
    try:
        text = renew_table(options.document.read_text(encoding="utf-8"), read_records(*options.roots))
    except (ValueError, OSError) as error:
        print(f"python -m pure.report: {error}", file=sys.stderr)
        return 2
    write_atomically(options.document, text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
