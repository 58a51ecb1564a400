"""The paper's claims, as sentences that a measurement can hold or fail, and what the records say about each.

The claims are data, ``results/claims.yaml``; the verdict is :func:`judge`, and nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field

from pure.models import create_model
from pure.records import RunRecord, read_records
from pure.report import benchmarks, networks
from pure.report.comparisons import QUANTITIES, Comparison, compare
from pure.report.stability import Study, clopper_pearson, read_studies
from pure.report.statistics import Difference, paired_difference
from pure.report.tables import as_published, grouped, text_table

__all__ = ["RULE", "WORDS", "Claim", "Evidence", "evidence_table", "judge", "read_claims", "verdict_table"]

WORDS = ("supported", "contradicted", "undecided", "not measured")
"""The verdicts."""

RULE = """\
- Each claim names pairs of networks, a quantity, and which of the two should have more of it, by how much at least.
- Runs are paired by seed; accuracies also by test image, where the records hold the predictions. Each pair gets an
  interval for the difference or the quotient. With *m* pairs the intervals are those at 1 - 0.05/*m*, so that all of
  them together hold in 95 of 100 repetitions. Below two seeds on both sides there is no interval.
- **Supported**: every pair was measured, at least one interval lies where the claim puts it, none on the other side.
- **Contradicted**: at least one interval lies on the other side, and none where the claim puts it.
- **Not measured**: no pair has runs on both sides.
- **Undecided**: everything else.
- Only runs at the paper's scale, by the paper's recipe in full and on the paper's data, decide the verdict. The same
  rule is applied to runs at reduced scale, and what it says stands in a column of its own: it shows which way things
  point, and decides nothing about the paper. Digits and simulated galaxies do not count at all.
- A run that diverged leaves its pair out, and is named beside the interval.
"""
"""The rule, as the page on the verdicts prints it."""


class Claim(BaseModel):
    """A sentence, where the paper says it, and what would show it; the fields are described in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    claim: str
    source: str
    quantity: str
    expected: Literal["more", "less"]
    bound: float | None = None
    paper: list[list[str]] = Field(min_length=1)
    reduced: list[list[str]]

    @property
    def nothing(self) -> float:
        """The effect that counts as none."""
        if self.bound is not None:
            return self.bound
        ratio = self.quantity == "parameters" or (self.quantity in QUANTITIES and QUANTITIES[self.quantity].ratio)
        return 1.0 if ratio else 0.0


def read_claims(path: Path) -> list[Claim]:
    """The claims of a file.

    Raises:
        ValueError: a field is unknown, missing or of another type.
    """
    return [Claim.model_validate(each) for each in yaml.safe_load(path.read_text(encoding="utf-8"))]


def judge(found: Sequence[Comparison | None], expected: str, bound: float) -> str:
    """One of :data:`WORDS`, by :data:`RULE`; None is a pair without runs on both sides."""
    measured = [each for each in found if each is not None]
    if not measured:
        return "not measured"
    sides = {each.side(expected, bound) for each in measured}
    if -1 in sides and 1 not in sides:
        return "contradicted"
    return "supported" if 1 in sides and -1 not in sides and len(measured) == len(found) else "undecided"


class Evidence:
    """What is there to judge by: run records, records of benchmarks, and the study of the first steps.

    Args:
        root: the folder ``results``.
        records: those below it, if they have been read.
    """

    def __init__(self, root: Path | str, records: Iterable[RunRecord] | None = None) -> None:
        self.root = Path(root)
        records = read_records(self.root) if records is None else records
        self.claims = read_claims(self.root / "claims.yaml")
        self._runs: dict[tuple[str, str, str], list[RunRecord]] = {}
        for runs in grouped(as_published(records)):
            key = _key(runs[0].recipe.name, runs[0].model.name, runs[0].model.options)
            if not runs[0].data.synthetic and len(runs) > len(self._runs.get(key, [])):
                self._runs[key] = runs
        self._benchmarks = benchmarks.read_results(self.root / "benchmarks")
        self._studies = read_studies(self.root / "stability")

    def runs(self, text: str) -> list[RunRecord]:
        """The runs of a recipe and a network as it stands, written ``recipe network option=value``."""
        recipe, network, *options = text.split()
        return self._runs.get(_key(recipe, network, dict(option.split("=") for option in options)), [])

    def found(self, claim: Claim, scale: Literal["paper", "reduced"]) -> list[Comparison | None]:
        """What each pair of a claim shows; None where one of the two has no runs."""
        pairs: list[list[str]] = getattr(claim, scale)
        return [self._found(claim.quantity, pair, 1 - 0.05 / len(pairs)) for pair in pairs]

    def verdict(self, claim: Claim, scale: Literal["paper", "reduced"]) -> str:
        """By :func:`judge`."""
        return judge(self.found(claim, scale), claim.expected, claim.nothing)

    def _found(self, quantity: str, pair: list[str], confidence: float) -> Comparison | None:
        if quantity == "parameters":
            return _counted(pair[0].split()[1], pair[1].split()[1])
        if quantity == "divergences":
            return self._divergences(*pair)
        if pair[0].startswith("benchmarks "):
            return self._steps(pair[0].split()[1], pair[1].split()[1], confidence)
        ours, theirs = map(self.runs, pair)
        return compare(ours, theirs, quantity, confidence) if ours and theirs else None

    def _divergences(self, text: str) -> Comparison | None:
        """The share of trainings that diverged, in percent, with Clopper and Pearson's interval."""
        source, network = text.split()
        if source == "stability":
            studies = [each for each in self._studies if (each["arm"], _network(each)) == ("plain", network)]
            ended = [run["diverged"] is not None for study in studies for run in study["runs"]]
            title = f"{networks.display_name(network)}, first {studies[0]['steps']} steps" if studies else ""
        else:
            ended = [run.divergence is not None for run in self.runs(text)]
            title = networks.display_name(network)
        if not ended:
            return None
        low, high = clopper_pearson(sum(ended), len(ended))
        share = Difference(100 * sum(ended) / len(ended), 100 * low, 100 * high)
        return Comparison(title, share, len(ended), "%")

    def _steps(self, ours: str, theirs: str, confidence: float) -> Comparison | None:
        """Quotient of the times of a training step, in one and the same round of a benchmark."""
        cases = benchmarks.cases(self._benchmarks, part="networks", model=ours, compiled=False, shortcuts="B")
        cases = [case for case in cases if case["precision"] == "float32"]
        if not cases:
            return None
        case = min(cases, key=lambda each: (each["device"] == "cpu", each["layout"] != "channels_last"))
        times = case["seconds"]["training"]
        steps, others = ([math.log(second) for second in times[family]] for family in ("pure", "resnet"))
        found = paired_difference(steps, others, confidence)
        effect = Difference(*(math.exp(value) for value in (found.mean, found.low, found.high)))
        names = " against ".join(map(networks.display_name, (ours, theirs)))
        return Comparison(f"a step of {names}, {case['device'].upper()}", effect, found.n, "times")


def _network(study: Study) -> str:
    return f"{study['family']}{study['depth']}"


def _key(recipe: str, network: str, options: dict[str, Any]) -> tuple[str, str, str]:
    return recipe, network, json.dumps({name: str(value) for name, value in options.items()}, sort_keys=True)


@cache
def _counted(ours: str, theirs: str) -> Comparison:
    """Quotient of two networks' parameters, which are counted."""
    with_none = [networks.parameters(_on_meta(name)) for name in (ours, theirs)]
    quotient = with_none[0] / with_none[1]
    title = " against ".join(map(networks.display_name, (ours, theirs)))
    return Comparison(title, Difference(quotient, quotient, quotient), 1, "counted")


def _on_meta(name: str) -> Any:
    import torch

    with torch.device("meta"):
        return create_model(name)


def verdict_table(root: Path | str | Evidence) -> pd.DataFrame:
    """Each claim with its verdict, and what runs at reduced scale say.

    Args:
        root: the folder ``results``, or what was read there.

    Returns:
        Columns number, claim, verdict, at reduced scale.  Formatted text.
    """
    evidence = root if isinstance(root, Evidence) else Evidence(root)
    rows = []
    for number, claim in enumerate(evidence.claims, 1):
        reduced = _told(evidence, claim, "reduced") if claim.reduced else "nothing to measure"
        rows.append(
            {
                "Claim": f"{number}. {claim.claim}",
                "Verdict": _told(evidence, claim, "paper"),
                "At reduced scale": reduced,
            }
        )
    return text_table(rows)


def _told(evidence: Evidence, claim: Claim, scale: Literal["paper", "reduced"]) -> str:
    """The verdict, and the effects that it comes from."""
    found = [each for each in evidence.found(claim, scale) if each is not None]
    figures = [str(each) if len(found) == 1 else f"{each.title}: {each}" for each in found]
    word = evidence.verdict(claim, scale)
    return f"**{word}**" + (f": {'; '.join(figures)}" if figures else "") if found else word


def evidence_table(root: Path | str | Evidence) -> pd.DataFrame:
    """The measured pairs of every claim at either scale: what speaks for it, what against, and what decides nothing.

    Args:
        root: the folder ``results``, or what was read there.

    Returns:
        A row for each claim and scale that has runs.  Formatted text.
    """
    evidence = root if isinstance(root, Evidence) else Evidence(root)
    rows = []
    for number, claim in enumerate(evidence.claims, 1):
        scales: list[tuple[Literal["paper", "reduced"], str]] = [("paper", "the paper's"), ("reduced", "reduced")]
        for scale, text in scales:
            found = evidence.found(claim, scale)
            measured = [each for each in found if each is not None]
            if not measured:
                continue
            sides: dict[int, list[str]] = {1: [], -1: [], 0: []}
            for each in measured:
                sides[each.side(claim.expected, claim.nothing)].append(f"{each.title}: {each}")
            rows.append(
                {
                    "Claim": f"{number}",
                    "Scale": text,
                    "For": "; ".join(sides[1]),
                    "Against": "; ".join(sides[-1]),
                    "Decides nothing": "; ".join(sides[0]),
                    "Pairs measured": f"{len(measured)} of {len(found)}",
                    "Verdict": evidence.verdict(claim, scale),
                }
            )
    return text_table(rows)
