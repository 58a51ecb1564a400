"""What is published: pieces by name, the README, the paper's tables, and the check of all of it."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from test_records import evaluation, make_record

from pure.recipes import get_recipe
from pure.records import RECORD_NAME, RunRecord, read_record
from pure.report.__main__ import main
from pure.report.paper import anchor, paper_table
from pure.report.published import PIECES, Page, Results, verify

ROOT = Path(__file__).parents[2]
README = "# Title\n\n<!-- table from the records: begin -->\n<!-- table from the records: end -->\n"


def of(model: str, *accuracies: float, **more: Any) -> list[RunRecord]:
    return [make_record(model, seed, accuracy, **more) for seed, accuracy in enumerate(accuracies)]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two networks, a study of precisions and a README that is as its records say."""
    for record in [*of("pure20", 0.98, 0.99), *of("resnet20", 0.95, 0.97)]:
        record.write(tmp_path / "results" / "digits" / record.model.name / f"seed{record.seed}" / RECORD_NAME)
    for name in ("paper.yaml", "claims.yaml", "precision"):
        source, target = ROOT / "results" / name, tmp_path / "results" / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    (tmp_path / "README.md").write_text(README)
    monkeypatch.chdir(tmp_path)
    assert main(["renew"]) == 0
    return tmp_path


