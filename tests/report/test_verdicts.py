"""Verdicts: the rule, and the claims of the paper."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from test_records import make_record

from pure.recipes import list_recipes
from pure.records import RECORD_NAME
from pure.report import verdicts
from pure.report.comparisons import QUANTITIES, Comparison
from pure.report.statistics import Difference
from pure.report.verdicts import Claim, Evidence, evidence_table, judge, read_claims, verdict_table

RESULTS = Path(__file__).parents[2] / "results"
FOR, AGAINST, OPEN = (Comparison("", Difference(mean, mean - 1, mean + 1), 5) for mean in (2.0, -2.0, 0.0))
FEW = Comparison("", None, 1)


@pytest.mark.parametrize(
    ("found", "word"),
    [
        ([FOR], "supported"),
        ([FOR, OPEN], "supported"),
        ([FOR, None], "undecided"),  # not all of what the claim is about
        ([AGAINST], "contradicted"),
        ([AGAINST, OPEN, None], "contradicted"),
        ([FOR, AGAINST], "undecided"),
        ([OPEN, OPEN], "undecided"),
        ([FEW, None], "undecided"),
        ([None, None], "not measured"),
    ],
)
def test_the_rule(found: list[Comparison | None], word: str) -> None:
    assert judge(found, "more", 0.0) == word
    assert word in verdicts.WORDS


def test_every_claim_can_be_measured() -> None:
    claims = read_claims(RESULTS / "claims.yaml")
    assert 12 <= len(claims) <= 16
    for claim in claims:
        assert claim.quantity in {*QUANTITIES, "parameters", "divergences"}
        assert claim.claim.endswith(".")
        for text in (text for pair in (*claim.paper, *claim.reduced) for text in pair):
            assert text.split()[0] in {*list_recipes(), "benchmarks", "stability"}
        assert {text.split()[0] for pair in claim.paper for text in pair} <= {
            "galaxy10",
            "imagenet",
            "cifar10",
            "cifar10-extended",
        }


def test_a_misspelt_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="expcted"):
        Claim.model_validate({"claim": "x", "expcted": "more"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of results with two claims and no run."""
    base = {"source": "s", "quantity": "accuracy", "expected": "more"}
    claims: list[dict[str, Any]] = [
        {
            "claim": "Deep.",
            **base,
            "paper": [["cifar10 pure20", "cifar10 resnet20"]],
            "reduced": [["digits pure20", "digits resnet20 shortcut=B"]],
        },
        {
            "claim": "Stable.",
            **base,
            "quantity": "divergences",
            "paper": [["cifar10 pure20"]],
            "reduced": [["stability pure486"]],
        },
    ]
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(claims))
    return tmp_path


def put(root: Path, name: str, record: Any) -> None:
    record.write(root / name / f"seed{record.seed}" / RECORD_NAME)


def test_runs_at_reduced_scale_or_with_anything_changed_decide_nothing_about_the_paper(root: Path) -> None:
    for seed, (ours, theirs) in enumerate([(0.98, 0.9), (0.97, 0.9), (0.98, 0.89)]):
        put(root, "a", make_record("pure20", seed, ours))
        put(root, "b", make_record("resnet20", seed, theirs, options={"shortcut": "B"}))
        put(root, "c", make_record("pure20", seed, ours, recipe="cifar10", overrides={"epochs": 3}))
        put(root, "d", make_record("resnet20", seed, theirs, recipe="cifar10"))
    table = verdict_table(root)
    assert list(table["Verdict"]) == ["not measured", "not measured"]
    assert table.loc[0, "At reduced scale"].startswith("**supported**: +8.00 points (")
    rows = evidence_table(root)
    assert rows.loc[0, "For"].startswith("PURe20 against ResNet20 (shortcut=B): +8.00 points")


def test_one_divergence_shows_that_there_are_some(root: Path) -> None:
    shutil.rmtree(root / "stability", ignore_errors=True)
    (root / "stability").mkdir()
    runs = [{"seed": seed, "diverged": reason} for seed, reason in enumerate([None, None, "loss is inf", None])]
    study = {"family": "pure", "depth": 486, "arm": "plain", "recipe": {}, "steps": 200, "runs": runs}
    (root / "stability" / "pure486-plain.json").write_text(json.dumps(study))
    evidence = Evidence(root)
    (found,) = evidence.found(evidence.claims[1], "reduced")
    assert str(found) == "25 % (1 to 81 %), n = 4"  # Clopper and Pearson
    assert evidence.verdict(evidence.claims[1], "reduced") == "supported"
    assert evidence.verdict(evidence.claims[1], "paper") == "not measured"


def test_several_pairs_share_the_five_percent(root: Path) -> None:
    claims = yaml.safe_load((root / "claims.yaml").read_text())
    claims[0]["reduced"] *= 5
    (root / "claims.yaml").write_text(yaml.safe_dump(claims))
    for seed, (ours, theirs) in enumerate([(0.98, 0.94), (0.97, 0.94), (0.98, 0.96)]):  # 4, 3, 2 points
        put(root, "a", make_record("pure20", seed, ours))
        put(root, "b", make_record("resnet20", seed, theirs, options={"shortcut": "B"}))
    evidence = Evidence(root)
    found = evidence.found(evidence.claims[0], "reduced")
    assert found[0] is not None
    assert found[0].effect is not None
    assert found[0].effect.low == pytest.approx(3 - 9.9248 / 3**0.5, abs=1e-3)  # t(0.995, 2)


def test_parameters_are_counted_and_steps_come_from_the_benchmarks() -> None:
    evidence = Evidence(RESULTS)
    by_quantity = {claim.quantity: claim for claim in evidence.claims}
    assert evidence.verdict(by_quantity["parameters"], "paper") == "supported"
    (found,) = evidence.found(by_quantity["parameters"], "paper")
    assert found is not None
    assert found.effect is not None
    assert found.effect.mean == pytest.approx(0.42, abs=0.02)  # 4.36 M of 10.3 M
    steps = evidence.found(by_quantity["training time"], "reduced")
    assert all(step is not None and step.n > 2 for step in steps)
