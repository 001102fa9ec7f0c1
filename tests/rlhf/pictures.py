"""The pictures of the README: the tour's run, taught by keyboard in a real browser.

    python -m tests.rlhf.pictures --out=rlhf/labelling/pictures

The rater takes the clip that turns more, clockwise. Prints what the run came to. A game of images
is pictured too, played at random: nobody is taught.
"""

import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from common.config import load_config
from rlhf.human_preferences import interview, learning
from rlhf.human_preferences.plan import make_plan
from rlhf.labelling import asking, store
from tests.processes import REPOSITORY
from tests.rlhf.browser import Browser, browsing
from tests.rlhf.desk import LAB, fill, rows, served
from tests.rlhf.test_labelling_images import pairs_of_random_play

OUT = flags.DEFINE_string("out", None, "folder to write", required=True)
CONFIG = flags.DEFINE_string(
    "config", "rlhf/human_preferences/configs/people.py:cpu,task=spin", "config to train"
)
GAME = "rlhf/human_preferences/configs/people.py:cpu,task=bricks"
WIDE = (1200, 830)
SHOWING = "document.body.dataset.showing"
LATE = 40  # answers before the pictures
EQUAL = 0.5  # of clip returns that a person calls equally good
PEOPLE = ("Ada", "Grace")


def key_for(path: Path, nonce: str) -> str:
    """Returns the key of somebody who sees which clip is better."""
    with store.opened(path) as desk:
        ((left_is_a, a, b),) = rows(
            desk,
            "SELECT left_is_a, a.true_return, b.true_return FROM showings "
            "JOIN pairs ON pairs.id = pair JOIN clips a ON a.id = clip_a "
            f"JOIN clips b ON b.id = clip_b WHERE nonce = '{nonce}'",
        )
    if abs(a - b) <= EQUAL:
        return "ArrowUp"
    return "ArrowLeft" if (a > b) == bool(left_is_a) else "ArrowRight"


def teach(browser: Browser, path: Path, process: subprocess.Popen[str], folder: Path) -> int:
    """Answers until training ends, and takes the pictures on the way; returns the answers."""
    count, is_pictured = 0, False
    while process.poll() is None:
        browser.become(PEOPLE[count % 8 == 7])
        nonce = browser.value(f"{SHOWING} ?? ''")
        if not nonce:
            time.sleep(0.2)
            browser.become(PEOPLE[0])
            nonce = browser.value(f"{SHOWING} ?? ''")
            if not nonce:
                continue
        if count >= LATE and not is_pictured:
            is_pictured = True
            picture(browser, folder)
        browser.press(key_for(path, nonce))
        count += 1
        browser.wait(f"{SHOWING} !== '{nonce}' && document.body.dataset.outbox === '0'")
    return count


def picture(browser: Browser, folder: Path) -> None:
    """Writes the pictures, of the frame in which both clips have moved."""
    browser.become(PEOPLE[0])
    browser.wait(f"{SHOWING} !== ''")
    browser.press(" ")
    for _ in range(3):
        browser.press(".")
    browser.size(*WIDE)
    time.sleep(2)  # the strip is asked for every one and a half
    browser.picture(folder / "page.png")
    browser.size(390, 844, scale=1.25, mobile=True)
    time.sleep(0.5)
    browser.picture(folder / "phone.png")
    browser.size(*WIDE)
    browser.press(" ")


def picture_of_game(browser: Browser, work: Path, folder: Path) -> None:
    """Writes the picture of a game, whose clips are images of random play."""
    parts = learning.parts_of(load_config(GAME))
    plan = interview.plan_of_people(make_plan(parts.config))
    path = fill(work, 0, facts=interview.facts(parts, plan))
    shown = pairs_of_random_play(parts, steps=parts.config.learner.steps)
    with store.opened(path) as desk:
        asking.ask(desk, path, 0, interview.pairs_of(parts, plan, 0, shown), second_share=0.0)
    with served(work) as page:
        enter(browser, page.address, PEOPLE[0])
        browser.wait(f"({SHOWING} ?? '') !== ''")
        browser.press(" ")
        for _ in range(3):
            browser.press(".")
        browser.size(*WIDE)
        time.sleep(2)
        browser.picture(folder / "game.png")


def enter(browser: Browser, address: str, name: str) -> None:
    """Opens the page and gives a name."""
    browser.become(name)
    browser.open(address)
    browser.wait("document.getElementById('hello').open")
    browser.type(name)
    browser.press("Enter")


def main(argv: Sequence[str]) -> None:
    """Trains, teaches and takes the pictures."""
    del argv
    out = Path(OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        command = [*LAB, "train", f"--config={CONFIG.value}", f"--workdir={work}/runs"]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        found = re.search(r"run folder: (\S+)", process.stdout.readline())
        assert found
        folder = Path(found[1])
        while not (folder / store.NAME).exists():
            assert process.poll() is None
            time.sleep(0.2)
        time.sleep(1)
        with served(folder) as page, browsing(Path(work) / "browser") as browser:
            for name in PEOPLE:
                enter(browser, page.address, name)
            count = teach(browser, folder / store.NAME, process, out)
        with browsing(Path(work) / "another") as browser:
            picture_of_game(browser, Path(work) / "game", out)
        result = json.loads((folder / "result.json").read_text())
        print(f"{count} answers:", json.dumps(result["metrics"]["last"]))


if __name__ == "__main__":
    app.run(main)
