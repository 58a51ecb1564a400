"""What a finished run and its page depend on, as hashes: while they stay the same, both are up to date."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pure.fingerprint import code_fingerprint

TRAINING = "from pure.train import fit"
"""What a record comes from: a change in a table or a figure trains nothing again."""


def fingerprint(notebook: Path, parameters: Mapping[str, Any]) -> str:
    """SHA-256 over the parameters that decide what comes out, the notebook, prose too, and the code that it uses."""
    source = notebook.read_text(encoding="utf-8")
    return _hash(parameters, source, code_fingerprint(source))


def training_fingerprint(parameters: Mapping[str, Any]) -> str:
    """The same of the training alone, without what shows it."""
    return _hash(parameters, code_fingerprint(TRAINING))


def _hash(parameters: Mapping[str, Any], *made_of: str) -> str:
    return hashlib.sha256("\0".join([json.dumps(parameters, sort_keys=True), *made_of]).encode()).hexdigest()
