"""The store of labels: nothing lost, nothing twice, and one line for what is wrong with it."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import DataError, UserError
from rlhf.labelling import (
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
from tests.rlhf.desk import FACTS, fill, game, give, rater, rows, swing


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
    with pytest.raises(UserError, match=r"labels of another run \(\w+/seed0, not 77/seed0\)"):
        asking.register(desk, folder, "77/seed0", "pendulum/spin", FACTS)
    mine = asking.facts_of(desk)["hash"]
    asking.register(desk, folder, mine, "pendulum/spin", {**FACTS, "title": "new"})
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
