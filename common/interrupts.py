"""The first SIGINT or SIGTERM as a flag that a loop can look at."""

import contextlib
import signal
import threading
from collections.abc import Iterator

from absl import logging


@contextlib.contextmanager
def first_signal() -> Iterator[threading.Event]:
    """Gives an event that the first SIGINT or SIGTERM sets; a second one acts as it usually does.

    Outside the main thread, where no handler can be set, the event is never set.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.getsignal(number) for number in usual}

    def note(number: int, frame: object) -> None:
        del frame
        stop.set()
        logging.warning("%s: saving at the next step", signal.Signals(number).name)
        for each, handler in usual.items():
            signal.signal(each, handler)

    for number in usual:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
