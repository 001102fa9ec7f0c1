"""What else a result depends on, besides config, data and code: versions, machine, command."""

import datetime
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from common.papers import REPOSITORY
from common.provenance import machine

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "ml-collections", "numpy")


def environment(command: Sequence[str]) -> dict[str, Any]:
    """Returns what a result depends on besides its config: versions, commit, machine, command."""
    facts: dict[str, Any] = {
        "command": list(command),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _git(REPOSITORY, "rev-parse", "HEAD"),
        "dirty": has_changes(REPOSITORY),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": machine.cpu(),
        "cpu_count": len(os.sched_getaffinity(0)),
        "packages": {name: _version(name) for name in PACKAGES},
    }
    if os.environ.get("XLA_FLAGS"):
        facts["xla_flags"] = os.environ["XLA_FLAGS"]
    jax = sys.modules.get("jax")
    if jax is not None:
        devices = jax.devices()
        facts["devices"] = f"{len(devices)} x {devices[0].device_kind}"
    return facts


def has_changes(repository: Path) -> bool:
    """Returns whether tracked files differ from the commit, or Python files are not in it.

    Files under `results/` do not count: one table writes them before the next one runs.
    """
    changed = ("--untracked-files=no", "--", ".", ":(exclude,glob)**/results/**")
    untracked = ("--others", "--exclude-standard", "--", "*.py")
    return bool(
        _git(repository, "status", "--porcelain", *changed)
        or _git(repository, "ls-files", *untracked)
    )


def _git(repository: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):  # no git, or no checkout
        return None
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
