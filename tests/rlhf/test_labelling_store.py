"""The store of labels: nothing lost, nothing twice, and one line for what is wrong with it."""

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import DataError, UserError
from rlhf.labelling import (
    agreement,
    answers,
    asking,
    clips,
    exchange,
    showing,
    status,
    store,
    taking,
)
from rlhf.labelling.asking import Pair
from rlhf.labelling.clips import Clip
from tests.rlhf.desk import FACTS, fill, game, swing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fill(tmp_path, 6)
    return tmp_path


@pytest.fixture
def desk(folder: Path) -> Any:
    with store.opened(folder / store.NAME) as connection:
        yield connection


def rater(desk: sqlite3.Connection, name: str = "Ada") -> int:
    return showing.rater_named(desk, name)


def rows(desk: sqlite3.Connection, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in desk.execute(query)]


@pytest.mark.parametrize("clip", [swing(3), game(3), game(3, color=True)])
def test_a_clip_comes_back_as_it_was_and_one_flipped_bit_is_told(clip: Clip) -> None:
    content, sha256 = clips.packed(clip)
    back = clips.unpacked(content, sha256)

    for name, value in clip.shown.items():
        np.testing.assert_array_equal(back.shown[name], value)
    np.testing.assert_array_equal(back.seen, clip.seen)
    for place in range(0, len(content), max(1, len(content) // 60)):
        damaged = bytearray(content)
        damaged[place] ^= 16
        with pytest.raises(DataError, match="a clip is damaged"):
            clips.unpacked(bytes(damaged), sha256)
    with pytest.raises(DataError, match="a clip is missing"):
        clips.unpacked(None, None)


@pytest.mark.parametrize(
    "shown",
    [
        {"segments": np.zeros((3, 1, 5))},
        {"segments": np.zeros((3, 1, 5)), "circles": np.zeros((2, 1, 3))},
        {"frames": np.zeros((3, 4, 4))},
        {"frames": np.zeros((3, 4, 4, 2), np.uint8)},
    ],
)
def test_a_clip_that_nobody_can_draw_is_refused(shown: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="expected"):
        clips.packed(Clip(shown, np.zeros((3, 2))))


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


def give(desk: sqlite3.Connection, name: str, *kept: str) -> None:
    """Answers the next pairs: "a", "b", "tie" or "none", on whatever side the clips are."""
    mine = rater(desk, name)
    for choice in kept:
        one, *_ = showing.refill(desk, mine, [])
        (left_is_a,) = desk.execute(
            "SELECT left_is_a FROM showings WHERE nonce = ?", (one.nonce,)
        ).fetchone()
        sides = {"tie": "equal", "none": "skip", "ab"[1 - left_is_a]: "left"}
        answers.answer(desk, mine, one.nonce, sides.get(choice, "right"))
    desk.execute("UPDATE showings SET shown_at = 0")  # what else is on the page is free again


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


def everything(path: Path) -> list[dict[str, Any]]:
    """Returns what is said in a store, without the numbers of its rows."""
    with store.opened(path) as desk:
        lines = list(exchange.lines_of(desk))
    clip = {x["id"]: x["sha256"] for x in lines if x["kind"] == "clip"}
    pair = {x["id"]: (clip[x["clip_a"]], clip[x["clip_b"]]) for x in lines if x["kind"] == "pair"}
    kept = ("rater", "choice", "answered_at", "latency_ms")
    return [
        {"pair": pair[x["pair"]], **{name: x[name] for name in kept}}
        for x in lines
        if x["kind"] == "label" and x["undone"] is None and x["choice"] != "check"
    ]


@pytest.mark.parametrize("form", ["sqlite", "jsonl"])
def test_labels_go_out_and_come_in_whole_and_once(tmp_path: Path, form: str) -> None:
    old = fill(tmp_path / "old", 5)
    with store.opened(old) as desk:
        give(desk, "Ada", "a", "tie", "none")
        answers.undo(desk, rater(desk))
        give(desk, "Bob Ünal", "b")
        source = tmp_path / "out.jsonl" if form == "jsonl" else old
        if form == "jsonl":
            assert exchange.export_lines(desk, source) == 4  # one of them taken back
    new = fill(tmp_path / "new", 0, run_hash="4567/seed1")
    like = swing(0).seen
    with store.opened(new) as desk:
        assert exchange.import_labels(desk, source, "pendulum/spin", like) == 3
        assert exchange.import_labels(desk, source, "pendulum/spin", like) == 0
        assert everything(new) == everything(old)
        assert showing.refill(desk, rater(desk, "Eve"), []) == []  # nobody is asked again
        assert taking.missing(desk, 9) == 0 and len(taking.take(desk, 0, 9)) == 3
        # And on to a third run: a pair keeps the name of the run that asked.
        exchange.export_lines(desk, tmp_path / "again.jsonl")
    third = fill(tmp_path / "third", 0, run_hash="89ab/seed0")
    with store.opened(third) as desk:
        assert exchange.import_labels(desk, tmp_path / "again.jsonl", "pendulum/spin", like) == 3
        assert exchange.import_labels(desk, source, "pendulum/spin", like) == 0


def test_labels_of_other_tasks_shapes_and_damaged_files_are_refused(tmp_path: Path) -> None:
    source, like = tmp_path / "out.jsonl", swing(0).seen
    with store.opened(fill(tmp_path / "old", 2)) as desk:
        give(desk, "Ada", "a")
        exchange.export_lines(desk, source)
    text = source.read_text()
    changes = {
        "is not there": None,
        "labels of 'pendulum/spin', this run is 'cart'": text,
        r"line 2: is damaged": text.replace('{"kind": "clip"', "{{", 1),
        "clip 1: a clip is damaged": text.replace('"sha256": "', '"sha256": "0', 1),
        r"is damaged: KeyError\('pair'\)": text.replace(
            '"kind": "label", "id": 1, "pair"', '"kind": "label", "p"'
        ),
        "holds no labels of version 1": text.replace('"version": 1', '"version": 7'),
        "expected an object": text + "7\n",
    }
    with store.opened(fill(tmp_path / "new", 1, run_hash="4567/seed1")) as desk:
        before = rows(desk, "SELECT * FROM labels")
        for message, content in changes.items():
            source.unlink(missing_ok=True)
            if content is not None:
                source.write_text(content)
            task = "cart" if "cart" in message else "pendulum/spin"
            with pytest.raises((UserError, DataError), match=message):
                exchange.import_labels(desk, source, task, like)
        source.write_text(text)
        with pytest.raises(UserError, match=r"a clip is float32\(25, 3\), this run has"):
            exchange.import_labels(desk, source, "pendulum/spin", like[:7])
        assert rows(desk, "SELECT * FROM labels") == before


def test_the_store_of_another_run_is_told(folder: Path, desk: sqlite3.Connection) -> None:
    with pytest.raises(UserError, match=r"labels of another run \(0123/seed0, not 77/seed0\)"):
        asking.register(desk, folder, "77/seed0", "pendulum/spin", FACTS)
    asking.register(desk, folder, "0123/seed0", "pendulum/spin", {**FACTS, "title": "new"})
    assert asking.facts_of(desk)["title"] == "new"


def test_a_step_that_asks_again_asks_the_same_or_is_refused(
    folder: Path, desk: sqlite3.Connection
) -> None:
    again = [Pair(slot, swing(2 * slot), swing(2 * slot + 1)) for slot in range(6)]
    asking.ask(desk, folder, 0, again, second_share=0)
    assert rows(desk, "SELECT count(*) FROM pairs") == [(6,)]

    with pytest.raises(DataError, match="holds another pair 1 of step 0"):
        asking.ask(desk, folder, 0, [again[0], Pair(1, swing(2), swing(99))], second_share=0)
    with pytest.raises(DataError):  # all of a step, or nothing
        asking.ask(
            desk,
            folder,
            0,
            [Pair(8, swing(5), swing(6)), Pair(1, swing(1), swing(1))],
            second_share=0,
        )
    assert rows(desk, "SELECT count(*) FROM pairs") == [(6,)]


@pytest.mark.parametrize("missing", [True, False])
def test_a_clip_that_is_gone_or_damaged_is_one_line(folder: Path, missing: bool) -> None:
    with sqlite3.connect(folder / store.NAME) as raw:
        change = "DELETE FROM clips" if missing else "UPDATE clips SET content = x'00'"
        raw.execute(f"{change} WHERE id = 11")
    with store.opened(folder / store.NAME) as desk:
        with pytest.raises(DataError, match="pair 6: a clip is (missing|damaged)"):
            showing.refill(desk, rater(desk), [])


def test_what_is_no_store_is_told(tmp_path: Path) -> None:
    path = tmp_path / store.NAME
    with pytest.raises(UserError, match="is not there: training"):
        store.connect(path)
    path.write_bytes(b"labels" * 300)
    with pytest.raises(DataError, match="no store of labels, or is damaged"):
        store.connect(path)
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE x (y)")
    with pytest.raises(DataError, match="is no store of labels"):
        store.connect(path)
    other.execute(f"PRAGMA application_id = {store.APPLICATION}")
    other.close()
    with pytest.raises(DataError, match=r"version 0, expected 1"):
        store.connect(path)


def test_a_disk_that_cannot_be_written_is_told(folder: Path) -> None:
    with store.opened(folder / store.NAME) as desk:
        one, *_ = showing.refill(desk, rater(desk), [])
        desk.execute("PRAGMA query_only = ON")  # as a disk that became read-only: root may write
        with pytest.raises(DataError, match="cannot be written: the disk is read-only"):
            with store.store_errors(folder / store.NAME):
                answers.answer(desk, rater(desk), one.nonce, "left")
        desk.execute("PRAGMA query_only = OFF")
        answers.answer(desk, rater(desk), one.nonce, "left")  # the page sends it again
    assert len(everything(folder / store.NAME)) == 1


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


def test_the_strip_says_what_is_in_the_files(folder: Path, desk: sqlite3.Connection) -> None:
    give(desk, "Ada", "a", "tie")
    asking.report(desk, 2, 3)
    asking.set_errors(desk, {rater(desk): 0.125})
    lines = [
        {"step": n, "kind": "train", "return": float(n), "coefficient": 0.5} for n in range(300)
    ]
    lines.append({"step": 300, "kind": "train", "return": 9.0, "reward_valid_loss": "NaN"})
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 301, "ki'
    (folder / "metrics.jsonl").write_text(text)

    said = status.status(desk, asking.facts_of(desk), folder)
    assert (said["learner"], said["missing"], said["due"], said["answered"]) == ("waiting", 3, 8, 2)
    assert (said["step"], said["num_steps"], said["total"]) == (2, 3, 12)
    assert len(said["returns"]) <= status.CURVE and said["returns"][0] == 0
    assert said["valid_loss"] is None and said["kappa"] is None and said["a_minute"] == 4
    assert said["raters"][0]["error"] == 0.125 and said["raters"][0]["answers"] == 2
    desk.execute("UPDATE learner SET seen_at = 0")
    assert status.learner(desk, asking.facts_of(desk), folder)["learner"] == "silent"
    (folder / "result.json").write_text("{}")
    assert status.learner(desk, asking.facts_of(desk), folder)["learner"] == "complete"


@pytest.mark.parametrize("name", ["", "  ", "x" * 41, "a\x00b", "a\u202eb"])
def test_names_that_nobody_can_read_are_refused(desk: sqlite3.Connection, name: str) -> None:
    with pytest.raises(ValueError, match="expected 1 to 40 printable"):
        rater(desk, name)
