"""What makes the pages of this book easier to read, as a Sphinx extension.

- Tables made by code get a number and a caption, as figures do: a name that begins with ``tab-``.
- A page with figures that react loads BokehJS, from the installed package, not from another host.
- The head of a page says how long it ran, and ``{build-status}`` says where and from what the book was built.
- References, citations and terms open what they lead to when the pointer or the focus rests on them.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterable
from copy import copy
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import torch
from bokeh.util.paths import bokehjs_path
from bs4 import BeautifulSoup, Tag
from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from pure.data.machine import processors
from pure.records import Environment
from pure.report.interactive import BUNDLED

ROOT = Path(__file__).parents[2]
LOG = logging.getLogger(__name__)

SCRIPTS = ("bokeh.min.js", "bokeh-widgets.min.js")
"""The parts of BokehJS that the figures use."""

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "bokeh", "jupyter-book", "Sphinx", "myst-nb")
"""Whose versions the status page names."""

HEAD = ("Before this page", "You need", "Running time")
"""How the points at the head of a notebook begin."""

_ROWS = 8  # of a table in a preview
# What myst-nb makes of a notebook's outputs is chosen at priority 4.
_AFTER_THE_OUTPUTS = 6
# Figures are numbered when all pages are read; before that the tables must be known as such.
_BEFORE_THE_NUMBERS = 200


class captioned_table(nodes.figure):
    """A figure around a table that code made, until its outputs are known."""


class FiguresToTables(SphinxTransform):
    """Take figures named ``tab-...`` for tables, which have numbers of their own."""

    default_priority = _BEFORE_THE_NUMBERS

    def apply(self, **kwargs: Any) -> None:
        """Replace them."""
        for figure in list(self.document.findall(nodes.figure)):
            if any(name.startswith("tab-") for name in figure["names"]):
                table = captioned_table("", *figure.children, **figure.attributes)
                figure.replace_self(table)
                self.document.ids.update(dict.fromkeys(table["ids"], table))


class CaptionsToTables(SphinxPostTransform):
    """Give the caption and the name of a :class:`captioned_table` to the table in it."""

    default_priority = _AFTER_THE_OUTPUTS

    def run(self, **kwargs: Any) -> None:
        """Replace them by what they hold."""
        for figure in list(self.document.findall(captioned_table)):
            table = next(figure.findall(nodes.table), None)
            caption = next(figure.findall(nodes.caption))
            if table is None:
                LOG.warning("the cell named %s shows no table", figure["names"][0], location=figure)
                figure.replace_self(figure.children)
                continue
            table.insert(0, nodes.title("", "", *caption.children))
            table["ids"] += figure["ids"]
            table["names"] += figure["names"]
            figure.remove(caption)
            figure.replace_self(figure.children)


def bundle_bokeh(app: Sphinx) -> None:
    """Put BokehJS among the static files, and let the notebooks' kernels know that it is there."""
    os.environ[BUNDLED] = "bundled"
    if app.builder.format == "html":
        target = Path(app.outdir, "_static", "bokeh")
        target.mkdir(parents=True, exist_ok=True)
        for script in SCRIPTS:
            shutil.copy(Path(bokehjs_path(), "js", script), target)


def load_bokeh(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: nodes.document) -> None:
    """Load BokehJS where a page has figures that react."""
    if 'class="touchable"' in context.get("body", ""):
        for script in SCRIPTS:
            app.add_js_file(f"bokeh/{script}")


