"""How JAX starts in our processes: its platform, and the folder that keeps compiled programs.

Both are environment variables, set before anything imports JAX; nothing here imports it.
"""

import os
from pathlib import Path

from absl import logging

from common.devices import accelerators
from common.errors import DataError
from common.files.storage import storage_errors, user_folder, user_path

PROGRAMS = "JAX_COMPILATION_CACHE_DIR"


def set_environment(*, keep_programs: bool = True) -> None:
    """Sets the variables that JAX reads when it is imported.

    Args:
        keep_programs: Whether the next process finds the programs that this one compiles.
    """
    if accelerators.only_compiles_for_tpus() and "JAX_PLATFORMS" not in os.environ:
        os.environ["JAX_PLATFORMS"] = "cpu"
        unused = accelerators.overlooked("cpu")  # a GPU without its plugin
        if unused:
            logging.warning("%s", unused)
    if keep_programs:
        # Loading a program for this very CPU logs an error that it may be for another one.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        if (folder := programs_here()) is None:
            os.environ.pop(PROGRAMS, None)
        else:
            os.environ[PROGRAMS] = folder


def programs_here() -> str | None:
    """Returns the folder for compiled programs, None with a warning if none can be written.

    It is $JAX_COMPILATION_CACHE_DIR, else one below ~/.cache.
    """
    chosen = os.environ.get(PROGRAMS)
    if chosen and "://" in chosen:  # in a bucket
        return chosen
    try:
        folder = (
            user_path(chosen, PROGRAMS) if chosen else programs_folder(user_folder("LAB_CACHE", ""))
        )
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
    except DataError as error:
        logging.warning("compiled programs are not kept: %s", error)
        return None
    return str(folder)


def programs_folder(root: Path) -> Path:
    """Returns the folder for compiled programs below `root`: one for each build of jaxlib.

    Programs that another jaxlib has left there have crashed runs.
    """
    from jaxlib import version

    build = getattr(version, "_git_hash", "")[:8]
    return root / "xla" / "-".join(["jaxlib", version.__version__, *([build] if build else [])])
