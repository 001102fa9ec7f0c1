"""The tuning step: some leaves of a network follow a gradient, all others keep their bits.

    tuned, frozen = split(params, tuned_mask(params, blocks, "block1"))
    step, state = tuning_step(loss, adam()), init_tuning(tuned, adam())
    state, value = step(state, frozen, batch, learning_rate)
    params = join(state.tuned, frozen)

Only tuned leaves have gradients and moments of the optimizer, and the backward pass ends at the
lowest of them. Learning rates are data, one number or one for every leaf, and a leaf whose rate
is 0 is frozen as well: `many` steps with rates of all blocks are one program. Everything is pure.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Integer

from common.subtrees import is_gap, join
from common.supervised import take

PyTree = Any
Scalar: TypeAlias = Float[Array, ""]
Loss: TypeAlias = Callable[[PyTree, PyTree], Scalar]  # (params, batch) -> mean over the batch
# (params, model_state, batch) -> (mean over the batch, new model_state)
StatefulLoss: TypeAlias = Callable[[PyTree, PyTree, PyTree], tuple[Scalar, PyTree]]
Combine: TypeAlias = Callable[[PyTree, PyTree], PyTree]  # (tuned, frozen) -> params
How: TypeAlias = str  # "vmap" or "map"


class Tuning(NamedTuple):
    """What a tuning step changes.

    Attributes:
        tuned: The tuned leaves, None at the gaps; or what `combine` makes leaves of.
        opt_state: Of these alone.
        model_state: Running statistics of the network; () where they rest, or there are none.
    """

    tuned: PyTree
    opt_state: PyTree
    model_state: PyTree = ()


# (state, frozen, batch, rates) -> (state, loss)
Step: TypeAlias = Callable[[Tuning, PyTree, PyTree, PyTree], tuple[Tuning, Scalar]]


def adam(weight_decay: float = 1e-4) -> optax.GradientTransformation:
    """Returns Adam's direction at rate 1, downhill being minus it; decay is added to the gradient.

    Source: Lee et al. (2023): released code: Adam with coupled weight decay 1e-4.
    """
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.scale_by_adam())


def init_tuning(
    tuned: PyTree, direction: optax.GradientTransformation, model_state: PyTree = ()
) -> Tuning:
    """Returns the state before the first step; the optimizer knows of `tuned` only."""
    return Tuning(tuned, direction.init(tuned), model_state)


def tuning_step(
    loss: Loss,
    direction: optax.GradientTransformation,
    *,
    combine: Combine = join,
    penalty: Callable[[PyTree], Scalar] | None = None,
) -> Step:
    """Returns the step (state, frozen, batch, rates) -> (state, loss).

    Rates are one learning rate, or a tree of them, one for every leaf of `tuned`. Where a rate is
    0 the leaf keeps its bits, whatever the optimizer would do to it.

    Args:
        loss: (params, batch) -> mean over the batch.
        direction: Of an optimizer at rate 1, such as `adam()`.
        combine: (tuned, frozen) -> params.
        penalty: Of the tuned leaves, added to the loss that is followed, not to the one returned.
    """
    return stateful_tuning_step(
        lambda params, state, batch: (loss(params, batch), state),
        direction,
        combine=combine,
        penalty=penalty,
    )


def stateful_tuning_step(
    loss: StatefulLoss,
    direction: optax.GradientTransformation,
    *,
    combine: Combine = join,
    penalty: Callable[[PyTree], Scalar] | None = None,
) -> Step:
    """Returns `tuning_step` of a loss that also reads and renews `model_state`.

    Statistics are renewed in the whole network: `finetune.statistics.check_norms` refuses frozen
    blocks that would change so.
    """

    def step(state: Tuning, frozen: PyTree, batch: PyTree, rates: PyTree) -> tuple[Tuning, Scalar]:
        def of_tuned(tuned: PyTree) -> tuple[Scalar, tuple[Scalar, PyTree]]:
            value, model_state = loss(combine(tuned, frozen), state.model_state, batch)
            extra = 0.0 if penalty is None else penalty(tuned)
            return value + extra, (value, model_state)

        grads, (value, model_state) = jax.grad(of_tuned, has_aux=True)(state.tuned)
        along, opt_state = direction.update(grads, state.opt_state, state.tuned)
        tuned = moved(state.tuned, along, rates)
        return Tuning(tuned, opt_state, model_state), value

    return step


def moved(tuned: PyTree, direction: PyTree, rates: PyTree) -> PyTree:
    """Returns tuned - rates * direction; where a rate is 0, the very bits of `tuned`."""

    def one(leaf: Array, along: Array, rate: Any) -> Array:
        rate = jnp.asarray(rate, leaf.dtype)
        return jnp.where(rate == 0, leaf, leaf - rate * along)

    return jax.tree.map(one, tuned, direction, spread(rates, tuned))


def spread(rates: PyTree, tuned: PyTree) -> PyTree:
    """Returns a rate for every leaf of `tuned`: `rates` as it is, or one number everywhere."""
    if jax.tree.structure(rates) == jax.tree.structure(0):
        return jax.tree.map(lambda _: rates, tuned)
    return jax.tree.map(
        lambda leaf, rate: None if leaf is None else rate, tuned, rates, is_leaf=is_gap
    )


def tuning_epoch(
    step: Step, *, rows: Callable[[PyTree, Array], PyTree] = take
) -> Callable[..., tuple[Tuning, Scalar]]:
    """Returns (state, frozen, examples, index, rates) -> (state, mean loss): many steps, compiled.

    `examples` is a tree of arrays with the examples along their first axis, and `index [steps,
    batch]` says which of them every step sees. On CPUs the convolutions must be those of
    `common.nets.convolution`; others have slow derivatives within loops, which
    `finetune.programs.loop_safe` cures.

    Args:
        step: Of one batch.
        rows: (examples, index [batch]) -> batch.
    """

    def epoch(
        state: Tuning,
        frozen: PyTree,
        examples: PyTree,
        index: Integer[Array, "steps batch"],
        rates: PyTree,
    ) -> tuple[Tuning, Scalar]:
        def one(state: Tuning, index: Array) -> tuple[Tuning, Scalar]:
            return step(state, frozen, rows(examples, index), rates)

        state, losses = jax.lax.scan(one, state, index)
        return state, jnp.mean(losses)

    return epoch


def many(
    function: Callable[..., PyTree], how: How, in_axes: tuple[Any, ...]
) -> Callable[..., PyTree]:
    """Returns `function` for many settings at once: masks, rates and seeds are data.

    Args:
        function: Of arrays, such as a step or an epoch.
        how: "vmap": all at once, which is faster for dense networks; "map": one after the other in
            one program, which is faster for convolutions on CPUs (under "vmap" over their kernels
            they become grouped ones).
        in_axes: For every argument 0 if it has an entry for each setting, None if all share it;
            no trees of axes.
    """
    if how == "vmap":
        return jax.vmap(function, in_axes=in_axes)
    if how != "map":
        raise ValueError(f"how={how!r}; expected vmap or map")

    def mapped(*arguments: PyTree) -> PyTree:
        own = [x for x, axis in zip(arguments, in_axes, strict=True) if axis is not None]

        def one(own: list[PyTree]) -> PyTree:
            left = iter(own)
            return function(
                *(
                    x if axis is None else next(left)
                    for x, axis in zip(arguments, in_axes, strict=True)
                )
            )

        return jax.lax.map(one, own)

    return mapped
