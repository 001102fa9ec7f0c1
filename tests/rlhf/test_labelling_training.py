"""Training that people teach: it waits for them, and is the same run however it was killed."""

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from common import runs
from common.config import load_config
from common.errors import LabError
from common.experiment import build
from common.loop import train
from rlhf.human_preferences import interview, learning, people
from rlhf.human_preferences.numbers import as_data, numbers_of
from rlhf.human_preferences.plan import Plan, make_plan
from rlhf.labelling import answers, showing, store
from tests.processes import REPOSITORY
from tests.rlhf import browser as browsers
from tests.rlhf.desk import LAB, rows, served
from tests.rlhf.load import kept
from tests.rlhf.test_human_preferences import SMALL
from tests.small_runs import power_cut

CONFIG = "rlhf/human_preferences/configs/people.py:cpu,task=spin"
FEW = {**SMALL, "checkpoint_every": "3", "people.undo_seconds": "0.0", "people.ahead": "1"}
MANY = {
    **FEW,
    "num_steps": "16",
    "labels.total": "50",
    "labels.slots": "8",
    "people.check_share": "0",
}
MANY["labels.capacity"] = "64"
SECONDS = 400.0  # for what takes a few of a core that is free


def config_of(**fields: str) -> ConfigDict:
    changed = {name.replace("__", "."): value for name, value in fields.items()}
    return load_config(CONFIG, {**FEW, **changed})


def digest(folder: Path) -> str:
    """Returns the digest of the last state of a run."""
    return json.loads((folder / "result.json").read_text())["state_sha256"]


def copied(source: Path, target: Path) -> None:
    """Copies a store that may be in use."""
    target.parent.mkdir(parents=True, exist_ok=True)
    one, two = sqlite3.connect(source), sqlite3.connect(target)
    one.backup(two)
    one.close()
    two.close()


