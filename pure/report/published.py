"""Figures outside the book: the README's tables, renewed from run records."""

from __future__ import annotations

from collections.abc import Sequence

from pure.records import RunRecord
from pure.report.tables import accuracy_table, as_published, difference_table, hardware, markdown

__all__ = ["renew_table"]

BEGIN, END = "<!-- table from the records: begin -->", "<!-- table from the records: end -->"


def renew_table(text: str, records: Sequence[RunRecord]) -> str:
    """A document with the table between its two marker lines renewed from the records.

    Raises:
        ValueError: the document does not hold the two markers, in their order.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected the lines {BEGIN!r} and {END!r} in the document; put them where the table belongs")
    records = as_published(records)
    fair = difference_table(records, equal_shortcuts=True)
    tables = [accuracy_table(records), difference_table(records) if fair.empty else fair]
    parts = [markdown(table) for table in tables if not table.empty] or [markdown(tables[0])]
    body = "\n\n".join([*parts, f"Mean ± sample deviation over the seeds. Hardware: {hardware(records)}."])
    return f"{head}{BEGIN}\n{body}\n{END}{tail}"
