"""The benchmarks run, survive what fails, and their records become tables that say what was measured and what not."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch

from pure.report import benchmarks

ROOT = Path(__file__).parents[2]
TIMES = {"pure": [2.0, 3.0, 8.0, 1.0], "resnet": [1.0, 1.0, 2.0, 1.0], "plain": [4.0, 4.0, 4.0, 4.0]}


def case(**changes: Any) -> dict[str, Any]:
    settings = {"part": "networks", "model": "pure20", "batch": 8, "pixels": 32, "layout": "contiguous"}
    settings |= {"precision": "float32", "compiled": False, "shortcuts": "B", "load": 1.0}
    measured = {"seconds": {"training": TIMES, "inference": TIMES}, "kept_bytes": {"pure": 99, "resnet": 100}}
    return settings | measured | changes


def record(*cases: dict[str, Any], device: str = "cpu") -> dict[str, Any]:
    found = {"device": "a processor", "threads": 1, "cores": 2, "torch": "2", "cuda": None}
    return {"device": device, "machine": found, "cases": list(cases), "left_out": []}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The script, whose neighbours are on the path as when it is run."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("bench")
    for name in ("bench", "networks", "epochs", "floor", "layer", "timing"):
        sys.modules.pop(name, None)


def test_ratio_is_the_median_of_quotients_within_rounds() -> None:
    assert benchmarks.ratio(TIMES, "pure", "resnet") == (2.5, 1.75, 3.25, 4)  # of 1, 2, 3, 4
    assert str(benchmarks.ratio(TIMES, "pure", "resnet")) == "2.50 [1.75, 3.25]"
    assert benchmarks.ratio({"a": [3.0], "b": [2.0]}, "a", "b") == (1.5, 1.5, 1.5, 1)


def test_bars_without_a_case_are_named_as_not_measured() -> None:
    table = benchmarks.bars_table([])
    assert list(table["What"]) == [bar.text for bar in benchmarks.BARS]
    assert set(table["Measured"]) == {"not measured"}
    assert set(table["Met"]) == {""}


def test_bars_are_met_by_the_median() -> None:
    on_gpu = {"model": "pure34", "layout": "channels_last", "precision": "bfloat16"}
    run = {"part": "epoch", "model": "pure20", "precision": "float32", "images": 25_000, "seconds": TIMES}
    gpu = record(case(**on_gpu), run, case(compiled=True, error="RuntimeError: no"), device="cuda")
    table = benchmarks.bars_table([record(case()), gpu]).set_index("What")
    assert table.loc["kept for backward, PURe20, eager", ["Measured", "Met"]].tolist() == ["0.990", "yes"]
    assert table.loc["training step, eager, CPU", ["Measured", "Met"]].tolist() == ["2.50 [1.75, 3.25]", "no"]
    plain = table.loc["operator / plain form, training step, eager, GPU", ["Measured", "Met"]]
    assert plain.tolist() == ["0.62 [0.44, 1.06]", "yes"]  # of 0.25, 0.5, 0.75 and 2
    assert table.loc["160 epochs of PURe20, GPU (s)", "Measured"] == "800 [560, 1360]"  # 2.5 s a half epoch
    assert table.loc["training step, PURe34, compiled, GPU", "Measured"] == "not measured"  # it failed
    assert table.loc["training step, compiled, CPU", "Measured"] == "not measured"


def test_figure_has_every_round_of_every_case() -> None:
    figure = benchmarks.ratios_figure(record(case(), case(compiled=True), case(error="failed")))
    axes = figure.axes[0]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in dots] == [[2.0, 3.0, 4.0, 1.0]] * 2
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [f"PURe20, 8 x 32 px, contiguous, {how}" for how in ("eager", "compiled")]
    plt.close(figure)


FOLDED = TIMES | {"pure_folded": [1.0, 1.0, 4.0, 1.0], "resnet_folded": [1.0, 0.5, 1.0, 1.0]}


def test_folded_networks_stand_beside_the_others_where_they_were_timed() -> None:
    mixed = record(case(seconds={"training": TIMES, "inference": FOLDED}), case(compiled=True))
    table = benchmarks.networks_table(mixed)
    assert table["Folded"].tolist() == ["1.50 [1.00, 2.50]", ""]  # of 1, 2, 4, 1
    assert table["Folded / unfolded"].tolist() == ["0.50 [0.46, 0.62]", ""]  # of 1/2, 1/3, 1/2, 1
    figure = benchmarks.ratios_figure(mixed, "inference")
    axes = figure.axes[0]
    dots = [list(line.get_xdata()) for line in axes.lines if line.get_marker() == "o"]
    assert dots == [[2.0, 3.0, 4.0, 1.0], [1.0, 2.0, 4.0, 1.0], [2.0, 3.0, 4.0, 1.0]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["as trained", "both with BN folded"]
    plt.close(figure)
    figure = benchmarks.ratios_figure(mixed, "training")
    assert figure.axes[0].get_legend() is None
    plt.close(figure)


def test_tables_of_the_committed_records() -> None:
    records = benchmarks.read_results(ROOT / "results/benchmarks")
    assert records, "results/benchmarks holds no record"
    for each in records:
        assert not [found for found in each["cases"] if "error" in found]
        assert len(benchmarks.networks_table(each)) == len(benchmarks.cases([each], part="networks")) > 0
        kept = benchmarks.cases([each], part="networks", model="pure20", compiled=False, shortcuts="B")
        assert all(found["kept_bytes"]["pure"] <= found["kept_bytes"]["resnet"] for found in kept)
    assert all("PURe" in words for words in benchmarks.epochs_table(records)["Epoch"])


def test_both_networks_have_the_same_shortcuts_unless_told_otherwise(bench: Any) -> None:
    def parameters(**settings: Any) -> int:
        networks = bench.Pair("pure20", 1, 32, **settings).networks()
        ours, theirs = (sum(p.numel() for p in networks[name].parameters()) for name in ("pure", "resnet"))
        return ours - theirs

    assert parameters() == 9  # the thresholds
    assert parameters(shortcuts="defaults") > 1000  # and the convolutions on the shortcuts


def test_pair_is_measured_in_all_its_figures(bench: Any) -> None:
    found = bench.networks.measure(bench.Pair("pure20", 2, 8, rounds=2), "cpu")
    forms = {"training": [], "inference": ["pure_folded", "resnet_folded"]}
    for mode, more in forms.items():
        rounds = {name: len(each) for name, each in found["seconds"][mode].items()}
        assert rounds == dict.fromkeys(["pure", "resnet", "plain", *more], 2)
    assert "both folded" in bench.networks.line(found)
    assert found["kept_bytes"]["plain"] > 1.3 * found["kept_bytes"]["pure"]


def test_floor_counts_every_number_once(bench: Any) -> None:
    found = bench.floor.measure(bench.Shape("pure20", 2, 3, 4), "cpu", "float32", 1)
    counted = {name: part["bytes"] for name, part in found["parts"].items()}
    one = 2 * 3 * 16 * 4
    names = ("logarithm", "its gradient", "exponential", "exponential's gradient")
    assert counted == dict(zip(names, (2 * one, 3 * one, 2 * one, 3 * one), strict=True))


def test_failing_case_is_noted_and_the_others_go_on(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> dict[str, Any]:
        raise RuntimeError("out of something")

    shape = bench.Shape("pure20", 2, 3, 4)
    works = ("floor", {"n": 1}, lambda: bench.floor.measure(shape, "cpu", "float32", 1))
    monkeypatch.setattr(bench, "cases", lambda *_: [("epoch", {"images": 1}, fails), works])
    path = bench.run("cpu", True, 1.0, tmp_path, False)
    found = json.loads(path.read_text())
    assert [each.get("error") for each in found["cases"]] == ["RuntimeError: out of something", None]
    assert found["machine"]["torch"] == torch.__version__
    assert "out of something" in capsys.readouterr().err
    # what is there already is kept, what there is no time for is named
    more = ("floor", {"n": 2}, works[2])
    monkeypatch.setattr(bench, "cases", lambda *_: [works, more])
    left = json.loads(bench.run("cpu", True, -1.0, tmp_path, True).read_text())
    assert len(left["cases"]) == 2
    assert left["left_out"] == [{"part": "floor", "n": 2}]


def test_a_quick_run_has_every_part(bench: Any) -> None:
    assert {part for part, _, _ in bench.cases("cpu", True)} == {"networks", "epoch", "floor"}
    for device in ("cpu", "cuda"):
        names = [json.dumps([part, settings]) for part, settings, _ in bench.cases(device, False)]
        assert len(set(names)) == len(names) > 15


def test_bars_of_a_gpu_are_measured_first(bench: Any) -> None:
    """A run that is cut short has them."""
    first = [{"part": part, "device": "cuda", **settings} for part, settings, _ in bench.cases("cuda", False)][:5]
    for bar in benchmarks.BARS:
        if bar.where["device"] == "cuda":
            where = {key: wanted for key, wanted in bar.where.items() if (bar.what, key) != ("run", "model")}
            assert any(all(each.get(key) == wanted for key, wanted in where.items()) for each in first), bar.text


def test_cpu_run_has_the_bars_and_then_every_network_named(bench: Any) -> None:
    """Compiled and not; what costs most compilation comes last, so that it is what a short run leaves out."""
    named = [{"part": part, "device": "cpu", **settings} for part, settings, _ in bench.cases("cpu", False)]
    for bar in benchmarks.BARS:
        if bar.where["device"] == "cpu":
            assert any(bar.where.items() <= each.items() for each in named[:4]), bar.text
    networks = [each for each in named if each["part"] == "networks"]
    wanted = {(f"pure{depth}", compiled) for depth in (18, 34, 20, 110) for compiled in (False, True)}
    assert {(each["model"], each["compiled"]) for each in networks} == wanted
    assert [(each["model"], each["compiled"]) for each in networks].index(("pure110", True)) == len(networks) - 1


def test_training_epochs_are_timed_in_turns(bench: Any) -> None:
    found = bench.epochs.measure("pure20", "cpu", images=8, rounds=2, batch_size=8)
    assert {name: len(each) for name, each in found["seconds"].items()} == {"pure": 2, "resnet": 2}
    assert all(each > 0 for times in found["seconds"].values() for each in times)
