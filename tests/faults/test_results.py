"""What the committed campaign of faults came to."""

import pytest

from common.files.json_files import read_json
from tests.faults import resources
from tests.faults.run import bad, faults, markdown
from tests.processes import REPOSITORY

COMMITTED = read_json(REPOSITORY / "results/faults.json")


@pytest.mark.parametrize("name", COMMITTED["faults"])
def test_nothing_was_lost(name: str) -> None:
    assert name in faults(sample=False)
    assert bad(COMMITTED["faults"][name]) == []


def test_a_lost_step_or_a_wrong_bit_would_be_seen() -> None:
    good = dict(kills=4, runs=2, bitwise=2, lost=0)
    assert bad(good) == []
    assert bad({**good, "bitwise": 1}) == ["bitwise 1 of 2"]
    assert bad({**good, "lost": 1}) == ["lost 1"]
    assert bad({"trials": 9, "refused": 8, "harmless": 0, "silent": 1}) == ["silent 1"]
    assert bad({"files": 3, "harmless": 2, "failures": {"a bomb": "MemoryError"}}) != []
    assert bad({"one": {"trials": 2, "bitwise": 1}}) == ["one: bitwise 1 of 2"]


def test_the_table_has_a_row_for_every_fault() -> None:
    assert len(markdown(COMMITTED).splitlines()) == 2 + len(COMMITTED["faults"])


MEASURED = read_json(REPOSITORY / "results/resources.json")["measured"]


@pytest.mark.parametrize("name", MEASURED)
def test_what_a_machine_cannot_hold_is_one_line(name: str) -> None:
    one = MEASURED[name]
    assert name in resources.jobs(REPOSITORY)
    if "4 GB" not in name:
        assert one["code"] == 0
        return
    assert one["code"] == 3 and len(one["errors"]) == 1 and not one["traceback"]
    assert one["peak_memory"] < resources.LIMIT


def test_resources_are_shown_with_what_was_said() -> None:
    lines = resources.markdown({"measured": MEASURED}).splitlines()
    assert len(lines) == 2 + len(MEASURED)
