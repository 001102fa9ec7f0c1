"""Sums over whole data sets inside one compiled program, one slice in memory at a time."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from common.precision import wide, widened
from common.sharding import spread

PyTree = Any
SumCount = tuple[jax.Array, jax.Array]
# Called with the lowest and the highest label and the number of classes of a program that runs.
_WITNESS: contextvars.ContextVar[Callable[..., None] | None] = contextvars.ContextVar(
    "witness", default=None
)


class Limit(NamedTuple):
    """How many rows `sums_over` goes over, None: all; and (used, given) of every call so far."""

    rows: int | None
    met: list[tuple[int, int]]


_LIMIT: contextvars.ContextVar[Limit | None] = contextvars.ContextVar("limit", default=None)


@contextlib.contextmanager
def limited(rows: int | None) -> Iterator[Limit]:
    """While programs are traced inside, `sums_over` takes at most so many rows, evenly spread.

    For rough pictures of a function that takes whole data sets, whatever these look like.
    """
    limit = Limit(rows, [])
    token = _LIMIT.set(limit)
    try:
        yield limit
    finally:
        _LIMIT.reset(token)


def sums_over(
    function: Callable[..., dict[str, jax.Array]],
    rows: PyTree,
    *,
    chunk: int,
    prefix: str = "",
    key: jax.Array | None = None,
) -> dict[str, SumCount]:
    """Returns (sum, count) over all rows of every value that `function` gives per row.

    Every slice is spread over all devices of the mesh, if their number divides it. Values narrower
    than float32 are summed in float32.

    Args:
        function: Maps a slice of `rows` (leaves [chunk, ...]) to values of shape [chunk].
        rows: Arrays with the same leading axis.
        chunk: Rows in memory at a time; the last slice is filled up with row 0, which counts
            nothing there.
        prefix: Of the names that are returned.
        key: Makes a key of its own for every slice, which `function` takes as second argument.

    Raises:
        ValueError: If there are no rows, arrays have different numbers of them, or `function` does
            not give one number a row.
    """
    if (limit := _LIMIT.get()) is not None:
        rows = _evenly(rows, limit)
    values, count = _values(function, rows, chunk, key)

    def total(name: str, value: jax.Array) -> jax.Array:
        if value.ndim != 2:
            raise ValueError(
                f"sums_over: {name!r} has shape {value.shape[1:]} for a slice of {value.shape[1]} "
                "rows; expected one number a row"
            )
        is_real = jnp.arange(value.size) < count
        return jnp.sum(jnp.where(is_real, value.reshape(-1), 0))

    values = widened(values)
    return {prefix + k: (total(k, value), jnp.float32(count)) for k, value in values.items()}


def values_over(
    function: Callable[..., dict[str, jax.Array]],
    rows: PyTree,
    *,
    chunk: int,
    key: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """Returns what `function` gives per row, numbers or arrays; the arguments of `sums_over`.

    Raises:
        ValueError: If there are no rows, arrays have different numbers of them, or `function` does
            not give something for each.
    """
    values, count = _values(function, rows, chunk, key)
    return {name: value.reshape(-1, *value.shape[2:])[:count] for name, value in values.items()}


def means(pairs: dict[str, tuple[jax.Array, jax.Array]]) -> dict[str, Any]:
    """Returns sum / count of every metric: a float, or a list of them for a seed group.

    NaN where nothing was counted.
    """
    host = jax.tree.map(np.asarray, jax.device_get(pairs))
    widest = jax.tree.map(lambda x: x.astype(wide(x.dtype), copy=False), host)
    with np.errstate(divide="ignore", invalid="ignore"):  # whoever uses them looks at the result
        return {
            name: (total / count).astype(float).tolist() for name, (total, count) in widest.items()
        }


def _values(
    function: Callable[..., dict[str, jax.Array]], rows: PyTree, chunk: int, key: jax.Array | None
) -> tuple[dict[str, jax.Array], int]:
    """Returns values [slices, chunk, ...], the last slice filled up, and the number of rows."""
    count = _num_rows(rows)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}: expected at least 1 row in memory at a time")
    rows = jax.tree.map(jnp.asarray, rows)
    chunk = min(chunk, count)
    num_chunks = -(-count // chunk)
    index = jnp.arange(num_chunks * chunk)
    index = jnp.where(index < count, index, 0).reshape(num_chunks, chunk)

    def one(chosen: jax.Array) -> dict[str, jax.Array]:
        part = jax.tree.map(lambda x: spread(x[chosen]), rows)
        keys = () if key is None else (jax.random.fold_in(key, chosen[0]),)
        values = function(part, *keys)
        for name, value in values.items():
            if jnp.shape(value)[:1] != (chunk,):
                raise ValueError(
                    f"{name!r} has shape {jnp.shape(value)} for a slice of {chunk} rows; expected "
                    f"({chunk},): a value for each row, not their mean"
                )
        return values

    return jax.lax.map(one, index), count


def _evenly(rows: PyTree, limit: Limit) -> PyTree:
    """Returns as many rows as the limit allows, and notes their number."""
    count = _num_rows(rows)
    used = min(limit.rows or count, count)
    limit.met.append((used, count))
    chosen = np.arange(used) * count // used
    return rows if used == count else jax.tree.map(lambda x: jnp.asarray(x)[chosen], rows)


def _num_rows(rows: PyTree) -> int:
    """Returns the leading axis that all arrays have."""
    shapes = {
        jax.tree_util.keystr(path, simple=True, separator="/") or "rows": np.shape(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(rows)
    }
    counts = {name: shape[0] if shape else None for name, shape in shapes.items()}
    if len(set(counts.values())) != 1 or None in counts.values():
        text = ", ".join(f"{k} has {'no axis' if n is None else n}" for k, n in counts.items())
        raise ValueError(f"expected arrays with the same number of rows; {text or 'got none'}")
    name, count = next(iter(counts.items()))
    if not count:
        raise ValueError(f"{name} is empty: {shapes[name]}; there is no mean over no rows")
    return count


def classification_values(
    logits: Float[Array, "batch classes"], labels: Integer[Array | np.ndarray, " batch"]
) -> dict[str, Float[Array, " batch"]]:
    """Returns accuracy in percent and cross-entropy in nats of every row, in float32 at least.

    Classes count from 0. A row whose label is none of them, such as -1 for "ignore", has no
    accuracy and no loss: both are NaN, and the loop names the labels. To leave such rows out, mask
    them: `jnp.where(labels >= 0, loss, 0)`.

    Raises:
        ValueError: If there is not one label a row, or labels that are NumPy arrays are none of
            the classes.
    """
    classes = logits.shape[-1]
    check_labels(labels, rows=logits.shape[0], classes=classes)
    labels = jnp.asarray(labels)
    if (witness := _WITNESS.get()) is not None:
        jax.debug.callback(witness, labels.min(), labels.max(), classes)
    labels = labels.astype(jnp.promote_types(labels.dtype, jnp.int32))  # 256 classes, uint8 labels
    is_class = (labels >= 0) & (labels < classes)
    log_p = jax.nn.log_softmax(widened(logits))
    chosen = jnp.where(is_class, labels, 0)[:, None]
    loss = -jnp.take_along_axis(log_p, chosen, axis=-1, mode="promise_in_bounds")[:, 0]
    accuracy = 100.0 * (jnp.argmax(logits, -1) == labels)
    return {
        "accuracy": jnp.where(is_class, accuracy, jnp.nan),
        "loss": jnp.where(is_class, loss, jnp.nan),
    }


def check_labels(labels: Any, *, rows: int, classes: int) -> None:
    """Checks the labels of `rows` rows; of NumPy arrays also that each is one of 0 .. classes - 1.

    Raises:
        ValueError: Naming the numbers of rows and labels, or the labels that are none of them.
    """
    if jnp.shape(labels) != (rows,):
        raise ValueError(f"labels of shape {jnp.shape(labels)} for {rows} rows; expected ({rows},)")
    if isinstance(labels, np.ndarray) and labels.size:
        problem = _strange(labels.min(), labels.max(), classes)
        if problem:
            raise ValueError(problem)


def strange_labels(function: Callable[..., Any], *arguments: Any) -> str:
    """Returns which labels of no class `classification_values` meets in a call, "" if none.

    Compiles a second program, of which the labels are all that is left: it is for finding out why
    a metric is not a number.
    """
    found: dict[int, list[int]] = {}  # by the number of classes

    def witness(low: Any, high: Any, classes: Any) -> None:
        found.setdefault(int(classes), []).extend((int(low), int(high)))

    token = _WITNESS.set(witness)
    try:
        jax.block_until_ready(jax.jit(lambda *a: (function(*a), 0)[1])(*arguments))
        jax.effects_barrier()
    finally:
        _WITNESS.reset(token)
    problems = (_strange(min(met), max(met), classes) for classes, met in found.items())
    return next(filter(None, problems), "")


def _strange(low: Any, high: Any, classes: int) -> str:
    """Returns what is wrong with labels from `low` to `high`, "" if nothing is."""
    if low >= 0 and high < classes:
        return ""
    return f"labels go from {low} to {high}, but the {classes} classes are 0 to {classes - 1}"
