"""The guard of parameterised notebooks."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest

from pure.report.parameters import check_parameters

GOOD = {"recipe": "digits", "seed": 3, "lr": 0.1, "overwrite": False}
EXPECTED = {"recipe": str, "seed": int, "lr": float, "overwrite": bool}


def test_good_parameters_come_back_in_the_expected_order() -> None:
    shuffled = dict(reversed(GOOD.items()))
    assert list(check_parameters(shuffled, **EXPECTED).items()) == list(GOOD.items())


def test_a_second_run_in_the_same_kernel_finds_what_the_first_defined() -> None:
    namespace: dict[str, Any] = {**GOOD}
    check_parameters(namespace, **EXPECTED)
    namespace |= {"record": "a record", "folder": "runs"}
    assert check_parameters(namespace, **EXPECTED) == GOOD
    with pytest.raises(TypeError, match="parameter 'seed' must be of type int, got '3'"):
        check_parameters({**namespace, "seed": "3"}, **EXPECTED)
    with pytest.raises(NameError, match="unknown parameter 'folder'"):
        check_parameters({**GOOD, "folder": "runs"}, **EXPECTED)


def test_what_a_kernel_brings_along_is_no_parameter() -> None:
    kernel: dict[str, Any] = {
        "__name__": "__main__",
        "_": 3,
        "_i1": "seed = 3",
        "_oh": {},
        "In": ["", "seed = 3"],
        "Out": {},
        "exit": object(),
        "quit": object(),
        "get_ipython": object(),
        "open": open,
        "math": math,
        "Counter": Counter,
        "check_parameters": check_parameters,
    }
    assert check_parameters({**kernel, **GOOD}, **EXPECTED) == GOOD


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sed", "unknown parameter 'sed'; did you mean 'seed'? this notebook has recipe, seed, lr, overwrite"),
        ("overwirte", "unknown parameter 'overwirte'; did you mean 'overwrite'? this notebook has"),
        ("xyz", "unknown parameter 'xyz'; this notebook has recipe, seed, lr, overwrite"),
    ],
)
def test_a_misspelt_parameter_is_answered_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(NameError) as raised:
        check_parameters({**GOOD, name: 1}, **EXPECTED)
    assert str(raised.value).startswith(message)


def test_of_several_unknown_parameters_the_first_is_named() -> None:
    with pytest.raises(NameError, match="'zeta'"):
        check_parameters({**GOOD, "zeta": 1, "alpha": 1, "beta": 2}, **EXPECTED)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seed", "3", "parameter 'seed' must be of type int, got '3' of type str"),
        ("seed", True, "parameter 'seed' must be of type int, got True of type bool"),
        ("seed", 3.0, "parameter 'seed' must be of type int, got 3.0 of type float"),
        ("seed", None, "parameter 'seed' must be of type int, got None of type NoneType"),
        ("overwrite", 1, "parameter 'overwrite' must be of type bool, got 1 of type int"),
        ("overwrite", "false", "parameter 'overwrite' must be of type bool, got 'false' of type str"),
        ("lr", "1e-3", "parameter 'lr' must be of type float, got '1e-3' of type str"),
        ("lr", True, "parameter 'lr' must be of type float, got True of type bool"),
        ("recipe", 5, "parameter 'recipe' must be of type str, got 5 of type int"),
        ("recipe", ["digits"], "parameter 'recipe' must be of type str, got ['digits'] of type list"),
    ],
)
def test_an_ill_typed_parameter_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(TypeError) as raised:
        check_parameters({**GOOD, name: value}, **EXPECTED)
    assert str(raised.value) == message


def test_an_int_becomes_a_float_where_one_is_expected() -> None:
    found = check_parameters({**GOOD, "lr": 1}, **EXPECTED)
    assert found["lr"] == 1.0
    assert type(found["lr"]) is float


@pytest.mark.parametrize(("name", "kind"), [("seed", "int"), ("recipe", "str")])
def test_a_missing_parameter_is_named(name: str, kind: str) -> None:
    given = {other: value for other, value in GOOD.items() if other != name}
    with pytest.raises(NameError, match=rf"parameter '{name}' \({kind}\) is not set; keep it in the parameters cell"):
        check_parameters(given, **EXPECTED)
