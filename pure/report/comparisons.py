"""Two networks compared run by run: from the same seeds and, where the records tell, on the same test images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pure.records import RunRecord, unpack_classes
from pure.report.statistics import Difference, contrast, image_difference, paired_difference
from pure.report.tables import finished, grouped, network_title, recipe_title, shown, text_table

__all__ = [
    "QUANTITIES",
    "Comparison",
    "Quantity",
    "ablation_table",
    "compare",
    "comparison_table",
    "factorial_table",
    "partners",
    "sentence",
]

_LARGEST = 3.4e38  # of float32: what a loss that is not finite counts as


@dataclass(frozen=True)
class Quantity:
    """What can be compared of a run.

    Attributes:
        value: of a run; None where it has none.
        unit: of a difference.
        ratio: whether two runs are compared by their quotient, and its logarithms are averaged.
    """

    value: Callable[[RunRecord], float | None]
    unit: str = "points"
    ratio: bool = False


def _accuracy(run: RunRecord) -> float | None:
    return 100 * run.test.accuracy if run.test is not None else None


def _macro(run: RunRecord) -> float | None:
    macro = run.test.macro_accuracy if run.test is not None else None
    return None if macro is None else 100 * macro


def _initial_loss(run: RunRecord) -> float | None:
    if not run.epochs:
        return None
    loss = (run.epochs[0].validation or run.epochs[0].train).loss
    return loss if math.isfinite(loss) else _LARGEST


QUANTITIES: Mapping[str, Quantity] = {
    "accuracy": Quantity(_accuracy),
    "macro accuracy": Quantity(_macro),
    "drop": Quantity(lambda run: run.relative_drop),
    "time to 80 %": Quantity(lambda run: run.time_to_accuracy(0.8), "times", ratio=True),
    "time to the best": Quantity(RunRecord.time_to_best, "times", ratio=True),
    "training time": Quantity(lambda run: run.times.train_s, "times", ratio=True),
    "initial loss": Quantity(_initial_loss, "times", ratio=True),
}
"""By name.  The accuracies are those of the test, in percent, the macro accuracy the mean over the classes; the drop is
that of eq. (6), in percent; times are seconds of training; the initial loss is that of the validation set after the
first epoch, or of the training set where nothing is held out."""


@dataclass(frozen=True)
class Comparison:
    """One network against another.

    Attributes:
        title: both, in words.
        effect: the first less the second, or the first divided by the second; None below two pairs of runs.
        n: number of pairs: seeds that both networks have ended with.
        unit: of the effect.
        detectable: the smallest true effect that these seeds would find in four of five repetitions; NaN where they do
            not scatter, or where there are no pairs.
        diverged: number of runs of each that diverged, which no pair includes.
        images: whether the interval covers the choice of the test images too, and not the seeds alone.
    """

    title: str
    effect: Difference | None
    n: int
    unit: str = "points"
    detectable: float = math.nan
    diverged: tuple[int, int] = (0, 0)
    images: bool = False

    def side(self, expected: str, bound: float) -> int:
        """1 where the whole interval lies where it is expected, -1 where all of it lies on the other side, else 0."""
        if self.effect is None:
            return 0
        above, below = self.effect.low > bound, self.effect.high < bound
        return (above - below) * (1 if expected == "more" else -1)

    def __str__(self) -> str:
        """``+0.17 points (-0.52 to +0.85), n = 5``, or how few runs there are."""
        lost = f", {' and '.join(map(str, self.diverged))} diverged" if any(self.diverged) else ""
        if self.effect is None:
            return f"{self.n or 'no'} pair{'s' if self.n != 1 else ''} of runs{lost}"
        return self.figure + ("" if self.unit == "counted" else f", n = {self.n}{lost}")

    @property
    def figure(self) -> str:
        """The effect with its interval."""
        assert self.effect is not None
        if self.unit == "counted":
            return f"\N{MULTIPLICATION SIGN}{_factor(self.effect.mean)}, counted"
        if self.unit == "%":
            return f"{self.effect.mean:.0f} % ({self.effect.low:.0f} to {self.effect.high:.0f} %)"
        if self.unit == "times":
            return f"\N{MULTIPLICATION SIGN}{_factor(self.effect.mean)} ({_factor(self.effect.low)} to " + (
                f"{_factor(self.effect.high)})"
            )
        sign = f"{self.effect.mean:+.2f} {self.unit}"
        return f"{sign} ({self.effect.low:+.2f} to {self.effect.high:+.2f})"


def _factor(value: float) -> str:
    return f"{value:.2f}" if 0.01 <= value < 1000 else f"{value:.1e}"


def partners(ours: Iterable[RunRecord], theirs: Iterable[RunRecord]) -> list[tuple[RunRecord, RunRecord]]:
    """The runs that ended on both sides, paired by seed, on one and the same data."""
    by_seed = {(run.seed, run.data.fingerprint): run for run in finished(theirs)}
    found = [(run, by_seed.get((run.seed, run.data.fingerprint))) for run in finished(ours)]
    return sorted(((one, other) for one, other in found if other is not None), key=lambda pair: pair[0].seed)


def compare(
    ours: Sequence[RunRecord], theirs: Sequence[RunRecord], quantity: str = "accuracy", confidence: float = 0.95
) -> Comparison:
    """How far one network is ahead of another, paired by seed.

    Accuracies are also paired by image where the records hold the predictions: the interval then is one for other test
    images of the same kind too.

    Args:
        ours: the runs of one network.
        theirs: those of the other.
        quantity: a name in :data:`QUANTITIES`.
        confidence: of the interval.

    Raises:
        KeyError: there is no such quantity.
    """
    kind = QUANTITIES[quantity]
    pairs = partners(ours, theirs)
    values = [(kind.value(one), kind.value(other)) for one, other in pairs]
    kept = [(a, b) for a, b in values if a is not None and b is not None]
    title = f"{network_title(ours[0])} against {network_title(theirs[0])}"
    diverged = len(ours) - len(finished(ours)), len(theirs) - len(finished(theirs))
    if len(kept) < 2:
        return Comparison(title, None, len(kept), kind.unit, diverged=diverged)
    left, right = [a for a, _ in kept], [b for _, b in kept]
    if kind.ratio:
        found = paired_difference([math.log(a) for a in left], [math.log(b) for b in right], confidence)
        effect = Difference(math.exp(found.mean), math.exp(found.low), math.exp(found.high))
        return Comparison(title, effect, found.n, kind.unit, math.exp(found.detectable), diverged)
    answers = _answers(pairs) if quantity == "accuracy" else None
    if answers is None:
        found = paired_difference(left, right, confidence)
        return Comparison(title, found, found.n, kind.unit, found.detectable, diverged)
    found = image_difference(*answers, confidence=confidence)
    points = Difference(100 * found.mean, 100 * found.low, 100 * found.high)
    return Comparison(title, points, found.n, kind.unit, 100 * found.detectable, diverged, images=True)


def _answers(pairs: Sequence[tuple[RunRecord, RunRecord]]) -> tuple[np.ndarray, np.ndarray] | None:
    """Whether each test image was classified rightly, ``(seeds, images)``, of both sides; None without predictions."""
    sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for pair in pairs:
        for side, run in zip(sides, pair, strict=True):
            if run.data.test_labels is None or run.test is None or run.test.predictions is None:
                return None
            right = unpack_classes(run.test.predictions) == unpack_classes(run.data.test_labels)
            side.append(right.numpy())
    return np.stack(sides[0]), np.stack(sides[1])


def comparison_table(pairs: Iterable[tuple[Sequence[RunRecord], Sequence[RunRecord]]], quantity: str) -> pd.DataFrame:
    """A row for each pair of networks: the difference with its interval, and what could have been found.

    Formatted text.
    """
    rows = []
    for ours, theirs in pairs:
        if not ours or not theirs:
            continue
        found = compare(ours, theirs, quantity)
        rows.append({"Compared": found.title, **_row(found)})
    return text_table(rows)


def _row(found: Comparison) -> dict[str, str]:
    detectable = "" if math.isnan(found.detectable) else f"{found.detectable:.2f}"
    return {
        "Difference": found.figure if found.effect is not None else "too few runs",
        "Decided": _decided(found),
        "Could have found": detectable,
        "Pairs": str(found.n),
        "Diverged": " and ".join(map(str, found.diverged)) if any(found.diverged) else "",
        "Interval covers": "seeds and images" if found.images else "seeds",
    }


def _decided(found: Comparison) -> str:
    side = found.side("more", 1.0 if found.unit == "times" else 0.0)
    return {1: "more", -1: "less", 0: "undecided"}[side] if found.effect is not None else ""


def ablation_table(baseline: Sequence[RunRecord], records: Iterable[RunRecord]) -> pd.DataFrame:
    """Every other reading of a network against the network as it stands, on the same data and from the same seeds.

    Args:
        baseline: the runs of the network as it stands.
        records: any; those of the same network and recipe that differ from the baseline are its ablations.

    Returns:
        Formatted text with one row for each, the most harmful last, where the columns are what is changed, test
        accuracy, difference and interval.  With as many comparisons as there are rows, one in twenty intervals misses
        zero by chance.
    """
    if not baseline:
        return text_table([])
    first = baseline[0]
    rows = []
    for runs in grouped(records):
        other = runs[0]
        same = (other.recipe.name, other.model.name, other.data.fingerprint) == (
            first.recipe.name,
            first.model.name,
            first.data.fingerprint,
        )
        if same and other.experiment != first.experiment:
            found = compare(runs, baseline)
            rows.append((found, {"Changed": changes(other, first), **_row(found)}))
    rows.sort(key=lambda row: -row[0].effect.mean if row[0].effect is not None else math.inf)
    return text_table([row for _, row in rows])


def changes(run: RunRecord, baseline: RunRecord) -> str:
    """What is set otherwise, in words: options of the network and fields of the recipe."""
    options = {**run.model.options, **{field: getattr(run.recipe, field) for field in run.overrides}}
    same = {**baseline.model.options, **{field: getattr(baseline.recipe, field) for field in baseline.overrides}}
    told = [f"{name} = {shown(value)}" for name, value in options.items() if same.get(name, ...) != value]
    return ", ".join(told) or f"another version of {recipe_title(run)}"


def factorial_table(cells: Mapping[tuple[str, str], Sequence[RunRecord]]) -> pd.DataFrame:
    """Unit and recipe told apart: the main effects and the interaction of a 2 x 2 experiment, in points of accuracy.

    Args:
        cells: the runs by network (``"pure"``, ``"resnet"``) and recipe (likewise); the seeds that all four have ended
            with count.

    Returns:
        Rows network, recipe, interaction, each with its interval over the seeds and what could have been found; none
        where a cell has fewer than two such seeds.  Formatted text.
    """
    names = [(network, recipe) for network in ("pure", "resnet") for recipe in ("pure", "resnet")]
    accuracies = {name: {run.seed: _accuracy(run) for run in finished(cells.get(name, ()))} for name in names}
    seeds = sorted(set.intersection(*(set(each) for each in accuracies.values())))
    if len(seeds) < 2:
        return text_table([])
    values = {name: [accuracies[name][seed] or 0.0 for seed in seeds] for name in names}
    signs = {"pure": 1.0, "resnet": -1.0}
    effects = {
        "PURe in place of ResNet, mean over both recipes": {name: signs[name[0]] / 2 for name in names},
        "PURe's recipe in place of ResNet's, mean over both networks": {name: signs[name[1]] / 2 for name in names},
        "PURe in place of ResNet, under PURe's recipe": {("pure", "pure"): 1.0, ("resnet", "pure"): -1.0},
        "PURe in place of ResNet, under ResNet's recipe": {("pure", "resnet"): 1.0, ("resnet", "resnet"): -1.0},
        "Interaction: the second last less the last": {name: signs[name[0]] * signs[name[1]] for name in names},
    }
    rows = []
    for text, weights in effects.items():
        found = contrast(values, weights)
        row = _row(Comparison("", found, found.n, detectable=found.detectable))
        rows.append({"Effect": text, **row})
    return text_table(rows)


def sentence(found: Comparison) -> str:
    """An accuracy compared, in plain words: what was found, how surely, and what could have been."""
    if found.effect is None:
        return f"{found.title}: {found.n} pair{'' if found.n == 1 else 's'} of runs, too few to say anything."
    words = {
        1: "the first is more accurate",
        -1: "the first is less accurate",
        0: "which of the two is more accurate is not decided",
    }[found.side("more", 0.0)]
    power = (
        ""
        if math.isnan(found.detectable)
        else f" A true difference of {found.detectable:.2f} points would be found in four of five such experiments."
    )
    lost = f" Diverged: {found.diverged[0]} and {found.diverged[1]} runs." if any(found.diverged) else ""
    return f"{found.title}: {words}, {found.figure}, from {found.n} seeds.{power}{lost}"
