"""Files that the user has in the folder $DATA_DIR: found, or missed in one line."""

import os
from collections.abc import Sequence
from pathlib import Path

from common.errors import MissingData
from common.files.storage import user_path


def data_file(name: str) -> Path:
    """Returns the path of a file in $DATA_DIR.

    Raises:
        MissingData: If it is not there.
    """
    require_data_files([name])
    return _path(name)


def require_data_files(names: Sequence[str], reader: str = "") -> None:
    """Checks that files are there, without reading them.

    Args:
        names: Their places in $DATA_DIR.
        reader: What needs them, for the message: "table 3".

    Raises:
        MissingData: Naming the first that is not.
    """
    missing = [name for name in names if not _path(name).is_file()]
    if not missing:
        return
    who = f"{reader}: " if reader else ""
    more = f" and {len(missing) - 1} more" if missing[1:] else ""
    raise MissingData(
        f"{who}no {missing[0]}{more} in DATA_DIR={os.environ.get('DATA_DIR', '')!r}: set it to the "
        "folder that has them; they cannot be fetched"
    )


def _path(name: str) -> Path:
    """Returns where a file would be; without $DATA_DIR that is nowhere."""
    folder = os.environ.get("DATA_DIR")
    return user_path(folder, "DATA_DIR") / name if folder else Path(os.devnull) / name
