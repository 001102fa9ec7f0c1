"""Reasons below failing claims say what the numbers beside them say."""

import re

import numpy as np
import pytest

from common.config import load_config
from common.status import TableRow, read_table, table_rows
from common.tables import FAILS, ClaimOutcome, paired_two_stderr_above, results_from_json
from sciml.boon.data import data_spec, generate

ROWS = {
    (row.paper.name, row.table.name): row
    for row in table_rows()
    if row.paper.name.startswith("sciml") and "cpu" in row.results
}
FAILING = [
    (row, claim) for row in ROWS.values() for claim in row.claims("cpu") if claim.status == FAILS
]
# What parts of a claim are about, longest names first, as in the columns.
NAMES = (
    *("periodic Burgers", "Stokes", "Burgers", "heat", "wave", "cavity"),
    *("diffusion", "PME", "Stefan", "advection"),
    *("k = 1", "k = 5", "m = 1", "m = 3", "m = 6", "a = 1", "a = 3", "u* = 0.6", "u* = 0.5"),
)


def names_in(text: str) -> list[str]:
    """Returns the names of equations and parameters in a text."""
    found = []
    for name in NAMES:
        if name in text:
            found.append(name)
            text = text.replace(name, "")
    return found


def parts(row: TableRow, claim: ClaimOutcome) -> dict[str, bool]:
    """Returns what the claim is about, by name: whether all of it holds there."""
    held: dict[str, bool] = {}
    by_law = row.table.name == "calibration"  # columns "PME m=1, CRPS": of a law, then of it
    for part in claim.detail.split("; "):
        column = re.sub(r"(?<=\b[kma*])=(?=\d)", " = ", part)
        name = names_in(column)[0] if by_law or "sciml.boon" in row.paper.name else ""
        name = name or next(n for n in NAMES if n in column)
        held[name] = held.get(name, True) and not part.startswith("[fails]")
    return held


@pytest.mark.parametrize(
    ("row", "claim"), FAILING, ids=lambda item: getattr(item, "name", getattr(item, "table", ""))
)
def test_a_reason_names_where_the_claim_holds(row: TableRow, claim: ClaimOutcome) -> None:
    held = parts(row, claim)
    holds, fails = ([n for n, h in held.items() if h is is_held] for is_held in (True, False))
    first = re.split(r"[.:] ", re.sub(r"\(.*?\)", "", claim.reason))[0].rstrip(".")
    assert claim.reason and fails
    if not holds or row.table.name == "shock":  # of one parameter only
        assert not first.startswith("Holds")
    elif first.startswith("Holds but on "):
        assert sorted(names_in(first)) == sorted(fails)
    else:
        assert first.startswith("Holds ") and sorted(names_in(first)) == sorted(holds)


BOON, PROBCONSERV = "sciml.boon", "sciml.probconserv"
# table, claim, what its reason says of column, and the rows whose means have that ratio
RATIOS = [
    (BOON, "single_step", "boon_beats_fno", "Stokes ({} times)", "FNO", "BOON-FNO"),
    (BOON, "single_step", "boon_beats_fno", "heat ({} times)", "FNO", "BOON-FNO"),
    (BOON, "single_step", "boon_mwt_beats_mwt", "Stokes ({} times)", "MWT", "BOON-MWT"),
    (
        *(BOON, "single_step", "elimination_beats_last_layer", "Stokes ({} times)"),
        *("FNO, output overwritten", "BOON-FNO"),
    ),
    (BOON, "multi_step", "boon_beats_fno", "Burgers {},", "FNO", "BOON-FNO"),
    (BOON, "multi_step", "boon_beats_fno", "heat {},", "FNO", "BOON-FNO"),
    (PROBCONSERV, "advection", "mse_better_than_anp", "a = 1 ({} times)", "ANP", "ProbConserv-ANP"),
    (
        *(PROBCONSERV, "diffusion", "cells_improves_mse", "k = 1 ({} times)"),
        *("ProbConserv-ANP", "ProbConserv-ANP, 4 cells"),
    ),
]


@pytest.mark.parametrize(("paper", "table", "name", "says", "worse", "better"), RATIOS)
def test_a_ratio_is_that_of_the_table(paper, table, name, says, worse, better) -> None:
    row = ROWS[paper, table]
    results = results_from_json(read_table(row.results["cpu"]))
    what = "relative L2" if paper == BOON else "MSE"
    column = f"{names_in(says)[0].replace(' = ', '=')}, {what}"
    ratio = results[worse, column].mean / results[better, column].mean
    (reason,) = (claim.reason for claim in row.claims("cpu") if claim.name == name)
    assert says.format(f"{ratio:.1f}") in reason


def test_rows_that_are_called_level_are_and_others_are_not() -> None:
    row = ROWS[PROBCONSERV, "diffusion"]
    results = results_from_json(read_table(row.results["cpu"]))
    for claim in row.claims("cpu"):
        if "Both rows are level" in claim.reason:
            for part in claim.detail.split("; "):
                difference, margin = map(
                    float, re.findall(r"(?:difference|seed) (\S+?)(?:,|$)", part)
                )
                assert abs(difference) <= margin, part
    # Those that no reason calls level.
    for other, sign in (("ProbConserv-ANP w/diff", 1), ("ProbConserv-ANP, 4 cells", -1)):
        pair = [results[r, "k=1, LL"] for r in ("ProbConserv-ANP", other)[::sign]]
        assert paired_two_stderr_above(*pair)
    before, after = (results[r, "k=1, MSE"].mean for r in ("ANP", "ProbConserv-ANP"))
    assert 1 - after / before == pytest.approx(0.01, abs=0.005)


def test_what_is_said_of_the_solutions_is_true_of_them() -> None:
    spread = {}
    for pde in ("burgers", "stokes"):
        section = load_config(f"sciml/boon/configs/single_step.py:cpu,pde={pde},kind=plain").data
        made = generate(data_spec(section)._replace(counts=(1, 1, 50), scales=()))
        for part in ("initial", "frames", "low0", "high0"):
            field = made[f"test/{part}"].reshape(50, -1)
            deviation = np.sqrt(np.mean(field.std(axis=0) ** 2))
            spread[pde, part] = deviation, deviation / np.sqrt(np.mean(field**2))

    (field, _), (low, _), (high, _) = (spread["burgers", x] for x in ("frames", "low0", "high0"))
    assert low / field > 0.6 and 1.7 < high / field < 2.1  # "up to twice as much"
    assert spread["stokes", "initial"][1] == pytest.approx(0.04, abs=0.006)
    assert spread["stokes", "frames"][1] == pytest.approx(0.38, abs=0.04)
