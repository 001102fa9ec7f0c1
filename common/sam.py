"""Sharpness-aware minimization: the gradient at a worse point nearby, and how that is found.

    value_and_grad = sam(0.1)(loss)        # in the place of jax.value_and_grad(loss, has_aux=True)
    (value, metrics), grads = value_and_grad(params, data, batch, key)
    updates, opt_state = optimizer.update(grads, opt_state, params)       # any optimizer of optax

`loss` is (params, data, batch, key) -> (scalar, metrics); data, batch and key are handed on to it
and may be None. Where the radius follows a schedule, or the ascent the batch before, something is
kept from step to step:

    gradient = sam(optax.linear_schedule(0.0, 0.1, 1_000))
    state, value_and_grad = init_gradient_state(gradient, params), with_state(gradient, loss)
    (value, metrics), grads, state = value_and_grad(params, state, data, batch, key)

Both functions are in `common.gradient_types`; `common.steps.gradient_step` does all of it.
"""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from common import precision
from common.batch_before import apart
from common.errors import UserError
from common.gradient_types import (
    Gradient,
    Loss,
    Remembered,
    Renewed,
    StatefulGradient,
    ValueAndGrad,
    WithMemory,
    WithState,
    carrying,
)
from common.keys import bits_of, with_bits
from common.plain_gradient import plain
from common.sam_groups import in_groups
from common.subtrees import at_gaps, is_gap, join, split_by_path

PyTree = Any
Radius = float | Callable[[jax.Array], Any]
STATISTICS = ("first", "second", "both", "none")


class Options(NamedTuple):
    """How `sam` climbs, and what it says of it.

    Attributes:
        ascent_steps: Gradients on the way up; after each the point is projected on the ball.
        ascent_size: Length of an ascent step, in radii.
        normalize: If not, an ascent step is rho times the gradient, and rho no radius: nothing is
            projected (the released code does).
        eta: Of adaptive SAM (Kwon et al., 2021), element-wise: the ball is that of
            delta / (|w| + eta), an ellipsoid. None: not adaptive.
        perturbed: A regex; only parameters whose path matches move, and only they are in norms.
        m: Rows of a group; the result is the mean of the gradients of groups, each at a worst
            point of its own ("m-sharpness"), whatever the number of devices. Group i sees
            fold_in(key, i). 0: the batch is one group.
        decay: Coefficient of an L2 term decay |w|^2 / 2 that the ascent, and only it, also climbs.
        previous_batch: Climb along the gradient of the step before, of its batch and at its
            parameters; the first step does not climb. Makes a `StatefulGradient`.
        batch_before: Climb along the gradient, at the parameters of now, of the batch of the step
            before, as the released code of Andriushchenko et al. (2023) can; the batch brings that
            along (`common.batch_before`), and value and metrics are its own.
        statistics: Which passes renew the model state of a network that has one: "first",
            "second" (the last), "both" (all, one after the other) or "none".
        diagnostics: Also return metrics "sam_rho"; "sam_norm" and "sam_norm_ahead" of the gradient
            at the parameters and at the worst point, their "sam_cosine"; and "sam_sharpness", how
            much higher the loss is there.
    """

    ascent_steps: int = 1
    ascent_size: float = 1.0
    normalize: bool = True
    eta: float | None = None
    perturbed: str = ""
    m: int = 0
    decay: float = 0.0
    previous_batch: bool = False
    batch_before: bool = False
    statistics: str = "first"
    diagnostics: bool = False


