"""Groups of rows that climb by themselves ("m-sharpness"), whatever the number of devices."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from common.errors import UserError
from common.gradient_types import ValueAndGrad
from common.plain_gradient import WISHES, mean_of, split_rows, summed
from common.sharding import path_name, spread

PyTree = Any


def in_groups(of_group: ValueAndGrad, m: int) -> ValueAndGrad:
    """Returns the mean over groups of m rows; each device takes its share, one group at a time.

    Where the devices do not divide the groups, or sums have a fixed order (`plain`), all devices
    take every group together. The mean is the same to rounding.
    """

    def mean_value_and_grad(
        params: PyTree, data: PyTree, batch: PyTree, key: Any
    ) -> tuple[Any, PyTree]:
        count = _groups(batch, m)
        if count == 1:
            return of_group(params, data, batch, key)
        like = None

        def local(params: PyTree, whole: PyTree, groups: PyTree, numbers: Any) -> PyTree:
            nonlocal like
            data, key = whole

            def one(group: PyTree) -> tuple[Any, PyTree]:
                rows, number = group
                if not _is_ordered():
                    rows = jax.tree.map(spread, rows)  # of a group that all devices take together
                own = jax.tree.map(lambda key: jax.random.fold_in(key, number), key)
                return of_group(params, data, rows, own)

            total, like = summed(one, (groups, numbers))
            return total

        groups = (split_rows(batch, count, "m"), jnp.arange(count))
        total = _shared(local, count)(params, (data, key), *groups)
        return jax.tree.map(lambda x, y: mean_of(x, count, y.dtype), total, like)

    return mean_value_and_grad


def _groups(batch: PyTree, m: int) -> int:
    """Returns how many groups of m rows there are in a batch."""
    for path, rows in jax.tree_util.tree_leaves_with_path(batch):
        if jnp.ndim(rows) and len(rows) % m:
            raise UserError(
                f"m={m}: {len(rows)} rows of {path_name('batch', path)} do not divide into groups "
                "of m; change config.gradient.m or config.batch_size"
            )
        if jnp.ndim(rows):
            return len(rows) // m
    raise UserError(f"m={m}: the batch has no rows to divide into groups")


def _shared(local: Callable[..., PyTree], count: int) -> Callable[..., PyTree]:
    """Splits the groups, the leading axis of the last two arguments, over all devices; adds up."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1 or count % mesh.size or _is_ordered():
        return local
    axes = tuple(mesh.axis_names)
    split, whole = PartitionSpec(axes), PartitionSpec()
    return jax.shard_map(
        lambda *arguments: jax.lax.psum(local(*arguments), axes),
        in_specs=(whole, whole, split, split),
        out_specs=whole,
        check_vma=False,
    )


def _is_ordered() -> bool:
    """Tells if sums have a fixed order, which `plain` sees to."""
    wishes = WISHES.get()
    return wishes is not None and bool(wishes.logical_shards)
