"""Phrases of error messages."""

from __future__ import annotations

from pure.wording import did_you_mean, some


def test_the_nearest_name_is_told_whatever_its_case() -> None:
    assert did_you_mean("flipp", ["none", "flip"]) == "did you mean 'flip'? "
    assert did_you_mean("CIFAR10", ["digits", "cifar10"]) == "did you mean 'cifar10'? "
    assert did_you_mean("Class7", ["Class7.1"]) == "did you mean 'Class7.1'? "
    assert did_you_mean("xyz", ["none", "flip"]) == ""


def test_of_many_names_five_are_told_and_the_others_counted() -> None:
    assert some("abcde") == "a, b, c, d, e"
    assert some(map(str, range(12))) == "0, 1, 2, 3, 4 and 7 more"
    assert some([]) == ""
