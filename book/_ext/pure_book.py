"""What this book needs beyond Jupyter Book: a small Sphinx extension.

- :func:`read_notebook` reads ``.py`` notebooks such that a page is executed again when something it depends on changes.
- Each notebook can be downloaded as ``.ipynb``, with its outputs.
- Pages that papermill made launch the notebook that made them, which is in the repository, and carry their own titles.
- The addresses of the hub, of Binder and of the repository can be given at build time; the hub clones into a folder of
  its own, and Colab opens a copy that first installs the package.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import jupytext
import nbformat
from docutils import nodes
from jupyter_cache import get_cache
from nbformat import NotebookNode
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment

from pure.fingerprint import code_fingerprint

ROOT = Path(__file__).parents[2]

VERSIONS = ("requirements.lock",)
"""What every notebook depends on besides the modules that it uses: the versions of the other packages."""

GENERATED = {"book/runs/": "notebooks/experiments/train.py"}
"""Pages that are in no repository, by the beginning of their names, and the notebook that makes them."""

CLONE = "pure-networks"
"""Folder of a hub's home that launch links clone into.  Not the repository's name: images by repo2docker have the
repository in the home, where ``pure`` is the package."""

COLAB = "_colab"
"""Folder of the built pages with the notebooks that Colab opens."""

PAGES_BRANCH = "gh-pages"
"""Branch of the repository that the built pages are published on: Colab opens notebooks of GitHub's repositories."""

INSTALL = """\
# Colab has nothing of this project: get the repository, and install the
# package beside what is there (a minute or two, more where PyTorch is old).
!git clone --quiet --depth 1 --branch {branch} {repository} {clone}
%pip install --quiet "./{clone}[report,galaxies,timm]" bokeh periodictable
%cd {clone}/{folder}
"""

ADDRESSES = {
    "PURE_JUPYTERHUB_URL": ("launch_buttons", "jupyterhub_url"),
    "PURE_BINDER_URL": ("launch_buttons", "binderhub_url"),
    "PURE_REPOSITORY_URL": ("repository_url",),
}
"""Environment variables, and the theme's option that each of them sets."""

# The theme knows how three kinds of hosts name a file and a branch, each by its name; others mostly follow the first.
_PROVIDERS = ("github", "gitlab", "bitbucket")

# The theme's own handlers make the header's buttons at these priorities: ours go before the one and after the other.
_BEFORE_THE_BUTTONS, _AFTER_THE_BUTTONS = 500, 600
# Sphinx collects the titles of pages at the default priority, 500.
_BEFORE_THE_TITLES = 100


def fingerprint(patterns: Iterable[str], root: Path = ROOT) -> str:
    """SHA-256 over names and contents of the files that match glob patterns relative to ``root``."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in root.glob(pattern) if path.is_file()}):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


# As the build found it at first: a page may write what it depends on, such as the division of a data set, and the cache
# is asked for its outputs after that.
_fingerprint_of_this_build = cache(fingerprint)
_code_of_this_build = cache(code_fingerprint)


def read_notebook(text: str, root: Path = ROOT) -> NotebookNode:
    """Read a py:percent notebook, and put the fingerprint of what it depends on where jupyter-cache looks.

    The cache executes a notebook again when its code cells or its kernelspec change, and looks at nothing else.  So the
    fingerprint goes into the kernelspec.  It covers the code of the modules of ``pure`` that the notebook uses,
    :data:`VERSIONS`, and what the notebook names in its header::

        # jupyter:
        #   pure:
        #     depends: ["results/**/record.json"]
    """
    notebook = jupytext.reads(text, fmt="py:percent")
    own = notebook.metadata.pop("pure", {}).get("depends", [])
    notebook.metadata.setdefault("kernelspec", {"name": "python3", "display_name": "Python 3"})
    files = _fingerprint_of_this_build((*VERSIONS, *own), root)
    notebook.metadata.kernelspec["fingerprint"] = f"{_code_of_this_build(text, root)} {files}"
    return notebook


def executed_notebook(text: str, cache: Path | str) -> NotebookNode:
    """A py:percent notebook as an ``.ipynb``, with its outputs if the cache has them."""
    notebook = read_notebook(text)
    with suppress(KeyError):  # built without execution
        _, notebook = get_cache(cache).merge_match_into_notebook(notebook)
    del notebook.metadata.kernelspec["fingerprint"]
    _, notebook = nbformat.validator.normalize(notebook)
    return notebook


def repository_address() -> str:
    """Where the repository is published, or assumed to be: pyproject.toml says it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]
    return str(project["urls"]["Repository"])


def set_addresses(app: Sphinx, config: Config) -> None:
    """Set the repository's address, and let the environment of the build override it and those of ``_config.yml``."""
    config.html_theme_options["repository_url"] = repository_address()
    for variable, (*parents, option) in ADDRESSES.items():
        if address := os.environ.get(variable):
            options = config.html_theme_options
            for parent in parents:
                options = options.setdefault(parent, {})
            options[option] = address
    host = urlsplit(config.html_theme_options["repository_url"]).hostname or ""
    if host != "github.com":  # the only host whose repositories Colab opens
        config.html_theme_options.get("launch_buttons", {}).pop("colab_url", None)
    if not any(provider in host for provider in _PROVIDERS):
        config.html_theme_options["repository_provider"] = _PROVIDERS[0]


