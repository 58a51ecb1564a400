"""What is made of the built pages: one page to print, and an archive."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]
PAGE = """<html><head><script>window.MathJax = {{}}</script></head><body><article><h1 id="top">{name}</h1>
<a class="headerlink" href="#top">#</a><a href="{other}.html#top">there</a><a href="https://example.org">out</a>
<img src="../_images/a.png"><details><summary>code</summary></details>
<div class="touchable"><img class="still" src="data:image/png;base64,"><div class="parts"></div></div>
<script>run()</script></article></body></html>"""


@pytest.fixture
def tools() -> Iterator[SimpleNamespace]:
    sys.path.insert(0, str(ROOT / "book" / "tools"))
    try:
        import print_book
        import release

        yield SimpleNamespace(print_book=print_book, release=release)
    finally:
        sys.path.remove(str(ROOT / "book" / "tools"))


@pytest.fixture
def html(tmp_path: Path) -> Path:
    """Two built pages that name each other."""
    folder = tmp_path / "html"
    (folder / "book").mkdir(parents=True)
    (folder / "book" / "one.html").write_text(PAGE.format(name="One", other="two"))
    (folder / "book" / "two.html").write_text(PAGE.format(name="Two", other="one"))
    return folder


def test_one_page_has_all_articles_and_links_lead_to_places_in_it(tools: SimpleNamespace, html: Path) -> None:
    contents = {"root": "book/one", "chapters": [{"file": "book/two"}, {"file": "book/not-built"}]}
    text = tools.print_book.one_page(html, contents, "A book")
    page = tools.print_book.BeautifulSoup(text, "html.parser")
    assert [tag.text for tag in page.find_all("h1")] == ["A book", "Contents", "One", "Two"]
    assert [tag["href"] for tag in page.select("article:not(.contents) a")] == [
        "#book-two--top",
        "https://example.org",
        "#book-one--top",
        "https://example.org",
    ]
    assert page.find(id="book-two--top").text == "Two"
    assert {tag["src"] for tag in page.select("img:not(.still)")} == {"_images/a.png"}
    assert all(tag.has_attr("open") for tag in page.find_all("details"))
    assert page.select(".still")
    assert not page.select(".parts")
    assert [tag.text for tag in page.find_all("script")] == ["window.MathJax = {}"]


def test_without_pages_or_chromium_it_says_what_to_do(
    tools: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["print_book.py", "--html", str(tmp_path)])
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert tools.print_book.main() == 2
    assert "apt install chromium" in capsys.readouterr().err
    pytest.importorskip("playwright")
    monkeypatch.setattr(shutil, "which", lambda name: name)
    assert tools.print_book.main() == 2
    assert "build them first: make book" in capsys.readouterr().err


def test_the_book_is_printed(
    tools: SimpleNamespace, html: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("playwright", reason="needs the extra [test]")
    if not any(map(shutil.which, tools.print_book.BROWSERS)):
        pytest.skip("no Chromium on the PATH; on Debian and Ubuntu: apt install chromium")
    toc, out = tmp_path / "toc.yml", tmp_path / "out" / "book.pdf"
    toc.write_text("root: book/one\nchapters: [{file: book/two}]\n")
    monkeypatch.setattr(sys, "argv", ["print_book.py", "--html", str(html), "--toc", str(toc), "--out", str(out)])
    assert tools.print_book.main() == 0
    content = out.read_bytes()
    assert content.startswith(b"%PDF-")
    assert content.count(b"/Type /Page\n") == 4  # title, contents, two pages
    assert sorted(path.name for path in html.iterdir()) == ["book"]


def test_the_archive_depends_on_the_pages_alone(tools: SimpleNamespace, html: Path, tmp_path: Path) -> None:
    first = tools.release.pack(html, tmp_path / "a" / "book.tar.gz", "book-1", 1_700_000_000)
    (html / "book" / "one.html").touch()
    assert tools.release.pack(html, tmp_path / "b" / "book.tar.gz", "book-1", 1_700_000_000) == first
    archive = tmp_path / "a" / "book.tar.gz"
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == first
    assert (tmp_path / "a" / "book.tar.gz.sha256").read_text() == f"{first}  book.tar.gz\n"
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["book-1/book/one.html", "book-1/book/two.html"]
    (html / "book" / "one.html").write_text("other")
    assert tools.release.pack(html, tmp_path / "b" / "book.tar.gz", "book-1", 1_700_000_000) != first


def test_only_a_tagged_commit_is_released(
    tools: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["release.py", "--html", str(tmp_path), "--out", str(tmp_path / "out")])
    monkeypatch.setattr(tools.release, "__version__", "9.9.9")
    assert tools.release.main() == 2
    problems = capsys.readouterr().err
    assert "this commit is not tagged v9.9.9: git tag -a v9.9.9" in problems
    assert "CITATION.cff names another version than 9.9.9" in problems
    assert "there are no pages to pack: make book" in problems
    assert not (tmp_path / "out").exists()
