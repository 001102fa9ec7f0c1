"""How long things take, for people: durations, bars on a terminal, log lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from absl import logging

LINE_SECONDS = 10.0  # least time between two log lines


def duration(seconds: float) -> str:
    """Returns a time in words: "8.0 s", "3 min 20 s", "2 h 05 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Progress:
    """A bar with the time left on a terminal; what `say` prints stands above it.

    Without a terminal `update` logs a line at most every ten seconds.
    """

    def __init__(self, total: int, *, start: int = 0, label: str = "", enabled: bool = True):
        """Starts at `start` of `total`; the first update ends the time of compilation."""
        self._total, self._label, self._enabled = total, label, enabled
        self._done, self._began = start, time.monotonic()
        self._first: tuple[int, float] | None = None
        self._last_line = self._began
        self._bar = self._task = None
        if enabled and sys.stderr.isatty():
            self._bar, self._task = _bar(label, total, start)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def update(self, done: int, values: Mapping[str, Any]) -> None:
        """Shows that `done` steps are done, with the rate since the first update and metrics."""
        if not self._enabled:
            return
        now = time.monotonic()
        self._first = self._first or (done, now)
        rate = (done - self._first[0]) / max(now - self._first[1], 1e-9)
        shown = [f"{name} {value:.4g}" for name, value in values.items()]
        if rate > 0:
            shown.insert(0, f"{rate:.3g} steps/s, {duration((self._total - done) / rate)} left")
        text = "  ".join(shown)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, text=text)
        elif now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            logging.info("%s: step %d of %d, %s", self._label, done, self._total, text)

    def finished(self, text: str) -> None:
        """Prints the line of one more finished job, with its number and the time left."""
        self._done += 1
        left = self._total - self._done
        elapsed = time.monotonic() - self._began
        ahead = f"{duration(elapsed / self._done * left)} left" if left else ""
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, text=ahead)
        self.say(f"[{self._done}/{self._total}] {text}{', ' if ahead else ''}{ahead}")

    def say(self, text: str) -> None:
        """Prints a line, above the bar if there is one."""
        from rich.console import Console

        console = Console(stderr=True, highlight=False) if self._bar is None else self._bar.console
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            with contextlib.suppress(OSError):  # the terminal is gone
                self._bar.stop()
            self._bar = None


def logged_progress(what: str, start: int = 0) -> Callable[[int, int], None]:
    """Returns a callback (done, total) that logs a line at most every ten seconds.

    Args:
        what: What is made, such as "SIRENs".
        start: Number of the first one.
    """
    began = last = time.monotonic()

    def on_chunk(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_SECONDS:
            last, left = now, (now - began) / done * (total - done)
            text = "%s %d to %d: %d done, %s left"
            logging.info(text, what, start, start + total - 1, done, duration(left))

    return on_chunk


def _bar(label: str, total: int, start: int) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as RichProgress
    from rich.table import Column

    # Where the line is too narrow for all of it, the metrics are cut, then the name: bar and step
    # stay.
    cut = partial(Column, no_wrap=True, overflow="ellipsis")
    steps = len(f"{total}/{total}")
    bar = RichProgress(
        TextColumn("{task.description}", markup=False, table_column=cut(max_width=24)),
        BarColumn(bar_width=16, table_column=Column(min_width=16)),
        MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=steps)),
        TextColumn("{task.fields[text]}", markup=False, table_column=cut(ratio=1)),
        console=Console(stderr=True),
        expand=True,
        transient=False,
    )
    task = bar.add_task(label, total=total, completed=start, text="starting")
    bar.start()
    return bar, task