def offer_download(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: nodes.document) -> None:
    """Write a ``.py`` page as ``.ipynb`` next to the built book's sources, for the theme's download button."""
    if doctree is None or app.env.doc2path(pagename)[-3:] != ".py":
        return
    notebook = executed_notebook(
        Path(app.env.doc2path(pagename)).read_text(encoding="utf8"), app.env.mystnb_config.execution_cache_path
    )
    target = Path(app.outdir, "_sources", f"{pagename}.ipynb")
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)
    context["ipynb_source"] = f"{pagename}.ipynb"


def colab_notebook(notebook: NotebookNode, repository: str, branch: str, source: str) -> NotebookNode:
    """The notebook at ``source`` of a repository, with a first cell that gets the repository and installs it."""
    folder = Path(source).parent.as_posix()
    cell = nbformat.v4.new_code_cell(
        INSTALL.format(branch=branch, repository=repository, clone=CLONE, folder=folder).rstrip(), id="install"
    )
    notebook.cells.insert(0, cell)
    return notebook


def offer_colab(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: nodes.document) -> None:
    """Write the notebook of a page with :func:`colab_notebook`, where the page has a button for Colab."""
    options = app.config.html_theme_options
    source = source_of(pagename)
    if (
        doctree is None
        or not options.get("launch_buttons", {}).get("colab_url")
        or not Path(app.srcdir, source).is_file()
    ):
        return
    notebook = executed_notebook(
        Path(app.srcdir, source).read_text(encoding="utf8"), app.env.mystnb_config.execution_cache_path
    )
    target = Path(app.outdir, COLAB, f"{pagename}.ipynb")
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(colab_notebook(notebook, options["repository_url"], options["repository_branch"], source), target)


def source_of(pagename: str) -> str:
    """The notebook in the repository that makes a page."""
    return next((source for prefix, source in GENERATED.items() if pagename.startswith(prefix)), f"{pagename}.py")


def link_to_source(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: nodes.document) -> None:
    """Point the launch and source buttons of a page to the notebook in the repository, and Colab's to its copy.

    The theme names an ``.ipynb`` where the page was generated, or where JupyterLab has saved one next to the ``.py``.
    """
    source = source_of(pagename)
    for button in _buttons(context.get("header_buttons", []), {"launch-buttons", "source-buttons"}):
        button["url"] = button["url"].replace(f"{pagename}.ipynb", source)
        if "/git-pull?" in button["url"]:
            button["url"] = _cloned_apart(button["url"])
        if button.get("text") == "Colab":
            head, _, _ = button["url"].partition("/blob/")
            button["url"] = f"{head}/blob/{PAGES_BRANCH}/{COLAB}/{pagename}.ipynb"


def _cloned_apart(url: str) -> str:
    """A link of nbgitpuller that clones into :data:`CLONE`."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    name = query["repo"].rpartition("/")[2]
    query |= {"urlpath": query["urlpath"].replace(f"/{name}/", f"/{CLONE}/", 1), "targetPath": CLONE}
    return urlunsplit(parts._replace(query=urlencode(query, safe="/")))


def name_generated_page(app: Sphinx, doctree: nodes.document) -> None:
    """Tell the runs apart: add the title from ``_toc.yml`` to that of the notebook which made them all."""
    if app.env.docname.startswith(tuple(GENERATED)):
        title = next(doctree.findall(nodes.title))
        title += nodes.Text(f": {app.env.external_site_map[app.env.docname].title}")


def _buttons(entries: Iterable[dict[str, Any]], groups: set[str]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        if entry.get("label") in groups:
            yield from (button for button in entry["buttons"] if "url" in button)


def resolve_other_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Resolve ``pure.models.create_model`` to ``pure.create_model``, and a bare ``create_model`` too if there is one.

    Sphinx knows an object under the one name that the API lists it by; docstrings and annotations may use another one.
    """
    if node.get("refdomain") != "py":
        return None
    domain, target = env.get_domain("py"), node["reftarget"]
    listed = [name for name in domain.objects if name.endswith(f".{target.rpartition('.')[2]}")]  # type: ignore[attr-defined]
    if "." in target:
        found = _import(target)
        listed = [name for name in listed if found is not None and _import(name) is found and name != target]
    if len(listed) != 1:
        return None
    return domain.resolve_xref(  # type: ignore[return-value]
        env, node["refdoc"], app.builder, "obj", listed[0], node, content
    )


def _import(name: str) -> Any:
    """The object of this package by its dotted name, or None."""
    module, _, attribute = name.rpartition(".")
    if module.partition(".")[0] != "pure":
        return None
    try:
        return getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("config-inited", set_addresses, priority=100)
    app.connect("html-page-context", offer_download, priority=_BEFORE_THE_BUTTONS)
    app.connect("html-page-context", offer_colab, priority=_BEFORE_THE_BUTTONS)
    app.connect("html-page-context", link_to_source, priority=_AFTER_THE_BUTTONS)
    app.connect("doctree-read", name_generated_page, priority=_BEFORE_THE_TITLES)
    app.connect("missing-reference", resolve_other_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
