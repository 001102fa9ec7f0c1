"""Tables as data: aggregation against NumPy, claims worked by hand, malformed tables refused."""

import math

import numpy as np
import pytest

from common.table_render import measured
from common.table_results import metric_value
from common.tables import (
    Aggregate,
    Cell,
    NotMeasured,
    Results,
    Table,
    Verdict,
    above,
    aggregate,
    all_of,
    below,
    check_table,
    near,
    paired_two_stderr_above,
    paired_two_stderr_below,
    two_stderr_above,
    two_stderr_below,
    unchanged,
)


def seeds(*values: float) -> Aggregate:
    return aggregate(dict(enumerate(values)), "x, y")


def test_aggregation_is_that_of_numpy() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, size=7)

    a = aggregate(dict(enumerate(values.tolist())))

    assert a.n == 7
    assert a.mean == pytest.approx(np.mean(values), rel=1e-14)
    assert a.std == pytest.approx(np.std(values, ddof=1), rel=1e-14)
    assert a.stderr == pytest.approx(np.std(values, ddof=1) / np.sqrt(7), rel=1e-14)


def test_one_seed_has_a_mean_and_no_spread() -> None:
    a = aggregate({3: 1.5})

    assert (a.mean, a.std, a.stderr, a.n) == (1.5, None, None, 1)
    with pytest.raises(NotMeasured, match="needs two seeds, got 1"):
        two_stderr_above(a, seeds(1.0, 2.0))


def test_two_standard_errors_worked_by_hand() -> None:
    # stderr of (0, 2) is sqrt(2) / sqrt(2) = 1; of (9, 11) too: the margin is 2 sqrt(2) = 2.828...
    low, margin = seeds(0.0, 2.0), 2 * math.sqrt(2)

    for shift, holds in ((margin + 1e-9, True), (margin - 1e-9, False)):
        high = seeds(0.0 + shift, 2.0 + shift)
        assert two_stderr_above(high, low).holds == holds
        assert two_stderr_below(low, high).holds == holds
        assert not two_stderr_above(low, high).holds
    assert "2 SE 2.828" in two_stderr_above(low, low).detail


def test_pairing_by_seed_removes_what_the_seed_does_to_both() -> None:
    noise = np.array([0.0, 50.0, -30.0])
    a, b = seeds(*(noise + np.array([1.0, 1.1, 0.9]))), seeds(*noise)  # differences: 1, 1.1, 0.9

    assert not two_stderr_above(a, b).holds
    assert paired_two_stderr_above(a, b).holds
    assert paired_two_stderr_below(b, a).holds
    # 2 stderr of (1, 1.1, 0.9) = 2 * 0.1 / sqrt(3) = 0.11547
    assert "2 SE, paired by seed 0.1155" in paired_two_stderr_above(a, b).detail
    with pytest.raises(NotMeasured, match="seeds"):
        paired_two_stderr_above(a, aggregate({0: 1.0, 1: 2.0, 5: 3.0}, "z"))


def test_simple_predicates_at_their_edges() -> None:
    a = seeds(1.0, 3.0)

    assert above(a, 1.99).holds
    assert not above(a, 2.0).holds
    assert below(a, 2.01).holds
    assert not below(a, 2.0).holds
    assert near(a, 2.5, 0.5).holds
    assert not near(a, 2.5, 0.49).holds
    assert unchanged(a, seeds(1.0, 3.5), 0.5).holds
    assert not unchanged(a, seeds(3.0, 1.0)).holds  # same mean, other seeds


def test_a_verdict_is_true_only_if_it_holds() -> None:
    good, bad = Verdict(True, "3 > 2"), Verdict(False, "1 > 2")

    assert not (bad and good)
    assert (good and bad) is bad
    assert all_of(good, good).holds
    assert all_of(good, bad) == Verdict(False, "3 > 2; [fails] 1 > 2")


def test_a_claim_is_not_judged_on_the_seeds_that_survived() -> None:
    results = Results({("a", "b"): aggregate({0: 1.0}), ("c", "d"): aggregate({})}, (0, 1))

    with pytest.raises(NotMeasured, match="a, b: no value for seed 1"):
        results["a", "b"]
    with pytest.raises(NotMeasured, match="seed 0, 1"):
        results["c", "d"]
    with pytest.raises(KeyError, match="no cell"):
        results["a", "d"]


def test_metrics_come_from_the_best_checkpoint_unless_asked_otherwise() -> None:
    result = {"metrics": {"last": {"accuracy": 1.0, "nan": math.nan}, "best": {"accuracy": 2.0}}}

    assert metric_value("accuracy", result) == 2.0
    assert metric_value("last/accuracy", result) == 1.0
    assert metric_value("accuracy", {"metrics": {"last": {"accuracy": 3.0}}}) == 3.0
    with pytest.raises(ValueError, match=r'accuracy\?.*did you mean "accuracy"|did you mean "acc'):
        metric_value("acuracy", result)
    with pytest.raises(ValueError, match="metric nan is nan"):
        metric_value("last/nan", result)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cells": ()}, "no cells"),
        ({"seeds": ()}, "no seeds"),
        ({"seeds": (1, 1)}, "seed twice"),
        ({"cells": (Cell("a", "b", {}, "m"), Cell("a", "b", {}, "n"))}, "cell twice"),
        ({"claims": (lambda t: t,)}, "without a docstring"),
        ({"reasons": {"other": "x"}}, "unknown claims"),
        ({"at": {"demo": Table("1", "t", "s", "c.py", (), (0,))}}, "no cells"),
    ],
)
def test_a_malformed_table_is_refused(change: dict, message: str) -> None:
    table = Table("1", "t", "s", "c.py", (Cell("a", "b", {}, "m"),), (0,))
    check_table(table)

    with pytest.raises(ValueError, match=message):
        check_table(table._replace(**change))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0.5,), "0.5000"),
        ((90.0, 92.0), "91.0 ± 1.4"),
        ((0.9123, 0.9125), "0.91240 ± 0.00014"),
        ((1e-5, 3e-5), "(2.0 ± 1.4)e-05"),
        ((12345.0, 12345.0), "12,345 ± 0"),
        ((1000.0, 3000.0), "2000 ± 1414"),
        ((-1.0, 1.0), "0.0 ± 1.4"),
        ((1e-12 + 5.0, 5.0), "5.00000 ± 0.00000"),
    ],
)
def test_two_digits_of_the_deviation_decide_the_decimals(values: tuple, text: str) -> None:
    assert measured(seeds(*values)) == text
