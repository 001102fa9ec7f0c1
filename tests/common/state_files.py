"""Reads what `common.jobs.pool.record` wrote, as a person with a crashed sweep would."""

import contextlib
import json
from pathlib import Path
from typing import Any


def read_state(path: Path) -> dict[str, dict[str, Any]]:
    """Returns the latest record of every job; a line that a crash cut off counts for nothing."""
    latest = {}
    for line in path.read_text().splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            latest[entry["job"]] = entry
    return latest
