"""Pack the built book for a release: ``make release``.

The archive is the same, byte for byte, wherever the same pages are packed at the same commit, and its checksum lies
beside it.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path

from pure.version import __version__

ROOT = Path(__file__).parents[2]


def pack(html: Path, archive: Path, folder: str, time: int) -> str:
    """Pack the pages into a ``.tar.gz``, write its SHA-256 beside it, and return that.

    Args:
        html: the built pages.
        archive: what is written.
        folder: what everything lies below in it.
        time: of every file in it, in seconds since 1970.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=time) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for path in sorted(path for path in html.rglob("*") if path.is_file()):
            entry = tar.gettarinfo(path, f"{folder}/{path.relative_to(html).as_posix()}")
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime, entry.mode = time, 0o644
            with path.open("rb") as file:
                tar.addfile(entry, file)
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    archive.with_name(f"{archive.name}.sha256").write_text(f"{checksum}  {archive.name}\n")
    return checksum


def main() -> int:
    """Pack what is built; 2 where this is no release."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--html", type=Path, default=ROOT / "_build" / "html", help="the built pages")
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "release")
    options = parser.parse_args()

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    tag = f"v{__version__}"
    problems = []
    if git("status", "--porcelain", "--untracked-files=no"):
        problems.append("files differ from the commit: commit or discard the changes")
    if tag not in git("tag", "--points-at", "HEAD").split():
        problems.append(f"this commit is not tagged {tag}: git tag -a {tag}, or correct pure/version.py")
    if f"version: {__version__}" not in (ROOT / "CITATION.cff").read_text(encoding="utf8"):
        problems.append(f"CITATION.cff names another version than {__version__}: correct it")
    if not (options.html / "index.html").exists():
        problems.append("there are no pages to pack: make book")
    if problems:
        print("\n".join(problems), file=sys.stderr)
        return 2
    name = f"pure-book-{__version__}"
    checksum = pack(options.html, options.out / f"{name}.tar.gz", name, int(git("log", "-1", "--format=%ct")))
    print(f"==> {options.out / name}.tar.gz, SHA-256 {checksum}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
