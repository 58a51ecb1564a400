"""Everything that is published of the records, each piece by its name, so that all of it can be recomputed.

A page of the book shows a piece by :class:`Page`, the README holds pieces between marker lines, and :func:`verify`
compares both, and what records of benchmarks derive from their own figures, with what the records say now.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt

from pure.recipes import get_recipe
from pure.records import RunRecord, find_records
from pure.report import paper, plans, verdicts
from pure.report.comparisons import ablation_table, compare, comparison_table, factorial_table, sentence
from pure.report.networks import display_name
from pure.report.statistics import Sample, difference
from pure.report.tables import (
    accuracy_table,
    as_published,
    difference_table,
    grouped,
    hardware,
    markdown,
    noise_table,
    protocols_table,
    times_table,
)
from pure.wording import duration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PIECES", "Page", "Results", "Shown", "renew", "verify"]


class Results:
    """What lies in ``results``, read once.

    Args:
        root: that folder.
        home: the way from the page that shows it to the repository's root, for links.
    """

    def __init__(self, root: Path | str, home: str = ".") -> None:
        self.root, self.home = Path(root), home

    @cached_property
    def files(self) -> dict[Path, RunRecord]:
        """The records by file, below the root."""
        return {path.relative_to(self.root): record for path, record in find_records(self.root).items()}

    @property
    def records(self) -> list[RunRecord]:
        """The records."""
        return list(self.files.values())

    @cached_property
    def evidence(self) -> verdicts.Evidence:
        """For the verdicts."""
        return verdicts.Evidence(self.root, self.records)

    def of(self, recipe: str, published: bool = True) -> list[RunRecord]:
        """The runs of a recipe; ``published`` leaves ablations out."""
        found = [record for record in self.records if record.recipe.name == recipe]
        return as_published(found) if published else found

    def arm(self, recipe: str, network: str, **options: Any) -> list[RunRecord]:
        """The runs of a network, with these options of its own and no others, by the recipe as it stands."""
        return [run for run in self.of(recipe) if (run.model.name, run.model.options) == (network, options)]


def _headline(results: Results) -> str:
    records = as_published(results.records)
    fair = difference_table(records, equal_shortcuts=True)
    tables = [accuracy_table(records), difference_table(records) if fair.empty else fair]
    parts = [markdown(table) for table in tables if not table.empty] or [markdown(tables[0])]
    return "\n\n".join([*parts, f"Mean ± sample deviation over the seeds. Hardware: {hardware(records)}."])


def _pairs(results: Results, recipe: str) -> list[tuple[list[RunRecord], list[RunRecord]]]:
    """PURe and the ResNets of its depth, as they stand."""
    groups = grouped(results.of(recipe))
    return [
        (ours, theirs)
        for ours in groups
        for theirs in groups
        if ours[0].model.name.startswith("pure")
        and theirs[0].model.name == ours[0].model.name.replace("pure", "resnet", 1)
    ]


def _ablations(results: Results, recipe: str, network: str) -> str:
    return markdown(ablation_table(results.arm(recipe, network), results.of(recipe, published=False)))


def factorial_cells(results: Results, recipe: str, ours: str, theirs: str) -> dict[tuple[str, str], list[RunRecord]]:
    """The four cells of network and recipe: each family under its own learning rate and decay, and under the other's.

    ResNets count with PURe's shortcuts.
    """
    own = {family: paper.family_values(recipe, family) for family in ("pure", "resnet")}
    names = ("pure", "resnet")
    cells: dict[tuple[str, str], list[RunRecord]] = {(a, b): [] for a in names for b in names}
    for run in results.of(recipe, published=False):
        network = {ours: "pure", theirs: "resnet"}.get(run.model.name)
        options = {"pure": {}, "resnet": {"shortcut": "B"}}.get(network or "")
        if network is None or run.model.options != options or set(run.overrides) - {"lr", "weight_decay"}:
            continue
        for family, values in own.items():
            if (run.recipe.lr, run.recipe.weight_decay) == values:
                cells[network, family].append(run)
    return cells


REDUCED: Mapping[str, tuple[str, tuple[str, dict[str, str]], tuple[str, dict[str, str]]]] = {
    "cifar10-tenth": ("CIFAR-10 at a tenth of the schedule", ("pure20", {}), ("resnet20", {"shortcut": "B"})),
    "gz2": ("Real galaxies at 64 pixels", ("pure18", {}), ("resnet18", {})),
    "imagenette64": ("Imagenette at 64 pixels", ("pure18", {}), ("resnet18", {})),
}
"""What is trained at reduced scale on real images: in words, and the pair of networks."""


def _findings(results: Results) -> str:
    """What the runs at reduced scale showed, a sentence for each; what has not been run, with what it would take."""
    lines = []
    for recipe, (title, (ours, options), (theirs, others)) in REDUCED.items():
        runs = results.arm(recipe, ours, **options), results.arm(recipe, theirs, **others)
        if all(runs):
            lines.append(f"- **{title}.** {sentence(compare(*runs))}")
        else:
            seconds = sum(
                plans.seconds_by_arithmetic(get_recipe(recipe, name), name, chosen, "cpu")
                for name, chosen in ((ours, options), (theirs, others))
            )
            lines.append(
                f"- **{title}.** Not measured yet: a seed of both networks takes some {duration(seconds)} on one core; "
                "`python workflow/reproduce.py campaign --device cpu` trains them."
            )
    return "\n".join(lines)


def _interaction(results: Results, recipe: str, ours: str, theirs: str) -> str:
    """How many seeds of each cell of network and recipe there are, and the effects where there are enough."""
    cells = factorial_cells(results, recipe, ours, theirs)
    names = {"pure": display_name(ours), "resnet": display_name(theirs)}
    counts = [
        f"{names[network]} under {'its own' if network == values else 'the other'} recipe {len(cells[network, values])}"
        for network in names
        for values in names
    ]
    table = factorial_table(cells)
    text = f"Seeds so far: {', '.join(counts)}."
    return f"{text}\n\n{markdown(table)}" if len(table) else f"{text} Two of each are needed."


PIECES: Mapping[str, Callable[..., str]] = {
    "table": _headline,
    "verdicts": lambda results: markdown(verdicts.verdict_table(results.evidence)),
    "evidence": lambda results: markdown(verdicts.evidence_table(results.evidence)),
    "accuracy": lambda results, recipe: markdown(paper.linked_accuracy_table(results.files, recipe)),
    "comparison": lambda results, recipe, quantity="accuracy": markdown(
        comparison_table(_pairs(results, recipe), quantity)
    ),
    "noise": lambda results, recipe: markdown(noise_table(results.of(recipe))),
    "protocols": lambda results, recipe: markdown(protocols_table(results.of(recipe))),
    "times": lambda results, recipe: markdown(times_table(results.of(recipe))),
    "ablations": _ablations,
    "factorial": _interaction,
    "findings": _findings,
    "runs": lambda results, recipe: markdown(paper.runs_of(results.files, recipe, results.home)),
    "paper": lambda results, table, part: markdown(paper.paper_table(results.root, results.files, table, part)),
    "conditions": lambda results, recipe: paper.conditions(results.root, results.of(recipe), recipe),
}
"""Markdown by name; what a piece takes besides the results is given where it is shown."""


class Shown:
    """A piece on a page: Markdown, and in the output's metadata what it was made from."""

    def __init__(self, text: str, origin: Mapping[str, Any]) -> None:
        self.text, self._origin = text, origin

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, str], dict[str, Any]]:
        return {"text/markdown": self.text, "text/plain": self.text}, {"pure": dict(self._origin)}