def tell_the_running_time(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Mark the head of a notebook's page, and add how long it ran to what its author promises."""
    for points in doctree.findall(nodes.bullet_list):
        if not all(point.astext().startswith(word) for point, word in zip(points, HEAD, strict=False)):
            continue
        points["classes"].append("head")
        seconds = (NbMetadataCollector.get_doc_data(app.env)[docname].get("exec_data") or {}).get("runtime")
        if seconds is not None:
            text = f" It took {max(round(seconds), 1):,} s when this page was made."
            points[-1][0] += nodes.inline("", text, classes=["measured"])
        return


class BuildStatus(SphinxDirective):
    """A table of where, when and from what the book was built."""

    def run(self) -> list[nodes.Node]:
        """Make it."""
        self.env.note_reread()  # nothing that this page says follows from its source
        return [table_of([("What", "This build"), *build_status()])]


@cache
def build_status() -> list[tuple[str, str]]:
    """Names and values: commit, time, versions, hardware."""
    here = Environment.current(torch.device("cpu"))
    commit, dirty, _ = (here.commit or "").partition("-dirty")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return [
        ("Built", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("Commit", f"{commit[:12]}{dirty}" or "none: outside a checkout"),
        ("Processor", f"{here.device_name}, {processors()} cores"),
        ("GPU", ", ".join(gpus) or "none"),
        ("System", here.platform),
        ("pure", here.pure),
        ("Python", here.python),
        ("Packages", ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)),
    ]


def table_of(rows: Iterable[tuple[str, str]]) -> nodes.table:
    """A table of two columns; the first row is its head."""
    table = nodes.table("", nodes.tgroup("", nodes.colspec(colwidth=1), nodes.colspec(colwidth=3), cols=2))
    head, *others = (nodes.row("", *(nodes.entry("", nodes.paragraph("", cell)) for cell in row)) for row in rows)
    table[0] += [nodes.thead("", head), nodes.tbody("", *others)]
    return table


# What opens when the pointer rests on a reference


def write_previews(app: Sphinx, exception: Exception | None) -> None:
    """Put into each page what its references lead to, so that it opens without a request, from a disk too."""
    if exception is not None or app.builder.format != "html":
        return
    pages = {name: Path(app.builder.get_outfilename(name)) for name in sorted(app.env.found_docs)}
    parsed = {
        path.resolve(): BeautifulSoup(path.read_bytes(), "html.parser") for path in pages.values() if path.exists()
    }
    targets = {path: {tag["id"]: tag for tag in page.find_all(id=True)} for path, page in parsed.items()}
    for path, page in parsed.items():
        previews = {}
        for link in page.select("article a.internal[href*='#'], article a[href].reference.internal[href*='#']"):
            address, anchor = urldefrag(str(link["href"]))
            file = (path.parent / unquote(address)).resolve() if address else path
            target = targets.get(file, {}).get(unquote(anchor))
            if target is not None and link["href"] not in previews and (found := preview(target)):
                previews[link["href"]] = _moved(found, file.parent, path.parent)
        text = path.read_text(encoding="utf8")
        data = json.dumps(previews).replace("</", "<\\/")
        script = f'<script type="application/json" id="previews">{data}</script>'
        path.write_text(text.replace("</body>", f"{script}\n</body>", 1), encoding="utf8")


def preview(target: Tag) -> str | None:
    """HTML of what a reference leads to: an entry of a list, a figure, a formula, the beginning of a section."""
    found = copy(target)
    for extra in found.select("a.headerlink, script, .touchable .parts, .touchable .readout"):
        extra.decompose()
    classes = set(found.get("class", []))
    if found.name == "table":
        for row in found.select("tbody tr")[_ROWS:]:
            row.decompose()
    if found.name in ("figure", "table") or "math" in classes:
        return str(found)
    if "citation" in classes:
        return "".join(map(str, found.find_all("p")))
    if found.name == "dt":  # a term, or an object of the API
        return _beginning(found, target.find_next_sibling("dd"))
    if found.name == "section":
        return _beginning(found.find(["h1", "h2", "h3", "h4"]), found)
    return None


def _beginning(title: Tag | None, body: Tag | None) -> str | None:
    """A title and the first paragraph of what it stands above."""
    first = body.find("p", recursive=False) if body else None
    return f"<p><strong>{' '.join(title.text.split())}</strong></p>{first}" if title and first else None


def _moved(content: str, source: Path, target: Path) -> str:
    """HTML of a page in one folder, for a page in another; no two elements of a page have one ``id``."""
    moved = BeautifulSoup(content, "html.parser")
    for tag in moved.find_all(True):
        tag.attrs.pop("id", None)
        for name in ("src", "href"):
            address = str(tag.get(name, ""))
            if address and not urlsplit(address).scheme and not address.startswith("#"):
                tag[name] = Path(os.path.relpath(source / address, target)).as_posix()
    return str(moved)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_enumerable_node(captioned_table, "table", title_getter=_caption)
    app.add_transform(FiguresToTables)
    app.add_post_transform(CaptionsToTables)
    app.add_directive("build-status", BuildStatus)
    app.add_js_file("previews.js", loading_method="defer")
    app.connect("builder-inited", bundle_bokeh)
    app.connect("html-page-context", load_bokeh)
    app.connect("doctree-resolved", tell_the_running_time)
    app.connect("build-finished", write_previews)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _caption(figure: nodes.Element) -> str:
    return next(figure.findall(nodes.caption)).astext()
