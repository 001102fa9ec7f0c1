"""Signals at every moment: a program that can save does, all others end at once in one line."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest

from common.devices import interrupts
from common.devices.interrupts import Asked, first_signal
from tests.processes import REPOSITORY

# What a program is doing when the signal comes. The key takes half a minute in one call of C, and
# Python runs no handler before it returns: like XLA when it compiles.
DOING = {
    "waiting": "time.sleep(60)",
    "compiling": "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**8)",
    "importing": """
while True:
    try:
        sum(range(1000))
    except BaseException:
        pass
""",
    "saving": """
with interrupts.first_signal() as stop:
    ready()
    while not stop.is_set():
        time.sleep(0.01)
    print("saved")
    time.sleep(float(sys.argv[2]))
    sys.exit(75)
""",
    "saved": """
with interrupts.saved("step 40 is saved"):
    ready()
    hashlib.pbkdf2_hmac('sha256', b'', b'', 10**8)
""",
}
DOING["noisy"] = DOING["saving"].replace('("saved")', "('x' * 99, file=sys.stderr, flush=True)")
PROGRAM = """
import hashlib, pathlib, sys, time
from common.devices import interrupts

def ready():
    print("ready", flush=True)

with interrupts.watch(to_the_end=True):
    if "ready()" not in DOING:
        ready()
    exec(DOING)
"""


class Program:
    """A child that does one of `DOING` under `watch`; it is ready once this is made."""

    def __init__(
        self, doing: str, seconds: float = 0.0, *, before: str = "", terminal: bool = False
    ) -> None:
        self._leader, follower = pty.openpty() if terminal else (-1, subprocess.PIPE)
        code = f"{before}\nDOING = {DOING[doing]!r}\n{PROGRAM}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, doing, str(seconds)],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=follower,
            text=True,
            start_new_session=True,
        )
        if terminal:
            os.close(follower)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def send(self, *numbers: signal.Signals, pause: float = 0.0) -> None:
        for number in numbers:
            self.process.send_signal(number)
            time.sleep(pause)

    def hang_up(self) -> None:
        """Closes the terminal, as its window does."""
        os.close(self._leader)
        self.send(signal.SIGHUP)

    def end(self) -> tuple[int, str, str]:
        """Returns exit code, stdout and stderr; fails if the program goes on for long."""
        try:
            out, err = self.process.communicate(timeout=10)
        finally:
            self.process.kill()
        return self.process.returncode, out, err or ""


@pytest.mark.parametrize("doing", ["waiting", "compiling", "importing"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_where_nothing_can_be_saved_a_signal_ends_at_once_in_one_line(
    doing: str, number: signal.Signals
) -> None:
    program, start = Program(doing), time.monotonic()
    program.send(number)
    code, _, error = program.end()

    assert time.monotonic() - start < 5
    assert code == (130 if number == signal.SIGINT else 75)
    assert re.fullmatch(rf"lab: {number.name}.*: ended; there is nothing new to save\n", error)


@pytest.mark.parametrize("number", interrupts.STOPPING)
def test_where_something_can_be_saved_every_signal_is_noted_once_however_often_it_is_sent(
    number: signal.Signals,
) -> None:
    program = Program("saving", 0.3)
    program.send(number, number)
    code, out, error = program.end()

    assert (code, out) == (75, "saved\n")
    assert re.fullmatch(
        rf"lab: warning: {number.name}.*: saving at the next step; a second Ctrl-C ends at once, "
        "without saving\n",
        error,
    )


def test_a_second_ctrl_c_ends_at_once_and_says_what_is_lost() -> None:
    program = Program("saving", 60)
    program.send(signal.SIGTERM, signal.SIGTERM, signal.SIGINT, pause=2 * interrupts.SAME_SECONDS)
    code, _, error = program.end()

    assert code == 130
    assert error.splitlines()[-1].endswith("ended without saving; earlier checkpoints are intact")
    assert len(error.splitlines()) == 2


def test_what_is_saved_already_may_end_at_any_moment() -> None:
    program = Program("saved")
    program.send(signal.SIGINT)
    code, _, error = program.end()

    assert code == 75
    assert error == "lab: SIGINT (Ctrl-C): ended; step 40 is saved\n"


def test_a_terminal_that_is_gone_does_not_keep_from_saving() -> None:
    program = Program("noisy", terminal=True)
    program.hang_up()

    assert program.end()[0] == 75


def test_signals_that_are_ignored_stay_so() -> None:
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"  # as nohup does
    program = Program("saving", before=ignoring)
    program.send(signal.SIGHUP, pause=0.2)
    assert program.process.poll() is None
    program.send(signal.SIGUSR2)

    assert program.end()[0] == 75


def test_signals_are_given_back() -> None:
    def handlers() -> list[object]:
        return [signal.getsignal(number) for number in interrupts.STOPPING]

    before = handlers()
    for _ in range(2):
        with interrupts.watch(), interrupts.watch(), first_signal() as stop:
            assert handlers() != before
            signal.raise_signal(signal.SIGHUP)
            assert stop.is_set()  # as soon as the call returns
        assert handlers() == before
    assert signal.set_wakeup_fd(-1) == -1


def test_without_a_command_line_the_loop_alone_takes_signals() -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    with first_signal() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
        time.sleep(2 * interrupts.SAME_SECONDS)
        with pytest.raises(KeyboardInterrupt, match="earlier checkpoints are intact"):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("watched", [True, False])
def test_a_signal_in_the_midst_of_another_one_does_not_enter_its_handler(watched: bool) -> None:
    inside, most, times = 0, 0, 0

    def handle(number: int) -> None:
        nonlocal inside, most, times
        inside, times = inside + 1, times + 1
        most = max(most, inside)
        if times < 3:
            signal.raise_signal(signal.Signals(number))  # comes between two instructions of this
        inside -= 1

    with interrupts.watch() if watched else contextlib.nullcontext(), interrupts.handled(handle):
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)

    assert most == 1 and inside == 0 and times >= 3


def test_only_ctrl_c_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 0.1, 5.0, 6.0, 7.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    interrupt, hangup = signal.SIGINT, signal.SIGHUP
    asked = Asked()

    sent = (hangup, interrupt, hangup, interrupt, interrupt)
    assert [asked.count(number) for number in sent] == [1, 1, 1, 2, 3]