def sam(rho: Radius, *, base: Gradient = plain, **options: Any) -> Gradient:
    """Returns the gradient at the worst point in a ball of radius `rho` (L2, all parameters).

    Source: Foret et al. (2021), Eq. 2-3. Value and metrics are those of the unperturbed
    parameters, from the first of the two passes. rho = 0 is `base`, at the price of `base`. Where
    the gradient is 0 there is no direction, and the ascent stays. Norms are taken in float32 for
    narrower parameters. Both passes see the same noise (dropout masks).

    Args:
        rho: The radius; or step -> radius, which makes a `StatefulGradient`: at steps where it is
            0 only the pass of `base` is made.
        base: What each of the passes is.
        **options: Fields of `Options`.

    Raises:
        ValueError: If an argument is out of range, or two do not go together.
        UserError: While traced, if rows do not divide into groups, or nothing is perturbed.
    """
    climb = Options(**options)
    _check(rho, climb)
    is_stateful = callable(rho) or climb.previous_batch
    if is_stateful and isinstance(base, StatefulGradient):
        raise ValueError("base keeps something from step to step, and so would this: one at most")
    if not callable(rho) and rho == 0 and not climb.diagnostics:
        return base

    def gradient(loss: Loss) -> ValueAndGrad:
        make = _stateful if is_stateful else _stateless
        value_and_grad = make(base(loss), rho, climb)
        return in_groups(value_and_grad, climb.m) if climb.m else value_and_grad

    if not is_stateful:
        return carrying(base, gradient)
    zeros = lambda params: jax.tree.map(jnp.zeros_like, params) if climb.previous_batch else ()
    return StatefulGradient(zeros, gradient)


def _stateless(value_and_grad: ValueAndGrad, rho: Any, climb: Options) -> ValueAndGrad:
    """Returns the passes of SAM with a fixed radius."""

    def sam_value_and_grad(
        params: PyTree, data: PyTree, batch: PyTree, key: Any
    ) -> tuple[Any, PyTree]:
        uphill, rows = apart(batch) if climb.batch_before else (batch, batch)
        (value, aux), grads = first = value_and_grad(params, data, uphill, key)
        again = _Again(value_and_grad, data, uphill, rows, _again(key))
        aux, grads = _ahead(again, climb, rho, params, first, grads)
        return (value, aux), grads

    return sam_value_and_grad


def _stateful(value_and_grad: ValueAndGrad, rho: Any, climb: Options) -> ValueAndGrad:
    """Returns the passes of SAM whose radius or direction depend on the steps before."""

    def sam_value_and_grad(
        params: PyTree, given: PyTree, batch: PyTree, key: Any
    ) -> tuple[Any, PyTree]:
        if not isinstance(given, WithState):
            raise UserError(
                "a radius that changes and previous_batch keep something from step to step: make "
                "the state with init_train_state(..., gradient=gradient), or with "
                "`init_gradient_state` of common.gradient_types, and the step with gradient_step"
            )
        (step, memory), data = given
        radius = rho(step) if callable(rho) else rho
        uphill, rows = apart(batch) if climb.batch_before else (batch, batch)
        if climb.batch_before:  # the only pass is of the batch where the radius is 0
            uphill = jax.tree.map(lambda old, new: jnp.where(radius > 0, old, new), uphill, rows)
        (value, _), grads = first = value_and_grad(params, data, uphill, key)
        slope = _where(grads, memory) if climb.previous_batch else grads
        again = _Again(value_and_grad, data, uphill, rows, _again(key))
        if callable(rho):  # one pass where the radius is 0
            ahead = lambda: _ahead(again, climb, radius, params, first, slope)
            aux, grads_ahead = jax.lax.cond(radius > 0, ahead, lambda: _alone(climb, first))
        else:
            aux, grads_ahead = _ahead(again, climb, radius, params, first, slope)
        memory = join(grads, at_gaps(grads, memory)) if climb.previous_batch else ()
        return (value, WithMemory(aux, memory)), grads_ahead

    return sam_value_and_grad


