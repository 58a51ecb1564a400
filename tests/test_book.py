"""The book: what its extension promises, the pages that lie in ``_build/html``, and those pages in a browser.

The browser has no network: whatever a page wants from another host is an error.
"""

from __future__ import annotations

import ast
import functools
import http.server
import itertools
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urldefrag, urljoin, urlsplit

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parents[1]
HTML = ROOT / "_build" / "html"
RUNS = "book/runs/"
TRAIN = "notebooks/experiments/train.py"

TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())


def _pages(entry: Any) -> Iterator[str]:
    """Names of all pages below an entry of ``_toc.yml``, in order."""
    if isinstance(entry, dict):
        for key, value in entry.items():
            if key in ("root", "file"):
                yield value
            else:
                yield from _pages(value)
    elif isinstance(entry, list):
        for item in entry:
            yield from _pages(item)


PAGES = list(_pages(TOC))
NOTEBOOKS = [page for page in PAGES if page.startswith(RUNS) or (ROOT / f"{page}.py").exists()]

built = pytest.mark.skipif(not (HTML / "index.html").exists(), reason="the book is not built; run `make book` first")


# The extension


@pytest.fixture(scope="module")
def pure_book() -> Iterator[ModuleType]:
    pytest.importorskip("jupyter_book", reason="needs the extra [book]")
    sys.path.insert(0, str(ROOT / "book" / "_ext"))
    try:
        import pure_book

        yield pure_book
    finally:
        sys.path.remove(str(ROOT / "book" / "_ext"))


PLAIN = """\
# %% [markdown]
# # {title}

# %%
from pathlib import Path

import pure.{module}

with Path("../log").open("a") as log:
    log.write("{title} ")
print("{title}", 1)
"""

WITH_RECORDS = f"""\
# ---
# jupyter:
#   pure:
#     depends: ["results/**/record.json"]
# ---

{PLAIN}"""


@pytest.fixture
def small_book(tmp_path: Path) -> Path:
    """Three notebooks that note when they are executed, with our extension.

    One depends on records, and each uses a module of a package of its own.
    """
    for folder in ("pure", "results/digits", "book/_ext", "pages"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "book" / "_ext" / "pure_book.py", tmp_path / "book" / "_ext")
    shutil.copy(ROOT / "pure" / "fingerprint.py", tmp_path / "pure")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)  # the extension reads the address there
    (tmp_path / "pure" / "__init__.py").write_text("")
    (tmp_path / "pure" / "units.py").write_text('"""Units."""\n\nSIZE = 8\n')
    (tmp_path / "pure" / "tables.py").write_text("import pure.units\n")
    (tmp_path / "results" / "digits" / "record.json").write_text("{}")
    (tmp_path / "pages" / "one.py").write_text(PLAIN.format(title="one", module="tables"))
    (tmp_path / "pages" / "two.py").write_text(PLAIN.format(title="two", module="units"))
    (tmp_path / "pages" / "records.py").write_text(WITH_RECORDS.format(title="records", module="units"))
    (tmp_path / "index.md").write_text("# Index\n\n```{toctree}\npages/one\npages/two\npages/records\n```\n")
    (tmp_path / "conf.py").write_text(
        "import sys\n"
        "sys.path.insert(0, 'book/_ext')\n"
        "extensions = ['myst_nb', 'pure_book']\n"
        "exclude_patterns = ['pure', 'book', 'conf.py', '_build']\n"
        "nb_custom_formats = {'.py': ['pure_book.read_notebook', {}]}\n"
        "html_theme = 'sphinx_book_theme'\n"  # whose options the extension sets
        "html_context = {'default_mode': 'auto'}\n"
        "nb_execution_mode = 'cache'\n"
        "nb_execution_raise_on_error = True\n"
    )
    return tmp_path