class Page(Results):
    """The results, for a page of the book.

    Args:
        home: the way from the page to the repository's root.
    """

    def __init__(self, home: str = "../..") -> None:
        super().__init__(Path(home, "results"), home)

    def show(self, piece: str, **arguments: str) -> Shown:
        """A piece of :data:`PIECES`.

        Raises:
            KeyError: there is no such piece.
        """
        return Shown(PIECES[piece](self, **arguments), {"piece": piece, "arguments": arguments, "home": self.home})

    def draw(self, recipe: str, figure: Callable[[list[RunRecord]], Figure]) -> Shown | None:
        """A figure of a recipe's runs, ablations left out; without runs, a line that says so."""
        runs = self.of(recipe)
        if not runs:
            return Shown("*No run yet.*", {})
        figure(runs)
        plt.show()
        return None


# The README


def _marker(piece: str, end: str) -> str:
    return f"<!-- {piece} from the records: {end} -->"


_BETWEEN = re.compile(r"<!-- (\w+) from the records: begin -->\n(.*?)<!-- \1 from the records: end -->", re.DOTALL)


def renew(text: str, results: Results) -> str:
    """A document with every piece between its two marker lines renewed from the records.

    Raises:
        ValueError: the document holds no two markers of a piece, in their order.
    """

    def renewed(found: re.Match[str]) -> str:
        piece = found.group(1)
        return f"{_marker(piece, 'begin')}\n{PIECES[piece](results)}\n{_marker(piece, 'end')}"

    if not _BETWEEN.search(text):
        lines = [_marker("table", end) for end in ("begin", "end")]
        raise ValueError(f"expected the lines {lines[0]!r} and {lines[1]!r} in the document; put them where the table")
    return _BETWEEN.sub(renewed, text)


