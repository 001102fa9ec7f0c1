"""The compiled programs of an experiment: the same ones for the loop and for `lab compile`."""

import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from common import gradients, sharding
from common.devices import accelerators, memory
from common.errors import DoesNotFit
from common.evaluation import means
from common.experiment import Experiment, abstract, data_shapes
from common.keys import EVALUATE, INIT, STEP, root_key, stream

PyTree = Any

# XLA merges common subexpressions before it simplifies a program of several devices, and after it
# in one of a single device: what it then simplifies is another program, which rounds otherwise.
SAME_ON_ANY_NUMBER = {"xla_disable_hlo_passes": "cse"}


class Layout(NamedTuple):
    """Abstract values (with shardings) of everything a program takes."""

    mesh: Mesh
    state: PyTree
    data: PyTree
    batches: PyTree
    key: jax.ShapeDtypeStruct
    step: jax.ShapeDtypeStruct


def mesh_of(config: ConfigDict) -> Mesh:
    """Returns the mesh of a config, and says which devices it is made of."""
    mesh = sharding.make_mesh(dict(config.mesh))
    logging.info("running on %s", sharding.describe(mesh))
    unused = accelerators.overlooked(mesh.devices.flat[0].platform)
    if unused and "JAX_PLATFORMS" not in os.environ:
        logging.warning("%s", unused)
    return mesh


def place_key(config: ConfigDict, mesh: Mesh) -> jax.Array:
    """Returns the root key on all devices of the mesh, which may be those of many processes."""
    return jax.jit(lambda: root_key(config), out_shardings=sharding.replicated(mesh))()


def layout(
    experiment: Experiment, config: ConfigDict, mesh: Mesh, *, data: PyTree | None = None
) -> Layout:
    """Returns shapes and shardings of all arguments; computes nothing.

    Args:
        experiment: What is compiled.
        config: Its config.
        mesh: The devices, real or of a topology.
        data: The host data if they are at hand, else only their shapes are asked for.
    """
    key = jax.eval_shape(lambda: root_key(config))
    state = jax.eval_shape(experiment.init, key)
    batches = jax.eval_shape(lambda: stack_batches(experiment, config, 0))
    rules, whole = experiment.rules, sharding.replicated(mesh)

    def attach(tree: PyTree, prefix: str, leading: int = 0) -> PyTree:
        targets = sharding.shardings(tree, rules, mesh, prefix, leading=leading)
        return jax.tree.map(_with_sharding, tree, targets)

    return Layout(
        mesh=mesh,
        state=attach(state, "state"),
        data=attach(data_shapes(experiment) if data is None else abstract(data), "data"),
        batches=attach(batches, "batch", leading=int(config.steps_per_call > 1)),
        key=_with_sharding(key, whole),
        step=jax.ShapeDtypeStruct((), jnp.int32, sharding=whole),
    )


def stack_batches(experiment: Experiment, config: ConfigDict, step: int) -> PyTree:
    """Returns the host batch of one call: that of `step`, or k of them stacked."""
    k = config.steps_per_call
    if k == 1:
        return experiment.batch(step)
    batches = [experiment.batch(step + i) for i in range(k)]
    return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}


def place_batches(batches: PyTree, layout: Layout) -> PyTree:
    """Returns the host batches of one call on the devices."""
    return sharding.place(batches, jax.tree.map(lambda x: x.sharding, layout.batches))


def lower_init(experiment: Experiment, layout: Layout) -> jax.stages.Lowered:
    """Lowers root key -> state."""

    def init(key: jax.Array) -> PyTree:
        return experiment.init(stream(key, INIT))

    with jax.set_mesh(layout.mesh):
        return jax.jit(init, out_shardings=_shardings(layout.state)).lower(layout.key)


def lower_step(experiment: Experiment, config: ConfigDict, layout: Layout) -> jax.stages.Lowered:
    """Lowers (state, data, batches, root key, step) -> (state, metrics [steps_per_call]).

    The state is donated. Step i of the run sees the key fold_in(fold_in(root, 1), i). With
    `config.deterministic` its gradients are summed in a fixed order, see `common.gradients`, and
    XLA:CPU merges no common subexpressions.

    Raises:
        UserError: If `config.deterministic` or `config.gradient` asks for what the step ignores.
    """
    k = config.steps_per_call

    def one(state: PyTree, data: PyTree, batch: PyTree, key: jax.Array, step: jax.Array) -> Any:
        return experiment.step(state, data, batch, stream(stream(key, STEP), step))

    def call(state: PyTree, data: PyTree, batches: PyTree, key: jax.Array, step: jax.Array) -> Any:
        if k == 1:
            state, metrics = one(state, data, batches, key, step)
            return state, jax.tree.map(lambda x: x[None], metrics)
        return jax.lax.scan(
            lambda state, x: one(state, data, x[1], key, x[0]),
            state,
            (step + jnp.arange(k), batches),
        )

    out = (_shardings(layout.state), sharding.replicated(layout.mesh))
    options = SAME_ON_ANY_NUMBER if config.deterministic and _is_cpu(layout.mesh) else None
    jitted = jax.jit(call, donate_argnums=0, out_shardings=out, compiler_options=options)
    with jax.set_mesh(layout.mesh), gradients.following(config):
        return jitted.lower(layout.state, layout.data, layout.batches, layout.key, layout.step)


