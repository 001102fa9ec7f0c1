"""The grammar of metric names."""

import math

import pytest

from common import metric_names

RESULT = {"metrics": {"last": {"loss": 2.0, "accuracy": 0.5}, "best": {"loss": 1.0}}}
ONLY_LAST = {"metrics": {"last": {"loss": 2.0}, "best": None}}


def test_a_minus_means_that_less_is_better() -> None:
    more, less = metric_names.goal("valid_accuracy"), metric_names.goal("-valid_loss")

    assert (more.name, less.name) == ("valid_accuracy", "valid_loss")
    assert more.is_better(2.0, 1.0) and less.is_better(1.0, 2.0)
    for goal in (more, less):
        assert goal.is_better(-3.0, None) and not goal.is_better(1.0, 1.0)
        assert not goal.is_better(math.nan, None) and not goal.is_better(math.inf, 1.0)
    assert metric_names.goal("").name == ""


def test_the_metric_of_the_best_checkpoint_stands_for_a_run_else_the_first() -> None:
    assert metric_names.shown("-loss", ("accuracy", "loss")) == "loss"
    assert metric_names.shown("-gone", ("accuracy", "loss")) == "accuracy"
    assert metric_names.shown("", ("accuracy",)) == "accuracy"
    assert metric_names.shown("-loss", ()) == ""


@pytest.mark.parametrize(
    ("metric", "result", "wanted"),
    [
        ("loss", RESULT, ("best", "loss")),
        ("loss", ONLY_LAST, ("last", "loss")),
        ("last/loss", RESULT, ("last", "loss")),
        ("best/loss", ONLY_LAST, ("best", "loss")),
        ("u/loss", RESULT, ("best", "u/loss")),
    ],
)
def test_a_cell_says_which_checkpoint_it_means(
    metric: str, result: dict, wanted: tuple[str, str]
) -> None:
    assert metric_names.place(metric, result) == wanted
    assert metric_names.of_result(RESULT) == {"loss": 1.0}
    assert metric_names.of_result(ONLY_LAST) == {"loss": 2.0}
