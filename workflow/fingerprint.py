"""What a finished run depends on, as one hash: while it stays the same, the run is up to date."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pure.fingerprint import code_fingerprint


def fingerprint(notebook: Path, parameters: Mapping[str, Any]) -> str:
    """SHA-256 over the parameters that decide what comes out, the notebook, prose too, and the code that it uses."""
    source = notebook.read_text(encoding="utf-8")
    made_of = [json.dumps(parameters, sort_keys=True), source, code_fingerprint(source)]
    return hashlib.sha256("\0".join(made_of).encode()).hexdigest()
