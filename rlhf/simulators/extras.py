"""Packages that simulators need and that nothing else does."""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from common.errors import MissingPackage

EXTRAS = {"gymnasium": "rl", "mujoco": "rl", "ale_py": "atari"}  # in pyproject.toml


def require(package: str, what: str) -> ModuleType:
    """Imports a package of an extra, for the first time when something needs it.

    Raises:
        MissingPackage: In one line with what installs it, if it is not there.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise _missing(package, what) from error


def folder_of(package: str, what: str) -> Path:
    """Returns the folder of a package without importing it.

    Raises:
        MissingPackage: As `require`.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise _missing(package, what)
    return Path(found.submodule_search_locations[0])


def _missing(package: str, what: str) -> MissingPackage:
    extra = EXTRAS[package]
    return MissingPackage(
        f"{what} needs the package {package}: pip install 'jax-paper-lab[{extra}]', "
        f"or in a checkout pip install -e '.[{extra}]'"
    )
