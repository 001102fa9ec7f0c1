"""The contract between a paper and the loop, and its conformance check."""

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from common import contract
from common.batch_before import with_before
from common.errors import LabError, UserError, from_machine, nearest, place
from common.keys import is_key
from common.papers import builder_folder
from common.provenance import source
from common.seeds import is_group, seeds_of

PyTree = Any
SumCount = tuple[jax.Array, jax.Array]
Metrics = dict[str, jax.Array]
Batch = dict[str, np.ndarray]
Outside = Callable[[int, PyTree, Callable[[], bool]], Batch]


class Measure(NamedTuple):
    """A program that cells of a table run on trained networks, so that `lab compile` can price it.

    Attributes:
        name: Of the program.
        function: (state, data, key) -> arrays by name.
        calls: How often the numbers of one run take it.
    """

    name: str
    function: Callable[[PyTree, PyTree, jax.Array], dict[str, jax.Array]]
    calls: int


class Experiment(NamedTuple):
    """A paper's experiment as pure functions; the loop jits, shards, saves and resumes them.

    Attributes:
        data: Returns a pytree of host arrays, placed on the devices once; {} if there are none.
        init: key -> state, a pytree of arrays and everything that is checkpointed.
        step: (state, data, batch, key) -> (state, metrics); metrics are scalars. Never closes
            over arrays: a closure becomes a constant of the compiled program.
        batch: step index -> dict of NumPy arrays, the global batch as a pure function of
            (seed, step), often only indices into data; {} for rollouts inside `step`. Of the same
            names, types and shapes for every step.
        evaluate: (state, data, key) -> {name: (sum, count)}, called every `eval_every` steps.
        rules: ((path regex, PartitionSpec), ...) for "state/...", "data/..." and "batch/...";
            the first match wins. Default: batches over the axis "data", the rest replicated.
        final: Like `evaluate`, but called once at the end, on the last and on the best state:
            the place for test sets and for whole training sets.
        measures: What a table takes besides, where that is as long as training: `lab compile
            --evaluate` says how long.
        predict: (state, data, inputs) -> outputs, what a loaded run answers to new inputs.
        abstract_data: ShapeDtypeStructs of `data()`, for compiling without making the data.
        describe: Facts for result.json, above all which data were used, with checksums.
        identity: What the data are made of: of generated ones function, spec and version
            (`common.data.cache.identity`), of files their SHA-256, of a stage its config hash
            (`common.stages.identity`). It decides whether a run may go on with data that were made
            again; None leaves that to their bytes and numbers, see `common.fingerprint`.
        outside: For runs that wait for what no seed can say, such as answers of people: opened with
            the run folder, it is called as (step, state, is_stopping) before every step and returns
            arrays that take the place of those of `batch`. It gives a step that is made again the
            same arrays, and returns {} soon after `is_stopping()`.
    """

    data: Callable[[], PyTree]
    init: Callable[[jax.Array], PyTree]
    step: Callable[[PyTree, PyTree, PyTree, jax.Array], tuple[PyTree, Metrics]]
    batch: Callable[[int], Batch]
    evaluate: Callable[[PyTree, PyTree, jax.Array], dict[str, SumCount]]
    rules: tuple[tuple[str, Any], ...] = ()
    final: Callable[[PyTree, PyTree, jax.Array], dict[str, SumCount]] | None = None
    measures: tuple[Measure, ...] = ()
    predict: Callable[[PyTree, PyTree, Any], Any] | None = None
    abstract_data: Callable[[], PyTree] | None = None
    describe: Callable[[], dict[str, Any]] = dict
    identity: Callable[[], dict[str, Any]] | None = None
    outside: Callable[[Path], AbstractContextManager[Outside]] | None = None


