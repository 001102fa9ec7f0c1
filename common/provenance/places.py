"""Where the experiment of a run lies, also after runs and project have moved together."""

import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from common.papers import builder_folder

FOLDER_FROM_RUN = "config_dir_from_run"  # in config.json only: no field of a config


def relative_to_run(config: ConfigDict, path: Path) -> dict[str, str]:
    """Returns what config.json says besides the config: where its file lies from a run folder."""
    return {FOLDER_FROM_RUN: os.path.relpath(config.config_dir, os.path.realpath(path))}


def moved_along(config: ConfigDict, path: Path, folder: Any) -> ConfigDict:
    """Returns the config of a run with the folder of its experiment as it is now.

    Args:
        config: The config, with the folder as it was.
        path: Run folder.
        folder: What `relative_to_run` gave; anything else counts for nothing.
    """
    if ".py:" in config.experiment and isinstance(folder, str):
        here = os.path.normpath(os.path.join(os.path.realpath(path), folder))
        if builder_folder(config.experiment, here) is not None:
            with config.unlocked():
                config.config_dir = here
    return config
