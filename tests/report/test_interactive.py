"""Figures that react: what JavaScript draws in a browser is what the package computes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("bokeh", reason="needs the extra [book]")

from pure.nn.functional import product_unit2d
from pure.report import interactive

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

# What a slider is set to, and the arrays of a source, by the names that Python gave them.
SET = "([title, value]) => { models().find(model => model.title === title).value = value; }"
READ = """([name, column]) => {
    const found = models().find(model => model.name === name).data[column];
    return Array.from(found.length === 1 && found[0].length ? found[0] : found);
}"""
MODELS = "const models = () => Bokeh.documents.flatMap(document => [...document._all_models.values()]);"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the extra [test]")
    if CHROMIUM is None:
        pytest.skip("no Chromium on the PATH; on Debian and Ubuntu: apt install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """A function that opens a figure by itself, as a notebook shows it; any error of the page fails the test."""
    tab = browser.new_page()
    problems: list[str] = []
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("console", lambda message: message.type == "error" and problems.append(message.text))

    def opened(figure: interactive.Touchable) -> Any:
        (tmp_path / "page.html").write_text(f"<meta charset='utf8'>{figure._repr_html_()}")
        tab.goto((tmp_path / "page.html").as_uri())
        tab.locator(".touchable.started").wait_for()
        tab.add_script_tag(content=MODELS)
        return tab

    yield opened
    tab.close()
    assert problems == []


def test_derivatives_are_those_of_the_formulas() -> None:
    x = torch.tensor([-1.0, 0.1, 0.5, 2.0], dtype=torch.float64)
    curves = interactive.unit_curves(x, exponent=1.5, threshold=0.25)
    base = x.clamp(min=0.25)
    above = x > 0.25
    torch.testing.assert_close(curves["y"], base**1.5)
    torch.testing.assert_close(curves["dx"], 1.5 * base**0.5 * above)
    torch.testing.assert_close(curves["dw"], base**1.5 * base.log())
    torch.testing.assert_close(curves["dtau"], 1.5 * base**0.5 * ~above)


@pytest.mark.parametrize(("exponent", "threshold"), [(0.5, 0.3), (-1.7, 0.25), (3.0, 1.0), (0.0, 0.01)])
def test_the_browser_draws_the_unit(page: Any, exponent: float, threshold: float) -> None:
    tab = page(interactive.unit_explorer())
    tab.evaluate(SET, ["exponent w", exponent])
    tab.evaluate(SET, ["threshold τ", threshold])
    x = torch.tensor(tab.evaluate(READ, ["curves", "x"]), dtype=torch.float64)
    expected = interactive.unit_curves(x, exponent, threshold)
    for name, values in expected.items():
        np.testing.assert_allclose(tab.evaluate(READ, ["curves", name]), values, rtol=1e-12, atol=1e-15, err_msg=name)


def test_the_text_below_tells_the_values_at_one_input(page: Any) -> None:
    tab = page(interactive.unit_explorer())
    tab.evaluate(SET, ["exponent w", 2])
    tab.evaluate(SET, ["input x", 0.5])
    text = tab.locator(".readout").inner_text()
    assert text == "At x = 0.5, above the threshold: y = 0.25, dy/dx = 1, dy/dw = −0.173, dy/dτ = 0."  # noqa: RUF001
    tab.evaluate(SET, ["threshold τ", 0.6])
    text = tab.locator(".readout").inner_text()
    assert text == "At x = 0.5, below the threshold: y = 0.36, dy/dx = 0, dy/dw = −0.184, dy/dτ = 1.2."  # noqa: RUF001


@pytest.mark.parametrize("name", interactive.FILTERS)
def test_the_browser_filters_the_picture(page: Any, name: str) -> None:
    picture = interactive.sample_picture(32)
    tab = page(interactive.filter_explorer(picture))
    tab.evaluate("([value]) => { models().find(model => model.title === 'exponents').value = value; }", [name])
    tab.evaluate(SET, ["threshold τ", 0.2])
    tab.evaluate(SET, ["light at the right edge", 0.3])
    weight = torch.tensor(interactive.FILTERS[name], dtype=torch.float32).reshape(1, 1, 3, 3)
    seen = interactive.lit(picture, 0.3)
    expected = product_unit2d(seen[None], weight, 0.2, padding=1)[0]
    for source, values in (("before", seen), ("after", expected)):
        drawn = np.reshape(tab.evaluate(READ, [source, "image"]), picture.shape)[::-1]  # the lowest row comes first
        np.testing.assert_allclose(drawn, values, rtol=1e-4, err_msg=source)
    lifted = 100 * (seen < 0.2).float().mean()
    assert f"The threshold lifts {lifted:.3g} % of the pixels" in tab.locator(".readout").inner_text()


def test_sliders_obey_the_keyboard_and_tell_their_names(page: Any) -> None:
    tab = page(interactive.unit_explorer(exponent=0.5))
    handle = tab.get_by_role("slider", name="exponent w")
    handle.focus()
    tab.keyboard.press("ArrowRight")
    assert float(handle.get_attribute("aria-valuenow")) == pytest.approx(0.6)
    y = torch.tensor(tab.evaluate(READ, ["curves", "y"]))
    assert y[-1] == pytest.approx(2.495**0.6, rel=1e-6)
    assert [box.get_attribute("aria-label") for box in tab.get_by_role("slider").all()] == [
        "exponent w",
        "threshold τ",
        "input x",
    ]


def test_without_scripts_a_picture_is_left(browser: Any, tmp_path: Path) -> None:
    figure = interactive.unit_explorer()
    (tmp_path / "page.html").write_text(f"<meta charset='utf8'>{figure._repr_html_()}")
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto((tmp_path / "page.html").as_uri())
    picture = tab.get_by_role("img", name=figure.description)
    assert picture.is_visible()
    assert picture.bounding_box()["width"] > 300
    context.close()
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_the_library_is_part_of_a_notebook_and_not_of_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = interactive.unit_explorer()
    monkeypatch.delenv(interactive.BUNDLED, raising=False)
    assert len(figure._repr_html_()) > 1_000_000
    monkeypatch.setenv(interactive.BUNDLED, "bundled")
    assert len(figure._repr_html_()) < 150_000


def test_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one picture \(H, W\), not \(3, 8, 8\); take one channel"):
        interactive.filter_explorer(torch.rand(3, 8, 8))
