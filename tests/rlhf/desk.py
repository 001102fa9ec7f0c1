"""A store with pendulums in it, and the page on it as a process: no training, no JAX."""

import contextlib
import http.client
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common import runs
from rlhf.labelling import answers, asking, showing, store
from rlhf.labelling.asking import Pair
from rlhf.labelling.clips import Clip
from tests.processes import REPOSITORY

LAB = (sys.executable, "-m", "common.lab.cli")
LENGTH = 25
FACTS = {
    "title": "A pendulum that spins",
    "instruction": "Make it spin: better is the clip in which the rod turns more, clockwise.",
    "window": [-1.3, 1.3, -1.3, 1.3],
    "fps": 20.0,
    "due": [4, 8, 12],
    "total": 12,
}


def swing(seed: int, length: int = LENGTH) -> Clip:
    """Returns a clip of a rod that turns; what is seen tells which one it is."""
    random = np.random.default_rng(seed)
    speed = random.uniform(-6, 6)
    angle = random.uniform(-3, 3) + 0.05 * speed * np.arange(length)
    tip = np.stack([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)
    zeros = np.zeros((length, 2), np.float32)
    segments = np.concatenate([zeros, tip, np.full((length, 1), 0.1, np.float32)], axis=1)
    circles = np.concatenate([zeros, np.full((length, 1), 0.05, np.float32)], axis=1)
    seen = np.concatenate([tip, np.full((length, 1), seed, np.float32)], axis=1)
    shown = {"segments": segments[:, None], "circles": circles[:, None]}
    return Clip(shown, seen, float(speed * length))


def game(seed: int, length: int = LENGTH, color: bool = False) -> Clip:
    """Returns a clip of images: a ball that crosses a field."""
    random = np.random.default_rng(seed)
    frames = np.zeros((length, 24, 20, *([3] if color else [])), np.uint8)
    row, right = random.integers(2, 22), random.integers(0, 2)
    for step in range(length):
        column = step % 20 if right else 19 - step % 20
        frames[step, row - 1 : row + 1, column] = 255
        frames[step, 22, max(0, column - 2) : column + 3] = 160
    return Clip({"frames": frames}, np.full((length, 2), seed, np.float32), float(right))


def fill(
    folder: Path,
    pairs: int,
    *,
    clip: Any = swing,
    second_share: float = 0.0,
    run_hash: str = "",
    facts: dict[str, Any] | None = None,
) -> Path:
    """Writes a store with pairs of step 0 into a run folder; returns its file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / store.NAME
    if not (folder / "config.json").exists():
        config = {"people": {}, "experiment": "rlhf.human_preferences:people", "seed": 0}
        (folder / "config.json").write_text(json.dumps(config))
    run_hash = run_hash or asking.hash_of(runs.read(folder).config)
    with store.opened(path, create=True) as connection:
        asking.register(connection, path, run_hash, "pendulum/spin", {**FACTS, **(facts or {})})
        asked = [Pair(slot, clip(2 * slot), clip(2 * slot + 1)) for slot in range(pairs)]
        asking.ask(connection, path, 0, asked, second_share=second_share)
        asking.report(connection, 1, 0)
    return path


def rater(desk: sqlite3.Connection, name: str = "Ada") -> int:
    return showing.rater_named(desk, name)


def rows(desk: sqlite3.Connection, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in desk.execute(query)]


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


class Page:
    """A page that is being served, as its own process."""

    def __init__(self, process: subprocess.Popen[str], address: str):
        self.process, self.address = process, address
        self.port = int(re.sub(r".*:(\d+)/.*", r"\1", address))
        self.secret = ""

    def kill(self) -> None:
        """Ends it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        return ask(self.port, "GET", path, headers=headers)

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Returns status and answer of a request as the page sends it."""
        if not self.secret:
            self.secret = re.findall(r'name="page" content="([^"]+)"', self.get("/", headers)[1])[0]
        own = {
            "Content-Type": "application/json",
            "Origin": f"http://127.0.0.1:{self.port}",
            "X-Lab-Page": self.secret,
        }
        status, text = ask(
            self.port, "POST", f"/api/{path}", json.dumps(body), {**own, **(headers or {})}
        )
        return status, json.loads(text)


def ask(
    port: int, method: str, path: str, body: str | bytes | None = None, headers: Any = None
) -> tuple[int, str]:
    """Returns status and text of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, {**(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@contextlib.contextmanager
def served(folder: Path, *arguments: str, port: int = 0) -> Iterator[Page]:
    """Serves the page of a run folder with `lab label`."""
    process = subprocess.Popen(
        [*LAB, "label", f"--run={folder}", f"--port={port}", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        while line and "http://" not in line:
            line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, "the page is not served"
        yield Page(process, found[0])
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
