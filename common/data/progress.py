"""Log lines of long generations."""

import time
from collections.abc import Callable

from absl import logging


def logged_progress(
    what: str, start: int = 0, *, seconds: float = 10.0
) -> Callable[[int, int], None]:
    """Returns a callback (done, total) that logs a line at most every `seconds`.

    Args:
        what: What is made, such as "SIRENs".
        start: Number of the first one.
        seconds: Least time between two lines.
    """
    began = last = time.monotonic()

    def on_chunk(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= seconds:
            last, left = now, (now - began) / done * (total - done)
            logging.info(
                "%s %d to %d: %d done, %.0f s left", what, start, start + total - 1, done, left
            )

    return on_chunk