def _is_cpu(mesh: Mesh) -> bool:
    return mesh.devices.flat[0].platform == "cpu"


def lower_evaluate(function: Any, layout: Layout) -> jax.stages.Lowered:
    """Lowers (state, data, root key) -> {name: (sum, count)} for `evaluate` or `final`."""

    def evaluate(state: PyTree, data: PyTree, key: jax.Array) -> Any:
        return function(state, data, stream(key, EVALUATE))

    whole = sharding.replicated(layout.mesh)
    with jax.set_mesh(layout.mesh):
        return jax.jit(evaluate, out_shardings=whole).lower(layout.state, layout.data, layout.key)


def compile_evaluate(lowered: jax.stages.Lowered, layout: Layout, left: int | None) -> Any:
    """Returns a compiled evaluation.

    Raises:
        DoesNotFit: If this machine cannot hold it, see `check_memory`.
    """
    compiled = lowered.compile()
    check_memory(compiled, layout.mesh.local_devices, left, is_step=False)
    return compiled


def evaluate(function: Any, state: PyTree, data: PyTree, key: jax.Array) -> dict[str, Any]:
    """Returns the means that `evaluate` or `final` gives for placed state and data."""
    compiled = jax.jit(lambda s, d, k: function(s, d, stream(k, EVALUATE)))
    return means(compiled(state, data, key))


def host_data(experiment: Experiment) -> PyTree:
    """Returns the data of an experiment in the memory of this machine.

    Raises:
        DoesNotFit: If it says how large they are, and less is left.
    """
    left = memory.left()
    if experiment.abstract_data is not None and left is not None:
        shapes = jax.tree.leaves(experiment.abstract_data())
        needed = sum(x.dtype.itemsize * math.prod(x.shape) for x in shapes)
        if needed > left:
            raise DoesNotFit(
                f"the data of this config take {needed / 2**30:.2f} GiB, and this machine has "
                f"{left / 2**30:.2f} GiB of memory left; lower sizes in config.data, or end what "
                "else runs"
            )
    return jax.tree.map(np.asarray, experiment.data())


def check_memory(
    compiled: Any, devices: Sequence[Any], left: int | None, *, is_step: bool = True
) -> None:
    """Refuses a compiled program that this machine cannot hold; logs the memory of a step.

    Where devices are CPUs, that is: else the kernel would kill this process, or another one.

    Args:
        compiled: A step, or an evaluation.
        devices: Those of this machine that run it.
        left: Bytes that were left before the first program ran: what one frees the next one takes.
        is_step: Of training; else an evaluation.

    Raises:
        DoesNotFit: If temporaries and results on all devices here are more than is left.
    """
    sizes = compiled.memory_analysis()
    if sizes is None:  # the compiler does not say
        return
    if is_step:
        peak = sizes.argument_size_in_bytes + sizes.temp_size_in_bytes
        logging.info("step compiled: %.1f MiB a device", peak / 2**20)
    cpus = sum(x.platform == "cpu" for x in devices)
    needed = cpus * (sizes.temp_size_in_bytes + sizes.output_size_in_bytes)
    if left is not None and needed > left:
        what, size = ("a step", "batch_size") if is_step else ("an evaluation", "evaluate_chunk")
        raise DoesNotFit(
            f"{what} needs {needed / 2**30:.2f} GiB of memory besides its data, and this machine "
            f"has {left / 2**30:.2f} GiB left; lower config.{size}, or end what else runs"
        )


def count_parameters(state: PyTree) -> int | None:
    """Returns the number of elements of `state.params`, abstract or not; None without the field."""
    params = getattr(state, "params", None)
    return None if params is None else sum(math.prod(x.shape) for x in jax.tree.leaves(params))


def lower_first_nan(layout: Layout) -> jax.stages.Lowered:
    """Lowers state -> index of its first floating leaf with a NaN, or -1."""
    with jax.set_mesh(layout.mesh):
        whole = sharding.replicated(layout.mesh)
        return jax.jit(first_nan, out_shardings=whole).lower(layout.state)


def first_nan(state: PyTree) -> jax.Array:
    """Returns the index of the first floating leaf with a NaN, or -1 (infinities may be meant)."""
    leaves = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    if not leaves:
        return jnp.int32(-1)
    bad = jnp.stack([jnp.isnan(x).any() for x in leaves])
    return jnp.where(bad.any(), jnp.argmax(bad), -1).astype(jnp.int32)


def _shardings(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: x.sharding, tree)


def _with_sharding(leaf: Any, target: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=target)