class _Again(NamedTuple):
    """Passes after the first, with the same noise: others on the way up, and the last one."""

    value_and_grad: ValueAndGrad
    data: PyTree
    uphill: PyTree  # rows of the ascent
    rows: PyTree  # of the last pass: the same but for `batch_before`
    key: Callable[[], Any]

    def at(
        self, point: PyTree, before: Any, climb: Options, *, last: bool = False
    ) -> tuple[Any, PyTree]:
        """Returns ((value, metrics), grads); `before` are the metrics of the pass before."""
        data = self.data
        if isinstance(data, Remembered) and climb.statistics == "both":
            data = data._replace(model_state=before.model_state)
        rows = self.rows if last else self.uphill
        return self.value_and_grad(point, data, rows, self.key())


def _again(keys: Any) -> Callable[[], Any]:
    """Returns a function that gives the same keys once more.

    It holds their bits: a conditional that the seeds of a group decide differently selects among
    all that its branches hold, and a key that is used already must not be selected.
    """
    bits = jax.tree.map(bits_of, keys)
    return lambda: jax.tree.map(with_bits, bits, keys)


def _ahead(
    again: _Again, climb: Options, radius: Any, params: PyTree, first: Any, slope: PyTree
) -> tuple[Any, PyTree]:
    """Returns metrics and gradient of SAM after its first pass, whose results are `first`.

    It climbs along `slope`, then along the gradients that it meets.
    """
    (value, aux), grads = first
    scale = None if climb.eta is None else _scale(params, climb.eta)
    point, offset, last = params, None, aux
    for number in range(climb.ascent_steps):
        if number:
            (_, last), slope = again.at(point, last, climb)
        offset = _further(climb, radius, offset, _uphill(climb, slope, point, scale))
        point = _moved(params, offset, scale)
    (value_ahead, last), grads_ahead = again.at(point, last, climb, last=True)
    if isinstance(again.data, Remembered):
        kept = {"first": aux.model_state, "none": again.data.model_state}
        aux = aux._replace(model_state=kept.get(climb.statistics, last.model_state))
    elif climb.statistics != "first":
        raise UserError(f"statistics={climb.statistics!r}: the loss keeps nothing of its batches")
    if climb.diagnostics:
        aux = _diagnosed(aux, radius, grads, grads_ahead, value_ahead - value)
    return aux, grads_ahead


def _alone(climb: Options, first: Any) -> tuple[Any, PyTree]:
    """Returns metrics and gradient of the first pass, as `_ahead` does where it does not move."""
    (value, aux), grads = first
    if climb.diagnostics:
        aux = _diagnosed(aux, 0.0, grads, grads, jnp.zeros_like(value))
    return aux, grads


def _uphill(climb: Options, grads: PyTree, params: PyTree, scale: PyTree) -> PyTree:
    """Returns the gradient to climb along, in the coordinates of the ball, None where all stays."""
    slope = precision.widened(grads)
    if climb.decay:
        slope = jax.tree.map(
            lambda g, p: None if g is None else g + climb.decay * p, slope, params, is_leaf=is_gap
        )
    if climb.perturbed:
        moving, _ = split_by_path(params, climb.perturbed, field="perturbed")
        slope = jax.tree.map(lambda p, g: None if p is None else g, moving, slope, is_leaf=is_gap)
        if not jax.tree.leaves(slope):
            raise UserError(f"perturbed={climb.perturbed!r} matches no parameter that is trained")
    return slope if scale is None else _times(slope, scale)


def _further(climb: Options, radius: Any, offset: PyTree, slope: PyTree) -> PyTree:
    """Returns the offset after one more step, projected on the ball if it may be outside."""
    size = radius * climb.ascent_size
    if climb.normalize:
        norm = precision.norm(slope)
        # Of a gradient that is 0, or whose squares are, there is no direction: stay.
        size = jnp.where(norm > 0, size / jnp.where(norm > 0, norm, 1), 0)
    step = jax.tree.map(lambda g: size * g, slope)
    total = step if offset is None else jax.tree.map(jnp.add, offset, step)
    if not climb.normalize or (climb.ascent_steps == 1 and climb.ascent_size <= 1):
        return total
    length = precision.norm(total)
    shrink = jnp.where(length > radius, radius / jnp.where(length > 0, length, 1), 1)
    return jax.tree.map(lambda x: shrink * x, total)


