"""What the functions of an Experiment have to keep, checked where they are called and traced.

Each function here returns the one it is given with its checks around it: nothing is traced or
computed a second time, and nothing is left of them in a compiled program.
"""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from common.errors import LabError, UserError, from_machine, place

PyTree = Any
Shapes = dict[str, tuple[Any, tuple[int, ...]]]
TAKEN = ("step", "kind")  # fields of every line of metrics.jsonl
ENTRIES = 1 << 20  # of an array, looked at at a time
SECONDS = 0.1  # to look at batches before a run


class ContractError(UserError, ValueError):
    """A function of an experiment does not do what `common.experiment.Experiment` asks of it."""


def named(name: str, label: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `function` with "NAME: LABEL: " and the place with whatever it raises.

    Raises:
        LabError: In place of any other error: of the machine (memory, storage) the one that names
            it, else a UserError.
    """

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except ContractError as error:
            raise UserError(f"{name}: {error}") from error
        except LabError:
            raise
        except Exception as error:
            said = from_machine(error) or UserError(f"{name}: {label}: {place(error)}")
            raise said from error

    return call


def data(
    function: Callable[[], PyTree], abstract: Callable[[], PyTree] | None = None
) -> Callable[[], PyTree]:
    """Returns `data` giving host arrays that a device can hold, as `abstract_data` promises them.

    Raises:
        ContractError: While called, if a leaf is no array of numbers, is empty, loses values where
            64 bits become 32, or is other than promised. That takes one pass over 64-bit arrays and
            none over others.
    """

    def checked() -> PyTree:
        made = jax.tree_util.tree_map_with_path(_host, function())
        if abstract is not None:
            for path, promised, found in _differences(abstract(), made):
                _refuse(f"abstract_data promises {promised} for data{path}, but it is {found}")
        return made

    return checked


def batch(function: Callable[[int], PyTree]) -> Callable[[int], PyTree]:
    """Returns `batch`, each as large as the first.

    Raises:
        ContractError: While called, if it gives no dict of NumPy arrays, or other names, shapes or
            types than for step 0.
    """

    @functools.cache
    def first() -> Shapes:
        return _shapes(function(0), "batch(0)")

    def checked(step: int) -> PyTree:
        rows = function(step)
        require_same_batch(first(), _shapes(rows, f"batch({step})"), f"batch({step})")
        return rows

    return checked


def step(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `step`, which gives the state as it was, up to values, and scalar metrics.

    Raises:
        ContractError: While traced, if it does not.
    """

    def checked(state: PyTree, data: PyTree, batch: PyTree, key: jax.Array) -> Any:
        outputs = function(state, data, batch, key)
        is_pair = isinstance(outputs, tuple) and len(outputs) == 2
        if not (is_pair and isinstance(outputs[1], dict)):
            _refuse("step does not return (state, dict of metrics)")
        _same_state(state, outputs[0])
        for name, value in outputs[1].items():
            _check_name(name, "step")
            if jnp.shape(value) != ():
                _refuse(f"metric {name!r} of step has shape {jnp.shape(value)}, expected ()")
        return outputs

    return checked


def pairs(label: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `evaluate` or `final`, which give (sum, count) by name.

    Raises:
        ContractError: While traced, if they do not.
    """

    def checked(state: PyTree, data: PyTree, key: jax.Array) -> Any:
        found = function(state, data, key)
        if not isinstance(found, dict):
            _refuse(f"{label} does not return a dict of (sum, count)")
        for name, pair in found.items():
            _check_name(name, label)
            ok = isinstance(pair, tuple) and len(pair) == 2
            if not (ok and all(jnp.shape(x) == () for x in pair)):
                _refuse(
                    f"{label} returns {name!r} that is not (sum, count) of two scalars; a mean "
                    "over n rows is (n * mean, n); `common.evaluation.sums_over` gives such pairs"
                )
        return found

    return checked


def check_batches(batch: Callable[[int], Any], num_steps: int, *, seconds: float = SECONDS) -> None:
    """Checks that batches depend on the step only and, as far as time allows, have one shape.

    Args:
        batch: What `batch` of this module returned, or a group of them.
        num_steps: Steps of the run; its first ones and the last are looked at.
        seconds: When to stop looking.

    Raises:
        ContractError: Naming the first batch and field that are not as they should be.
    """
    start = time.monotonic()
    check_pure(batch)
    first = _shapes(batch(0), "batch(0)")
    for number in (num_steps - 1, *range(2, num_steps - 1)):
        require_same_batch(first, _shapes(batch(number), f"batch({number})"), f"batch({number})")
        if time.monotonic() - start > seconds:
            return


def check_pure(batch: Callable[[int], Any]) -> None:
    """Checks that batch(0) depends on the step only, keeps its values, and is like batch(1).

    Raises:
        ContractError: If not.
    """
    rows = batch(0)
    shapes = _shapes(rows, "batch(0)")
    copies = {name: np.array(value) for name, value in rows.items()}
    following = batch(1)
    for name, value in copies.items():
        if not same_numbers(value, rows[name]):
            _refuse(f"batch(1) overwrites batch(0)[{name!r}]; return fresh arrays")
    again = batch(0)
    for other, label in ((following, "batch(1)"), (again, "a second batch(0)")):
        require_same_batch(shapes, _shapes(other, label), label)
    for name, value in copies.items():
        if not same_numbers(value, again[name]):
            _refuse(f"batch(0)[{name!r}] differs between two calls")


def require_same_batch(first: Shapes, other: Shapes, label: str) -> None:
    """Checks names, types and shapes of a batch against those of batch(0).

    Raises:
        ContractError: Naming the first difference.
    """
    if first == other:
        return
    if first.keys() != other.keys():
        _refuse(f"batch(0) has the fields {sorted(first)}, {label} {sorted(other)}")
    for name, was in first.items():
        if was != other[name]:
            old, new = (f"{dtype}{shape}" for dtype, shape in (was, other[name]))
            _refuse(
                f"batch(0)[{name!r}] is {old}, but {label}[{name!r}] is {new}: all batches are of "
                "one size; `common.data.epochs.epoch_indices` fills the last one of an epoch up"
            )


def _shapes(rows: Any, label: str) -> Shapes:
    if not isinstance(rows, dict):
        _refuse(f"{label} is a {type(rows).__name__}, expected a dict of NumPy arrays")
    for name, value in rows.items():
        if not isinstance(value, np.ndarray | np.generic):
            kind = f"{type(value).__module__.split('.')[0]}.{type(value).__name__}"
            _refuse(f"{label}[{name!r}] is not a NumPy array but a {kind}; return np.asarray of it")
        if value.dtype.kind in "iu":  # an index that wraps around is another row
            _check_range(f"{label}[{name!r}]", value)
    return {name: (value.dtype, value.shape) for name, value in rows.items()}


def _host(path: tuple[Any, ...], leaf: Any) -> np.ndarray:
    name = "/".join(
        ["data", *filter(None, [jax.tree_util.keystr(path, simple=True, separator="/")])]
    )
    try:
        rows = np.asarray(leaf)
    except (TypeError, ValueError) as error:
        raise ContractError(f"{name} is no array of numbers: {error}") from error
    if not (jnp.issubdtype(rows.dtype, jnp.number) or rows.dtype == bool):
        _refuse(f"{name} is {rows.dtype}{rows.shape}: expected numbers")
    if not rows.size:
        _refuse(f"{name} is empty: {rows.dtype}{rows.shape}; leave it out or give it rows")
    _check_range(name, rows)
    return rows


def _check_range(name: str, rows: Any) -> None:
    """Checks that 64-bit values keep their meaning in the 32 bits that they get on a device."""
    target = jax.dtypes.canonicalize_dtype(rows.dtype)
    if target == rows.dtype or not rows.size:
        return
    if np.iscomplexobj(rows):
        _check_range(name, rows.real)
        _check_range(name, rows.imag)
        return
    rows = np.atleast_1d(rows)
    count = max(1, ENTRIES * len(rows) // rows.size)
    check = _check_floats if np.issubdtype(rows.dtype, np.floating) else _check_integers
    for first in range(0, len(rows), count):
        check(name, rows[first : first + count], target)


def _check_integers(name: str, rows: np.ndarray, target: Any) -> None:
    limits = np.iinfo(target)
    for value in (rows.min(), rows.max()):
        if not limits.min <= value <= limits.max:
            _refuse(
                f"{name} holds {value}, but {rows.dtype} becomes {target} on the device, "
                f"{limits.min} to {limits.max}; set config.x64=true or count from another origin"
            )


def _check_floats(name: str, rows: np.ndarray, target: Any) -> None:
    """Refuses floats that become infinite, and whole numbers (times, identifiers) that change."""
    largest = max(abs(float(f.reduce(rows, axis=None))) for f in (np.fmin, np.fmax))
    if not largest > 1 / float(np.finfo(target).epsneg):  # 2**24: whole numbers up to it are kept
        return
    finite = rows[np.isfinite(rows)]
    over = finite[np.abs(finite) > float(np.finfo(target).max)]
    if over.size:
        _refuse(f"{name} holds {over[0]:g}, which is infinite as {target}; set config.x64=true")
    is_whole = (
        largest <= 2**53 and finite.size == rows.size and bool(np.all(finite == np.rint(finite)))
    )
    lost = finite[finite.astype(target) != finite] if is_whole else finite[:0]
    if lost.size:
        _refuse(
            f"{name} holds whole numbers such as {lost[0]:.0f}, which {target} does not keep; "
            "subtract an offset, set config.x64=true, or make it float32 yourself"
        )


def _same_state(state: PyTree, new_state: PyTree) -> None:
    if jax.tree.structure(state) != jax.tree.structure(new_state):
        _refuse("step changes the tree structure of the state")
    for path, was, now in _differences(state, new_state):
        _refuse(f"step changes state{path} from {was} to {now}")


def _differences(first: PyTree, second: PyTree) -> Iterator[tuple[str, str, str]]:
    """Yields place, type and shape of leaves that differ, as a device holds them."""
    if jax.tree.structure(first) != jax.tree.structure(second):
        yield "", str(jax.tree.structure(first)), str(jax.tree.structure(second))
        return
    leaves = jax.tree_util.tree_leaves_with_path(first)
    for (path, one), other in zip(leaves, jax.tree.leaves(second), strict=True):
        was, now = (f"{_dtype(leaf)}{jnp.shape(leaf)}" for leaf in (one, other))
        if was != now:
            yield jax.tree_util.keystr(path), was, now


def _dtype(value: Any) -> Any:
    dtype = value.dtype if hasattr(value, "dtype") else jnp.result_type(value)
    is_key = jnp.issubdtype(dtype, jax.dtypes.prng_key)
    return dtype if is_key else jax.dtypes.canonicalize_dtype(dtype)


def _check_name(name: Any, label: str) -> None:
    if not isinstance(name, str):
        _refuse(f"{label} has a metric called {name!r}; expected text")
    if name in TAKEN:
        _refuse(f"{label} has a metric called {name!r}, as every line of metrics.jsonl; rename it")


def same_numbers(first: Any, second: Any) -> bool:
    """Returns whether two arrays are equal, NaN being equal to NaN."""
    is_float = np.issubdtype(np.asarray(first).dtype, np.inexact)
    return np.array_equal(first, second, equal_nan=is_float)


def _refuse(message: str) -> NoReturn:
    raise ContractError(message)
