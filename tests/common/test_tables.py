"""Tables as data: aggregation against NumPy, claims worked by hand, malformed tables refused."""

import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from common.aggregates import Aggregate, NotMeasured, Results, aggregate, measured
from common.comparisons import (
    above,
    all_of,
    at_least_times,
    at_most_times,
    beats,
    below,
    every,
    fact,
    near,
    not_worse,
)
from common.errors import UserError
from common.results.check import check, summary
from common.results.claims_text import gain, matrix, scores, sentences
from common.results.collect import deviations, judged, metric_value
from common.tables import (
    Cell,
    Published,
    Table,
    by_last_comma,
    check_table,
    named,
    results_from_json,
)
from common.verdicts import HOLDS, LEVEL, MISSED, REVERSED, Claim, Verdict, claim, confidence


def seeds(*values: float) -> Aggregate:
    return aggregate(dict(enumerate(values)), "x", "y")


def state(verdict: Verdict) -> str:
    (part,) = verdict.parts
    return part.state


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
        beats(a, aggregate({3: 1.0}))


def test_two_standard_errors_worked_by_hand() -> None:
    # stderr of (0, 2) is sqrt(2) / sqrt(2) = 1; of (9, 11) too: the margin is 2 sqrt(2) = 2.828...
    low, margin = seeds(0.0, 2.0), 2 * math.sqrt(2)

    for shift, forward, backward in (
        (margin + 1e-9, HOLDS, REVERSED),
        (margin - 1e-9, LEVEL, LEVEL),
    ):
        high = seeds(0.0 + shift, 2.0 + shift)
        assert state(beats(high, low, paired=False)) == forward
        assert state(beats(low, high, lower=True, paired=False)) == forward
        assert state(beats(low, high, paired=False)) == backward
        assert state(not_worse(high, low, paired=False)) == HOLDS
        assert not_worse(low, high, paired=False).holds == (backward == LEVEL)
    (part,) = beats(low, low, paired=False).parts
    assert part.margin == pytest.approx(margin)
    assert "2 SE 2.828" in part.detail


def test_pairing_by_seed_removes_what_the_seed_does_to_both() -> None:
    noise = np.array([0.0, 50.0, -30.0])
    a, b = seeds(*(noise + np.array([1.0, 1.1, 0.9]))), seeds(*noise)  # differences: 1, 1.1, 0.9

    assert state(beats(a, b, paired=False)) == LEVEL
    assert state(beats(a, b)) == HOLDS
    assert state(beats(b, a, lower=True)) == HOLDS
    assert state(beats(b, a)) == REVERSED
    (part,) = beats(a, b).parts
    # 2 stderr of (1, 1.1, 0.9) = 2 * 0.1 / sqrt(3) = 0.11547
    assert part.margin == pytest.approx(0.2 / math.sqrt(3))
    assert (part.agree, part.seeds) == (3, 3)
    (mixed,) = beats(seeds(1.0, 5.0, 2.0), seeds(0.0, 6.0, 1.0)).parts
    assert (mixed.agree, mixed.seeds) == (2, 3)
    with pytest.raises(NotMeasured, match="seeds"):
        beats(a, aggregate({0: 1.0, 1: 2.0, 5: 3.0}, "z"))


def test_what_two_standard_errors_are_worth_is_what_student_says() -> None:
    # Of three paired differences t has 2 degrees of freedom: P(|t| < 2) = 2 / sqrt(2 + 2^2).
    assert f"{100 * 2 / math.sqrt(6):.0f} % interval when the seeds are paired" in confidence(3)
    # Of two, 1: P(|t| < 2) = 2 atan(2) / pi.
    assert f"{200 * math.atan(2) / math.pi:.0f} % interval when the seeds are paired" in confidence(
        2
    )
    assert "95 % interval when the seeds are paired" in confidence(100)  # the normal law's 95.4 %
    assert "no standard error" in confidence(1)


def test_simple_predicates_at_their_edges() -> None:
    a = seeds(1.0, 3.0)

    assert above(a, 1.99).holds
    assert not above(a, 2.0).holds
    assert below(a, 2.01).holds
    assert not below(a, 2.0).holds
    assert near(a, 2.5, 0.5).holds
    assert not near(a, 2.5, 0.49).holds
    assert at_most_times(a, seeds(4.0, 4.2), 0.5).holds  # 2 against 2.05
    assert state(at_most_times(a, seeds(4.0, 3.9), 0.5)) == MISSED
    assert at_least_times(a, seeds(0.9, 0.9), 2).holds
    assert state(at_least_times(a, seeds(1.0, 1.1), 2)) == MISSED


