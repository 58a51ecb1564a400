"""A reader on a real JupyterHub, started here: opt in by ``PURE_TEST_HUB=1``, with npm and Chromium installed.

::

    PURE_TEST_HUB=1 python -m pytest tests/test_jupyterhub.py

It installs JupyterHub and what belongs to it by pip and npm, into folders of its own, and takes some five minutes.
``PURE_TEST_HUB_SCREENS=FOLDER`` keeps pictures of what the reader sees.
"""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SCREENS = os.environ.get("PURE_TEST_HUB_SCREENS")

pytestmark = [
    pytest.mark.skipif(os.environ.get("PURE_TEST_HUB") != "1", reason="opt in by PURE_TEST_HUB=1"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm, for JupyterHub's proxy"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]

SERVER = ["jupyterhub>=5", "jupyterlab>=4,<5", "nbgitpuller>=1.2"]
"""What serves a reader on any hub; repo2docker puts it into its images."""

ADDRESS = "https://git.example.org/us/pure"
"""Of the repository in the launch links; git is told that it lies in a folder here."""

NOTEBOOK = min((ROOT / "notebooks").glob("[0-9]*.py")).relative_to(ROOT)
CLONE = Path("pure-networks")

PATIENCE = 240
"""Seconds that a page, or the notebook, may take on a busy machine."""


def run(*command: str | Path, **options: Any) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def wait_for(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, f"no {what} within {seconds} s"
        time.sleep(0.5)
    return found


# What there is: the repository, two environments, a proxy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


def copy_repository(target: Path) -> None:
    """What git has of this working tree, changes included."""
    for name in run("git", "ls-files", "-co", "--exclude-standard", "-z", cwd=ROOT).split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def commit(repository: Path, message: str) -> None:
    run("git", "add", "--all", cwd=repository)
    run("git", "-c", "user.name=us", "-c", "user.email=us@example.org", "commit", "-m", message, cwd=repository)


@pytest.fixture(scope="module")
def origin(folder: Path) -> Path:
    """The repository that readers clone."""
    path = folder / "origin"
    copy_repository(path)
    run("git", "init", "--initial-branch", "main", cwd=path)
    commit(path, "Everything")
    return path


@pytest.fixture(scope="module")
def packages(folder: Path) -> Path:
    """What requirements.lock brings: links to what is installed here, without this project itself.

    Without jupytext too, which JupyterLab finds by files beside its package: it is installed in earnest.
    """
    import torch

    installed, links = Path(torch.__file__).parents[1], folder / "packages"
    links.mkdir()
    ours = re.compile(r"(pure|jupytext)([_-].*)?|__editable__.*|__pycache__|.*\.pth|.*\.egg-link|pip(-.*)?")
    for entry in installed.iterdir():
        if not ours.fullmatch(entry.name):
            (links / entry.name).symlink_to(entry)
    return links


def environment(prefix: Path, *requirements: str, packages: Path | None = None, **options: Any) -> Path:
    """A virtual environment; pip never removes what links from elsewhere."""
    venv.create(prefix, with_pip=True, **options)
    if packages is not None:
        next(prefix.glob("lib/python*/site-packages")).joinpath("lock.pth").write_text(f"{packages}\n")
        pip = [prefix / "bin" / "python", "-m", "pip"]
        run(
            *pip, "uninstall", "--quiet", "--yes", "setuptools", env=clean(prefix)
        )  # Python's own; the lock has another
    run(prefix / "bin" / "python", "-m", "pip", "install", "--quiet", *requirements, cwd=ROOT, env=clean(prefix))
    return prefix


def clean(prefix: Path, home: Path | None = None) -> dict[str, str]:
    """The variables of a process that knows nothing of the environment that the tests run in."""
    kept = ("HOME", "LANG", "OMP_NUM_THREADS", "TMPDIR")
    kept_too = [
        name for name in os.environ if name.startswith(("PIP_", "SSL_", "NPM_")) or name.lower().endswith("_proxy")
    ]
    variables = {name: os.environ[name] for name in (*kept, *kept_too) if name in os.environ}
    variables |= {"PATH": f"{prefix / 'bin'}:/usr/local/bin:/usr/bin:/bin"}
    return variables | ({"HOME": str(home)} if home else {})


@pytest.fixture(scope="module")
def image(folder: Path, packages: Path) -> Path:
    """An image as repo2docker makes it: the repository in the home, its environment, then postBuild."""
    prefix = environment(folder / "image", *SERVER, "jupytext", "-c", "requirements.lock", packages=packages)
    home = folder / "home"
    copy_repository(home)
    dependencies = yaml.safe_load((home / "environment.yml").read_text())["dependencies"]
    (pip,) = (each["pip"] for each in dependencies if isinstance(each, dict))
    ours = [line.split() for line in pip if not line.startswith("-r")]  # which the links stand for
    assert ours == [["-e", "."]]
    python = prefix / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-build-isolation", *ours[0], cwd=home, env=clean(prefix))
    run("./postBuild", cwd=home, env=clean(prefix))
    return prefix


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    """A hub that knows neither jupytext nor this project, and where users install into their homes."""
    return environment(folder / "plain", *SERVER, system_site_packages=True)


@pytest.fixture(scope="module")
def proxy(folder: Path) -> Path:
    run("npm", "install", "--prefix", folder / "npm", "configurable-http-proxy")
    return folder / "npm" / "node_modules" / ".bin" / "configurable-http-proxy"


def launch_link(folder: Path, hub: str) -> str:
    """From the page of a notebook, as the book's own configuration and extension make it."""
    book = folder / "book"
    if not book.exists():
        copy_repository(book)
        (book / "_toc.yml").write_text(f"format: jb-book\nroot: {NOTEBOOK.with_suffix('')}\n")
        configuration = yaml.safe_load((book / "_config.yml").read_text())
        configuration["execute"]["execute_notebooks"] = "off"
        (book / "_config.yml").write_text(yaml.safe_dump(configuration))
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PURE_REPOSITORY_URL": ADDRESS, "PURE_JUPYTERHUB_URL": hub}
    program = "from jupyter_book.cli.main import main; main()"
    run(sys.executable, "-c", program, "build", "--all", ".", cwd=book, env=variables)
    page = (book / "_build" / "html" / NOTEBOOK.with_suffix(".html")).read_text()
    (link,) = set(re.findall(r'href="([^"]*/git-pull[^"]*)"', page))
    return html.unescape(link)


CONFIGURATION = """\
load_subconfig("{root}/hub/jupyterhub_config.py")  # what the page for administrators recommends
c.JupyterHub.bind_url = "{address}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{ports[1]}"
c.JupyterHub.db_url = "sqlite:///{folder}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{folder}/secret"
c.ConfigurableHTTPProxy.command = ["{proxy}"]
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{ports[2]}"
c.ConfigurableHTTPProxy.pid_file = "{folder}/proxy.pid"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = "{home}"
c.Spawner.cmd = ["{prefix}/bin/python", "{prefix}/bin/jupyterhub-singleuser"]
c.Spawner.args = ["--allow-root"]
c.Spawner.start_timeout = c.Spawner.http_timeout = {patience}
c.Spawner.environment.update({variables!r})
"""


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def started_hub(prefix: Path, home: Path, proxy: Path, origin: Path, folder: Path) -> Iterator[str]:
    """A hub whose users have this home and whose servers run in this environment.  Gives its address."""
    folder.mkdir()
    ports = free_ports(3)
    address = f"http://127.0.0.1:{ports[0]}"
    variables = {
        "PURE_DATA": str(folder / "data"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{origin}.insteadOf",
        "GIT_CONFIG_VALUE_0": ADDRESS,
    }
    variables |= {name: value for name, value in clean(prefix).items() if name.startswith("PIP_")}
    given = {"root": ROOT, "address": address, "ports": ports, "folder": folder, "proxy": proxy, "home": home}
    text = CONFIGURATION.format(**given, prefix=prefix, variables=variables, patience=PATIENCE)
    (folder / "jupyterhub_config.py").write_text(text)
    command = [prefix / "bin" / "python", prefix / "bin" / "jupyterhub", "-f", folder / "jupyterhub_config.py"]
    with (folder / "log").open("w") as log:
        hub = subprocess.Popen(list(map(str, command)), cwd=folder, env=clean(prefix), stdout=log, stderr=log)
        try:
            wait_for(lambda: answers(f"{address}/hub/login") or hub.poll() is not None, "hub")
            assert hub.poll() is None, (folder / "log").read_text()[-3000:]
            yield address
        finally:
            hub.send_signal(signal.SIGTERM)  # it stops the proxy and the users' servers
            hub.wait(PATIENCE)  # a server that is still starting something is waited for: 65 s on a busy machine


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


# The reader


class Reader:
    """Somebody with a browser."""

    def __init__(self, page: Any, home: Path) -> None:
        self.page, self.home = page, home
        self.source = home / CLONE / NOTEBOOK
        self.saved = self.source.with_suffix(".ipynb")

    def follow(self, link: str) -> None:
        """Follow a link of the hub, log in where it asks, and wait until JupyterLab shows a file."""
        self.page.goto(link)
        if self.page.locator("#username_input").count():
            self.page.fill("#username_input", "reader")
            self.page.fill("#password_input", "any")
            self.page.click("#login_submit")
        self.page.wait_for_url(re.compile(r"/lab\b"), timeout=1000 * PATIENCE)
        self.page.wait_for_selector("#jupyterlab-splash", state="detached")
        self.page.wait_for_selector(".jp-NotebookPanel, .jp-FileEditor", timeout=1000 * PATIENCE)

    @property
    def sees_a_notebook(self) -> bool:
        return bool(self.page.locator(".jp-NotebookPanel .jp-Cell").count())

    def menu(self, *names: str) -> None:
        for name in names:
            self.page.get_by_role("menuitem", name=name, exact=True).click()

    def save(self) -> None:
        self.page.keyboard.press("Escape")
        self.page.keyboard.press("Control+s")
        time.sleep(1)

    def run_all(self) -> list[Any]:
        """Run all cells; the code cells as they are saved when all have run."""
        self.page.get_by_text(re.compile(r" \| Idle$")).first.wait_for(timeout=1000 * PATIENCE)  # the kernel is there
        self.menu("Run", "Run All Cells")
        return wait_for(self._cells_that_ran, "end of the notebook")

    def _cells_that_ran(self) -> list[Any]:
        self.save()
        cells = self.code()
        failed = [output for cell in cells for output in cell.outputs if output.output_type == "error"]
        assert failed == [], failed
        return cells if cells and all(cell.execution_count for cell in cells) else []

    def code(self) -> list[Any]:
        if not self.saved.exists():
            return []
        cells = nbformat.read(self.saved, as_version=4).cells
        return [cell for cell in cells if cell.cell_type == "code" and cell.source]

    def sees_outputs(self) -> bool:
        """Text and pictures under the cells; of those out of sight JupyterLab shows some only."""
        outputs = self.page.locator(".jp-Cell-outputArea .jp-OutputArea-output")
        wait_for(outputs.count, "output")
        outputs.first.scroll_into_view_if_needed()
        pictures = outputs.locator("img, svg, table").count()
        return pictures > 0 or any(text.strip() for text in outputs.all_text_contents())

    def insert_above(self, text: str) -> None:
        """A code cell above the first one."""
        self.page.locator(".jp-NotebookPanel .jp-CodeCell").first.locator(".jp-InputPrompt").click()
        self.page.keyboard.press("a")
        self.page.keyboard.press("Enter")
        self.page.keyboard.type(text)
        self.save()

    def picture(self, name: str) -> None:
        if SCREENS:
            self.page.screenshot(path=Path(SCREENS) / f"{name}.png")


@pytest.fixture
def reader_in(folder: Path) -> Iterator[Callable[[Path], Reader]]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the extra [test]")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1400, "height": 1000})
        context.set_default_timeout(1000 * PATIENCE / 4)
        yield lambda home: Reader(context.new_page(), home)
        browser.close()


@pytest.fixture
def volume(folder: Path, image: Path) -> Iterator[Path]:
    """An empty volume in place of the image's home, whose files are out of sight."""
    home, hidden = folder / "home", folder / "hidden"
    home.rename(hidden)
    home.mkdir()
    yield home
    shutil.rmtree(home)
    hidden.rename(home)


def test_the_link_clones_apart_from_the_package(folder: Path) -> None:
    query = parse_qs(urlsplit(launch_link(folder, "https://hub.example.org")).query)
    assert query["repo"] == [ADDRESS]
    assert query["targetPath"] == [str(CLONE)]
    assert query["urlpath"] == [f"lab/tree/{CLONE}/{NOTEBOOK}"]


def test_without_a_volume_the_link_opens_a_notebook_beside_the_images_own_files(
    folder: Path, image: Path, proxy: Path, origin: Path, reader_in: Callable[[Path], Reader]
) -> None:
    home = folder / "home"
    assert (home / "pure" / "__init__.py").is_file()  # where the link would go by the repository's name
    assert not [name for name in ("build", "pure_networks.egg-info") if (home / name).exists()]
    reader = reader_in(home)
    with started_hub(image, home, proxy, origin, folder / "without") as address:
        reader.follow(launch_link(folder, address))
        assert reader.sees_a_notebook
        reader.picture("without-volume")
    assert reader.source.read_bytes() == (ROOT / NOTEBOOK).read_bytes()
    shutil.rmtree(home / CLONE)


def test_a_reader_with_a_volume_runs_saves_reloads_and_pulls(
    folder: Path, volume: Path, image: Path, proxy: Path, origin: Path, reader_in: Callable[[Path], Reader]
) -> None:
    reader = reader_in(volume)
    with started_hub(image, volume, proxy, origin, folder / "with") as address:
        link = launch_link(folder, address)
        reader.follow(link)
        assert reader.sees_a_notebook
        reader.picture("opened")
        cells = reader.run_all()
        assert sum(bool(cell.outputs) for cell in cells) > 3
        assert reader.sees_outputs()
        reader.picture("run")
        assert git(reader, "status", "--porcelain") == ""  # the .py as it was; the .ipynb is ignored

        reader.page.reload()
        reader.page.wait_for_selector(".jp-NotebookPanel", timeout=1000 * PATIENCE)
        assert reader.sees_outputs()
        reader.picture("reloaded")

        reader.insert_above('place = "mine"')
        wait_for(lambda: 'place = "mine"' in reader.source.read_text(), "edit in the .py")
        edit_upstream(origin / NOTEBOOK)
        commit(origin, "An edit at the same place, one at the end")
        reader.follow(link)
        text = wait_for(lambda: (text := reader.source.read_text()).count("theirs") and text, "pull")
        assert 'place = "mine"' in text  # where both edited, the reader's stays
        assert 'place = "theirs"' not in text
        assert text.endswith('\n# %%\nat_the_end = "theirs"\n')
        assert "<<<<" not in text
        assert reader.sees_a_notebook
        assert reader.sees_outputs()
        reader.picture("pulled")
        cells = reader.run_all()
        assert {cells[0].source, cells[-1].source} == {'place = "mine"', 'at_the_end = "theirs"'}


def edit_upstream(notebook: Path) -> None:
    head, mark, rest = notebook.read_text().partition("\n# %%\n")
    text = f'{head}\n# %%\nplace = "theirs"\n{mark}{rest}'
    notebook.write_text(text.rstrip() + '\n\n# %%\nat_the_end = "theirs"\n')


def git(reader: Reader, *command: str) -> str:
    return run("git", *command, cwd=reader.home / CLONE)


def test_an_environment_made_by_hand_in_a_terminal_of_the_hub(
    folder: Path, plain: Path, packages: Path, proxy: Path, origin: Path, reader_in: Callable[[Path], Reader]
) -> None:
    home = folder / "by-hand"
    home.mkdir()
    reader = reader_in(home)
    with started_hub(plain, home, proxy, origin, folder / "plain-hub") as address:
        link = launch_link(folder, address)
        reader.follow(link)
        assert not reader.sees_a_notebook  # in the text editor, as this hub knows no better
        reader.picture("by-hand-before")

        # `make hub` would install the lock first, which takes minutes: it finds that done.
        clone = home / CLONE
        environment(clone / ".venv", "jupytext", "-c", "requirements.lock", packages=packages)
        (clone / ".venv" / ".locked").touch()
        run("touch", "-d", "2001-01-01", clone / "requirements.lock")
        button = "[data-command='launcher:create'], .jp-FileBrowser [title*='New Launcher']"
        reader.page.locator(f".jp-FileBrowser {button}").first.click()
        reader.page.locator(".jp-LauncherCard", has_text="Terminal").first.click()
        reader.page.wait_for_selector(".jp-Terminal .xterm-screen")
        time.sleep(3)
        reader.page.locator(".jp-Terminal").click()
        reader.page.keyboard.type(f"cd ~/{CLONE} && make hub && touch ~/done || touch ~/failed\n")
        wait_for(lambda: list(home.glob("done")) or list(home.glob("failed")), "registration")
        reader.picture("by-hand-terminal")
        assert (home / "done").exists()
        kernel = json.loads((home / ".local/share/jupyter/kernels/pure/kernel.json").read_text())
        assert kernel["display_name"] == "Python 3 (pure)"

        # As the command says: what is open in the text editor would be open there again.
        reader.page.locator(".lm-DockPanel-tabBar .lm-TabBar-tab", has_text=NOTEBOOK.name).click()
        reader.page.locator(".lm-DockPanel-tabBar .lm-mod-current .lm-TabBar-tabCloseIcon").click()
        time.sleep(2)
        reader.page.goto(f"{address}/hub/home")
        reader.page.click("#stop")
        reader.page.wait_for_selector("#stop", state="hidden")
        reader.follow(link)
        assert reader.sees_a_notebook
        reader.page.locator(".jp-NotebookPanel .jp-Toolbar-kernelName").click()
        reader.page.locator(".jp-Dialog select").select_option(label="Python 3 (pure)")
        reader.page.locator(".jp-Dialog .jp-mod-accept").click()
        cells = reader.run_all()
        assert sum(bool(cell.outputs) for cell in cells) > 3
        assert nbformat.read(reader.saved, as_version=4).metadata.kernelspec.name == "pure"
        reader.picture("by-hand-run")
