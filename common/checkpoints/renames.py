r"""Names that arrays have elsewhere, made those of a run: `config.init_from_names`.

    config.init_from_names = (
        (r"layer(\d)\.conv\.weight", r"block_\1/conv/kernel", (2, 3, 1, 0)),  # OIHW to HWIO
        (r"fc\.weight", "out/kernel", (1, 0)),
        (r".*num_batches_tracked", ""),  # left out
    )

The first regex that matches a whole name says its new name and, if it is to be transposed, its axes
in the new order; a name that none matches stays. Nothing here needs JAX.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from common.errors import UserError, shown

FIELD = "config.init_from_names"


class Rename(NamedTuple):
    """Whole names that `pattern` matches become `name`; "" leaves the array out."""

    pattern: re.Pattern[str]
    name: str
    axes: tuple[int, ...] | None


def parse(entries: Sequence[Any]) -> tuple[Rename, ...]:
    """Returns the renames that a config field holds.

    Raises:
        UserError: Naming the first entry that is none, and why.
    """
    return tuple(_parse(f"{FIELD}[{place}]", entry) for place, entry in enumerate(entries))


def renamed(arrays: Mapping[str, np.ndarray], renames: Sequence[Rename]) -> dict[str, np.ndarray]:
    """Returns the arrays under their new names, transposed where that is asked for.

    Raises:
        UserError: If two arrays get one name, or the axes are not those of an array.
    """
    old_names: dict[str, str] = {}
    found: dict[str, np.ndarray] = {}
    for old, array in arrays.items():
        new, axes = new_name(old, renames)
        if not new:
            continue
        if new in found:
            raise UserError(f"{FIELD}: {old_names[new]} and {old} both become {new}")
        if axes is not None and sorted(axes) != list(range(array.ndim)):
            raise UserError(
                f"{FIELD}: the axes {axes} of {new} do not fit {old}, which has the shape "
                f"{array.shape}"
            )
        old_names[new], found[new] = old, array if axes is None else array.transpose(axes)
    return found


def new_name(name: str, renames: Sequence[Rename]) -> tuple[str, tuple[int, ...] | None]:
    """Returns what an array is called here, "" if it is left out, and its axes in the new order."""
    for rename in renames:
        if match := rename.pattern.fullmatch(name):
            return match.expand(rename.name), rename.axes
    return name, None


def _parse(field: str, entry: Any) -> Rename:
    wanted = "expected (regex, name) or (regex, name, axes)"
    if not isinstance(entry, tuple) or len(entry) not in (2, 3):
        raise UserError(f"{field}={shown(entry)}: {wanted}")
    pattern, name, axes = (*entry, None)[:3]
    is_text = isinstance(pattern, str) and isinstance(name, str)
    is_axes = axes is None or (isinstance(axes, tuple) and all(type(a) is int for a in axes))
    if not (is_text and is_axes):
        raise UserError(f"{field}={shown(entry)}: {wanted}")
    try:
        compiled = re.compile(pattern)
        compiled.sub(name, "")  # reads the groups that the name asks for
    except (re.error, IndexError) as error:
        raise UserError(f"{field}={shown(entry)}: {error}") from error
    return Rename(compiled, name, axes)