def test_nothing_differs_from_the_records(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "| digits | PURe20 | 1,234 | 98.50 ± 0.71 | 2 |" in (repository / "README.md").read_text()
    assert main(["verify", str(repository)]) == 0
    assert "every published figure is that of the records" in capsys.readouterr().out


def test_a_falsified_figure_of_the_readme_is_named(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme = repository / "README.md"
    readme.write_text(readme.read_text().replace("98.50 ± 0.71", "99.50 ± 0.71"))
    assert main(["verify", str(repository)]) == 1
    told = capsys.readouterr().out
    assert told.startswith("README.md: published '| digits | PURe20")
    assert "99.50 ± 0.71" in told.partition("recomputed")[0]
    assert "98.50 ± 0.71" in told.partition("recomputed")[2]


def test_a_falsified_record_is_noticed(repository: Path) -> None:
    make_record("pure20", 1, 0.79).write(repository / "results" / "digits" / "pure20" / "seed1" / RECORD_NAME)
    assert any("98.50 ± 0.71" in line for line in verify(repository))


def test_a_falsified_figure_of_a_page_is_named(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = repository / "_build" / "html" / "_sources"
    page = book / "book" / "results" / "page.ipynb"
    page.parent.mkdir(parents=True)
    shown = Page(str(repository)).show("accuracy", recipe="digits")
    data, metadata = shown._repr_mimebundle_()
    for text, differing in ((data["text/markdown"], 0), (data["text/markdown"].replace("96.00", "96.50"), 1)):
        output = {"data": {"text/markdown": text}, "metadata": metadata}
        page.write_text(json.dumps({"cells": [{"outputs": [output]}]}))
        found = verify(repository, book)
        assert len(found) == differing
    assert found[0].startswith("book/results/page.ipynb, accuracy: published")


def test_a_falsified_derived_figure_of_a_study_is_named(repository: Path) -> None:
    path = repository / "results" / "precision" / "digits-cpu.json"
    study = json.loads(path.read_text())
    study["models"]["pure20"]["accuracy"]["bfloat16/float32"]["sample"]["mean"] += 0.1
    path.write_text(json.dumps(study))
    (line,) = verify(repository)
    assert line.startswith("results/precision/digits-cpu.json, pure20 in bfloat16/float32, sample, mean: published")


def test_what_the_repository_publishes_is_what_its_records_say() -> None:
    assert verify(ROOT) == []


def test_the_cells_of_the_paper_are_filled_by_its_own_recipe_alone() -> None:
    ours = of("pure20", 0.92, 0.93, 0.91, recipe="cifar10")
    others = [
        *of("pure20", 0.5, 0.5, recipe="cifar10-tenth"),
        *of("pure20", 0.5, 0.5, recipe="cifar10", overrides={"epochs": 16}),
        *of("pure32", 0.5, 0.5, recipe="cifar10", options={"granularity": "channel"}),
    ]
    files = {Path(f"{number}.json"): run for number, run in enumerate([*ours, *others])}
    table = paper_table(ROOT / "results", files, "table6", "accuracy").set_index("Network")
    row = table.loc["PURe20"]
    assert row["The paper (%)"] == "91.80 ± 0.17"
    assert row["Here (%)"] == f'<a href="#{anchor(ours)}">92.00 ± 1.00</a>'
    # 0.20 points; variances 1/3 of three runs and 0.17^2/5 of five: 2.07 degrees of freedom, t = 4.17
    assert row["Difference (points), 95 %"] == "+0.20 (-2.23 to +2.63)"
    assert table.loc["PURe32", "Here (%)"].startswith("not run (5 runs, some ")


def test_noise_and_times_stand_beside_the_papers() -> None:
    runs = of("pure18", 0.85, 0.83, recipe="galaxy10", noisy=evaluation(0.8), train_s=100.0)
    files = {Path(f"{number}.json"): run for number, run in enumerate(runs)}
    noise = paper_table(ROOT / "results", files, "table2", "noise").set_index("Network").loc["PURe18"]
    assert noise["Drop, the paper (%)"] == "0.70"
    # of the means, 100 (84 - 80) / 84; scatter of the runs' 5.88 and 3.61
    assert ">4.76 ± 1.60</a>" in noise["Drop, here (%)"]
    times = paper_table(ROOT / "results", files, "table2", "times").set_index("Network").loc["PURe18"]
    assert (times["In all, the paper (s)"], times["To 80 %, the paper (s)"]) == ("1,212", "444")
    assert ">101</a>" in times["In all, here (s)"]
    assert ">never</a>" in times["To 80 %, here (s)"]


def test_every_run_is_listed_with_its_record_and_its_commit(repository: Path) -> None:
    text = PIECES["runs"](Results(repository / "results", "../.."), recipe="digits")
    assert "0: [98.00](../../results/digits/pure20/seed0/record.json); 1: [99.00](../../results/digits/pure20/" in text
    assert f"/commit/{'c' * 40})" in text
    assert "`digits-pure20-seed{k}`" in text
    linked = PIECES["accuracy"](Results(repository / "results"), recipe="digits")
    assert 'href="#runs-digits-pure20"' in linked
    assert 'id="runs-digits-pure20"' in text


def test_without_runs_a_figure_is_a_line(repository: Path) -> None:
    shown = Page(str(repository)).draw("gz2", lambda runs: pytest.fail("there are none"))
    assert shown is not None
    assert shown.text == "*No run yet.*"


def test_findings_are_computed_words(repository: Path) -> None:
    results = Results(repository / "results")
    assert PIECES["findings"](results).count("Not measured yet: a seed of both networks takes some ") == 3
    for seed, (ours, theirs) in enumerate([(0.84, 0.86), (0.83, 0.86), (0.84, 0.865)]):
        for record in (
            make_record("pure20", seed, ours, recipe="cifar10-tenth"),
            make_record("resnet20", seed, theirs, recipe="cifar10-tenth", options={"shortcut": "B"}),
        ):
            folder = repository / "results" / "cifar10-tenth" / record.model.name / f"seed{seed}"
            record.write(folder / RECORD_NAME)
    found = PIECES["findings"](Results(repository / "results"))
    # 2, 3, 2.5 points: deviation 0.5, standard error 0.289, t = 4.303
    assert "the first is less accurate, -2.50 points (-3.74 to -1.26), from 3 seeds" in found
    counted = PIECES["factorial"](
        Results(repository / "results"), recipe="cifar10-tenth", ours="pure20", theirs="resnet20"
    )
    assert "PURe20 under its own recipe 3, PURe20 under the other recipe 0" in counted


def test_thousand_records_make_every_page(repository: Path) -> None:
    """Every piece of every page, from records as long as real ones; how long it takes is printed by ``-s``."""
    source = read_record(ROOT / "results" / "cifar10-tenth" / "pure20" / "seed0" / RECORD_NAME)
    for recipe, network, seed in itertools.product(
        ("galaxy10", "imagenet", "cifar10", "cifar10-tenth", "gz2"),
        ("pure18", "pure34", "resnet18", "resnet34"),
        range(50),
    ):
        changed = {"recipe": get_recipe(recipe, network), "seed": seed}
        record = source.model_copy(update={**changed, "model": source.model.model_copy(update={"name": network})})
        record.write(repository / "results" / recipe / network / f"seed{seed}" / RECORD_NAME)
    pages = [path.read_text() for path in (ROOT / "book" / "results").glob("*.py")]
    shown = {call for page in pages for call in re.findall(r"page\.show\(([^)]*)\)", page)}
    assert len(shown) > 30
    began = time.process_time()
    results = Results(repository / "results", "../..")
    for call in shown:
        piece, *arguments = [part.strip() for part in call.split(",") if part.strip()]
        given = dict(argument.split("=") for argument in arguments)
        assert PIECES[piece.strip('"')](results, **{name: value.strip('"') for name, value in given.items()})
    took = time.process_time() - began
    print(f"{len(results.files)} records, {len(shown)} pieces: {took:.1f} s of a processor")
    assert len(results.files) > 1000
    assert took < 30  # seconds of a processor; 9 were measured, and a busy machine counts more