# Everything


def verify(repository: Path, book: Path | None = None) -> list[str]:
    """Recompute every published figure from the records.

    Args:
        repository: the folder with ``README.md`` and ``results``.
        book: folder of the built pages with their outputs, if the book is built: ``_build/html/_sources``.

    Returns:
        Lines that say for each difference where it is, what is published, and what the records say.

    Raises:
        ValueError: a record cannot be read.
        FileNotFoundError: there is no README.
    """
    results = Results(repository / "results")
    readme = (repository / "README.md").read_text(encoding="utf-8")
    found = list(_differing("README.md", readme, renew(readme, results)))
    for page in sorted(book.rglob("*.ipynb")) if book is not None else ():
        found += _of_page(page, results, page.relative_to(book or page).as_posix())
    for path in sorted((repository / "results" / "precision").glob("*.json")):
        found += _of_study(path)
    return found


def _of_page(path: Path, results: Results, name: str) -> Iterator[str]:
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            origin = output.get("metadata", {}).get("pure", {})
            if "piece" in origin:
                results.home = origin["home"]
                text = output["data"]["text/markdown"]
                published = text if isinstance(text, str) else "".join(text)
                yield from _differing(
                    f"{name}, {origin['piece']}", published, PIECES[origin["piece"]](results, **origin["arguments"])
                )


def _of_study(path: Path) -> Iterator[str]:
    """Of a study of precisions: means, deviations and differences follow from its accuracies, seed by seed."""
    for model, study in json.loads(path.read_text(encoding="utf-8")).get("models", {}).items():
        baseline: Sample | None = None
        for precision, arm in study["accuracy"].items():
            sample = Sample.of(value for value in arm["seeds"].values() if value is not None)
            baseline = baseline or sample
            derived = {"sample": {"mean": sample.mean, "deviation": sample.deviation, "n": sample.n}}
            if "difference" in arm:
                found = difference(sample, baseline)
                derived["difference"] = {"mean": found.mean, "low": found.low, "high": found.high}
            for part, values in derived.items():
                for key, value in values.items():
                    published = arm[part][key]
                    if not math.isclose(published, value or 0.0, rel_tol=1e-6, abs_tol=1e-9):
                        where = f"results/precision/{path.name}, {model} in {precision}, {part}, {key}"
                        yield f"{where}: published {published}, recomputed {value}"


def _differing(where: str, published: str, recomputed: str) -> Iterator[str]:
    """Each line that differs."""
    old, new = published.strip().splitlines(), recomputed.strip().splitlines()
    for number in range(max(len(old), len(new))):
        one, other = (lines[number] if number < len(lines) else "nothing" for lines in (old, new))
        if one != other:
            yield f"{where}: published {one!r}, recomputed {other!r}"