def _build(book: Path) -> set[str]:
    """Build from scratch but for the cache; the notebooks that were executed."""
    (book / "log").write_text("")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-E", "-a", "-b", "html", ".", "_build/html"]
    environment = os.environ | {"PYTHONPATH": str(book)}  # so that the kernels import its package, not ours
    result = subprocess.run(command, cwd=book, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return set((book / "log").read_text().split())


def test_exactly_what_a_change_has_reached_is_executed_again(small_book: Path) -> None:
    pytest.importorskip("jupyter_book", reason="needs the extra [book]")
    everything = {"one", "two", "records"}
    one = small_book / "pages" / "one.py"
    units, tables = small_book / "pure" / "units.py", small_book / "pure" / "tables.py"
    assert _build(small_book) == everything
    units.write_text('"""Product units."""\n\n\nSIZE = 8  # pixels\n')
    assert _build(small_book) == set()
    one.write_text(one.read_text() + "print(2)\n")
    assert _build(small_book) == {"one"}
    (small_book / "results" / "digits" / "record.json").write_text('{"changed": true}')
    assert _build(small_book) == {"records"}
    tables.write_text("import pure.units\n\nWIDTH = 3\n")
    assert _build(small_book) == {"one"}
    units.write_text("SIZE = 16\n")
    assert _build(small_book) == everything

    # The download has the outputs also when they come from the cache.
    assert _build(small_book) == set()
    assert _downloaded_outputs(small_book, "one") == ["one 1\n2\n"]


def test_a_page_that_writes_what_it_depends_on_has_its_outputs(small_book: Path) -> None:
    pytest.importorskip("jupyter_book", reason="needs the extra [book]")
    page = small_book / "pages" / "records.py"
    page.write_text(page.read_text() + '_ = Path("../results/digits/record.json").write_text("written")\n')
    assert "records" in _build(small_book)
    assert _downloaded_outputs(small_book, "records") == ["records 1\n"]
    assert _build(small_book) == {"records"}  # which found something else than at first
    assert _build(small_book) == set()


def _downloaded_outputs(book: Path, page: str) -> list[str]:
    notebook = nbformat.read(book / "_build" / "html" / "_sources" / "pages" / f"{page}.ipynb", as_version=4)
    return [output.text for cell in notebook.cells for output in cell.get("outputs", [])]


def test_the_fingerprint_sees_contents_names_and_new_files(pure_book: ModuleType, tmp_path: Path) -> None:
    def fingerprint() -> str:
        return str(pure_book.fingerprint(["pure/**/*.py"], tmp_path))

    (tmp_path / "pure").mkdir()
    file = tmp_path / "pure" / "a.py"
    seen = [fingerprint()]
    file.write_text("x = 1")
    seen.append(fingerprint())
    file.write_text("x = 2")
    seen.append(fingerprint())
    file = file.rename(tmp_path / "pure" / "b.py")
    seen.append(fingerprint())
    assert len(set(seen)) == len(seen)
    os.utime(file, (0, 0))
    (tmp_path / "other.py").write_text("x = 3")
    assert fingerprint() == seen[-1]  # neither the time of a file nor another file counts


def test_generated_pages_launch_the_notebook_that_makes_them(pure_book: ModuleType) -> None:
    def header() -> list[dict[str, Any]]:
        launch = {"text": "Binder", "url": "https://mybinder.org/v2/gh/a/b/main?urlpath=lab/tree/book/runs/x.ipynb"}
        download = {"text": ".ipynb", "url": "../../_sources/book/runs/x.ipynb"}
        return [{"label": "launch-buttons", "buttons": [launch]}, {"label": "download-buttons", "buttons": [download]}]

    context = {"header_buttons": header()}
    pure_book.link_to_source(None, "book/runs/x", "page.html", context, None)
    launch, download = context["header_buttons"]
    assert launch["buttons"][0]["url"] == f"https://mybinder.org/v2/gh/a/b/main?urlpath=lab/tree/{TRAIN}"
    assert download == header()[1]

    context = {"header_buttons": header()}
    pure_book.link_to_source(None, "notebooks/x", "page.html", context, None)
    assert context["header_buttons"] == header()


def test_a_hub_clones_into_a_folder_that_no_image_has(pure_book: ModuleType) -> None:
    """Whatever the repository is called: ``pure`` in an image's home is the package."""
    link = "https://hub.example.org/hub/user-redirect/git-pull?"
    button = {
        "text": "JupyterHub",
        "url": f"{link}repo=https%3A//git.example.org/us/pure&urlpath=lab/tree/pure/notebooks/pure/x.py&branch=main",
    }
    context = {"header_buttons": [{"label": "launch-buttons", "buttons": [button]}]}
    pure_book.link_to_source(None, "notebooks/pure/x", "page.html", context, None)
    assert button["url"] == (
        f"{link}repo=https%3A//git.example.org/us/pure&urlpath=lab/tree/pure-networks/notebooks/pure/x.py&branch=main"
        "&targetPath=pure-networks"
    )
    assert not (ROOT / pure_book.CLONE).exists()


def test_a_notebook_that_jupyterlab_saved_beside_the_page_is_not_what_is_launched(pure_book: ModuleType) -> None:
    """The theme would name it, and the repository does not have it."""
    button = {"text": "Binder", "url": "https://mybinder.org/v2/gh/a/b/main?urlpath=lab/tree/notebooks/x.ipynb"}
    context = {"header_buttons": [{"label": "launch-buttons", "buttons": [button]}]}
    pure_book.link_to_source(None, "notebooks/x", "page.html", context, None)
    assert button["url"].endswith("lab/tree/notebooks/x.py")


def test_colab_opens_a_copy_that_installs_the_package_first(pure_book: ModuleType) -> None:
    button = {"text": "Colab", "url": "https://colab.research.google.com/github/a/b/blob/main/book/runs/x.ipynb"}
    context = {"header_buttons": [{"label": "launch-buttons", "buttons": [button]}]}
    pure_book.link_to_source(None, "book/runs/x", "page.html", context, None)
    assert button["url"] == "https://colab.research.google.com/github/a/b/blob/gh-pages/_colab/book/runs/x.ipynb"

    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import pure")])
    copy = pure_book.colab_notebook(page, "https://github.com/a/b", "main", "notebooks/data/x.py")
    nbformat.validate(copy)
    assert [cell.source for cell in copy.cells[1:]] == ["import pure"]
    assert copy.cells[0].source.splitlines()[2:] == [
        "!git clone --quiet --depth 1 --branch main https://github.com/a/b pure-networks",
        '%pip install --quiet "./pure-networks[report,galaxies,timm]" bokeh periodictable',
        "%cd pure-networks/notebooks/data",
    ]


def test_the_first_cell_on_colab_installs_all_that_the_notebooks_import(pure_book: ModuleType) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    requirements = [
        *extras["report"],
        *extras["train"],
        *extras["galaxies"],
        *extras["timm"],
        "torch",
        "torchvision",
        "numpy",
        "IPython",
    ]
    requirements += ["bokeh", "periodictable", "packaging"]  # packaging and IPython are Jupyter's own
    installed = {re.split(r"[^\w-]", each)[0].lower().replace("-", "_") for each in requirements}
    installed |= {"sklearn", "pil", "yaml", "pure"}
    for path in (ROOT / "notebooks").rglob("*.py"):
        tree = ast.parse(path.read_text())
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        imported = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
        assert {name.lower() for name in imported} <= installed, path.name


def test_the_environment_sets_the_addresses(pure_book: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SimpleNamespace(html_theme_options={"launch_buttons": {"binderhub_url": "b", "jupyterhub_url": "j"}})
    for variable in pure_book.ADDRESSES:
        monkeypatch.delenv(variable, raising=False)
    pure_book.set_addresses(None, config)
    assert config.html_theme_options["launch_buttons"] == {"binderhub_url": "b", "jupyterhub_url": "j"}
    monkeypatch.setenv("PURE_JUPYTERHUB_URL", "https://hub.example.org")
    pure_book.set_addresses(None, config)
    assert config.html_theme_options["repository_url"] == pure_book.repository_address()
    assert "repository_provider" not in config.html_theme_options  # the theme knows it by its host
    monkeypatch.setenv("PURE_REPOSITORY_URL", "https://git.example.org/us/pure")
    config.html_theme_options["launch_buttons"]["colab_url"] = "c"
    pure_book.set_addresses(None, config)
    assert config.html_theme_options == {
        "launch_buttons": {"binderhub_url": "b", "jupyterhub_url": "https://hub.example.org"},  # and no "colab_url"
        "repository_url": "https://git.example.org/us/pure",
        "repository_provider": "github",
    }


def test_the_contents_list_the_runs_that_are_made() -> None:
    groups = yaml.safe_load((ROOT / "workflow" / "experiments.yaml").read_text())["quick"]
    made = [(each["recipe"], *run) for each in groups for run in itertools.product(each["networks"], each["seeds"])]
    expected = [f"{RUNS}{recipe}-{model}-seed{seed}" for recipe, model, seed in made]
    assert sorted(page for page in PAGES if page.startswith(RUNS)) == sorted(expected)


# What makes pages easier to read


@pytest.fixture(scope="module")
def pure_reading(pure_book: ModuleType) -> ModuleType:
    import pure_reading

    return pure_reading


PREVIEWS = """<section id="a"><h2>Title<a class="headerlink">#</a></h2><p>First.</p><p>Second.</p></section>
<dl><dt id="term-b">word<a class="headerlink">#</a></dt><dd><p>Its meaning.</p><p>More.</p></dd></dl>
<div class="citation" id="c"><span class="label">[X]</span><p>Author. Title.</p></div>
<div class="math" id="d">\\[x\\]</div>
<table id="e"><tbody>{rows}</tbody></table>
<figure id="f"><div class="touchable"><img class="still"><div class="parts">live</div></div></figure>
<span id="g">neither</span>"""


def test_previews_show_what_a_reference_leads_to(pure_reading: ModuleType) -> None:
    rows = "".join(f"<tr><td>{n}</td></tr>" for n in range(20))
    page = pure_reading.BeautifulSoup(PREVIEWS.format(rows=rows), "html.parser")
    shown = {tag["id"]: pure_reading.preview(tag) for tag in page.find_all(id=True)}
    assert shown["a"] == "<p><strong>Title</strong></p><p>First.</p>"
    assert shown["term-b"] == "<p><strong>word</strong></p><p>Its meaning.</p>"
    assert shown["c"] == "<p>Author. Title.</p>"
    assert "x" in shown["d"]
    assert shown["e"].count("<tr>") == 8
    assert "still" in shown["f"]
    assert "live" not in shown["f"]
    assert shown["g"] is None
    assert len(page.select("tbody tr")) == 20  # the page itself is left as it is


@built
def test_tables_made_by_code_are_numbered_and_named() -> None:
    text = (HTML / "book" / "status.html").read_text(encoding="utf8")
    assert re.search(
        r'<table[^>]*id="tab-runs-committed"[^>]*>\s*<caption><span class="caption-number">Table \d+', text
    )


# The built pages, as files


class _Page(HTMLParser):
    """Anchors, links, and what a page loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[tuple[str, dict[str, str]]] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append((values["href"], values))
        elif tag == "link" and "href" in values and values.get("rel") not in ("canonical", "search"):
            self.loaded.append(values["href"])
        elif tag in ("script", "img", "iframe", "source", "video", "audio", "embed") and values.get("src"):
            self.loaded.append(values["src"])


@functools.cache
def _parsed(path: Path) -> _Page:
    return _Page(path)


def _html_files() -> list[Path]:
    """The pages of this build; an older one may have left others behind."""
    return [HTML / f"{page}.html" for page in ["index", "search", "genindex", "py-modindex", *PAGES]]


def _is_elsewhere(url: str) -> bool:
    return bool(urlsplit(url).netloc)


@built
def test_every_page_of_the_contents_is_built() -> None:
    assert [page for page in PAGES if not (HTML / f"{page}.html").exists()] == []


@built
def test_every_internal_link_leads_somewhere() -> None:
    broken, checked = [], 0
    for path in _html_files():
        for href, _ in _parsed(path).links:
            target, anchor = urldefrag(href)
            if urlsplit(target).scheme or _is_elsewhere(target):
                continue
            checked += 1
            file = (path.parent / unquote(urlsplit(target).path)).resolve() if target else path
            found = file.is_file() and (not anchor or file.suffix != ".html" or unquote(anchor) in _parsed(file).ids)
            if not found:
                broken.append(f"{path.relative_to(HTML)}: {href}")
    assert "\n".join(broken) == ""
    assert checked > 100


@built
def test_nothing_is_loaded_from_another_host() -> None:
    elsewhere = [f"{path.name}: {url}" for path in _html_files() for url in _parsed(path).loaded if _is_elsewhere(url)]
    for path in (HTML / "_static").rglob("*.css"):
        urls = re.findall(r"(?:@import\s+|url\()\s*['\"]?([^'\")\s]+)", path.read_text(encoding="utf8"))
        elsewhere += [f"{path.name}: {url}" for url in urls if _is_elsewhere(url)]
    assert elsewhere == []


@built
@pytest.mark.parametrize("page", NOTEBOOKS)
def test_a_notebook_can_be_launched_and_downloaded(page: str, pure_book: ModuleType) -> None:
    source = TRAIN if page.startswith(RUNS) else f"{page}.py"
    assert (ROOT / source).is_file()
    links = [href for href, _ in _parsed(HTML / f"{page}.html").links]

    hub, binder = (
        [urlsplit(href) for href in links if mark in href] for mark in ("/hub/user-redirect/git-pull?", "/v2/g")
    )
    assert len(hub) == len(binder) == 1
    query = parse_qs(hub[0].query)
    repository = query["repo"][0]
    assert repository.count("/") == 4
    assert query["urlpath"] == [f"lab/tree/{pure_book.CLONE}/{source}"]
    assert query["targetPath"] == [pure_book.CLONE]
    assert query["branch"] == ["main"]
    assert parse_qs(binder[0].query)["urlpath"] == [f"lab/tree/{source}"]

    copies = [urlsplit(href).path for href in links if "colab" in href]  # of a repository on GitHub only
    assert len(copies) == ("github.com" in repository)
    for path in copies:
        head, _, file = path.partition("/blob/gh-pages/")
        assert repository.endswith(head.removeprefix("/github"))
        notebook = nbformat.read(HTML / file, as_version=4)
        assert f"git clone --quiet --depth 1 --branch main {repository} " in notebook.cells[0].source

    downloads = [href for href in links if "/_sources/" in href and href.endswith(".ipynb")]
    assert len(downloads) == 1
    notebook = nbformat.read((HTML / f"{page}.html").parent / downloads[0], as_version=4)
    nbformat.validate(notebook)
    assert any(cell.get("outputs") for cell in notebook.cells)
    assert set(notebook.metadata.kernelspec) <= {"name", "display_name", "language"}


@built
@pytest.mark.parametrize("page", sorted(set(PAGES) - set(NOTEBOOKS)))
def test_other_pages_have_nothing_to_launch(page: str) -> None:
    links = [href for href, _ in _parsed(HTML / f"{page}.html").links]
    assert not [href for href in links if "git-pull" in href or "urlpath=" in href or href.endswith(".ipynb")]


@built
def test_the_runs_have_titles_of_their_own() -> None:
    titles = [
        re.search(r"<title>(.*?)</title>", (HTML / f"{page}.html").read_text(encoding="utf8"), re.DOTALL)[1]  # type: ignore[index]
        for page in PAGES
    ]
    assert len(set(titles)) == len(titles)


@built
def test_every_setting_of_the_ledger_is_linked_to_the_api() -> None:
    links = {href for href, _ in _parsed(HTML / "book" / "ledger.html").links}
    for name in ("ProductUnit2d", "create_model"):
        assert f"api.html#pure.{name}" in links
    for field in ("decay_theta", "weight_decay", "gamma", "milestones", "selection", "augmentation", "data_options"):
        assert f"api.html#pure.recipes.Recipe.{field}" in links


class _Article(HTMLParser):
    """The words of a page's article."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inside, self.words = 0, list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside += tag == "article"

    def handle_endtag(self, tag: str) -> None:
        self.inside -= tag == "article"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.words += data.split()


@built
def test_plain_sphinx_builds_the_same_book(tmp_path: Path) -> None:
    """Jupyter Book 1 is kept alive by volunteers: the day it breaks, this is the way on.

    Its settings become a conf.py without its own extensions, and Sphinx with MyST-NB builds what it built, word for
    word.  Nothing is executed: the cache of the build has the outputs.
    """
    config = pytest.importorskip("jupyter_book.config", reason="needs the extra [book]")
    for name in ("_toc.yml", "_config.yml", "pyproject.toml", "requirements.lock", "requirements-cpu.lock"):
        shutil.copy(ROOT / name, tmp_path)
    for folder in ("book", "notebooks", "pure", "results", "workflow", "hub", "_build/runs", "_build/.jupyter_cache"):
        if (ROOT / folder).is_dir():
            shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    settings, _ = config.get_final_config(
        user_yaml=tmp_path / "_config.yml", cli_config={"latex_individualpages": False}, sourcedir=tmp_path
    )
    own = {"jupyter_book", "sphinx_jupyterbook_latex"}
    settings["extensions"] = [name for name in settings["extensions"] if name not in own]
    unknown = {"use_jupyterbook_latex", "latex_engine", "use_multitoc_numbering"}
    lines = [f"{name} = {value!r}" for name, value in sorted(settings.items()) if name not in unknown]
    (tmp_path / "conf.py").write_text("\n".join(["import sys", "sys.path.insert(0, 'book/_ext')", *lines]) + "\n")

    command = [sys.executable, "-m", "sphinx", "-n", "-W", "--keep-going", "-b", "html", ".", "_build/plain"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "Executing notebook" not in result.stderr
    for page in sorted(set(PAGES) - {"book/status"}):  # which tells of one build
        plain, built = (folder / f"{page}.html" for folder in (tmp_path / "_build" / "plain", HTML))
        assert _words_without_times(plain) == _words_without_times(built), page


def _words_without_times(path: Path) -> str:
    """What a page says, but for how long it took to make it: either build may have executed it."""
    words = " ".join(_Article(path.read_text(encoding="utf8")).words)
    return re.sub(r"It took [\d,]+ s when this page was made\.", "", words)


# The built pages, in a browser

TEXT = """() => {
    const skipped = new Set(["PRE", "CODE", "SCRIPT", "STYLE", "MJX-CONTAINER"]);
    const walker = document.createTreeWalker(document.querySelector("article"), NodeFilter.SHOW_ALL, node =>
        skipped.has(node.nodeName) ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT);
    let text = "";
    while (walker.nextNode()) if (walker.currentNode.nodeType === Node.TEXT_NODE) text += walker.currentNode.data;
    return text;
}"""

FORMULAS = """() => [...document.querySelectorAll("article .math")].map(element => {
    const boxes = [...element.querySelectorAll("mjx-container")].map(box => box.getBoundingClientRect());
    return {
        source: element.textContent,
        drawn: boxes.length > 0 && boxes.every(box => box.width > 0 && box.height > 0),
        error: element.querySelector("mjx-merror, [data-mjx-error]") !== null,
    };
})"""

FIGURES = """async () => Promise.all([...document.querySelectorAll("img")].map(async image => {
    image.loading = "eager";
    await image.decode().catch(() => null);
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    let colours = 0;
    if (image.naturalWidth > 0) {
        const context = canvas.getContext("2d");
        context.drawImage(image, 0, 0);
        const pixels = new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
        colours = new Set(pixels).size;
    }
    return {
        source: image.getAttribute("src").slice(0, 80), width: image.naturalWidth, colours: colours,
        figure: image.closest(".cell_output") !== null,
    };
}))"""


class Site(http.server.SimpleHTTPRequestHandler):
    """The built pages; says nothing."""

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Site, directory=str(HTML)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the extra [test]")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        pytest.skip("no Chromium on the PATH; on Debian and Ubuntu: apt install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable,
            # Without a sandbox: it does not start for root, who runs the tests in a container.
            args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        )
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Any, address: str) -> Iterator[Any]:
    """A page that fails the test for any error of its own, and for any request to another host."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    tab = context.new_page()
    problems: list[str] = []

    def note(problem: str, when: bool = True) -> None:
        if when:
            problems.append(problem)

    # Chromium asks for favicon.ico by itself where a page names no icon, as the redirect at the first address does.
    own_request = f"{address}/favicon.ico"
    tab.on(
        "console",
        lambda message: note(message.text, message.type == "error" and message.location["url"] != own_request),
    )
    tab.on("pageerror", lambda error: note(str(error)))
    # A test that goes on to another page breaks off what the last one was still loading, such as its icon.
    broken_off = "net::ERR_ABORTED"
    tab.on("requestfailed", lambda request: note(f"failed: {request.url}", request.failure != broken_off))
    tab.on(
        "response",
        lambda response: note(
            f"{response.status}: {response.url}", response.status >= 400 and response.url != own_request
        ),
    )
    tab.on(
        "request",
        lambda request: note(f"elsewhere: {request.url}", not request.url.startswith((address, "data:", "blob:"))),
    )
    yield tab
    context.close()
    assert problems == []


@built
@pytest.mark.parametrize("page", PAGES)
def test_a_page_renders_without_a_network(page: str, tab: Any, address: str) -> None:
    tab.goto(f"{address}/{page}.html", wait_until="load")
    tab.evaluate("async () => { if (window.MathJax) await MathJax.startup.promise; }")

    formulas = tab.evaluate(FORMULAS)
    assert [formula for formula in formulas if not formula["drawn"] or formula["error"]] == []
    if page in ("book/index", "book/ledger", "notebooks/01-product-unit"):
        assert formulas
    text = tab.evaluate(TEXT)
    assert len(text) > 200
    assert re.findall(r"\\[(\[][^\n]*|\$[^$\n]+\$|\$\$", text) == []

    images = tab.evaluate(FIGURES)
    assert [image for image in images if image["width"] == 0 or image["colours"] < 2] == []
    if page == "book/results" or page.startswith((RUNS, "notebooks/0")):
        assert any(image["figure"] for image in images)


@built
def test_a_page_fits_a_telephone(tab: Any, address: str) -> None:
    tab.set_viewport_size({"width": 390, "height": 844})
    for page in PAGES:
        tab.goto(f"{address}/{page}.html", wait_until="load")
        tab.evaluate("async () => { if (window.MathJax) await MathJax.startup.promise; }")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390, page


@built
def test_the_first_address_leads_to_the_landing_page(tab: Any, address: str) -> None:
    tab.goto(f"{address}/index.html")
    tab.wait_for_url(f"{address}/{TOC['root']}.html")
    cells = tab.locator("article table tbody tr").all_inner_texts()
    assert any("PURe20" in cell for cell in cells)


@built
def test_search_finds_the_threshold(tab: Any, address: str) -> None:
    tab.goto(f"{address}/search.html?q=threshold")
    results = tab.locator("#search-results li a")
    results.first.wait_for()
    tab.wait_for_function("document.querySelector('#search-results .search-summary').textContent.match(/\\d/)")
    found = {urldefrag(urljoin(tab.url, link.get_attribute("href")))[0].partition("?")[0] for link in results.all()}
    for page in ("book/ledger", "book/api", "notebooks/01-product-unit"):
        assert f"{address}/{page}.html" in found


PREVIEW = "#preview:not([hidden])"


@built
def test_sliders_move_by_mouse_and_by_keyboard(tab: Any, address: str) -> None:
    tab.goto(f"{address}/notebooks/01-product-unit.html", wait_until="load")
    figure = tab.locator(".touchable.started").first
    figure.wait_for()
    assert figure.locator(".still").is_hidden()
    text = figure.locator(".readout")
    exponent, threshold = (tab.get_by_role("slider", name=name) for name in ("exponent w", "threshold τ"))
    before = text.inner_text()
    exponent.focus()
    tab.keyboard.press("ArrowRight")
    after = text.inner_text()
    assert after != before
    figure.scroll_into_view_if_needed()
    box = threshold.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 1000, box["y"] + box["height"] / 2, steps=5)
    tab.mouse.up()
    assert float(threshold.get_attribute("aria-valuenow")) == 1
    exponent.focus()
    tab.keyboard.press("Home")
    assert float(exponent.get_attribute("aria-valuenow")) == -2


@built
def test_without_scripts_a_figure_is_a_picture(browser: Any, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(f"{address}/notebooks/01-product-unit.html", wait_until="load")
    assert tab.locator(".touchable .still").is_visible()
    assert tab.locator(".touchable .parts").is_hidden()
    context.close()


@built
def test_references_open_beside_the_text(tab: Any, address: str) -> None:
    tab.goto(f"{address}/notebooks/01-product-unit.html", wait_until="load")
    tab.evaluate("async () => { if (window.MathJax) await MathJax.startup.promise; }")
    for link, expected in (
        ("article a.internal[href*='bibliography.html#']", "Product units"),
        ("article a.internal[href='#equation-eq-log']", ""),
        ("article a.internal[href*='api.html#']", "product_unit"),
        ("article a.internal[href='#fig-touch-unit']", "A product unit of one input"),
    ):
        word = tab.locator(link).first
        word.scroll_into_view_if_needed()
        word.hover()
        tab.locator(PREVIEW).wait_for()
        assert expected in tab.locator(PREVIEW).inner_text()
        tab.mouse.move(2, 2)
        tab.locator(PREVIEW).wait_for(state="detached")
    formula = tab.locator("article a.internal[href='#equation-eq-log']").first
    formula.hover()
    tab.locator(f"{PREVIEW} mjx-container").wait_for()
    tab.keyboard.press("Escape")
    assert tab.locator(PREVIEW).count() == 0


@built
def test_a_term_and_a_number_open_by_keyboard_too(tab: Any, address: str) -> None:
    tab.goto(f"{address}/book/notation.html", wait_until="load")
    link = tab.locator("article a.internal[href='glossary.html#term-threshold']").first
    tab.locator("article a.internal").first.focus()
    while not link.evaluate("link => link === document.activeElement"):
        tab.keyboard.press("Tab")
    tab.locator(PREVIEW).wait_for()
    assert "lower bound" in tab.locator(PREVIEW).inner_text()
    assert link.get_attribute("aria-describedby") == "preview"


@built
@pytest.mark.parametrize("page", ["book/index", "book/status", "notebooks/01-product-unit"])
def test_a_dark_page_can_be_read(page: str, browser: Any, address: str) -> None:
    """The contrast of all words with what is under them, as the style sheets say, outside pictures and plots."""
    context = browser.new_context(color_scheme="dark", viewport={"width": 1400, "height": 1000})
    tab = context.new_page()
    tab.goto(f"{address}/{page}.html", wait_until="load")
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    assert tab.evaluate(PALE) == []
    context.close()


PALE = """() => {
    const light = colour => {
        const parts = colour.match(/[\\d.]+/g).map(Number);
        const grey = v => v <= 0.04 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        const linear = parts.slice(0, 3).map(v => grey(v / 255));
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    };
    const ground = element => {
        for (; element; element = element.parentElement) {
            const colour = getComputedStyle(element).backgroundColor, alpha = colour.match(/[\\d.]+/g)[3] ?? "1";
            if (Number(alpha) > 0.5) return colour;
        }
        return "rgb(255, 255, 255)";
    };
    const words = [...document.querySelectorAll("article :is(p, li, td, th, code, pre span, figcaption, h1, h2)")];
    return words.filter(word => word.textContent.trim() && word.offsetParent && !word.closest(".parts")).map(word => {
        const [a, b] = [light(getComputedStyle(word).color), light(ground(word))].sort((x, y) => y - x);
        return [word.textContent.slice(0, 40), (a + 0.05) / (b + 0.05)];
    }).filter(([, contrast]) => contrast < 3);
}"""


@built
@pytest.mark.parametrize("page", PAGES)
def test_every_picture_has_an_alternative_text(page: str) -> None:
    text = (HTML / f"{page}.html").read_text(encoding="utf8").partition("<article")[2].partition("</article>")[0]
    pictures = re.findall(r"<img\b[^>]*>", text)
    assert [picture[:200] for picture in pictures if not re.search(r'\balt="(?!_images|\.\./)[^"]{8,}"', picture)] == []


@built
def test_the_status_page_tells_times_and_places() -> None:
    words = " ".join(_Article((HTML / "book" / "status.html").read_text(encoding="utf8")).words)
    for page in NOTEBOOKS:
        assert page.startswith(RUNS) or page in words
    for name in ("Commit", "Packages", "Processor", "torch"):
        assert name in words


@built
@pytest.mark.parametrize("page", [page for page in PAGES if re.match(r"notebooks/\d\d", page)])
def test_a_teaching_notebook_tells_how_long_it_ran(page: str) -> None:
    text = " ".join(_Article((HTML / f"{page}.html").read_text(encoding="utf8")).words)
    took = re.search(r"It took ([\d,]+) s when this page was made", text)
    assert took, "the head tells no time"


@built
def test_the_browser_test_notices_what_it_is_there_for(browser: Any, address: str) -> None:
    context = browser.new_context()
    tab = context.new_page()
    failed: list[str] = []
    tab.on("requestfailed", lambda request: failed.append(request.url))
    tab.goto(f"{address}/book/bibliography.html")
    tab.set_content(
        "<article><span class='math'>\\(x\\)</span><img src='https://example.org/a.png'>"
        "<div class='cell_output'><img src='data:image/svg+xml,"
        "%3Csvg xmlns=%22http://www.w3.org/2000/svg%22 width=%228%22 height=%228%22/%3E'></div></article>"
    )
    images = tab.evaluate(FIGURES)
    assert failed == ["https://example.org/a.png"]
    assert [image["width"] for image in images] == [0, 8]
    assert images[1]["colours"] == 1
    assert [formula["drawn"] for formula in tab.evaluate(FORMULAS)] == [False]
    assert "\\(x\\)" in tab.evaluate(TEXT)
    context.close()
