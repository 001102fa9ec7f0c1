"""The contract between a paper and the loop, and its conformance check."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from common.errors import UserError, nearest
from common.papers import builder_folder

PyTree = Any
SumCount = tuple[jax.Array, jax.Array]
Metrics = dict[str, jax.Array]
Batch = dict[str, np.ndarray]


class Experiment(NamedTuple):
    """A paper's experiment as pure functions; the loop jits, shards, saves and resumes them.

    Attributes:
        data: Returns a pytree of host arrays, placed on the devices once; {} if there are none.
        init: key -> state, a pytree of arrays and everything that is checkpointed.
        step: (state, data, batch, key) -> (state, metrics); metrics are scalars. Never closes
            over arrays: a closure becomes a constant of the compiled program.
        batch: step index -> dict of NumPy arrays, the global batch as a pure function of
            (seed, step), often only indices into data; {} for rollouts inside `step`.
        evaluate: (state, data, key) -> {name: (sum, count)}, called every `eval_every` steps.
        rules: ((path regex, PartitionSpec), ...) for "state/...", "data/..." and "batch/...";
            the first match wins. Default: batches over the axis "data", the rest replicated.
        final: Like `evaluate`, but called once at the end, on the last and on the best state:
            the place for test sets and for whole training sets.
        abstract_data: ShapeDtypeStructs of `data()`, for compiling without making the data.
        describe: Facts for result.json, above all which data were used, with checksums.
    """

    data: Callable[[], PyTree]
    init: Callable[[jax.Array], PyTree]
    step: Callable[[PyTree, PyTree, PyTree, jax.Array], tuple[PyTree, Metrics]]
    batch: Callable[[int], Batch]
    evaluate: Callable[[PyTree, PyTree, jax.Array], dict[str, SumCount]]
    rules: tuple[tuple[str, Any], ...] = ()
    final: Callable[[PyTree, PyTree, jax.Array], dict[str, SumCount]] | None = None
    abstract_data: Callable[[], PyTree] | None = None
    describe: Callable[[], dict[str, Any]] = dict


def build(config: ConfigDict) -> Experiment:
    """Returns the experiment that `config.experiment` names.

    With `config.seed_group` = n > 1 the result trains the seeds seed .. seed + n - 1 together.

    Raises:
        UserError: If there is no such builder, or it refuses the config (ValueError).
    """
    builder = _builder(config)
    if config.seed_group == 1:
        return _call(builder, config)
    members = []
    for offset in range(config.seed_group):
        member = ConfigDict(config.to_dict())
        member.seed = config.seed + offset
        members.append(_call(builder, member.lock()))
    return _group(members)


def abstract(tree: PyTree) -> PyTree:
    """Returns the shapes and dtypes of a pytree of arrays."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def data_shapes(experiment: Experiment) -> PyTree:
    """Returns shapes and dtypes of the experiment's data, without making them if it can."""
    if experiment.abstract_data is not None:
        return experiment.abstract_data()
    return abstract(jax.tree.map(np.asarray, experiment.data()))


def check_experiment(experiment: Experiment, *, max_constant_bytes: int = 65_536) -> None:
    """Checks that an experiment keeps the contract; traces it, runs nothing on a device.

    Raises:
        ValueError: Naming the first rule that is broken.
    """
    first, again = experiment.batch(0), experiment.batch(0)
    _equal_batches(first, again)
    _expect(
        jax.tree.map(np.shape, first) == jax.tree.map(np.shape, experiment.batch(1)),
        "batch(0) and batch(1) differ in shape",
    )
    data, key = data_shapes(experiment), jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(experiment.init, key)
    batch = abstract(first)
    closed, (new_state, metrics) = jax.make_jaxpr(experiment.step, return_shape=True)(
        state, data, batch, key
    )
    size = sum(np.asarray(c).nbytes for c in closed.consts if not _is_key(c))
    _expect(size <= max_constant_bytes, f"step closes over {size} bytes of arrays; pass them as data")
    _same_shapes(state, new_state)
    for name, value in metrics.items():
        _expect(value.shape == (), f"metric {name!r} of step has shape {value.shape}, expected ()")
    for label in ("evaluate", "final"):
        function = getattr(experiment, label)
        if function is None:
            continue
        for name, pair in jax.eval_shape(function, state, data, key).items():
            ok = isinstance(pair, tuple) and len(pair) == 2 and all(x.shape == () for x in pair)
            _expect(ok, f"{label} returns {name!r} that is not (sum, count) of two scalars")
    _expect(isinstance(experiment.describe(), dict), "describe() does not return a dict")


def _builder(config: ConfigDict) -> Callable[[ConfigDict], Experiment]:
    left, _, name = config.experiment.partition(":")
    folder = builder_folder(config.experiment, config.config_dir)
    if folder is None:
        raise UserError(f"config.experiment={config.experiment!r}: no such paper or file")
    if left.endswith(".py"):
        path = Path(config.config_dir) / left
        known = vars(_load(path))
    else:
        known = importlib.import_module(f"{left}.experiments").EXPERIMENTS
    if name not in known:
        raise UserError(f"config.experiment={config.experiment!r}: no builder {name!r}{nearest(name, known)}")
    return known[name]


def _load(path: Path) -> Any:
    module_name = f"_experiment_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module


def _call(builder: Callable[[ConfigDict], Experiment], config: ConfigDict) -> Experiment:
    try:
        return builder(config)
    except ValueError as error:
        raise UserError(f"{config.experiment}: {error}") from error


def _group(members: list[Experiment]) -> Experiment:
    """Trains experiments that differ in their seed only as one, with a leading member axis.

    Keys, batches, state and metrics gain that axis; data must not depend on the seed.
    """
    one = members[0]

    def over_members(function: Callable[..., Any]) -> Callable[..., Any]:
        return jax.vmap(function, in_axes=(0, None, 0))

    def batch(step: int) -> Batch:
        return jax.tree.map(lambda *rows: np.stack(rows), *[m.batch(step) for m in members])

    return one._replace(
        init=jax.vmap(one.init),
        step=jax.vmap(one.step, in_axes=(0, None, 0, 0)),
        batch=batch,
        evaluate=over_members(one.evaluate),
        final=one.final and over_members(one.final),
        rules=(*_shift_rules(one.rules), (r"^batch/", jax.P(None, "data"))),
    )


def _shift_rules(rules: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (path, spec if path.lstrip("^").startswith("data") or callable(spec) else jax.P(None, *spec))
        for path, spec in rules
    )


def _equal_batches(first: Batch, again: Batch) -> None:
    _expect(isinstance(first, dict), f"batch(0) is a {type(first).__name__}, expected a dict")
    for name, rows in first.items():
        _expect(isinstance(rows, np.ndarray), f"batch(0)[{name!r}] is not a NumPy array")
        _expect(np.array_equal(rows, again[name]), f"batch(0)[{name!r}] differs between two calls")


def _same_shapes(state: PyTree, new_state: PyTree) -> None:
    same_tree = jax.tree.structure(state) == jax.tree.structure(new_state)
    _expect(same_tree, "step changes the tree structure of the state")
    for (path, old), new in zip(
        jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(new_state), strict=True
    ):
        name = jax.tree_util.keystr(path)
        _expect(
            old.shape == new.shape and old.dtype == new.dtype,
            f"step changes state{name} from {old.dtype}{old.shape} to {new.dtype}{new.shape}",
        )


def _is_key(value: Any) -> bool:
    return jnp.issubdtype(getattr(value, "dtype", np.float32), jax.dtypes.prng_key)


def _expect(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)