def _moved(params: PyTree, offset: PyTree, scale: PyTree) -> PyTree:
    """Returns the parameters at an offset, in their types; where it is None they stay."""
    delta = offset if scale is None else _times(offset, scale)
    return jax.tree.map(
        lambda d, p: p if d is None else (p + d).astype(p.dtype), delta, params, is_leaf=is_gap
    )


def _scale(params: PyTree, eta: float) -> PyTree:
    """Returns the half-axes of the ellipsoid of adaptive SAM, for a radius of 1."""
    return jax.tree.map(lambda p: jnp.abs(p) + eta, precision.widened(params))


def _times(tree: PyTree, scale: PyTree) -> PyTree:
    return jax.tree.map(lambda x, s: None if x is None else x * s, tree, scale, is_leaf=is_gap)


def _where(grads: PyTree, memory: PyTree) -> PyTree:
    """Returns what is remembered of the parameters that have a gradient."""
    return jax.tree.map(lambda g, x: None if g is None else x, grads, memory, is_leaf=is_gap)


def _diagnosed(aux: Any, radius: Any, grads: PyTree, ahead: PyTree, higher: jax.Array) -> Any:
    """Returns metrics with those of `Options`; the cosine with a gradient that is 0 is 0."""
    here, there = precision.widened(grads), precision.widened(ahead)
    lengths = (precision.norm(here), precision.norm(there))
    inner = sum(jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (here, there)), strict=True))
    product = lengths[0] * lengths[1]
    more = {
        "sam_rho": jnp.asarray(radius, lengths[0].dtype),
        "sam_norm": lengths[0],
        "sam_norm_ahead": lengths[1],
        "sam_cosine": jnp.where(product > 0, inner / jnp.where(product > 0, product, 1), 0),
        "sam_sharpness": higher,
    }
    if isinstance(aux, Renewed):
        return aux._replace(metrics={**aux.metrics, **more})
    return {**aux, **more}


def _check(rho: Any, climb: Options) -> None:
    """Refuses arguments that make no sense.

    Raises:
        ValueError: Naming the first.
    """
    if not callable(rho) and not 0 <= rho < math.inf:
        raise ValueError(f"rho={rho}: expected a finite radius of at least 0")
    if climb.ascent_steps < 1:
        raise ValueError(f"ascent_steps={climb.ascent_steps}: expected at least 1")
    if not 0 < climb.ascent_size < math.inf:
        raise ValueError(f"ascent_size={climb.ascent_size}: expected a finite size above 0")
    if climb.eta is not None and not 0 <= climb.eta < math.inf:
        raise ValueError(f"eta={climb.eta}: expected a finite number of at least 0")
    if not 0 <= climb.decay < math.inf:
        raise ValueError(f"decay={climb.decay}: expected a finite coefficient of at least 0")
    if climb.m < 0:
        raise ValueError(f"m={climb.m}: expected rows of a group, or 0 for the whole batch")
    if climb.statistics not in STATISTICS:
        raise ValueError(f"statistics={climb.statistics!r}: expected {', '.join(STATISTICS)}")
    try:
        re.compile(climb.perturbed)
    except re.error as error:
        raise ValueError(
            f"perturbed={climb.perturbed!r}: no regular expression: {error}"
        ) from error
    if climb.batch_before and (climb.previous_batch or climb.diagnostics):
        name = "previous_batch" if climb.previous_batch else "diagnostics"
        raise ValueError(f"{name}=True: batch_before=True has two batches, and no use for it")
    if climb.previous_batch and (climb.ascent_steps > 1 or climb.m):
        name, value = ("m", climb.m) if climb.m else ("ascent_steps", climb.ascent_steps)
        raise ValueError(f"{name}={value}: previous_batch=True climbs once, for the whole batch")