@contextlib.contextmanager
def somebody(folder: Path, side: str = "left") -> Iterator[list[str]]:
    """Answers whatever is asked in a run, in a thread, until the end; gives what was shown."""
    done, shown = threading.Event(), []

    def rate() -> None:
        while not (folder / store.NAME).exists() and not done.wait(0.02):
            pass
        while not done.wait(0.02):
            with (
                contextlib.suppress(LabError, sqlite3.Error),
                store.opened(folder / store.NAME) as desk,
            ):
                ada = showing.rater_named(desk, "Ada")
                while not done.wait(0.02):
                    for one in showing.refill(desk, ada, []):
                        answers.answer(desk, ada, one.nonce, side)
                        shown.append(one.nonce)

    thread = threading.Thread(target=rate)
    thread.start()
    try:
        yield shown
    finally:
        done.set()
        thread.join()


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a run that somebody taught, with a power cut on the way."""
    config, folder = config_of(), tmp_path_factory.mktemp("taught")
    with somebody(folder):
        with pytest.raises(Exception, match="power cut"):
            train.fit(power_cut(build(config), 4), config, folder)
        train.fit(build(config), config, folder)
    return folder


def test_a_run_is_made_again_to_the_bit_from_its_labels_alone(taught: Path, tmp_path: Path) -> None:
    copied(taught / store.NAME, tmp_path / store.NAME)
    train.fit(build(config_of()), config_of(), tmp_path)  # nobody is there to answer

    assert digest(tmp_path) == digest(taught)


def test_what_was_said_is_what_is_learned_from(taught: Path) -> None:
    labels = runs.load(taught).state.judge.labels
    with store.opened(taught / store.NAME) as desk:
        said = rows(desk, "SELECT choice, pair FROM labels ORDER BY pair")
        taken = rows(
            desk,
            "SELECT pair FROM taken JOIN labels ON labels.id = label ORDER BY taken.step, place",
        )
    assert int(labels.count) == len(said) == 6 and taken == [(pair,) for _, pair in said]
    preferred = [{"a": 1.0, "b": 0.0}[choice] for choice, _ in said]
    np.testing.assert_array_equal(labels.rows.preferred[:6], preferred)
    assert not np.any(labels.rows.targets)


@pytest.mark.slow
def test_a_run_begins_from_old_labels(taught: Path, tmp_path: Path) -> None:
    old = str(taught / store.NAME)
    config = config_of(people__labels=old, labels__total="0", labels__initial_share="0.0")
    train.fit(build(config), config, tmp_path)  # it asks nobody

    labels, before = (runs.load(folder).state.judge.labels for folder in (tmp_path, taught))
    assert int(labels.count) == 6

    def said(buffer: Any) -> set[tuple[bytes, float]]:
        clips, preferred = (np.asarray(x)[:6] for x in buffer.rows[:2])
        return {
            (clip.tobytes(), float(which)) for clip, which in zip(clips, preferred, strict=True)
        }

    assert said(labels) == said(before) and len(said(labels)) == 6


@pytest.mark.slow  # of all sources but people: test_human_preferences.py
def test_the_task_s_reward_reaches_nothing_but_the_score() -> None:
    config = config_of()
    parts = learning.parts_of(config)
    blind = parts._replace(task=parts.task._replace(goal=lambda *_: jnp.full((), jnp.nan)))
    data = as_data(numbers_of(config))
    state = people.init(parts, jax.random.key(0))
    planned = {name: x[3] for name, x in make_plan(config)._asdict().items()}
    batch = {**people.blank_batch(parts), **planned}
    batch["seen"] += np.linspace(-1, 1, batch["seen"].size).reshape(batch["seen"].shape)
    batch["is_new"] += 1

    step = jax.jit(lambda *given: people.step(blind, *given))
    after, metrics = step(state, data, batch, jax.random.key(1))

    assert np.isnan(metrics["return"]) and np.all(np.isnan(after.shown.goal))
    learned = jax.tree.leaves((after.learner.agent, after.judge, after.shown.seen))
    assert all(np.all(np.isfinite(leaf)) for leaf in learned if leaf.dtype == np.float32)
    before = jax.tree.leaves(state.judge.ensemble.train.params)
    new = jax.tree.leaves(after.judge.ensemble.train.params)
    assert any(np.any(a != b) for a, b in zip(before, new, strict=True))


def test_training_waits_for_what_was_asked_before_and_no_longer() -> None:
    plan = Plan(np.array([4, 4, 2, 1, 1, 3]), np.array([0, 0, 1, 1, 1, 1.0]), np.ones(6, np.int32))
    due = lambda ahead: [interview.due_before(plan, step, ahead) for step in range(6)]

    assert due(1) == [0, 0, 2, 3, 4, 5]  # every pair of an earlier step
    assert due(3) == [0, 0, 2, 2, 2, 3]  # the first ones in any case: nothing is known yet
    assert due(0) == [0] * 6  # it goes on from old labels
    moved = interview.plan_of_people(plan).labels
    np.testing.assert_array_equal(moved, [4, 4, 2, 1, 4, 0])


def test_the_error_of_a_rater_is_found_from_what_others_learned() -> None:
    config = config_of(labels__capacity="400", reward__members="1", reward__used_members="1")
    parts = learning.parts_of(config)
    random, judge = np.random.default_rng(0), people.init(parts, jax.random.key(0)).judge
    rows_ = judge.labels.rows
    seen = random.standard_normal(rows_.clips.shape).astype(np.float32)
    outputs = parts.how._replace(apply=lambda params, state, x, key: (3 * x[..., 0], state))
    logits = 3 * (seen[:, 0, :, 0].sum(1) - seen[:, 1, :, 0].sum(1))
    who = np.arange(400, dtype=np.int32) % 2
    right = random.random(400) < 1 / (1 + np.exp(-logits))
    careless = (who == 1) & (random.random(400) < 0.6)
    preferred = np.where(careless, random.random(400) < 0.5, right).astype(np.float32)
    held = rows_._replace(clips=seen, preferred=preferred, weights=np.zeros((400, 1), np.float32))
    labels = jax.tree.map(jnp.asarray, judge.labels._replace(rows=held, count=np.int32(400)))
    judge = judge._replace(labels=labels)

    errors = people.errors_of_raters(parts._replace(how=outputs), judge, jnp.asarray(who), 2)
    # A share of 200 answers, of which only those that contradict say something: +- 0.07.
    np.testing.assert_allclose(errors, [0.0, 0.6], atol=0.15)


@contextlib.contextmanager
def training(workdir: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Trains the larger config in a process; gives it and the run folder."""
    fields = [f"--config.{name}={value}" for name, value in MANY.items()]
    process = subprocess.Popen(
        [*LAB, "train", f"--config={CONFIG}", f"--workdir={workdir}", *fields],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"run folder: (\S+)", process.stdout.readline())
        assert found
        yield process, Path(found[1])
    finally:
        process.kill()
        process.wait()


