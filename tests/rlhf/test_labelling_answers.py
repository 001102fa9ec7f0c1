"""Who sees which pair, what they say of it, and how training takes it: once, and in one order."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from rlhf.labelling import (
    agreement,
    answers,
    asking,
    clips,
    showing,
    store,
    taking,
)
from rlhf.labelling.asking import Pair
from tests.rlhf.desk import fill, give, rater, rows, swing


def test_an_answer_is_of_the_clip_on_that_side(desk: sqlite3.Connection) -> None:
    mine, sides = rater(desk), set()
    while shown := showing.refill(desk, mine, []):
        for pair in shown:
            answers.answer(desk, mine, pair.nonce, "left", 900)
    for choice, left_is_a, pair in rows(
        desk,
        "SELECT choice, left_is_a, labels.pair FROM labels JOIN showings ON showing = showings.id",
    ):
        assert choice == ("a" if left_is_a else "b")
        sides.add((pair, left_is_a))
    assert len(sides) == 6

    left = {row[0]: row[1] for row in sides}
    for pair in left:
        number, *_ = next(iter(desk.execute("SELECT id FROM showings WHERE pair = ?", (pair,))))
        shown_left = showing.showing_of(desk, number).left
        first = clips.for_page(swing(2 * (pair - 1) + (not left[pair])))
        assert shown_left == first  # and drawn from that clip


def test_sides_are_drawn_and_remembered(tmp_path: Path) -> None:
    fill(tmp_path, 60)
    with store.opened(tmp_path / store.NAME) as desk:
        mine, left = rater(desk), []
        for _ in range(20):
            for pair in showing.refill(desk, mine, []):
                answers.answer(desk, mine, pair.nonce, "equal")
        left = [row[0] for row in rows(desk, "SELECT left_is_a FROM showings")]
    assert len(left) == 60 and 12 <= sum(left) <= 48  # ten errors of a fair coin are 30 +- 39


def test_the_newest_pair_comes_first_and_each_to_one_person(desk: sqlite3.Connection) -> None:
    ada, bob = rater(desk), rater(desk, "Bob")
    first, second = showing.refill(desk, ada, []), showing.refill(desk, bob, [])
    pairs = dict(rows(desk, "SELECT nonce, pair FROM showings"))

    assert [pairs[one.nonce] for one in first] == [6, 5, 4]
    assert [pairs[one.nonce] for one in second] == [3, 2, 1]
    assert showing.refill(desk, rater(desk, "Eve"), []) == []
    # A page that was loaded again gets what it had, on the same sides.
    assert showing.refill(desk, ada, []) == first
    assert showing.refill(desk, ada, [first[0].nonce]) == first[1:]


def test_a_pair_that_stays_without_an_answer_returns(desk: sqlite3.Connection) -> None:
    ada, bob = rater(desk), rater(desk, "Bob")
    showing.refill(desk, ada, [])
    showing.refill(desk, bob, [])
    assert showing.refill(desk, rater(desk, "Eve"), []) == []

    long_ago = store.now() - showing.LEASE_SECONDS - 1
    desk.execute("UPDATE showings SET shown_at = ? WHERE rater = ?", (long_ago, bob))
    back = showing.refill(desk, rater(desk, "Eve"), [])
    pairs = dict(rows(desk, "SELECT nonce, pair FROM showings"))
    assert [pairs[one.nonce] for one in back] == [3, 2, 1]


def test_a_showing_is_answered_once_and_by_who_saw_it(desk: sqlite3.Connection) -> None:
    ada, bob = rater(desk), rater(desk, "Bob")
    one, *_ = showing.refill(desk, ada, [])
    for wrong in (bob, ada):
        if wrong == bob:
            with pytest.raises(answers.Refused, match="not shown to you") as info:
                answers.answer(desk, bob, one.nonce, "left")
            assert info.value.status == 404
    answers.answer(desk, ada, one.nonce, "left")
    with pytest.raises(answers.Refused, match="have answered") as info:
        answers.answer(desk, ada, one.nonce, "right")
    assert info.value.status == 409
    assert rows(desk, "SELECT count(*) FROM labels") == [(1,)]
    with pytest.raises(ValueError, match="choice 'up': expected one of left, right"):
        answers.answer(desk, ada, one.nonce, "up")


def test_an_answer_is_taken_back_until_training_has_it(desk: sqlite3.Connection) -> None:
    ada = rater(desk)
    for choice in ("left", "skip"):
        one, *_ = showing.refill(desk, ada, [])
        answers.answer(desk, ada, one.nonce, choice)

    undone = answers.undo(desk, ada)
    again = showing.showing_of(desk, undone.showing)
    assert undone.side == "skip" and (again.left, again.right) == (one.left, one.right)
    assert again.nonce != one.nonce
    with pytest.raises(answers.Refused, match="have answered"):  # the old one stays answered
        answers.answer(desk, ada, one.nonce, "left")
    answers.answer(desk, ada, again.nonce, "equal")
    assert answers.undo(desk, ada).side == "equal"
    assert answers.undo(desk, ada).side == "left"
    with pytest.raises(answers.Refused, match="no answer to take back"):
        answers.undo(desk, ada)

    one, *_ = showing.refill(desk, ada, [])
    answers.answer(desk, ada, one.nonce, "right")
    assert len(taking.take(desk, 0, 9)) == 1
    with pytest.raises(answers.Refused, match="the learner has learned from"):
        answers.undo(desk, ada)


def test_training_takes_each_answer_once_in_the_order_of_pairs(desk: sqlite3.Connection) -> None:
    give(desk, "Ada", "a", "none", "tie", "b")  # of pairs 6, 5, 4 and 3
    first = taking.take(desk, 4, 2)
    second = taking.take(desk, 5, 9)

    seen = lambda taken: [int(label.a.seen[0, 2]) for label in taken]
    assert seen(first) == [6, 10] and seen(second) == [4]  # a clip says twice its slot
    assert [label.preferred for label in first] == [0.5, 1.0]
    assert taking.take(desk, 6, 9) == []
    # A step that is made again takes what it took, whatever came since.
    give(desk, "Ada", "a")
    assert [(x.preferred, x.rater) for x in taking.take(desk, 4, 9)] == [
        (x.preferred, x.rater) for x in first
    ]
    assert seen(taking.take(desk, 5, 0)) == [4] and taking.take(desk, 6, 9) == []
    assert seen(taking.take(desk, 7, 9)) == [2]


def test_an_answer_settles_before_training_counts_or_takes_it(desk: sqlite3.Connection) -> None:
    give(desk, "Ada", "a", "b")
    assert taking.missing(desk, 1) == 4 and taking.missing(desk, 1, settle_seconds=60) == 6
    assert taking.missing(desk, 0) == 0  # pairs of no step before
    assert taking.take(desk, 1, 9, settle_seconds=60) == []
    assert len(taking.take(desk, 2, 9)) == 2


def test_checks_are_for_everybody_and_nothing_is_learned_from_them(
    folder: Path, desk: sqlite3.Connection
) -> None:
    check = Pair(0, swing(90), swing(91), "check", "b")
    asking.ask(desk, folder, 1, [check], second_share=0)
    give(desk, "Ada", "b")
    give(desk, "Bob", "tie")

    assert agreement.checks(desk) == {rater(desk): (1, 1), rater(desk, "Bob"): (0, 1)}
    assert taking.take(desk, 1, 9) == [] and taking.missing(desk, 2) == 6


def test_second_opinions_are_asked_of_others_and_give_the_agreement(tmp_path: Path) -> None:
    fill(tmp_path, 3, second_share=1.0)
    with store.opened(tmp_path / store.NAME) as desk:
        give(desk, "Ada", "a", "tie", "none")
        assert showing.refill(desk, rater(desk), []) == []
        give(desk, "Bob", "b", "tie", "a")
        assert showing.refill(desk, rater(desk, "Eve"), []) == []  # two are enough
        kappa, pairs = agreement.agreement(desk)
        assert pairs == 2  # who cannot tell says nothing
        said = [x[0] for x in rows(desk, "SELECT choice FROM labels WHERE choice != 'none'")]
        # One of two agreed; of four answers two were ties: (1/2 - 3/8) / (1 - 3/8).
        assert kappa == pytest.approx(0.2) and said.count("tie") == 2
        assert [taken.rater for taken in taking.take(desk, 0, 9)].count(rater(desk)) == 2


def test_kappas_are_those_of_the_papers() -> None:
    # Cohen: po = 0.7, pe = 0.5 * 0.6 + 0.5 * 0.4.
    one = ["a"] * 25 + ["b"] * 25
    two = ["a"] * 20 + ["b"] * 5 + ["a"] * 10 + ["b"] * 15
    assert agreement.cohen_kappa(one, two) == pytest.approx((0.7 - 0.5) / (1 - 0.5))
    assert agreement.cohen_kappa(one, one) == 1
    assert np.isnan(agreement.cohen_kappa(["a"], ["a"]))  # chance explains all
    with pytest.raises(ValueError, match="2 and 1 answers"):
        agreement.cohen_kappa(["a", "b"], ["a"])
    # Fleiss' own example of 1971 is larger; the well-known one of 14 raters and ten subjects.
    counts = np.array(
        [
            [0, 0, 0, 0, 14],
            [0, 2, 6, 4, 2],
            [0, 0, 3, 5, 6],
            [0, 3, 9, 2, 0],
            [2, 2, 8, 1, 1],
            [7, 7, 0, 0, 0],
            [3, 2, 6, 3, 0],
            [2, 5, 3, 2, 2],
            [6, 5, 2, 1, 0],
            [0, 2, 2, 3, 7],
        ],
        float,
    )
    assert agreement.fleiss_kappa(counts) == pytest.approx(0.210, abs=5e-4)
    lonely = np.concatenate([counts, np.eye(5)])  # pairs of one rater say nothing
    assert agreement.fleiss_kappa(lonely) == agreement.fleiss_kappa(counts)
    assert np.isnan(agreement.fleiss_kappa(np.eye(3)))


def _answer_all(path: Path, name: str) -> int:
    with store.opened(path) as desk:
        mine, number = rater(desk, name), 0
        while shown := showing.refill(desk, mine, []):
            for one in shown:
                answers.answer(desk, mine, one.nonce, "left")
                number += 1
    return number


def test_two_writers_at_once_answer_every_pair_once(tmp_path: Path) -> None:
    path = fill(tmp_path, 40)
    with ThreadPoolExecutor(2) as both:  # connections of their own, as processes have
        numbers = list(both.map(_answer_all, (path, path), ("Ada", "Bob")))

    with store.opened(path) as desk:
        said = [pair for (pair,) in rows(desk, "SELECT pair FROM labels")]
    assert sum(numbers) == 40 and sorted(said) == list(range(1, 41)) and min(numbers) > 0


@pytest.mark.parametrize("name", ["", "  ", "x" * 41, "a\x00b", "a\u202eb"])
def test_names_that_nobody_can_read_are_refused(desk: sqlite3.Connection, name: str) -> None:
    with pytest.raises(ValueError, match="expected 1 to 40 printable"):
        rater(desk, name)