def build(config: ConfigDict) -> Experiment:
    """Returns the experiment that `config.experiment` names.

    With `config.seed_group` = n > 1 the result trains the seeds seed .. seed + n - 1 together.

    Raises:
        UserError: If there is no such builder, or it refuses the config (ValueError).
    """
    builder = _builder(config)
    if not is_group(config):
        return _call(builder, config)
    members = (ConfigDict({**config.to_dict(), "seed": seed}).lock() for seed in seeds_of(config))
    return _group([_call(builder, member) for member in members])


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

    `build` and the loop check the same on the way, all but what functions close over.

    Raises:
        ValueError: Naming the first rule that is broken.
    """
    contract.check_pure(experiment.batch)
    batch, experiment = experiment.batch(0), _checked(experiment)
    data, key = data_shapes(experiment), jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(experiment.init, key)

    def trace(label: str, function: Callable[..., Any], *arguments: PyTree) -> None:
        size = _constant_bytes(jax.make_jaxpr(function)(*arguments))
        if size > max_constant_bytes:
            raise contract.ContractError(
                f"{label} closes over {size} bytes of arrays; pass them as data"
            )

    trace("step", experiment.step, state, data, abstract(batch), key)
    for label, function in programs_of_state(experiment).items():
        trace(label, function, state, data, key)


def programs_of_state(experiment: Experiment) -> dict[str, Callable[..., Any]]:
    """Returns the programs (state, data, key) -> numbers by name: `evaluate`, `final`, measures."""
    final = {"final": experiment.final} if experiment.final is not None else {}
    measures = {measure.name: measure.function for measure in experiment.measures}
    return {"evaluate": experiment.evaluate, **final, **measures}


def _builder(config: ConfigDict) -> Callable[[ConfigDict], Experiment]:
    left, _, name = config.experiment.rpartition(":")
    folder = builder_folder(config.experiment, config.config_dir)
    if folder is None:
        where = f" in {config.config_dir}" if left.endswith(".py") else ""
        raise UserError(f"config.experiment={config.experiment!r}: no such paper or file{where}")
    if left.endswith(".py"):
        path = Path(config.config_dir) / left
        try:
            known = vars(source.load(path, Path(config.config_dir)))
        except LabError:
            raise
        except Exception as error:
            raise UserError(f"{path}: cannot be loaded: {place(error)}") from error
    else:
        known = importlib.import_module(f"{left}.experiments").EXPERIMENTS
    if name not in known:
        hint = nearest(name, known)
        raise UserError(f"config.experiment={config.experiment!r}: no builder {name!r}{hint}")
    return known[name]


def _call(builder: Callable[[ConfigDict], Experiment], config: ConfigDict) -> Experiment:
    """Returns what a builder makes of a config, each function with its checks and its name."""
    name = config.experiment
    try:
        experiment = builder(config)
    except LabError:
        raise
    except ValueError as error:  # what a builder says of its config
        raise UserError(f"{name}: {error}") from error
    except Exception as error:
        raise from_machine(error) or UserError(f"{name}: {place(error)}") from error
    if not isinstance(experiment, Experiment):
        raise UserError(f"{name}: returned a {type(experiment).__name__}, not an Experiment")
    if "sam_before" in config.gradient.name.split("+"):
        experiment = experiment._replace(batch=with_before(experiment.batch))
    experiment = _checked(experiment)
    labels = ("data", "init", "step", "batch", "evaluate", "final")
    functions: dict[str, Any] = {label: getattr(experiment, label) for label in labels}
    named: dict[str, Any] = {
        label: contract.named(name, label, function)
        for label, function in functions.items()
        if function is not None
    }
    return experiment._replace(**named)


def _checked(experiment: Experiment) -> Experiment:
    """Returns the experiment with the checks of `common.contract`."""
    final = experiment.final
    return experiment._replace(
        data=contract.data(experiment.data, experiment.abstract_data),
        step=contract.step(experiment.step),
        batch=contract.batch(experiment.batch),
        evaluate=contract.pairs("evaluate", experiment.evaluate),
        final=final and contract.pairs("final", final),
    )


def _group(members: list[Experiment]) -> Experiment:
    """Trains experiments that differ in their seed only as one, with a leading member axis.

    Keys, batches, state and metrics gain that axis; data that depend on the seed are refused.
    """
    one = members[0]

    def over_members(function: Callable[..., Any]) -> Callable[..., Any]:
        return jax.vmap(function, in_axes=(0, None, 0))

    def batch(step: int) -> Batch:
        return jax.tree.map(lambda *rows: np.stack(rows), *[m.batch(step) for m in members])

    def data() -> PyTree:
        first, second = one.data(), members[1].data()
        if not _equal(first, second):
            raise UserError(
                f"config.seed_group={len(members)}: the data depend on config.seed, but the seeds "
                "of a group share them; train the seeds one by one"
            )
        return first

    return one._replace(
        data=data,
        init=jax.vmap(one.init),
        step=jax.vmap(one.step, in_axes=(0, None, 0, 0)),
        batch=batch,
        evaluate=over_members(one.evaluate),
        final=one.final and over_members(one.final),
        measures=tuple(m._replace(function=over_members(m.function)) for m in one.measures),
        predict=one.predict and jax.vmap(one.predict, in_axes=(0, None, None)),
        rules=(*_shift_rules(one.rules), (r"^batch/", _split_second_axis)),
    )


def _equal(first: PyTree, second: PyTree) -> bool:
    """Returns whether two pytrees hold the same numbers."""
    if jax.tree.structure(first) != jax.tree.structure(second):
        return False
    return jax.tree.all(jax.tree.map(contract.same_numbers, first, second))


def _shift_rules(rules: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, Any], ...]:
    def shift(path: str, spec: Any) -> Any:
        stays = path.lstrip("^").startswith("data") or callable(spec)
        return spec if stays else jax.P(None, *spec)

    return tuple((path, shift(path, spec)) for path, spec in rules)


def _split_second_axis(shape: tuple[int, ...], mesh: jax.sharding.Mesh) -> jax.P:
    return jax.P(None, "data") if len(shape) > 1 and "data" in mesh.shape else jax.P()


def _constant_bytes(jaxpr: Any) -> int:
    """Returns the size of all arrays in a traced program, equal ones counted once."""
    arrays: dict[int, Any] = {}

    def visit(inner: Any) -> None:
        arrays.update((id(x), x) for x in getattr(inner, "consts", ()))
        for equation in inner.eqns:
            literals = (x.val for x in equation.invars if hasattr(x, "val"))
            arrays.update((id(x), x) for x in literals)
            for value in equation.params.values():
                for item in value if isinstance(value, tuple | list) else (value,):
                    if hasattr(item, "eqns"):
                        visit(item)

    visit(jaxpr)
    found = [np.asarray(x) for x in arrays.values() if hasattr(x, "nbytes") and not is_key(x)]
    return sum({(x.shape, x.dtype, x.tobytes()): x.nbytes for x in found}.values())
