"""Optimizers and learning-rate schedules from the numbers of a config."""

import inspect
from itertools import pairwise
from typing import Any

import jax
import optax

from common.errors import UserError, nearest
from common.precision import widened
from common.subtrees import is_gap, split_by_path

OPTIMIZERS = ("adam", "adamw", "sgd", "lamb", "lion")
SCHEDULES = ("constant", "cosine", "linear", "exponential", "step")


def make_schedule(
    learning_rate: float,
    *,
    num_steps: int,
    schedule: str = "constant",
    warmup_steps: int = 0,
    final_fraction: float = 0.0,
    decay_every: int = 0,
    decay_factor: float = 0.5,
    decay_at: tuple[float, ...] = (),
) -> optax.Schedule:
    """Returns the learning rate as a function of the step.

    It rises linearly from 0 over `warmup_steps`, then stays (constant), falls to
    `final_fraction` of its peak at `num_steps` (cosine, linear; exponential needs a fraction > 0)
    or is multiplied with `decay_factor` every `decay_every` steps, or at the shares `decay_at` of
    all steps: (0.5, 0.75) is halfway and at three quarters (step).

    Raises:
        UserError: For an unknown schedule, or fields that are out of range.
    """
    _require_not_negative(
        learning_rate=learning_rate, warmup_steps=warmup_steps, final_fraction=final_fraction
    )
    steps = max(num_steps - warmup_steps, 1)
    end = learning_rate * final_fraction
    if schedule == "constant":
        main = optax.constant_schedule(learning_rate)
    elif schedule == "cosine":
        main = optax.cosine_decay_schedule(learning_rate, steps, alpha=final_fraction)
    elif schedule == "linear":
        main = optax.linear_schedule(learning_rate, end, steps)
    elif schedule == "exponential" and final_fraction > 0:
        main = optax.exponential_decay(learning_rate, steps, final_fraction)
    elif schedule == "exponential":
        raise UserError("config.optimizer.final_fraction=0: exponential decay needs more than 0")
    elif schedule == "step" and _are_shares(decay_at) and not decay_every and 0 < decay_factor <= 1:
        drops = {round(share * steps): decay_factor for share in decay_at}
        main = optax.piecewise_constant_schedule(learning_rate, drops)
    elif schedule == "step" and decay_every > 0 and not decay_at and 0 < decay_factor <= 1:
        main = optax.exponential_decay(learning_rate, decay_every, decay_factor, staircase=True)
    elif schedule == "step":
        raise UserError(
            f"config.optimizer.decay_every={decay_every}, decay_at={decay_at}, "
            f"decay_factor={decay_factor}: step decay needs either decay_every >= 1 or increasing "
            "shares 0 < decay_at < 1, and 0 < decay_factor <= 1"
        )
    else:
        raise _unknown("schedule", schedule, SCHEDULES)
    if not warmup_steps:
        return main
    warmup = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return optax.join_schedules([warmup, main], [warmup_steps])


def make_optimizer(
    *,
    num_steps: int,
    learning_rate: float,
    name: str = "adam",
    schedule: str = "constant",
    warmup_steps: int = 0,
    final_fraction: float = 0.0,
    decay_every: int = 0,
    decay_factor: float = 0.5,
    decay_at: tuple[float, ...] = (),
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    nesterov: bool = False,
    clip_norm: float = 0.0,
    trainable: str = "",
    **unknown: Any,
) -> optax.GradientTransformation:
    """Returns the optimizer of `config.optimizer`: `make_optimizer(num_steps=n, **section)`.

    Weight decay is decoupled for adamw, lamb and lion and an L2 term of the gradient for sgd and
    adam. `clip_norm` > 0 clips the global norm first. `trainable` is a regex on parameter paths
    ("params/block_0/kernel"): all others get no update and no optimizer state. Parameters narrower
    than float32 get updates computed and kept in float32: half precision holds neither squares of
    gradients nor their sums.

    Raises:
        UserError: For an unknown field, optimizer or schedule, or a field that is out of range.
    """
    for field in unknown:
        raise _no_such_field(field)
    if name not in OPTIMIZERS:
        raise _unknown("name", name, OPTIMIZERS)
    rate = make_schedule(
        learning_rate,
        num_steps=num_steps,
        schedule=schedule,
        warmup_steps=warmup_steps,
        final_fraction=final_fraction,
        decay_every=decay_every,
        decay_factor=decay_factor,
        decay_at=decay_at,
    )
    _require_not_negative(weight_decay=weight_decay, clip_norm=clip_norm)
    if not 0 <= momentum < 1:
        raise UserError(f"config.optimizer.momentum={momentum}: expected 0 <= momentum < 1")
    parts = [optax.clip_by_global_norm(clip_norm)] if clip_norm > 0 else []
    if name in ("sgd", "adam") and weight_decay > 0:
        parts.append(optax.add_decayed_weights(weight_decay))
    if name == "sgd":
        parts.append(optax.sgd(rate, momentum=momentum or None, nesterov=nesterov))
    elif name == "adam":
        parts.append(optax.adam(rate))
    else:
        make = {"adamw": optax.adamw, "lamb": optax.lamb, "lion": optax.lion}[name]
        parts.append(make(rate, weight_decay=weight_decay))
    chain = _in_float32(optax.chain(*parts))
    return _only(trainable, chain) if trainable else chain


def _no_such_field(field: str) -> UserError:
    names = inspect.signature(make_optimizer).parameters
    allowed = [name for name in names if name not in ("num_steps", "unknown")]
    return UserError(
        f"config.optimizer.{field}: no such field{nearest(field, allowed)}; "
        f"allowed: {', '.join(allowed)}"
    )


def _require_not_negative(**fields: float) -> None:
    for name, value in fields.items():
        if not value >= 0:
            raise UserError(f"config.optimizer.{name}={value}: expected a number of at least 0")


def _are_shares(values: tuple[float, ...]) -> bool:
    """Returns whether there are numbers, all between 0 and 1, each greater than the one before."""
    return bool(values) and all(a < b for a, b in pairwise((0.0, *values, 1.0)))


def _in_float32(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Shows the optimizer floats of at least 32 bits; `optax.apply_updates` rounds in the end."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return optimizer.update(widened(updates), state, widened(params))

    return optax.GradientTransformation(lambda params: optimizer.init(widened(params)), update)


def _only(pattern: str, optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    def labels(params: optax.Params) -> optax.Params:
        chosen, _ = split_by_path(params, pattern, field="config.optimizer.trainable")
        return jax.tree.map(
            lambda leaf: "frozen" if leaf is None else "trained", chosen, is_leaf=is_gap
        )

    return optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)


def _unknown(field: str, value: str, allowed: tuple[str, ...]) -> UserError:
    return UserError(
        f"config.optimizer.{field}={value!r} is unknown{nearest(value, allowed)}; "
        f"allowed: {', '.join(allowed)}"
    )
