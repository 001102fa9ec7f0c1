"""The experiments of the paper: a policy that learns from comparisons, and what stands beside."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array
from ml_collections import ConfigDict

from common.experiment import Batch, Experiment
from rlhf.human_preferences import interview, learning, measures
from rlhf.human_preferences import people as persons
from rlhf.human_preferences.numbers import as_data, identity, numbers_of
from rlhf.human_preferences.plan import make_plan

SHOWN = 4  # episodes that a loaded run plays for a key


def control(config: ConfigDict) -> Experiment:
    """Trains a policy on a reward learned from comparisons, or on one of those beside it.

    Source: Christiano et al. (2017), Sec. 2.2; App. A.1.
    """
    parts, plan = learning.parts_of(config), make_plan(config)
    numbers = numbers_of(config)

    def batch(step: int) -> Batch:
        return {name: np.asarray(rows[step]) for name, rows in plan._asdict().items()}

    def predict(state: learning.State, data: learning.Numbers, inputs: Array) -> dict[str, Array]:
        key = jax.random.key(inputs)
        return measures.shown_episode(parts, state, data, key, SHOWN)

    return Experiment(
        data=partial(as_data, numbers),
        init=partial(learning.init, parts),
        step=partial(learning.step, parts),
        batch=batch,
        evaluate=partial(measures.evaluate, parts),
        rules=_rules(config),
        predict=predict,
        abstract_data=lambda: {
            name: jax.ShapeDtypeStruct((), np.float32) for name in numbers._fields
        },
        identity=partial(identity, numbers),
    )


def _rules(config: ConfigDict) -> tuple[tuple[str, Any], ...]:
    """Returns where arrays live: environments over "data", seeds of a group over "seeds"."""

    def split(*axes: str) -> Callable[[tuple[int, ...], jax.sharding.Mesh], jax.P]:
        def spec(shape: tuple[int, ...], mesh: jax.sharding.Mesh) -> jax.P:
            return jax.P(*(axis if axis in mesh.shape else None for axis in axes))

        return spec

    environments = r"^state/learner/env_states/"
    if config.seed_group == 1:
        return ((environments, split("data")),)
    return ((environments, split("seeds", "data")), (r"^(state|batch)/", split("seeds")))


def game(config: ConfigDict) -> Experiment:
    """Trains a policy of images on a reward of images; see `control`.

    Source: Christiano et al. (2017), Sec. 3.1.2; App. A.2.
    """
    return control(config)


def mujoco(config: ConfigDict) -> Experiment:
    """Trains a robot in MuJoCo, whose steps are calls to the host; see `control`.

    Source: Christiano et al. (2017), Sec. 3.1.1; App. A.1.
    """
    return control(config)


def atari(config: ConfigDict) -> Experiment:
    """Trains a policy of an Atari game, whose steps are calls to the host; see `control`.

    Source: Christiano et al. (2017), Sec. 3.1.2; App. A.2.
    """
    return control(config)


def people(config: ConfigDict) -> Experiment:
    """Trains a policy on a reward learned from what people answer, who use `lab label`.

    Source: Christiano et al. (2017), Sec. 3.1.1; App. A.1, B.
    """
    parts = learning.parts_of(config)
    plan = interview.plan_of_people(make_plan(config))
    beside, blank = control(config), persons.blank_batch(parts)

    def batch(step: int) -> Batch:
        return {**blank, **{name: np.asarray(rows[step]) for name, rows in plan._asdict().items()}}

    def as_in_control(state: persons.State) -> learning.State:
        return learning.State(state.learner, state.judge)

    assert beside.predict is not None
    predict = beside.predict
    return beside._replace(
        init=partial(persons.init, parts),
        step=partial(persons.step, parts),
        batch=batch,
        evaluate=lambda state, *rest: beside.evaluate(as_in_control(state), *rest),
        predict=lambda state, *rest: predict(as_in_control(state), *rest),
        outside=partial(interview.interview, parts, plan),
    )


EXPERIMENTS = {
    "control": control,
    "game": game,
    "mujoco": mujoco,
    "atari": atari,
    "people": people,
}
