"""What a finished run depends on, as one hash: while it stays the same, the run is up to date."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pure


def fingerprint(notebook: Path, parameters: Mapping[str, Any]) -> str:
    """SHA-256 over the parameters that decide what comes out, the notebook and the package."""
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    for path in [notebook, *sorted(Path(pure.__file__).parent.rglob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()
