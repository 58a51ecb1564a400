"""Print the built book as one PDF by Chromium: ``make pdf``.

The articles of all pages, in the order of the contents, become one HTML page, which Chromium prints with page numbers
and an outline.  Formulas are typeset by the book's own MathJax and stay vectors; figures are those of the pages, and one
that reacts is its still picture.  Folded cells are open, and links between pages lead to places in the PDF.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OMITTED = "a.headerlink, script, style, .touchable .parts, .touchable .readout, button, .prev-next-footer"
FORMULAS = "script[src*='mathjax'], script[src*='MathJax']"
PRINTED = """
@page { size: A4; margin: 18mm 16mm 20mm; }
html { font-size: 11px; }
body { background: white; }
article { break-before: page; max-width: none; }
h1, h2, h3, figcaption, caption { break-after: avoid; }
figure, img, tr, .admonition, mjx-container { break-inside: avoid; }
img { max-width: 100% !important; height: auto !important; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
pre, .cell_input { break-inside: avoid; }
details > summary { display: none !important; }
table { font-size: 0.8em; width: 100%; }
.pst-scrollable-table-container, .bd-content mjx-container { overflow: visible; }
table :is(td, th, code, span) { overflow-wrap: anywhere; white-space: normal !important; min-width: 0 !important; }
.title { text-align: center; padding-top: 30vh; }
.title h1 { font-size: 3em; }
.contents li { list-style: none; }
.touchable .still { display: block !important; }
"""


def pages(entry: Any) -> Iterator[str]:
    """Names of the pages below an entry of ``_toc.yml``, in order."""
    if isinstance(entry, dict):
        for key, value in entry.items():
            yield from [value] if key in ("root", "file") else pages(value)
    elif isinstance(entry, list):
        for item in entry:
            yield from pages(item)


def anchor(page: str, name: str = "") -> str:
    """What a place of a page is called in the one page."""
    return f"{page.replace('/', '-')}--{name}" if name else page.replace("/", "-")


def article(html: Path, page: str, names: set[str]) -> Tag:
    """The article of a page, for the one page: addresses from the book's folder, links to places in it."""
    path = html / f"{page}.html"
    found = BeautifulSoup(path.read_bytes(), "html.parser").find("article")
    for tag in found.select(OMITTED):
        tag.decompose()
    for tag in found.find_all(True):
        if "id" in tag.attrs:
            tag["id"] = anchor(page, tag["id"])
        if tag.name == "details":
            tag["open"] = ""
        for name in ("src", "href"):
            address, place = urldefrag(str(tag.get(name, "")))
            if name not in tag.attrs or urlsplit(address).scheme:
                continue
            target = (path.parent / unquote(address)).resolve() if address else path.resolve()
            other = target.relative_to(html.resolve()).with_suffix("").as_posix()
            if name == "href" and target.suffix == ".html" and other in names:
                tag["href"] = f"#{anchor(other, place)}"
            else:
                tag[name] = target.relative_to(html.resolve()).as_posix()
    found["id"] = anchor(page)
    return found


def one_page(html: Path, contents: dict[str, Any], title: str) -> str:
    """The HTML of the whole book."""
    names = [name for name in pages(contents) if (html / f"{name}.html").exists()]
    if not names:
        raise FileNotFoundError(f"{html} has none of the book's pages; build them first: make book")
    first = BeautifulSoup((html / f"{names[0]}.html").read_bytes(), "html.parser")
    articles = [article(html, name, set(names)) for name in names]
    heads = [tag.find("h1").get_text(" ", strip=True) for tag in articles]
    lines = "".join(f'<li><a href="#{anchor(n)}">{h}</a></li>' for n, h in zip(names, heads, strict=True))
    looks = [Path(str(tag["href"]).split("?")[0]).name for tag in first.select("link[rel=stylesheet]")]
    styles = "".join(
        f'<link rel="stylesheet" href="{path.relative_to(html).as_posix()}">'
        for look in looks
        for path in sorted((html / "_static").rglob(look))[:1]
    )
    # MathJax with its settings, as on a page; nothing else runs
    settings = [tag for tag in first.select("script") if "MathJax" in tag.text or tag in first.select(FORMULAS)]
    for tag in settings:
        if "src" in tag.attrs:
            source = (html / names[0]).parent / str(tag["src"]).split("?")[0]
            tag["src"] = source.resolve().relative_to(html.resolve()).as_posix()
    return (
        f'<!doctype html><html data-theme="light"><head><meta charset="utf8"><title>{title}</title>{styles}'
        f"<style>{PRINTED}</style>{''.join(map(str, settings))}</head><body><main class='bd-content'>"
        f"<div class='title'><h1>{title}</h1></div><article class='contents'><h1>Contents</h1><ul>{lines}</ul></article>"
        f"{''.join(map(str, articles))}</main></body></html>"
    )


def main() -> int:
    """Print the book; 2 where something is missing."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--html", type=Path, default=ROOT / "_build" / "html", help="the built pages")
    parser.add_argument("--toc", type=Path, default=ROOT / "_toc.yml", help="their order")
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "pdf" / "book.pdf")
    options = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print("No Chromium on the PATH prints the book; on Debian and Ubuntu: apt install chromium", file=sys.stderr)
        return 2
    try:
        from playwright.sync_api import sync_playwright

        title = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf8"))["title"]
        text = one_page(options.html, yaml.safe_load(options.toc.read_text(encoding="utf8")), title)
    except (ImportError, FileNotFoundError) as problem:
        print(problem, file=sys.stderr)
        return 2
    # among the pages, so that addresses from their folder hold; gone when it is printed
    page = options.html / "_one-page.html"
    page.write_text(text, encoding="utf8")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    number = '<div style="width:100%;text-align:center;font-size:8px"><span class="pageNumber"></span></div>'
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            tab = chromium.new_page()
            tab.set_default_timeout(600_000)
            tab.goto(page.resolve().as_uri(), wait_until="load")
            tab.evaluate("async () => { await window.MathJax?.startup?.promise; }")
            tab.pdf(
                path=options.out,
                prefer_css_page_size=True,
                print_background=True,
                display_header_footer=True,
                header_template="<span></span>",
                footer_template=number,
                outline=True,
                tagged=True,
            )
            chromium.close()
    finally:
        page.unlink()
    print(f"==> The book lies in {options.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
