"""The experiment `adapt`: all ways to tune at all learning rates, on one target set."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float, Int, UInt
from ml_collections import ConfigDict

from common.data.epochs import epoch_indices
from common.evaluation import SumCount, values_over
from common.experiment import Batch, Experiment, Metrics
from common.gradients import make_gradient
from common.networks import StatefulNetwork
from common.supervised import take
from finetune import shifts, statistics
from finetune.blocks import Blocks, resnet_blocks, tuned_mask
from finetune.surgical import data as shift_data
from finetune.surgical import measures, sources
from finetune.surgical.candidates import Candidates, Plan, plan, selected
from finetune.tuning import Loss, Step, Tuning, adam, init_tuning, many, moved, tuning_epoch

PyTree = Any
TARGET, CLEAN = 11, 12  # streams of random numbers, beside the seed
BATCHES = 5  # that a criterion is averaged over; released code


class Adapting(NamedTuple):
    """State of all candidates of one seed.

    Attributes:
        tuning: Parameters and optimizers, candidate after candidate.
        best: Parameters of every candidate at its best epoch so far.
        valid: Validation accuracies in percent, -1 of epochs to come.
        source: Number of the source network.
        rows: Of the pool: the target set.
        clean: Of the images before the shift: as many.
        noise: Key of the noise in a block, if that is the shift.
    """

    tuning: Tuning
    best: PyTree
    valid: Float[Array, "candidates epochs"]
    source: Int[Array, ""]
    rows: Int[Array, " n"]
    clean: Int[Array, " n"]
    noise: UInt[Array, ""]


class Setting(NamedTuple):
    """What does not change in a run.

    Attributes:
        net: The network.
        blocks: Its blocks.
        plan: Ways to tune and learning rates.
        spec: The shift.
        config: Of the run.
    """

    net: StatefulNetwork
    blocks: Blocks
    plan: Plan
    spec: shift_data.ShiftSpec
    config: ConfigDict


def adapt(config: ConfigDict) -> Experiment:
    """Tunes source networks on a target set in all ways that are compared; a step is an epoch.

    Source: Lee et al. (2023), Sec. 3 and released code: Adam, statistics of batch normalization at
    rest, early stopping and learning rate by accuracy on held-out target data.
    """
    spec = shift_data.shift_spec(config.source.data, config.pixels, config.shift)
    source = sources.section(config)
    net = sources.network_of(source)
    shapes = jax.eval_shape(net.init, jax.random.key(0))[0]
    blocks = resnet_blocks(shapes)
    planned = plan(config.adapt, shapes, blocks, epochs=config.num_steps)
    setting = Setting(net, blocks, planned, spec, config)
    if spec.shift in shift_data.NOISES:
        tuned_mask(shapes, blocks, spec.shift.removeprefix("noise_"))
    count = config.num_sources

    def data() -> PyTree:
        found = sources.trained(source, count)
        return {**shift_data.target(spec), "sources": found._asdict()}

    def abstract_data() -> PyTree:
        found = sources.abstract_sources(source, count)
        return {**shift_data.abstract_target(spec), "sources": found._asdict()}

    def step(state: Adapting, data: PyTree, batch: PyTree, key: Array) -> tuple[Adapting, Metrics]:
        del key
        return sequential_vmap(partial(_epoch, setting))(state, data, batch)

    def evaluate(state: Adapting, data: PyTree, key: Array) -> dict[str, SumCount]:
        del data, key
        return measures.counted(measures.of_selection(setting.plan, state.valid))

    def final(state: Adapting, data: PyTree, key: Array) -> dict[str, SumCount]:
        del key
        found = sequential_vmap(partial(measured, setting))(state, data)
        return measures.counted(found)

    return Experiment(
        data=data,
        init=partial(_init, setting, shapes),
        step=step,
        batch=partial(_batch, config, spec),
        evaluate=evaluate,
        final=final,
        rules=(
            (r"^batch/index$", _rows_apart),
            (r"^batch/", jax.P()),
            *(((r"^state/(tuning|best|valid)", _candidates_apart),) if config.apart else ()),
        ),
        abstract_data=abstract_data,
        describe=lambda: {**shift_data.describe(spec), "source": sources.describe(source)},
        identity=lambda: {
            **shift_data.identity(spec),
            "sources": sources.identity(source, count),
        },
    )


def _rows_apart(shape: tuple[int, ...], mesh: jax.sharding.Mesh) -> jax.P:
    """Returns the split of batches [..., updates, batch] over devices."""
    size = mesh.shape.get("data", 1)
    before = [None] * (len(shape) - 1)
    return jax.P(*before, "data") if shape and shape[-1] % size == 0 else jax.P()


def _candidates_apart(shape: tuple[int, ...], mesh: jax.sharding.Mesh) -> jax.P:
    """Returns the split of candidates over devices."""
    size = mesh.shape.get("data", 1)
    return jax.P("data") if shape and shape[0] % size == 0 else jax.P()


def _init(setting: Setting, shapes: PyTree, key: Array) -> Adapting:
    """Returns a state without parameters; the first epoch takes those of the source."""
    del key
    count, epochs = setting.plan.candidates.renewed.shape
    zeros = jax.tree.map(lambda x: jnp.zeros((count, *x.shape), x.dtype), shapes)
    tuning = jax.vmap(lambda params: init_tuning(params, adam()))(zeros)
    size = setting.config.adapt.target_size
    rows = jnp.zeros(size, jnp.int32)
    best = jax.tree.map(jnp.copy, zeros)
    return Adapting(
        tuning, best, jnp.full((count, epochs), -1.0), jnp.int32(0), rows, rows + 0, jnp.uint32(0)
    )


def _batch(config: ConfigDict, spec: shift_data.ShiftSpec, step: int) -> Batch:
    """Returns what an epoch sees: the rows of the target set and in which order they come.

    As many of every class are drawn from the pool, first the target set, then validation images.

    Source: Lee et al. (2023), released code: per class and seed, training images first.
    """
    classes = shift_data.classes_of_pool(spec)
    size, num_valid = config.adapt.target_size, config.adapt.num_valid
    per_class = spec.num_pool // 10
    if size % classes or num_valid % classes or (size + num_valid) // classes > per_class:
        raise ValueError(
            f"config.adapt.target_size={size}, num_valid={num_valid}: expected multiples of the "
            f"{classes} classes, at most {per_class * classes} together"
        )
    random = np.random.default_rng((config.seed, TARGET))
    order = np.stack([c * per_class + random.permutation(per_class) for c in range(classes)])
    first = size // classes
    rows = order[:, :first].reshape(-1).astype(np.int32)
    valid = order[:, first : first + num_valid // classes].reshape(-1).astype(np.int32)
    sizes = {"num_examples": size, "batch_size": config.batch_size}
    updates = config.adapt.updates
    index = [epoch_indices(config.seed, step * updates + i, **sizes) for i in range(updates)]
    pool = shift_data.abstract_target(spec)["clean"]["label"].shape[0]
    clean = np.random.default_rng((config.seed, CLEAN)).integers(pool, size=size)
    return {
        "epoch": np.asarray(step, np.int32),
        "source": np.asarray(config.seed % config.num_sources, np.int32),
        "rows": rows,
        "valid": valid,
        "index": rows[np.stack(index)],
        "clean": clean.astype(np.int32),
        "noise": np.asarray(config.seed, np.uint32),
    }


def _epoch(
    setting: Setting, state: Adapting, data: PyTree, batch: PyTree
) -> tuple[Adapting, Metrics]:
    """Returns the state of one seed after an epoch of every candidate, and its mean loss."""
    model_state = jax.tree.map(lambda x: x[batch["source"]], data["sources"]["model_state"])
    start = start_of(setting, data, batch["source"], batch["noise"])
    valid_rows = take(_examples(data["pool"]), batch["valid"])
    one = partial(_candidate, setting, model_state)
    how = "vmap" if setting.config.apart else "map"
    tuning, valid, losses = many(one, how, (0, 0, None, None, None, None, None))(
        jax.tree.map(jnp.asarray, setting.plan.candidates),
        state.tuning,
        start,
        batch["epoch"],
        _examples(data["pool"]),
        batch["index"],
        valid_rows,
    )
    is_better = valid > jnp.max(state.valid, axis=1)
    best = jax.tree.map(
        lambda old, new: jnp.where(is_better.reshape(-1, *(1,) * (new.ndim - 1)), new, old),
        state.best,
        tuning.tuned,
    )
    here = jnp.arange(state.valid.shape[1]) == batch["epoch"]
    history = jnp.where(here[None], valid[:, None], state.valid)
    state = Adapting(
        tuning, best, history, batch["source"], batch["rows"], batch["clean"], batch["noise"]
    )
    return state, {"loss": jnp.mean(losses)}


def _examples(rows: PyTree) -> PyTree:
    return {"image": rows["image"], "label": rows["label"]}


def start_of(setting: Setting, data: PyTree, source: Array, noise: Array) -> PyTree:
    """Returns the parameters that a seed begins with, with noise in a block if that is the shift.

    Source: Lee et al. (2023), noise put into one block of the network.
    """
    params = jax.tree.map(lambda x: x[source], data["sources"]["params"])
    if setting.spec.shift not in shift_data.NOISES:
        return params
    is_block = tuned_mask(params, setting.blocks, setting.spec.shift.removeprefix("noise_"))
    return shifts.noisy_weights(params, is_block, setting.config.shift.sigma, jax.random.key(noise))


def _candidate(
    setting: Setting,
    model_state: PyTree,
    candidate: Candidates,
    tuning: Tuning,
    start: PyTree,
    epoch: Array,
    examples: PyTree,
    index: Int[Array, "updates batch"],
    valid: PyTree,
) -> tuple[Tuning, Array, Array]:
    """Returns a candidate after an epoch, its validation accuracy in percent and its mean loss."""

    def loss(params: PyTree, batch: PyTree) -> Array:
        logits, _ = setting.net.apply(params, model_state, batch["image"])
        return sources.cross_entropy(logits, batch["label"])

    def penalty(params: PyTree) -> Array:
        distance = jax.tree.map(jnp.subtract, params, start)
        leaves = jax.tree.leaves(distance)
        lasso = sum(jnp.sum(jnp.abs(x)) for x in leaves)
        square = sum(jnp.sum(x**2) for x in leaves)
        return jnp.asarray(candidate.l1 * lasso + candidate.l2 / 2 * square)

    is_first = epoch == 0
    fresh = init_tuning(start, adam())
    params = jax.tree.map(lambda s, p: jnp.where(is_first, s, p), start, tuning.tuned)
    is_renewed = is_first | (candidate.renewed[epoch] > 0)
    opt_state = jax.tree.map(
        lambda new, old: jnp.where(is_renewed, new, old), fresh.opt_state, tuning.opt_state
    )
    batches = take(examples, index[:BATCHES])
    multiply: list[Callable[..., PyTree]] = [
        lambda params, batches: jax.tree.map(lambda _: jnp.ones(()), params),
        *(partial(criterion, loss) for criterion in setting.plan.criteria),
    ]
    more = jax.lax.switch(candidate.criterion, multiply, params, batches)
    rates = jax.tree.map(lambda m, by: candidate.rate * m[epoch] * by, candidate.multipliers, more)
    epochs = [_epoch_above(setting.config, rests, loss, penalty) for rests in setting.plan.resting]
    state = Tuning(params, opt_state)
    tuning, mean_loss = jax.lax.switch(candidate.depth, epochs, state, examples, index, rates)
    logits, _ = setting.net.apply(tuning.tuned, model_state, valid["image"])
    accuracy = 100 * jnp.mean(jnp.argmax(logits, axis=-1) == valid["label"])
    return tuning, accuracy, mean_loss


def _epoch_above(
    config: ConfigDict, rests: PyTree, loss: Loss, penalty: Callable[[PyTree], Array]
) -> Callable[..., tuple[Tuning, Array]]:
    """Returns an epoch of updates without the gradients of some leaves."""

    def loss_above(params: PyTree, batch: PyTree) -> Array:
        stopped = jax.tree.map(lambda p, r: jax.lax.stop_gradient(p) if r else p, params, rests)
        return loss(stopped, batch)

    run = tuning_epoch(_updates(config, loss_above, penalty))
    frozen = jax.tree.map(lambda _: None, rests)
    return lambda state, *rest: run(state, frozen, *rest)


def _updates(config: ConfigDict, loss: Loss, penalty: Callable[[PyTree], Array]) -> Step:
    """Returns the tuning step of the gradient of `config.gradient`, on all leaves."""

    def whole(params: PyTree, data: PyTree, batch: PyTree, key: Array) -> tuple[Array, Metrics]:
        del data, key  # the same images in every pass
        return loss(params, batch) + penalty(params), {}

    value_and_grad = make_gradient(config)(whole)

    def step(state: Tuning, frozen: PyTree, batch: PyTree, rates: PyTree) -> tuple[Tuning, Array]:
        del frozen
        (value, _), grads = value_and_grad(state.tuned, {}, batch, jax.random.key(0))
        along, opt_state = adam().update(grads, state.opt_state, state.tuned)
        return Tuning(moved(state.tuned, along, rates), opt_state), value

    return step


def measured(setting: Setting, state: Adapting, data: PyTree) -> dict[str, Array]:
    """Returns what is measured of one seed: test accuracies of every way, profiles of blocks."""
    config, spec = setting.config, setting.spec
    model_state = jax.tree.map(lambda x: x[state.source], data["sources"]["model_state"])
    source = jax.tree.map(lambda x: x[state.source], data["sources"]["params"])
    start = start_of(setting, data, state.source, state.noise)

    def accuracy(
        params: PyTree, rows: PyTree, model_state: PyTree = model_state
    ) -> dict[str, Array]:
        def of_slice(rows: PyTree) -> dict[str, Array]:
            logits, _ = setting.net.apply(params, model_state, rows["image"])
            return {"right": jnp.argmax(logits, axis=-1) == rows["label"]}

        right = values_over(of_slice, rows, chunk=config.evaluate_chunk)["right"]
        return measures.accuracies(right, rows, with_groups=spec.task == "background")

    chosen, _ = selected(state.valid, setting.plan.sizes)
    tuned = jax.tree.map(lambda x: x[chosen], state.best)
    tests = jax.lax.map(lambda params: accuracy(params, data["test"]), tuned)
    found = measures.of_selection(setting.plan, state.valid)
    for kind, values in tests.items():
        found |= {f"{kind}_{name}": values[i] for i, name in enumerate(setting.plan.choices)}
    found |= {f"{kind}_none": v for kind, v in accuracy(start, data["test"]).items()}
    found["source_accuracy"] = accuracy(source, data["source_test"])["test"]
    if jax.tree.leaves(model_state):
        variables, rows = statistics.variables_of(start, model_state), data["pool"]["image"]
        anew = statistics.reestimated(
            statistics.training(setting.net),
            variables,
            take(rows, state.rows),
            batch_size=len(state.rows),
        )
        statistics_anew = accuracy(start, data["test"], anew[statistics.STATISTICS])
        found["test_statistics"] = statistics_anew["test"]
    if spec.shift == "negative":
        matrix = shift_data.colors_of(spec.base.channels)
        kernel = shifts.oracle_stem(start["conv"]["kernel"], matrix).kernel
        oracle = {**start, "conv": {"kernel": kernel}}
        found["test_oracle"] = accuracy(oracle, data["test"])["test"]
    found |= measures.gains(setting.plan, found)
    loss = partial(measures.loss_of_rows, setting.net, model_state)
    shifted = take(_examples(data["pool"]), state.rows)
    clean = take(_examples(data["clean"]), state.clean)
    return found | measures.profiles(loss, start, source, shifted, clean, setting.blocks)
