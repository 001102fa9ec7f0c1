"""Reasons below failing claims, of every committed table."""

import re

import pytest

from common.lab.listing import TableRow, table_rows
from common.verdicts import FAILS

ROWS = [row for row in table_rows() if "cpu" in row.results]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.paper.name}.{row.table.name}")
def test_a_reason_is_a_cause_that_reads_alone_and_retypes_no_number(row: TableRow) -> None:
    for claim in row.claims("cpu"):
        reason = claim["reason"]
        assert bool(reason) == (claim["status"] == FAILS), claim["name"]
        # Where it holds and by how much is in the matrix of claims, which is made from the numbers.
        assert not re.search(r"[Hh]olds|as above|as against|As for|\d+\.\d+ times", reason), reason
        assert len(reason) < 400
