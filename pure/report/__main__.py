"""``python -m pure.report``: renews a document's tables from the records, and verifies every published figure."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pure.data.storage.files import write_atomically
from pure.report.parameters import repository
from pure.report.published import Results, renew, verify

__all__ = ["main"]

EXIT_DIFFERENT, EXIT_WRONG = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m pure.report renew`` or ``verify``: see ``--help``.  Returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "verify":
            return _verify(options.repository or repository())
        text = renew(options.document.read_text(encoding="utf-8"), Results(options.results))
    except (ValueError, OSError) as error:
        print(f"python -m pure.report: {error}", file=sys.stderr)
        return EXIT_WRONG
    write_atomically(options.document, text.encode())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pure.report",
        description="Figures that are published, from run records.",
        epilog=f"exit codes: 0; {EXIT_DIFFERENT}, a published figure differs from the records; {EXIT_WRONG}, something "
        "given is wrong",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    renewing = commands.add_parser("renew", help="renew what lies between a document's marker lines")
    renewing.add_argument("document", type=Path, nargs="?", default=Path("README.md"), help="a Markdown file")
    renewing.add_argument("results", type=Path, nargs="?", default=Path("results"), help="the folder of the records")
    verifying = commands.add_parser(
        "verify", help="recompute the README's figures, the built book's, and those that benchmarks derive"
    )
    verifying.add_argument("repository", type=Path, nargs="?", help="its folder; by default the one around here")
    return parser


def _verify(folder: Path) -> int:
    book = folder / "_build" / "html" / "_sources"
    differences = verify(folder, book if book.is_dir() else None)
    for line in differences:
        print(line)
    if not differences:
        pages = "the README and the built book" if book.is_dir() else "the README; the book is not built"
        print(f"every published figure is that of the records: {pages}")
    return EXIT_DIFFERENT if differences else 0


if __name__ == "__main__":
    sys.exit(main())
