"""How many labels are asked for: the closed form, whole numbers, and budgets that are kept."""

from typing import Any

import numpy as np
import pytest

from rlhf import schedule
from rlhf.schedule import LabelSchedule

SHARES = np.array([0, 0.1, 0.25, 0.5, 0.75, 1])
MUJOCO = {
    1e6: (175, 238.2, 327.5, 463.9, 587.3, 700),
    5e6: (175, 268.5, 378.5, 514.8, 617.6, 700),
    1e7: (175, 293.8, 412.6, 542.1, 631.5, 700),
}


@pytest.mark.parametrize("horizon", MUJOCO)
def test_rate_of_the_paper_integrates_to_the_closed_form(horizon: float) -> None:
    plan = LabelSchedule(700, 175, horizon, 2e6)
    found = schedule.exact_labels(plan, SHARES * horizon)

    np.testing.assert_allclose(found, MUJOCO[horizon], atol=0.06)  # given to a tenth
    steps = np.linspace(0, horizon, 20_001)  # the rate added up step by step
    rate = 2e6 / ((steps[:-1] + steps[1:]) / 2 + 2e6)
    total = 525 * np.cumsum(rate) / np.sum(rate)
    np.testing.assert_allclose(schedule.exact_labels(plan, steps[1:]) - 175, total, rtol=1e-6)


def test_the_atari_schedule_and_that_of_rl_teacher() -> None:
    atari = LabelSchedule(5_500, 500, 5e7, 5e6)
    found = schedule.exact_labels(atari, np.array([0, 0.02, 0.1, 0.25, 0.5, 1]) * 5e7)
    np.testing.assert_allclose(found, [500, 880.2, 1945.3, 3112.2, 4236.1, 5500], atol=0.06)

    teacher = LabelSchedule(700, 175, 1e6, name="exponential")
    found = schedule.exact_labels(teacher, SHARES * 1e6)
    np.testing.assert_allclose(found, [175, 368.7, 534.0, 647.5, 683.4, 694.8], atol=0.06)


@pytest.mark.parametrize("name", schedule.SCHEDULES)
@pytest.mark.parametrize(("total", "initial"), [(700, 175), (20, 5), (3, 3), (1, 0), (0, 0)])
def test_labels_are_whole_never_fall_and_never_exceed_the_budget(
    name: str, total: int, initial: int
) -> None:
    plan = LabelSchedule(total, initial, 384_000.0, 115_200.0, name)
    asked = schedule.labels(plan, np.linspace(0, 500_000, 7_919))

    assert asked.dtype == np.int64
    assert (np.diff(asked) >= 0).all()
    assert (asked[0], asked.max()) == (initial, asked[-1])
    assert asked[-1] <= total
    if name != "exponential":  # rl-teacher never asks for the last labels
        assert asked[-1] == total
    assert (asked <= schedule.exact_labels(plan, np.linspace(0, 500_000, 7_919)) + 1e-9).all()
    parts = schedule.new_labels(plan, 60)
    assert parts.sum() + initial == schedule.labels(plan, 384_000)


def test_a_schedule_that_is_none_is_refused_in_one_line() -> None:
    good = LabelSchedule(700, 175, 1e6, 2e6)
    changes: tuple[tuple[dict[str, Any], str], ...] = (
        ({"total": -1}, "total=-1: expected a budget of at least 0 labels"),
        ({"initial": 701}, "initial=701: expected 0 to total=700"),
        ({"horizon": 0.0}, "horizon=0.0: expected more than 0 steps"),
        ({"constant": 0.0}, "constant=0.0: expected more than 0"),
        ({"name": "cosine"}, "name='cosine': expected one of hyperbolic, exponential, constant"),
    )
    for change, message in changes:
        with pytest.raises(ValueError, match=message) as error:
            schedule.labels(good._replace(**change), 0.0)
        assert "\n" not in str(error.value)
