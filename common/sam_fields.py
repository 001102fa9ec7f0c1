"""SAM as `config.gradient` describes it: the radius over training, and how it climbs."""

import inspect
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from common.errors import nearest
from common.gradient_types import Gradient
from common.loop_fields import GRADIENT
from common.optim import make_schedule
from common.plain_gradient import plain
from common.sam import Radius, sam

SCHEDULES = ("constant", "linear", "cosine")


def of_fields(
    rho: float,
    rho_schedule: str,
    rho_final_fraction: float,
    rho_warmup_steps: int,
    rho_per_rate: float,
    start: float,
    stop: float,
    ascent_steps: int,
    ascent_size: float,
    normalize: bool,
    adaptive: bool,
    eta: float,
    perturbed: str,
    m: int,
    decay_in_ascent: bool,
    previous_batch: bool,
    statistics: str,
    diagnostics: bool,
    num_steps: int | None,
    optimizer: ConfigDict | None,
    *,
    base: Gradient = plain,
    batch_before: bool = False,
) -> Gradient:
    """Returns `sam` of the fields of `config.gradient`, with steps and optimizer of the config.

    Raises:
        ValueError: Naming the field that is out of range, or that nothing reads.
    """
    if not adaptive and eta != GRADIENT["eta"]:
        raise ValueError(f"eta={eta}: only adaptive=True reads it")
    decay = _of_optimizer(optimizer, "weight_decay", "decay_in_ascent") if decay_in_ascent else 0.0
    if decay_in_ascent and not decay:
        raise ValueError("decay_in_ascent=True: config.optimizer.weight_decay is 0")
    radius = scheduled(rho, rho_schedule, rho_final_fraction, rho_warmup_steps, num_steps or 0)
    if rho_per_rate:
        if callable(radius) or rho != GRADIENT["rho"]:
            raise ValueError(
                f"rho_per_rate={rho_per_rate}: takes the place of rho and its schedule"
            )
        radius = tied(rho_per_rate, optimizer, num_steps or 0)
    return sam(
        within(radius, start, stop, num_steps or 0),
        base=base,
        ascent_steps=ascent_steps,
        ascent_size=ascent_size,
        normalize=normalize,
        eta=eta if adaptive else None,
        perturbed=perturbed,
        m=m,
        decay=decay,
        previous_batch=previous_batch,
        batch_before=batch_before,
        statistics=statistics,
        diagnostics=diagnostics,
    )


@wraps(of_fields)
def of_fields_before(*args: Any, **fields: Any) -> Gradient:
    """Returns `of_fields` that climbs for the batch of the step before."""
    return of_fields(*args, **fields, batch_before=True)


def scheduled(
    rho: float, schedule: str, final_fraction: float, warmup_steps: int, num_steps: int
) -> Radius:
    """Returns the radius over training: a number, or a function of the step if it changes.

    Raises:
        ValueError: Naming the field that is out of range.
    """
    if not 0 <= rho < float("inf"):
        raise ValueError(f"rho={rho}: expected a finite radius of at least 0")
    if schedule not in SCHEDULES:
        raise ValueError(
            f"rho_schedule={schedule!r} is unknown{nearest(schedule, SCHEDULES)}; "
            f"allowed: {', '.join(SCHEDULES)}"
        )
    if not 0 <= final_fraction <= 1 or (final_fraction and schedule == "constant"):
        raise ValueError(
            f"rho_final_fraction={final_fraction}: expected 0 to 1, with rho_schedule linear or "
            "cosine"
        )
    if not 0 <= warmup_steps <= num_steps:
        raise ValueError(f"rho_warmup_steps={warmup_steps}: expected 0 to num_steps={num_steps}")
    if schedule == "constant" and not warmup_steps:
        return rho
    return make_schedule(
        rho,
        num_steps=num_steps,
        schedule=schedule,
        warmup_steps=warmup_steps,
        final_fraction=final_fraction,
    )


def tied(times: float, optimizer: ConfigDict | None, num_steps: int) -> Radius:
    """Returns `times` the learning rate of the step.

    Raises:
        ValueError: If that is no radius, or the config has no learning rate.
    """
    if not 0 < times < float("inf"):
        raise ValueError(f"rho_per_rate={times}: expected a finite factor above 0, or 0")
    _of_optimizer(optimizer, "learning_rate", "rho_per_rate")
    known = inspect.signature(make_schedule).parameters.keys() - {"num_steps"}
    fields = {name: value for name, value in (optimizer or {}).items() if name in known}
    rate = make_schedule(num_steps=num_steps, **fields)
    return lambda step: times * rate(step)


def within(radius: Radius, start: float, stop: float, num_steps: int) -> Radius:
    """Returns the radius between two shares of all steps, rounded to steps, and 0 outside.

    Raises:
        ValueError: If they are no shares, or out of order.
    """
    if not 0 <= start <= 1 or not start < stop <= 1:
        name, value = ("start", start) if not 0 <= start < 1 else ("stop", stop)
        raise ValueError(
            f"{name}={value}: expected shares of training, 0 <= start < stop <= 1; "
            f"start={start}, stop={stop}"
        )
    if (start, stop) == (0, 1):
        return radius
    first, last = round(start * num_steps), round(stop * num_steps)

    def inside(step: jax.Array) -> jax.Array:
        value = radius(step) if callable(radius) else radius
        return jnp.where((step >= first) & (step < last), value, 0.0)

    return inside


def _of_optimizer(optimizer: ConfigDict | None, name: str, field: str) -> Any:
    if optimizer is None or name not in optimizer:
        raise ValueError(f"{field}: the config has no optimizer.{name}")
    return optimizer[name]