def test_a_verdict_is_true_only_if_all_parts_hold() -> None:
    good, bad = fact(True, "3 > 2"), fact(False, "1 > 2")

    assert not (bad and good)
    assert (good and bad) is bad
    assert all_of(good, good).holds
    assert all_of(good, bad).detail == "3 > 2; [missed] 1 > 2"
    assert [part.state for part in all_of(good, bad).parts] == [HOLDS, MISSED]


@claim("paper", "Table 7")
def b_beats_a(results: Results) -> Verdict:
    """B has the lower error than A everywhere.

    The second paragraph is no part of the statement.
    """
    places = [c for c in results.columns if c.endswith("error")]
    return all_of(*(beats(results["B", c], results["A", c], lower=True) for c in places))


@claim("check")
def errors_are_small(results: Results) -> Verdict:
    """Errors are below 5."""
    return all_of(*(below(results[row, "x, error"], 5) for row in results.rows))


ERRORS = {  # B against A by column: half, level, worse
    "x, error": ((4.0, 4.2), (2.0, 2.1)),
    "y, error": ((3.0, 4.0), (3.1, 3.8)),
    "z, error": ((1.0, 1.1), (2.0, 2.2)),
}
TWO_ROWS = Table(
    "Errors",
    "Doe",
    "c.py",
    tuple(
        Cell(row, column, {}, "error", Published({"A": 2.0, "B": 1.0}[row], 0.1, "Table 7"))
        for row in "AB"
        for column in ERRORS
    ),
    name="7",
    seeds=(0, 1),
    claims=(b_beats_a, errors_are_small),
    reasons={"b_beats_a": "z is hard"},
    split=by_last_comma,
)


def two_rows() -> dict[str, Any]:
    cells = [
        {
            "row": row,
            "column": column,
            "metric": "error",
            "run": "r",
            "values": dict(zip("01", values[place], strict=True)),
            "problems": {},
        }
        for place, row in enumerate("AB")
        for column, values in ERRORS.items()
    ]
    data = {"format": 1, "paper": "t.p", "table": "7", "preset": "paper", "config": "c.py"}
    more = {"deviations": [], "data": [], "runs": [], "provenance": {"command": "lab"}}
    return {**data, "seeds": [0, 1], "cells": cells, "figure": None, **more}


def test_a_table_of_the_old_format_is_judged_into_parts_states_and_one_sentence() -> None:
    data = judged(two_rows(), TWO_ROWS)
    first, second = data["claims"]

    assert [part["state"] for part in first["parts"]] == [HOLDS, LEVEL, REVERSED]
    assert [part["agree"] for part in first["parts"]] == [2, 1, 0]
    assert (first["kind"], first["source"], first["status"]) == ("paper", "Table 7", "fails")
    assert (first["reason"], second["reason"]) == ("z is hard", "")
    assert first["statement"] == "B has the lower error than A everywhere."
    assert scores(data["claims"]) == "paper: 1 ✘ · check: 1 ✔"
    assert [gain(part) for part in first["parts"]] == ["2.0×", "1.0×", "0.50×"]
    assert (
        sentences(data) == "B beats A in error on x (2.0×); level on y (1.0×); worse on z (0.50×)."
    )
    grid = matrix({**data, "claims": [first]})
    assert grid.header == ("claim", "x", "y", "z", "holds")
    assert grid.rows[0][1:] == ("✔ 2.0×", "≈ 1.0×", "⇄ 0.50×", "1 of 3")
    again = judged(json.loads(json.dumps(data)), TWO_ROWS)  # what a run or a rejudge writes
    assert json.dumps(again) == json.dumps(data)
    with pytest.raises(UserError, match="A, w, error has not been measured"):
        judged(data, TWO_ROWS._replace(cells=(Cell("A", "w, error", {}, "error"),)))


