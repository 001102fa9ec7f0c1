"""What a saved run is evaluated by, as a function of its parameters alone.

The rest of its state, such as statistics of batch normalization, stays as it was saved, and so do
the data and the random key. The parameters of a state are the leaves below a field `params`, those
of an optimizer aside; here they are one dict by path, with the names of `lab export`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from common.evaluation import limited
from common.keys import EVALUATE, root_key, stream
from common.metric_names import goal
from common.runs import Loaded
from common.sharding import path_name
from landscape.variances import check_variances
from landscape.vectors import PyTree

LOSSES = ("loss", "mse", "l2", "error")  # last words of metrics that are small where all is well


class Frozen(NamedTuple):
    """Everything the evaluation takes besides the parameters, as arrays that may be copied."""

    state: list[Any]
    data: list[Any]


class Objective(NamedTuple):
    """A run's evaluation at any parameters.

    Attributes:
        params: The parameters of the run, by path.
        frozen: Everything else.
        values: (params, rows, frozen) -> metrics by name, for `surfaces.surface`; `rows` is not
            used, the data are frozen.
        loss: (params, frozen) -> the first of the metrics, for the functions of curvature.
        names: The metrics; the first is the loss.
        rows: Rows that were used and rows there are; (0, 0) if the evaluation does not say.
        has_statistics: Whether there is a model state, which stays as it is.
        params_of: state -> its parameters, by path.
    """

    params: dict[str, Array]
    frozen: Frozen
    values: Callable[[PyTree, PyTree, Frozen], dict[str, Array]]
    loss: Callable[[PyTree, Frozen], Array]
    names: tuple[str, ...]
    rows: tuple[int, int]
    has_statistics: bool
    params_of: Callable[[PyTree], dict[str, Array]]


def objective_of(run: Loaded, *, metrics: str = "", rows: int = 0) -> Objective:
    """Returns the evaluation of a run as a function of its parameters.

    Args:
        run: A loaded run, of one seed.
        metrics: Names of metrics of `evaluate`, or of `final`, the loss in front, with commas;
            "": the loss that `loss_of` finds, and the accuracy beside it.
        rows: At most so many rows of the data, evenly spread; 0: all.

    Raises:
        ValueError: If the state has no parameters, there is no such metric, the evaluation does
            not go over rows where they are limited, or a running variance is not positive.
    """
    function, names, used = _function(run, metrics, rows)
    state = _split(run.state)
    if not state.places:
        raise ValueError("the state has no field `params`: there is nothing to move")
    statistics = {path: x for path, x in state.named(run.state) if "model_state" in path.split("/")}
    check_variances(statistics)
    data, data_structure = jax.tree.flatten(run.data)

    def values(params: PyTree, unused: PyTree, frozen: Frozen) -> dict[str, Array]:
        del unused
        key = stream(root_key(run.config), EVALUATE)
        data = data_structure.unflatten(frozen.data)
        with limited(rows or None):
            found = function(state.joined(params, frozen.state), data, key)
        return {name: jnp.asarray(found[name][0] / found[name][1]) for name in names}

    return Objective(
        params=state.params(run.state),
        frozen=Frozen(state.others(run.state), _off_mesh(data)),
        values=values,
        loss=lambda params, frozen: values(params, None, frozen)[names[0]],
        names=names,
        rows=used,
        has_statistics=bool(statistics),
        params_of=state.params,
    )


def loss_of(names: Sequence[str], best_metric: str) -> str:
    """Returns the metric that stands for the loss of a run.

    That by which its best checkpoint is chosen if less is better; else one that is called a loss,
    an error and so on, by the shortest name; else the one in question, or the first.
    """
    best = goal(best_metric)
    if best.sign < 0 and best.name in names:
        return best.name
    by_length = sorted(names, key=len)
    found = (name for end in LOSSES for name in by_length if name.split("_")[-1] == end)
    return next(found, best.name if best.name in names else names[0])


def _function(
    run: Loaded, metrics: str, rows: int
) -> tuple[Callable[..., Any], tuple[str, ...], tuple[int, int]]:
    """Returns `evaluate` or `final`, whichever has the metrics, their names, and its rows."""
    asked = tuple(name.strip() for name in metrics.split(",")) if metrics else ()
    functions = {"evaluate": run.experiment.evaluate, "final": run.experiment.final}
    key, known = jax.eval_shape(lambda: root_key(run.config)), []
    for label, function in functions.items():
        if function is None:
            continue
        with limited(rows or None) as limit:
            names = list(jax.eval_shape(function, run.state, run.data, key))
        if not asked:
            loss = loss_of(names, run.config.best_metric)
            beside = [name for name in names if name.endswith("accuracy")]
            asked = tuple(dict.fromkeys([loss, *beside]))
        if set(asked) <= set(names):
            if rows and not limit.met:
                raise ValueError(
                    f"rows={rows}: `{label}`, which gives {asked[0]}, does not go over its rows "
                    "with `common.evaluation.sums_over`; leave it out"
                )
            return function, asked, next(iter(limit.met), (0, 0))
        known.append(f"of {label} {', '.join(names)}")
    raise ValueError(f"metric={','.join(asked)}: expected {'; or '.join(known)}")


class _Split(NamedTuple):
    """Which leaves of a state are parameters.

    Attributes:
        structure: The state.
        paths: Of all leaves.
        keys: Of all leaves the kind of random key that they are, None if they are none.
        places: Of the parameters by name among all leaves.
    """

    structure: Any
    paths: tuple[str, ...]
    keys: tuple[Any, ...]
    places: dict[str, int]

    def named(self, state: PyTree) -> list[tuple[str, Any]]:
        """Returns all leaves with their paths."""
        return list(zip(self.paths, jax.tree.leaves(state), strict=True))

    def params(self, state: PyTree) -> dict[str, Array]:
        """Returns the parameters of a state."""
        leaves = jax.tree.leaves(state)
        return _off_mesh({name: leaves[place] for name, place in self.places.items()})

    def others(self, state: PyTree) -> list[Array]:
        """Returns all other leaves, random keys as plain numbers."""
        leaves = zip(jax.tree.leaves(state), self.keys, strict=True)
        plain = [leaf if kind is None else jax.random.key_data(leaf) for leaf, kind in leaves]
        chosen = set(self.places.values())
        return _off_mesh([leaf for place, leaf in enumerate(plain) if place not in chosen])

    def joined(self, params: Mapping[str, Any], others: Sequence[Any]) -> PyTree:
        """Returns the state with other parameters."""
        moved = {place: params[name] for name, place in self.places.items()}
        rest = iter(others)
        leaves = [
            moved[place] if place in moved else _as_key(next(rest), kind)
            for place, kind in enumerate(self.keys)
        ]
        return self.structure.unflatten(leaves)


def _split(state: PyTree) -> _Split:
    """Returns which leaves of a state are parameters; named as `lab export` names them."""
    found, structure = jax.tree_util.tree_flatten_with_path(state)
    paths, places = [path_name("state", path) for path, _ in found], {}
    for place, path in enumerate(paths):
        parts = path.split("/")[1:]
        cut = parts.index("params") if "params" in parts else len(parts)
        if cut < len(parts) and "opt_state" not in parts[:cut]:
            places["/".join([*parts[:cut], *parts[cut + 1 :]])] = place
    is_key = [jnp.issubdtype(x.dtype, jax.dtypes.prng_key) for _, x in found]
    keys = [jax.random.key_impl(x) if k else None for (_, x), k in zip(found, is_key, strict=True)]
    return _Split(structure, tuple(paths), tuple(keys), places)


def _as_key(leaf: Any, kind: Any) -> Any:
    return leaf if kind is None else jax.random.wrap_key_data(leaf, impl=kind)


def _off_mesh(tree: PyTree) -> PyTree:
    """Returns arrays as a single device has them: those on a mesh are of another type for `jit`."""
    return jax.device_put(tree, jax.local_devices()[0])
