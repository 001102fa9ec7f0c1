"""Signals at every moment: what can be saved is saved, all else ends at once, in one line.

Python runs handlers in its main thread, between two instructions: one that raises is swallowed by
some imports, and one that comes while XLA compiles waits for minutes. `watch`, which the command
line holds while it runs, therefore has a thread that reads the numbers of signals from a pipe; the
handler of the system fills it at once, whatever the main thread does. That thread ends the program,
or calls who asked to be told (`handled`).

A library user who calls `fit` without `watch` keeps Python's own handlers, but for the loop.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from absl import logging

from common.errors import Interrupted

# Ctrl-C; a scheduler or `kill`; the terminal is gone; Slurm's --signal=USR1@60 and submitit's USR2.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
NOTHING = "there is nothing new to save"
UNNEEDED = "unneeded"  # names of threads whose work nobody waits for at the end begin so
# A terminal that closes, `make` and some shells send the same signal twice: no one insists so fast.
SAME_SECONDS = 0.2

Handle = Callable[[int], None]


class _Watch:
    """The handlers, pipe and thread behind `watch`."""

    def __init__(self) -> None:
        self.handle: Handle = _one_at_a_time(self.end)
        self._is_over = False
        self._numbers = _not_ignored()
        self._terminals = [number for number in (0, 1, 2) if os.isatty(number)]
        self._lock = threading.RLock()
        self._reader, self._writer = os.pipe()
        for end in (self._reader, self._writer):
            os.set_blocking(end, False)
        self._before = {number: signal.getsignal(number) for number in self._numbers}
        self._pipe_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self.install()
        self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._thread.start()

    def install(self) -> None:
        """Takes the signals, also again from a library that has taken them."""
        for number in self._numbers:
            signal.signal(number, lambda *_: self._act())

    def close(self) -> None:
        """Gives the signals back."""
        _give_back(self._before)
        signal.set_wakeup_fd(self._pipe_before)
        os.write(self._writer, b"\0")
        self._thread.join()
        os.close(self._reader)
        os.close(self._writer)

    def leave(self) -> None:
        """Ignores the signals from now on: nothing is left to do but for Python to shut down."""
        self._is_over = True

    def end(self, number: int, *, saved: str = "") -> NoReturn:
        """Ends the program; whatever is written to disk at this moment survives it, as kill -9."""
        _write(f"lab: {_name(number)}: ended; {saved or NOTHING}\n")
        asked_by_hand = number == signal.SIGINT and not saved
        self.exit(130 if asked_by_hand else Interrupted.exit_code)

    def exit(self, code: int) -> NoReturn:
        """Ends the program with this code; gives a terminal its cursor back."""
        if 2 in self._terminals:
            _write("\x1b[?25h")
        os._exit(code)

    def _listen(self) -> None:
        while True:
            select.select([self._reader], [], [])
            if not self._act():
                return

    def _act(self) -> bool:
        """Acts on the signals in the pipe, in the thread or the handler, whichever is first.

        Takes no lock that the main thread may hold: its handler waits here for the thread.
        """
        with self._lock:
            try:
                numbers = os.read(self._reader, 64)
            except BlockingIOError:
                return True
            for number in numbers:
                if number == signal.SIGHUP:
                    self._let_go_of_terminals()
                if number in self._numbers and not self._is_over:
                    self.handle(number)
            return 0 not in numbers

    def _let_go_of_terminals(self) -> None:
        """Sends what is still printed nowhere: writing to a terminal that is gone is an error."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in self._terminals:
            os.dup2(nowhere, number)
        os.close(nowhere)


_watching: _Watch | None = None


@contextlib.contextmanager
def watch(*, to_the_end: bool = False) -> Iterator[None]:
    """Ends the program at once and in one line at a signal, unless `handled` is told of it.

    Exit code 130 after Ctrl-C, 75 after the other signals. Signals that are ignored, as `nohup`
    and shells do for those in the background, stay so. Only the outermost one in the main thread
    does anything.

    Args:
        to_the_end: Ignore signals afterwards instead of giving them back: Python is to exit.
    """
    global _watching
    if _watching is not None or not _is_main_thread():
        yield
        return
    _watching = _Watch()
    try:
        yield
    finally:
        if to_the_end:
            _watching.leave()
        else:
            _watching.close()
            _watching = None