def test_every_row_is_compared_with_every_other_column_by_column() -> None:
    results = results_from_json({**two_rows(), "scale": 1.0})

    verdict = every(beats, results, "B", ("A", "B"), on=("x, error", "z, error"), lower=True)
    places = [(part.column, part.against) for part in verdict.parts]
    (part,) = every(at_most_times, results, "B", "A", 0.6, on="x, error").parts

    assert places == [("x, error", "A"), ("x, error", "B"), ("z, error", "A"), ("z, error", "B")]
    assert [part.state for part in verdict.parts] == [HOLDS, LEVEL, REVERSED, LEVEL]
    assert part.state == HOLDS
    assert every(above, results, ("A", "B"), 0.5, on="x, error").holds


def test_a_registry_names_its_tables_and_a_module_makes_its_claims() -> None:
    module = ModuleType("t.p.tables.errors")
    vars(module).update(vars(sys.modules[__name__]), TABLE=TWO_ROWS._replace(claims=()))
    with_demo = TWO_ROWS._replace(at={"demo": TWO_ROWS})

    registry = named({"a": with_demo, "b": module})

    assert [table.name for table in registry.values()] == ["a", "b"]
    assert registry["a"].at["demo"].name == "a"
    assert registry["b"].claims == (b_beats_a, errors_are_small)
    assert registry["b"].figures is None


def test_measured_cells_are_checked_against_the_published_values() -> None:
    data = judged(two_rows(), TWO_ROWS)

    orders = check(data)
    assert [order.is_right for order in orders.orders] == [True, True, False]
    assert "1 of 3 orders" in orders.failed
    assert "z, error: A above B" in orders.text()
    assert "x: paper" not in orders.text() and "A, x, error: paper 2 ± 0.1" in orders.text()
    # A: 4.1, 3.5, 1.05 for 2; B: 2.05, 3.45, 2.1 for 1: off by 105, 75, 47.5, 105, 245, 110 %.
    assert "1 of 6" in check(data, 1.11).failed
    assert check(data, 2.46).failed == ""
    assert summary(data).startswith(
        "Of 6 published numbers 0 are met within either spread; of 3 pairs of rows 2 are in"
    )
    lost = json.loads(json.dumps(data))
    lost["cells"][0] |= {"values": {}, "problems": {"0": "failed", "1": "failed"}}
    assert check(lost).failed == "A, x, error: no value"
    assert summary(lost).startswith("Of 5 published numbers 0 ")
    close = check(data, 0.5).cells
    assert [cell.close for cell in close] == [False, False, True, False, False, False]


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
        ({"claims": (Claim("a", "", lambda t: fact(True, "")),)}, "without a statement"),
        ({"claims": (Claim("a", "A.", lambda t: fact(True, ""), "paper"),)}, "where the paper"),
        ({"claims": (Claim("a", "A.", lambda t: fact(True, ""), "hope"),)}, "another kind"),
        ({"headline": ("a",)}, "unknown claims"),
        ({"reasons": {"other": "x"}}, "unknown claims"),
        ({"at": {"demo": Table("t", "s", "c.py", ())}}, "no cells"),
    ],
)
def test_a_malformed_table_is_refused(change: dict, message: str) -> None:
    table = Table("t", "s", "c.py", (Cell("a", "b", {}, "m"),), "1")
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


SIZES = """
from ml_collections import ConfigDict
from common.config import choices
def build(config): ...
def get_config(arg=None):
    args = choices(arg, {"preset": ("cpu", "paper"), "pde": ("heat", "wave"), "kind": ("a", "b")})
    small, wave = args["preset"] == "cpu", args["pde"] == "wave"
    config = ConfigDict(dict(experiment="sizes.py:build", pde=args["pde"], kind=args["kind"]))
    config.num_steps = 10 if small else 100
    config.points = (4 if small else 50) if wave else 9
    config.width = 3 if small and not (wave and args["kind"] == "b") else 8
    return config
"""


def test_deviations_are_those_of_every_row_and_say_which(tmp_path: Path) -> None:
    file = tmp_path / "sizes.py"
    file.write_text(SIZES)
    variants = [f"pde={pde},kind={kind}" for pde in ("heat", "wave") for kind in ("a", "b")]
    cells = tuple(Cell(variant, "x", {}, "error", variant=variant) for variant in variants)

    found = deviations(Table("t", "s", str(file), cells), "cpu")

    assert found == [
        {"field": "num_steps", "paper": 100, "ours": 10},
        {"field": "points", "paper": 50, "ours": 4, "of": ["pde=wave"]},
        {"field": "width", "paper": 8, "ours": 3, "of": ["all except pde=wave,kind=b"]},
    ]
    assert deviations(Table("t", "s", str(file), cells), "paper") == []
