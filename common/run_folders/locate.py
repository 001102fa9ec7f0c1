"""Which run folder a person means: a path, or a config hash."""

import re
from pathlib import Path

from common.errors import UserError
from common.files.storage import user_path


def locate(name: str, workdir: str | Path = "runs") -> Path:
    """Returns the run folder that a person means: a folder, or a config hash as `find` shows it.

    Args:
        name: A run folder, the folder above its only seed, or the first digits of a config hash,
            "0123456789ab", with "/seed3" behind it where there are several.
        workdir: Where a hash is looked for.

    Raises:
        UserError: If it is none of these, or more than one run.
    """
    path = user_path(name)
    if (path / "config.json").is_file():
        return path
    key, _, seed = name.rstrip("/").partition("/")
    if path.is_dir():
        found = sorted(file.parent for file in path.glob("seed*/config.json"))
    elif re.fullmatch(r"[0-9a-f]{4,64}", key):
        hashes = user_path(workdir).glob(f"*/*/{key}*/{seed or 'seed*'}/config.json")
        found = sorted(file.parent for file in hashes)
    else:
        found = []
    if len(found) == 1:
        return found[0]
    if found:
        shown = ", ".join(map(str, found[:4])) + (", ..." if len(found) > 4 else "")
        raise UserError(f"{name}: is {len(found)} runs; give one of them: {shown}")
    if not path.exists() and re.fullmatch(r"[0-9a-f]{4,64}", key):
        raise UserError(f"{name}: no run of that hash below {workdir}; see `lab runs list`")
    return path  # `read` says what is wrong with it
