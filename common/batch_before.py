"""Batches that bring along the one of the step before: two losses of one step."""

from collections.abc import Callable, Mapping
from typing import Any

from common.errors import UserError

PyTree = Any
BEFORE = "before/"  # what the names of its arrays start with


def with_before(batch: Callable[[int], Mapping[str, Any]]) -> Callable[[int], dict[str, Any]]:
    """Returns step -> the batch of the step, and as "before/..." that of the step before.

    The first step has none before it, and brings its own.
    """

    def both(step: int) -> dict[str, Any]:
        old = batch(max(step - 1, 0))
        return {**batch(step), **{f"{BEFORE}{name}": rows for name, rows in old.items()}}

    return both


def apart(batch: PyTree) -> tuple[PyTree, PyTree]:
    """Returns the batch of the step before, and that of the step.

    Raises:
        UserError: If the batch does not bring the one before along.
    """
    named = batch if isinstance(batch, Mapping) else {}
    now = {name: rows for name, rows in named.items() if not name.startswith(BEFORE)}
    if not now or any(f"{BEFORE}{name}" not in named for name in now):
        raise UserError(
            "batch_before=True: the batch has no entries 'before/...'; make batches with "
            "`with_before` of common.batch_before, as config.gradient.name='sam_before' does"
        )
    return {name: named[f"{BEFORE}{name}"] for name in now}, now