def begun(folder: Path, process: subprocess.Popen[str]) -> None:
    """Waits until training has asked."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, "training has ended"
        with (
            contextlib.suppress(LabError, sqlite3.Error),
            store.opened(folder / store.NAME) as desk,
        ):
            if rows(desk, "SELECT count(*) FROM pairs") != [(0,)]:
                return
        time.sleep(0.1)
    raise AssertionError("training does not ask")


def answered_by_keyboard(work: Path, number: int) -> tuple[Path, dict[str, str]]:
    """Trains while a script answers in a browser, and kills both sides on the way.

    Returns:
        The run folder, and what was typed, by showing.
    """
    keys = ("ArrowLeft", "ArrowUp", "ArrowRight", "ArrowLeft", "ArrowDown")
    words = dict(ArrowLeft="left", ArrowUp="equal", ArrowRight="right", ArrowDown="skip")
    typed: dict[str, str] = {}
    shown = "document.body.dataset.showing"
    with contextlib.ExitStack() as stack:
        process, folder = stack.enter_context(training(work / "one"))
        begun(folder, process)
        page = stack.enter_context(served(folder))
        browser = stack.enter_context(browsers.browsing(work / "browser"))
        browser.open(page.address)
        browser.wait("document.getElementById('hello').open")
        browser.type("Ada")
        browser.press("Enter")
        while len(typed) < number:
            nonce = browser.wait(f"{shown} || ''", seconds=SECONDS)
            key = keys[len(typed) % len(keys)]
            typed[nonce] = words[key]
            browser.press(key)
            if len(typed) == 11:  # the answer may be on its way
                page.kill()
                page = stack.enter_context(served(folder, port=page.port))
            if len(typed) == 27:
                process.send_signal(signal.SIGKILL)
                process.wait()
                process, _ = stack.enter_context(training(work / "one"))
            browser.wait(f"{shown} !== '{nonce}'")
        browser.wait("document.body.dataset.outbox === '0'")
        assert process.wait(timeout=SECONDS) == 0
        browser.wait("document.getElementById('learner').className.includes('complete')")
        assert browser.errors == []
    return folder, typed


@pytest.mark.slow  # a minute; above, six answers and a power cut
@pytest.mark.skipif(
    browsers.executable() is None, reason="needs a browser: apt-get install chromium"
)
def test_fifty_answers_by_keyboard_while_server_and_training_are_killed(tmp_path: Path) -> None:
    pytest.importorskip("starlette", reason="needs the page: pip install 'jax-paper-lab[web]'")
    folder, typed = answered_by_keyboard(tmp_path, 50)

    with store.opened(folder / store.NAME) as desk:
        pairs = rows(desk, "SELECT pair FROM labels")
        taken = rows(desk, "SELECT count(*), count(DISTINCT label) FROM taken")
    # No answer lost, none twice, each as it was typed and in that order.
    assert list(kept(folder / store.NAME).items()) == list(typed.items())
    assert len(typed) == len(pairs) == len({*pairs}) == 50 and taken == [(50, 50)]

    # The same labels give the same run, which nobody interrupts now.
    again = tmp_path / "two" / folder.relative_to(tmp_path / "one")
    copied(folder / store.NAME, again / store.NAME)
    with training(tmp_path / "two") as (process, path):
        assert path == again and process.wait(timeout=SECONDS) == 0
    assert digest(again) == digest(folder)