def leave_behind(code: int) -> None:
    """Ends the program with this code if a thread still works on what nobody needs any more.

    Python would wait for it, and a call of XLA takes minutes. What was saved is on disk.
    """
    if any(thread.name.startswith(UNNEEDED) for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@contextlib.contextmanager
def handled(handle: Handle) -> Iterator[None]:
    """While inside, a signal calls `handle` with its number, at once and maybe in another thread.

    `handle` takes no lock and raises nothing. Outside the main thread nothing changes.
    """
    if not _is_main_thread():
        yield
    elif _watching is not None:
        before, _watching.handle = _watching.handle, _one_at_a_time(handle)
        _watching.install()
        try:
            yield
        finally:
            _watching.handle = before
    else:
        usual = {number: signal.getsignal(number) for number in _not_ignored()}
        act = _one_at_a_time(handle)
        for number in usual:
            signal.signal(number, lambda got, frame: act(got))
        try:
            yield
        finally:
            _give_back(usual)


@contextlib.contextmanager
def saved(what: str) -> Iterator[None]:
    """While inside, a signal ends the command line at once with exit code 75, saying `what`."""
    if _watching is None:
        yield
        return
    end = _watching.end
    with handled(lambda number: end(number, saved=what)):
        yield


@contextlib.contextmanager
def first_signal() -> Iterator[threading.Event]:
    """Gives an event that the first signal sets; a second Ctrl-C ends the program at once.

    Outside the main thread, where no handler can be set, the event is never set.
    """
    stop, asked = threading.Event(), Asked()

    def note(number: int) -> None:
        if asked.count(number) > 1:
            _end_unsaved(number)
        if not stop.is_set():
            stop.set()
            say(
                f"{_name(number)}: saving at the next step; "
                "a second Ctrl-C ends at once, without saving"
            )

    with handled(note):
        yield stop


def end_now(text: str, code: int) -> NoReturn:
    """Ends the program in one line, from any thread; files on disk survive it, as kill -9."""
    _write(f"lab: {text}\n")
    if os.isatty(2):
        _write("\x1b[?25h")
    os._exit(code)


class Asked:
    """How often somebody asked to stop: once, or more often by pressing Ctrl-C again."""

    def __init__(self) -> None:
        self.times, self._latest = 0, 0.0

    def count(self, number: int) -> int:
        """Counts a signal; returns how often was asked.

        After the first one only Ctrl-C counts: schedulers and closing terminals send several.
        """
        now = time.monotonic()
        if self.times == 0 or (number == signal.SIGINT and now - self._latest > SAME_SECONDS):
            self.times, self._latest = self.times + 1, now
        return self.times


def say(text: str) -> None:
    """Prints a warning from `handle`."""
    if _watching is None:
        logging.warning("%s", text)  # in the main thread, in a notebook for example
    else:
        _write(f"lab: warning: {text}\n")  # without the locks of logging and of streams


def _end_unsaved(number: int) -> None:
    text = "ended without saving; earlier checkpoints are intact"
    if _watching is None:
        raise KeyboardInterrupt(text)
    _write(f"lab: {_name(number)}: {text}\n")
    _watching.exit(130)


def _not_ignored() -> tuple[signal.Signals, ...]:
    return tuple(number for number in STOPPING if signal.getsignal(number) != signal.SIG_IGN)


def _give_back(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        if handler is not None:  # one that Python has not set, and cannot
            signal.signal(number, handler)


def _one_at_a_time(handle: Handle) -> Handle:
    """Returns `handle`, which a signal that comes while it acts on another one does not enter.

    Python runs a handler between any two instructions of the main thread, also of a handler.
    """
    acting = threading.Lock()

    def act(number: int) -> None:
        if acting.acquire(blocking=False):
            try:
                handle(number)
            finally:
                acting.release()

    return act


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _name(number: int) -> str:
    name = signal.Signals(number).name
    return f"{name} (Ctrl-C)" if number == signal.SIGINT else name


def _write(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
